"""What was read, kept in one safetensors file, so that reading once serves questions for days.

Kind "full" holds the whole state; kind "memory" the memory at the last closed block and the tokens after it, a few
per cent of the size and lossy: the closed blocks can no longer be seen. Where the memory keeps tokens (nn/kept.py),
it takes in a block when that leaves the window; the tokens of the window come with it and are read again.
"""

from __future__ import annotations

import os
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from famcli.checkpoint.model import Model
from famcli.documents.writing import atomic_file
from famcli.errors import MemoryFileError, UsageError
from famcli.nn import State
from famcli.reading.cursor import Cursor
from famcli.reading.engine import read_any, start_state
from famcli.reading.memory_format import (
    MemoryFileInfo,
    MemoryKind,
    OpenedMemoryFile,
    check_model,
    inspect_memory_file,
    metadata,
)
from famcli.reading.reader import Reader
from famcli.tokens.stream import TokenRun

__all__ = ["SUFFIX", "MemoryFileInfo", "MemoryKind", "inspect_memory_file", "load_memory", "save_memory"]

SUFFIX = ".fam"
# The fields that a cursor and its description in a file have in common.
_SHARED = ("sources", "num_tokens", "num_blocks", "next_byte", "begun", "line")


def save_memory(path: str | os.PathLike[str], reader: Reader, kind: MemoryKind = "full") -> MemoryFileInfo:
    """Write what `reader` read to `path`, replacing what is there only once the new file is whole.

    Raises MemoryFileError if it cannot be written (the old file is then untouched); UsageError in memory mode
    "compare", and for kind "memory" where there is none. A process killed while it saves may leave a hidden file
    `.NAME.*.tmp` beside the old one.
    """
    cursor = reader.cursor()
    state = cursor.state
    if kind == "memory" and not reader.model.network.fam.memory_is_separate:
        raise UsageError(f"{reader.model.name} has no memory apart from what its tokens see: save with kind 'full'")
    if kind == "memory" and (state.memory_mode != "on" or not state.has_memory):
        raise UsageError(f"memory mode '{state.memory_mode}' has no memory to keep: save with kind 'full'")
    info = _describe(reader.model, cursor, kind)
    tensors, stored = {}, set[int]()
    for name, tensor in _tensors(cursor, kind).items():
        tensor = tensor.detach().cpu().contiguous()
        # safetensors refuses tensors that share storage: rows of the open block are views of one with room to spare,
        # and layers whose memory holds nothing yet have one between them.
        storage = tensor.untyped_storage()
        is_alone = storage.nbytes() == tensor.nbytes and storage.data_ptr() not in stored
        tensors[name] = tensor if is_alone else tensor.clone()
        stored.add(storage.data_ptr())
    _write(Path(path), info.dumps(), tensors)
    return info


def load_memory(path: str | os.PathLike[str], model: Model) -> Cursor:
    """Where the reading that `path` keeps goes on: `Reader(model, resume=load_memory(path, model))`.

    Raises MemoryFileError if the file is damaged, or was written with another model or other settings.
    """
    opened = OpenedMemoryFile(Path(path))
    info = opened.info
    check_model(opened.path, info, model.name, model.network.fam, model.fingerprints)
    tensors = opened.tensors(model.network.config)
    cursor = _checked_cursor(opened, tensors, model)
    return cursor if info.kind == "full" else _read_again(cursor, info, tensors["memory"], model)


# ---------------------------------------------------------------------------------------------------------- writing


def _describe(model: Model, cursor: Cursor, kind: MemoryKind) -> MemoryFileInfo:
    state = cursor.state
    return MemoryFileInfo(
        kind=kind,
        model=model.name,
        **asdict(model.fingerprints),
        memory_mode=state.memory_mode,
        fam=model.network.fam,
        num_bytes=cursor.num_bytes,
        bytes_unread=cursor.progress.bytes_unread,
        seen_tokens=cursor.progress.num_tokens,
        seen_blocks=cursor.progress.num_blocks,
        position=int(state.position[0]),
        fill=state.fill,
        num_closed=state.num_closed,
        memory_is_initial=bool(state.memory_is_initial[0]),
        **{name: getattr(cursor, name) for name in _SHARED},
    )


def _tensors(cursor: Cursor, kind: MemoryKind) -> dict[str, Tensor]:
    state = cursor.state
    tensors = {
        "open_tokens": torch.tensor(cursor.open_tokens),
        "unread_ids": torch.tensor(cursor.unread.ids),
        "unread_starts": torch.tensor(cursor.unread.starts),
        "unread_ends": torch.tensor(cursor.unread.ends),
        "tail": torch.tensor(np.frombuffer(cursor.tail, dtype=np.uint8)),
    }
    if cursor.last_hidden is not None:
        tensors["last_hidden"] = cursor.last_hidden
    if kind == "memory":
        return tensors | {"memory": torch.cat(state.memories)}
    return tensors | {f"state.{name}": tensor for name, tensor in state.to_tensors()[0].items()}


def _write(path: Path, info: str, tensors: dict[str, Tensor]) -> None:
    try:
        # Private: the file holds text that was read, or what can be made to repeat it.
        with atomic_file(path, private=True) as beside:
            save_file(tensors, beside, metadata(info, tensors))
    except (OSError, SafetensorError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or error
        untouched = "; what was there before is untouched" if path.exists() else ""
        raise MemoryFileError(
            f"cannot save to {path}: {reason}{untouched}; make room or choose another place"
        ) from error


# ---------------------------------------------------------------------------------------------------------- loading


def _checked_cursor(file: OpenedMemoryFile, tensors: dict[str, Tensor], model: Model) -> Cursor:
    """The cursor in a file of kind "full"; of kind "memory", with a state that is still to be made."""
    info, network = file.info, model.network
    ids, starts, ends = (tensors[f"unread_{part}"].numpy() for part in ("ids", "starts", "ends"))
    opened, size = tensors["open_tokens"].numpy(), info.fam.block_size
    # Files of older versions have those of the open block alone.
    if len(opened) % size != info.fill or len(opened) > info.fam.blocks_not_taken_in * size + info.fill:
        raise file.damaged("the tokens of its open block are not as many as it says")
    for tokens in (ids, opened):
        if len(tokens) and not (tokens.min() >= 0 and tokens.max() < network.config.vocab_size):
            raise file.damaged("it holds tokens that the model does not have")
    if info.kind == "full":
        named = {name.removeprefix("state."): tensor for name, tensor in tensors.items() if name.startswith("state.")}
        state = State.from_tensors(named, info.state_meta).to(network.device, network.dtype)
    else:
        state = start_state(network, info.memory_mode)
    hidden = tensors.get("last_hidden")
    cursor = Cursor(
        state=state,
        last_hidden=None if hidden is None else hidden.to(network.device, network.dtype),
        open_tokens=opened,
        unread=TokenRun(ids, starts, ends),
        tail=tensors["tail"].numpy().tobytes(),
        progress=info.progress,
        **{name: getattr(info, name) for name in _SHARED},
    )
    # The checksum guards against damage; these checks against a file that was made to fit its checksum.
    position = tensors["state.position"][0] if info.kind == "full" else info.position
    if not len(ids) == len(starts) == len(ends) or int(position) != info.position or info.position < info.fill:
        raise file.damaged("its tokens and positions do not fit together")
    spans = np.concatenate(([0], starts, ends[-1:], [info.next_byte]))
    if (np.diff(spans) < 0).any() or (np.diff(ends) < 0).any() or (starts > ends).any():
        raise file.damaged("the spans of its tokens do not follow one another")
    if not cursor.tail_start <= info.next_byte <= cursor.end_byte == info.sources[-1].num_bytes:
        raise file.damaged("what it says of its last source does not fit together")
    return cursor


def _read_again(cursor: Cursor, info: MemoryFileInfo, memory: Tensor, model: Model) -> Cursor:
    """A cursor of kind "memory" with its state: what the memory has not taken in is read again behind it."""
    # Nothing of other blocks is in the file: no token sees any.
    start = cursor.state
    state = replace(
        start.with_memories(torch.split(memory.to(model.device), 1)),
        position=torch.tensor([info.position - len(cursor.open_tokens)]),
        memory_is_initial=torch.tensor([info.memory_is_initial]),
    )
    last_hidden, state = read_any(model.network, cursor.open_tokens, state)
    return replace(cursor, state=state, last_hidden=cursor.last_hidden if last_hidden is None else last_hidden)
