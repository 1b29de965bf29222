"""Give a pretrained decoder's folder what it needs to read streams: `fam.json` and a memory prompt.

No existing file is changed. The memory is not trained by this, and the sidecar says so: until it is, the decoder runs
as sliding blocks with attention sinks (arXiv 2309.17453).
"""

from __future__ import annotations

import glob
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from famcli.checkpoint.choose import choose_fam, default_tasks
from famcli.checkpoint.folder import beside, checkpoint_folder
from famcli.checkpoint.locate import memory_status
from famcli.checkpoint.open import read_rows
from famcli.checkpoint.save import save_sidecar, writing
from famcli.checkpoint.sidecar import SIDECAR_FILE, Sidecar
from famcli.checkpoint.weights import PROMPT_FILE, PROMPT_NAME, StoredTensor, check_folder
from famcli.errors import CheckpointError, UsageError
from famcli.nn.shapes import EMBEDDING

_ROWS_AT_ONCE = 4096


@dataclass(frozen=True)
class Enabled:
    """The result of `enable`. notes: a line for each number that it chose, and for each that looks unwise."""

    path: Path
    sidecar: Sidecar
    files: tuple[Path, ...]
    max_positions: int
    seed: int
    notes: tuple[str, ...]


def enable(path: str | os.PathLike[str], *, seed: int = 0, force: bool = False, **settings: Any) -> Enabled:
    """Write `fam.json` and `fam.safetensors` into the folder of a pretrained decoder.

    The memory prompt is drawn from a normal distribution with the mean and deviation that the token embeddings have in
    each dimension. `settings` are those of `FamConfig`; those that are None or not given are chosen (see `choose_fam`).
    A checkpoint with a chat template writes its summaries. Raises CheckpointError when the folder does not hold a
    decoder famcli can open, or its memory is trained already, UsageError for impossible numbers, and when it was
    enabled before (unless `force`).
    """
    folder = checkpoint_folder(path)
    targets = (beside(folder, PROMPT_FILE), beside(folder, SIDECAR_FILE))
    # The prompt alone is nothing: a run that was killed may have left it.
    existing = [target for target in targets[1:] if target.exists() or target.is_symlink()]
    if existing and memory_status(folder) == "trained":
        raise CheckpointError(
            f"{folder} is enabled and its memory is trained: nothing is to be done; to begin anew, copy the folder and "
            f"remove {SIDECAR_FILE} and {PROMPT_FILE} from the copy"
        )
    if existing and not force:
        raise UsageError(
            f"{existing[0]} exists already: the folder was enabled before; force replaces it", remedy={"force": ""}
        )
    checked = check_folder(folder)
    fam, notes = choose_fam(checked.config.decoder, **settings)
    stored = checked.all_weights(fam.without_memory)
    tasks = default_tasks(folder)
    if tasks:
        notes = (*notes, "summaries will be written: the checkpoint has a chat template; mode extract quotes instead")
    sidecar = Sidecar(fam=fam, memory_trained=False, tasks=tasks)
    prompt = draw_prompt(stored[EMBEDDING], fam.fam_length, seed) if fam.fam_length else None
    prompt_file, sidecar_file = targets
    # The sidecar makes the folder an enabled one.
    with writing(sidecar_file.parent, "memory", sidecar_file.name, [glob.escape(prompt_file.name)]) as staging:
        save_sidecar(
            staging, sidecar, {} if prompt is None else {PROMPT_NAME: prompt}, (prompt_file.name, sidecar_file.name)
        )
    files = (sidecar_file,) if prompt is None else targets
    return Enabled(folder, sidecar, files, checked.config.decoder.rope.max_position, seed, notes)


def draw_prompt(embedding: StoredTensor, fam_length: int, seed: int) -> Tensor:
    """A memory prompt [f, d] (float32) with the statistics of the stored token embeddings [v, d].

    Raises CheckpointError if the embeddings are not finite.
    """
    num_rows, width = embedding.shape
    # In float64, a few thousand rows at a time.
    total, squares = torch.zeros(width, dtype=torch.float64), torch.zeros(width, dtype=torch.float64)
    for start in range(0, num_rows, _ROWS_AT_ONCE):
        rows = read_rows(embedding, start, min(start + _ROWS_AT_ONCE, num_rows)).double()
        total += rows.sum(0)
        squares += rows.square().sum(0)
    if not bool(torch.isfinite(squares).all()):
        raise CheckpointError(f"{embedding.file}: the token embeddings are not finite numbers; fetch the file again")
    mean = total / num_rows
    deviation = (squares / num_rows - mean.square()).clamp(min=0).sqrt()
    noise = torch.randn(fam_length, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (mean + noise * deviation).float()
