"""Write a checkpoint folder that famcli opens, and that any Llama runtime opens as a plain decoder.

All files are first written beside the folder and then moved in, so that a full disk or a kill leaves what was there.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from famcli.checkpoint.families import CONFIG_FILE, llama_json
from famcli.checkpoint.sidecar import SIDECAR_FILE, Sidecar
from famcli.checkpoint.weights import PROMPT_FILE, PROMPT_NAME, WEIGHTS_FILE
from famcli.errors import CheckpointError
from famcli.nn import Decoder
from famcli.tokens.tokenizer import Tokenizer


def save_checkpoint(
    folder: str | os.PathLike[str],
    network: Decoder,
    tokenizer: Tokenizer,
    sidecar: Sidecar,
    dtype: torch.dtype = torch.float32,
) -> Path:
    """Write `network` (weights in `dtype`, the memory prompt in float32), its tokenizer and sidecar; return the folder.

    Other files that are in the folder (a card, a recipe) stay. Raises CheckpointError when writing fails.
    """
    target = Path(folder)
    try:
        target.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".saving-", dir=target) as made:
            _write_files(Path(made), network, tokenizer, sidecar, dtype)
            # Weights first: a folder is opened by its config.json and fam.json, which therefore come last.
            for path in sorted(Path(made).iterdir(), key=lambda path: (path.suffix == ".json", path.name)):
                os.replace(path, target / path.name)
        if not network.fam.fam_length:
            (target / PROMPT_FILE).unlink(missing_ok=True)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{target}: the checkpoint could not be written ({error}); free space and retry"
        ) from error
    return target


def _write_files(folder: Path, network: Decoder, tokenizer: Tokenizer, sidecar: Sidecar, dtype: torch.dtype) -> None:
    tensors = {name: parameter.detach().cpu() for name, parameter in network.named_parameters()}
    prompt = tensors.pop(PROMPT_NAME, None)
    weights = {name: tensor.to(dtype).contiguous() for name, tensor in tensors.items()}
    _save_tensors(folder / WEIGHTS_FILE, weights)
    if prompt is not None:
        save_prompt(folder / PROMPT_FILE, prompt)
    dtype_name = str(dtype).removeprefix("torch.")
    tokens = {"bos_token_id": tokenizer.bos_id, "eos_token_id": tokenizer.eos_id}
    _write_json(folder / CONFIG_FILE, llama_json(network.config, dtype_name) | tokens)
    _write_json(folder / "generation_config.json", tokens)
    tokenizer.save(folder)
    (folder / SIDECAR_FILE).write_text(sidecar.dumps(), encoding="utf-8")
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())


def save_prompt(path: Path, prompt: torch.Tensor) -> None:
    """Write the memory prompt [f, d] in float32."""
    _save_tensors(path, {PROMPT_NAME: prompt.detach().cpu().float().contiguous()})


def _save_tensors(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    path.touch()
    mode = path.stat().st_mode  # safetensors makes files that only their owner reads
    save_file(tensors, path, metadata={"format": "pt"})
    path.chmod(mode)


def _write_json(path: Path, values: Mapping[str, object]) -> None:
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
