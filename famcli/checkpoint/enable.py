"""Give a pretrained decoder's folder what it needs to read streams: `fam.json` and a memory prompt.

No file that was there is written to. The memory is not trained by this, and the sidecar says so: until it is, the
decoder runs as sliding blocks with attention sinks (arXiv 2309.17453).
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor

from famcli.checkpoint.checks import checked_tokenizer, checked_weights, refuse_adapter
from famcli.checkpoint.families import read_config
from famcli.checkpoint.folder import check_links, checkpoint_folder
from famcli.checkpoint.loading import read_rows
from famcli.checkpoint.save import save_prompt
from famcli.checkpoint.sidecar import MAX_BLOCK_SIZE, MAX_SEGMENTS, SIDECAR_FILE, Sidecar
from famcli.checkpoint.weights import PROMPT_FILE, StoredTensor
from famcli.errors import CheckpointError, UsageError
from famcli.nn import FamConfig

DEFAULT_BLOCK_SIZE = 1024
DEFAULT_SEGMENTS = 3
DEFAULT_FAM_LENGTH = 64
DEFAULT_SINKS = 4
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
    block_size: int | None = None,
    memory_segments: int | None = None,
    fam_length: int | None = None,
    sink_tokens: int | None = None,
    seed: int = 0,
    force: bool = False,
) -> Enabled:
    """Write `fam.json` and `fam.safetensors` into the folder of a pretrained decoder.

    The memory prompt is drawn from a normal distribution with the mean and deviation that the token embeddings have in
    each dimension. Numbers that are not given are chosen so that the visible window, (memory_segments + 1) *
    block_size, stays within the length the decoder was trained for. Raises CheckpointError when the folder does not
    hold a decoder famcli can open, or was enabled before (unless `force`), UsageError for numbers that cannot be.
    """
    folder = checkpoint_folder(path)
    targets = (folder / PROMPT_FILE, folder / SIDECAR_FILE)
    existing = [target for target in targets if target.exists() or target.is_symlink()]
    if existing and not force:
        raise CheckpointError(f"{existing[0]} is there already: the folder was enabled before; --force replaces it")
    check_links(folder)
    config = read_config(folder)
    refuse_adapter(folder)
    fam, notes = choose_fam(config.max_positions, block_size, memory_segments, fam_length, sink_tokens)
    stored = checked_weights(folder, config, replace(fam, fam_length=0))
    checked_tokenizer(folder, config.decoder)
    sidecar = Sidecar(fam=fam, memory_trained=False)
    prompt = draw_prompt(stored["model.embed_tokens.weight"], fam.fam_length, seed) if fam.fam_length else None
    files = _write(folder, sidecar, prompt)
    return Enabled(folder, sidecar, files, config.max_positions, seed, notes)


def choose_fam(
    max_positions: int,
    block_size: int | None = None,
    memory_segments: int | None = None,
    fam_length: int | None = None,
    sink_tokens: int | None = None,
) -> tuple[FamConfig, tuple[str, ...]]:
    """A way of reading for a decoder trained on `max_positions` tokens, and what there is to say about the choice."""
    notes = []
    for name, value, limit in (
        ("block_size", block_size, MAX_BLOCK_SIZE),
        ("memory_segments", memory_segments, MAX_SEGMENTS),
    ):
        if value is not None and value > limit:
            raise UsageError(f"{name} is {value}, more than the {limit} that can be")
    segments = DEFAULT_SEGMENTS if memory_segments is None else memory_segments
    if block_size is None:
        block_size = max(1, min(DEFAULT_BLOCK_SIZE, max_positions // (max(segments, 0) + 1)))
        notes.append(f"block_size {block_size} was chosen: the decoder was trained on {max_positions:,} tokens")
    if memory_segments is None:
        segments = max(0, min(DEFAULT_SEGMENTS, max_positions // max(block_size, 1) - 1))
        notes.append(
            f"memory_segments {segments} was chosen: {segments + 1} blocks of {block_size:,} tokens are visible"
        )
    window = (segments + 1) * block_size
    if window > max_positions:
        notes.append(
            f"{window:,} tokens are visible at once, more than the {max_positions:,} the decoder was trained on"
        )
    length = min(DEFAULT_FAM_LENGTH, block_size) if fam_length is None else fam_length
    sinks = min(DEFAULT_SINKS, block_size) if sink_tokens is None else sink_tokens
    try:
        return FamConfig(block_size, segments, length, sinks), tuple(notes)
    except ValueError as error:
        raise UsageError(str(error)) from error


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
    """Write both files elsewhere first; `fam.json`, which makes the folder an enabled one, is moved in last."""
    written = []
    try:
        with tempfile.TemporaryDirectory(prefix=".enabling-", dir=folder) as made:
            if prompt is not None:
                save_prompt(Path(made) / PROMPT_FILE, prompt)
                os.replace(Path(made) / PROMPT_FILE, folder / PROMPT_FILE)
                written.append(folder / PROMPT_FILE)
            else:
                (folder / PROMPT_FILE).unlink(missing_ok=True)
            (Path(made) / SIDECAR_FILE).write_text(sidecar.dumps(), encoding="utf-8")
            os.replace(Path(made) / SIDECAR_FILE, folder / SIDECAR_FILE)
            written.append(folder / SIDECAR_FILE)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{folder} cannot be written to ({error}); free space, or copy the folder") from error
    return tuple(written)
