"""Give a pretrained decoder's folder what it needs to read streams: `fam.json` and a memory prompt.

No file that was there is written to. The memory is not trained by this, and the sidecar says so: until it is, the
decoder runs as sliding blocks with attention sinks (arXiv 2309.17453).
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from famcli.checkpoint.chat import has_chat_template
from famcli.checkpoint.checks import checked_tokenizer, checked_weights, refuse_adapter
from famcli.checkpoint.choose import choose_fam
from famcli.checkpoint.families.pretrained import read_config
from famcli.checkpoint.folder import beside, check_links, checkpoint_folder
from famcli.checkpoint.loading import read_rows
from famcli.checkpoint.save import save_prompt
from famcli.checkpoint.sidecar import SIDECAR_FILE, Sidecar, read_sidecar
from famcli.checkpoint.weights import PROMPT_FILE, StoredTensor
from famcli.documents.atomic import atomic_files
from famcli.errors import CheckpointError, UsageError

_ROWS_AT_ONCE = 4096


@dataclass(frozen=True)
class Enabled:
    """What `enable` did. notes: one line for each number it chose itself, and for each that looks unwise."""

    path: Path
    sidecar: Sidecar
    files: tuple[Path, ...]
    max_positions: int
    seed: int
    notes: tuple[str, ...]


def enable(
    path: str | os.PathLike[str],
    *,
    seed: int = 0,
    force: bool = False,
    **settings: Any,
) -> Enabled:
    """Write `fam.json` and `fam.safetensors` into the folder of a pretrained decoder.

    The memory prompt is drawn from a normal distribution with the mean and deviation that the token embeddings have in
    each dimension. `settings` are those of `FamConfig`; what is None or not given is chosen (see `choose_fam`). A
    checkpoint that has a chat template writes its summaries. Raises CheckpointError when the folder does not hold a
    decoder famcli can open, or its memory is trained already, UsageError for numbers that cannot be, and when it was
    enabled before (unless `force`).
    """
    folder = checkpoint_folder(path)
    targets = (beside(folder, PROMPT_FILE), beside(folder, SIDECAR_FILE))
    existing = [target for target in targets if target.exists() or target.is_symlink()]
    if existing and _has_trained_memory(folder):
        raise CheckpointError(
            f"{folder} is enabled and its memory is trained: nothing is to be done; to begin anew, copy the folder and "
            f"remove {SIDECAR_FILE} and {PROMPT_FILE} from the copy"
        )
    if existing and not force:
        raise UsageError(f"{existing[0]} is there already: the folder was enabled before; --force replaces it")
    check_links(folder)
    config = read_config(folder)
    refuse_adapter(folder)
    fam, notes = choose_fam(config.decoder, **settings)
    stored = checked_weights(folder, config, replace(fam, fam_length=0))
    checked_tokenizer(folder, config.decoder)
    writes = has_chat_template(folder)
    if writes:
        notes = (*notes, "summaries will be written: the checkpoint has a chat template; --mode extract quotes instead")
    sidecar = Sidecar(fam=fam, memory_trained=False, tasks={"summarize": "write"} if writes else {})
    prompt = draw_prompt(stored["model.embed_tokens.weight"], fam.fam_length, seed) if fam.fam_length else None
    files = _write(folder, sidecar, prompt)
    return Enabled(folder, sidecar, files, config.max_positions, seed, notes)


def _has_trained_memory(folder: Path) -> bool:
    """Whether a folder that was enabled before says so; what cannot be read says nothing."""
    try:
        return read_sidecar(folder).memory_trained
    except CheckpointError:
        return False


def draw_prompt(embedding: StoredTensor, fam_length: int, seed: int) -> Tensor:
    """A memory prompt [f, d] (float32) with the statistics of the stored token embeddings [v, d]."""
    mean, deviation = _statistics(embedding)
    noise = torch.randn(fam_length, len(mean), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (mean + noise * deviation).float()


def _statistics(embedding: StoredTensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation [d] over the vocabulary, in float64, a few thousand rows at a time."""
    num_rows, width = embedding.shape
    total, squares = torch.zeros(width, dtype=torch.float64), torch.zeros(width, dtype=torch.float64)
    for start in range(0, num_rows, _ROWS_AT_ONCE):
        rows = read_rows(embedding, start, min(start + _ROWS_AT_ONCE, num_rows)).double()
        total += rows.sum(0)
        squares += rows.square().sum(0)
    mean = total / num_rows
    if not bool(torch.isfinite(squares).all()):
        raise CheckpointError(f"{embedding.file}: the token embeddings are not finite numbers; fetch the file again")
    return mean, (squares / num_rows - mean.square()).clamp(min=0).sqrt()


def _write(folder: Path, sidecar: Sidecar, prompt: Tensor | None) -> tuple[Path, ...]:
    """Write both files, or `fam.json` alone, which makes the folder an enabled one; returns what was written."""
    try:
        prompt_file, sidecar_file = beside(folder, PROMPT_FILE), beside(folder, SIDECAR_FILE)
        with atomic_files(sidecar_file.parent) as made:
            if prompt is not None:
                save_prompt(made / prompt_file.name, prompt)
            else:
                prompt_file.unlink(missing_ok=True)
            (made / sidecar_file.name).write_text(sidecar.dumps(), encoding="utf-8")
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{folder} cannot be written to ({error}); free space, or copy the folder") from error
    return (sidecar_file,) if prompt is None else (prompt_file, sidecar_file)
