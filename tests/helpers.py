"""What several tests need: a tiny random checkpoint, written in a moment, that opens like any other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from famcli.checkpoint.families.pretrained import llama_json
from famcli.checkpoint.sidecar import Sidecar
from famcli.nn import DecoderConfig, FamConfig, Network, RopeConfig, make_network
from famcli.tokens.tokenizer import ByteTokenizer

TINY_CONFIG = DecoderConfig(
    vocab_size=ByteTokenizer.vocab_size,
    hidden_size=32,
    intermediate_size=48,
    num_layers=2,
    num_heads=4,
    num_key_value_heads=2,
    head_dim=8,
    norm_eps=1e-5,
    rope=RopeConfig(max_position=256),
)
TINY_FAM = FamConfig(block_size=16, memory_segments=2, fam_length=4, sink_tokens=0)


def make_random_checkpoint(
    folder: Path,
    *,
    config: DecoderConfig = TINY_CONFIG,
    fam: FamConfig | None = TINY_FAM,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
    gain: float = 10.0,
    **sidecar: Any,
) -> Path:
    """Write a random Llama with byte tokens to `folder` (made if absent) and return it.

    `fam=None` leaves a plain decoder, as fetched from a hub. `gain` multiplies the usual random weights, so that what
    the network says depends on what it read. Further options are the sidecar's (`memory_trained` is true if not given).
    """
    folder.mkdir(parents=True, exist_ok=True)
    network = random_network(config, fam or FamConfig(fam_length=0), seed=seed, gain=gain)
    tensors = {name: parameter.detach() for name, parameter in network.named_parameters()}
    prompt = tensors.pop("memory_prompt", None)
    save_file({name: tensor.to(dtype) for name, tensor in tensors.items()}, folder / "model.safetensors")
    write_json(folder / "config.json", llama_json(config, str(dtype).removeprefix("torch.")))
    ByteTokenizer().save(folder)
    if fam is not None:
        options = {"memory_trained": True} | sidecar
        write_json(folder / "fam.json", Sidecar(fam=fam, **options).to_json())
    if prompt is not None:
        save_file({"memory_prompt": prompt}, folder / "fam.safetensors")
    return folder


def random_network(config: DecoderConfig, fam: FamConfig, *, seed: int = 0, gain: float = 10.0) -> Network:
    """A network with random weights and norms near 1, for inference."""
    network = make_network(config, fam)
    network.reset_parameters(seed)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "norm" not in name:
                parameter.mul_(gain)
    return network.eval()


def read_json(path: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return values


def write_json(path: Path, values: object) -> None:
    path.write_text(json.dumps(values), encoding="utf-8")


def change_json(path: Path, **changes: object) -> None:
    """Set keys of a JSON file; a value of `...` removes the key."""
    values = read_json(path) | changes
    write_json(path, {key: value for key, value in values.items() if value is not ...})
