"""Write a checkpoint's folder anew with other numbers in its matrices: an adapter merged in, or weights trained on.

Tensors keep the names, the types and the files that they have, so that whatever opens the one folder opens the other.
They are read, changed and written one file at a time.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from safetensors import SafetensorError
from torch import Tensor

from famcli.checkpoint.adapters.adapter import ADAPTER_CONFIG, base_warnings, fit, read_adapter
from famcli.checkpoint.adapters.adapter_file import load_updates
from famcli.checkpoint.checks import checked_tokenizer, checked_weights
from famcli.checkpoint.families.pretrained import PretrainedConfig, read_config
from famcli.checkpoint.folder import check_links, check_new_folder, checkpoint_folder
from famcli.checkpoint.save import save_prompt, save_tensors
from famcli.checkpoint.sidecar import SIDECAR_FILE, Sidecar
from famcli.checkpoint.weights import PROMPT_FILE, PROMPT_NAME, opened, stored_prompt, weight_files
from famcli.documents.atomic import atomic_files
from famcli.errors import CheckpointError
from famcli.nn.config import FamConfig
from famcli.tokens.gguf_file import is_gguf

Change = Callable[[str, Tensor], Tensor | None]
"""A parameter's name and its numbers as stored, to its new numbers; None leaves it as it is."""

# weights in any form, and code; what is neither goes along
_LEFT = {".safetensors", ".bin", ".pt", ".pth", ".pkl", ".ckpt", ".h5", ".msgpack", ".onnx", ".gguf", ".py"}


@dataclass(frozen=True)
class Merged:
    """The folder that was written, and what there is to warn of, a line each."""

    path: Path
    warnings: tuple[str, ...]


def merge(source: Path, adapter_folder: Path, target: Path, name: str | None = None) -> Merged:
    """Add the adapter to the checkpoint in `source`, shown as `name`, and write the new folder `target`.

    If famcli made the adapter, its way of reading and its memory prompt go along. Raises CheckpointError when one of
    the two does not open, they do not fit, or the target cannot be written, UsageError when it is there already.
    """
    folder = _source(source)
    check_new_folder(target)
    config = read_config(folder)
    stored = checked_weights(folder, config, FamConfig(fam_length=0))
    checked_tokenizer(folder, config.decoder)
    adapter = read_adapter(adapter_folder)
    updates = load_updates(adapter, fit(adapter, config, stored, name or source))
    prompt = None
    if adapter.sidecar is not None and adapter.sidecar.fam.fam_length:
        with opened(stored_prompt(adapter.folder).file, "pt") as file:
            prompt = file.get_tensor(PROMPT_NAME)

    def change(parameter: str, weight: Tensor) -> Tensor | None:
        return updates[parameter].added_to(weight, weight.dtype) if parameter in updates else None

    sidecar = adapter.sidecar and replace(adapter.sidecar, base_weights=None)
    warnings = base_warnings(adapter, stored, name or source)
    return Merged(rewrite(folder, target, change, sidecar, prompt), warnings)


def replacing(weights: Mapping[str, Tensor]) -> Change:
    """The change that puts `weights` (by parameter) in the place of the stored ones, in their types."""
    return lambda parameter, weight: weights[parameter].to(weight.dtype) if parameter in weights else None


def rewrite(source: Path, target: Path, change: Change, sidecar: Sidecar | None, prompt: Tensor | None) -> Path:
    """Write the checkpoint in `source` to the folder `target` with `change` made to its weights; return the target.

    What was written there before is replaced. sidecar: how it reads, with its memory prompt [f, d]; without it the
    source's own go along, if there are any. Raises CheckpointError.
    """
    folder = _source(source)
    config = read_config(folder)
    try:
        with atomic_files(target) as made:
            for path in weight_files(folder):
                save_tensors(made / path.name, _changed(path, config, change))
            _copy_along(folder, made, sidecar is None)
            if sidecar is not None:
                (made / SIDECAR_FILE).write_text(sidecar.dumps(), encoding="utf-8")
            if prompt is not None:
                save_prompt(made / PROMPT_FILE, prompt)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{target}: the checkpoint could not be written ({error}); free space, retry") from error
    return target


def _source(path: Path) -> Path:
    folder = checkpoint_folder(path)
    if is_gguf(folder):
        raise CheckpointError(f"{folder} is a GGUF file; merge into the folder that it was made from")
    check_links(folder)
    storage = read_config(folder).storage
    if storage != "float":
        raise CheckpointError(f"{folder} is in {storage}; merge into the checkpoint that it was made from")
    return folder


def _changed(path: Path, config: PretrainedConfig, change: Change) -> dict[str, Tensor]:
    """A weight file's tensors by their stored names, changed parameter by parameter."""
    tensors = {}
    with opened(path, "pt") as file:
        for name in file.keys():  # noqa: SIM118  (not a dict)
            tensor: Tensor = file.get_tensor(name)
            for piece in config.family.pieces(name, config.decoder):
                rows = piece.rows
                if rows is None:
                    new = change(piece.parameter, tensor)
                    tensor = tensor if new is None else new
                    continue
                grouped = tensor.view(rows.groups, rows.period, *tensor.shape[1:])[:, rows.start : rows.stop]
                new = change(piece.parameter, grouped.flatten(0, 1))
                if new is not None:
                    grouped.copy_(new.view_as(grouped))  # a private copy of the mapped page, never the file
            tensors[name] = tensor
    return tensors


def _copy_along(folder: Path, target: Path, with_sidecar: bool) -> None:
    """Configuration, tokenizer, chat template, index: every file that is no weights, no code and no adapter."""
    for path in folder.iterdir():
        if not path.is_file() or path.name == ADAPTER_CONFIG or path.name.startswith("pytorch_model"):
            continue
        ours = path.name in (SIDECAR_FILE, PROMPT_FILE)
        if with_sidecar if ours else path.suffix not in _LEFT:
            shutil.copyfile(path, target / path.name)
