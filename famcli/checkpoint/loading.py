"""Read weights from their files into a network. Their names, types and shapes were checked before (weights.py).

A weight that is used as it is stored is a piece of the mapped file. One that must be converted (to another type or
device, from rows that lie apart, to fewer bits) is made from a copy of that tensor alone: if it were mapped, its pages
would stay in memory beside the converted tensor for as long as any other tensor of the file is used.
"""

from __future__ import annotations

import mmap
import os
import threading
from collections.abc import Mapping
from contextlib import suppress
from itertools import groupby
from pathlib import Path

import torch
from torch import Tensor, nn

from famcli.checkpoint.device import DTYPES
from famcli.checkpoint.jsonfile import shown
from famcli.checkpoint.quantize import bits_of, from_int4, from_int8, quantized_matrix
from famcli.checkpoint.weights import StoredTensor, opened
from famcli.errors import CheckpointError
from famcli.nn.kernels.quantized import QuantizedMatrix
from famcli.nn.lora import LowRank
from famcli.tokens.gguf_file import is_gguf

_ASKED_AT_ONCE = 128 << 10  # Linux takes no more of a larger request than the disk's read-ahead
_FEW_BITS = {"int8": torch.int8, "int4": torch.uint8}


def assign_weights(
    network: nn.Module,
    stored: Mapping[str, StoredTensor],
    device: torch.device,
    dtypes: Mapping[str, torch.dtype],
    quantize: str = "none",
    updates: Mapping[str, LowRank] | None = None,
) -> None:
    """Give every parameter of `network` named in `dtypes` its stored values, on `device` and in that type.

    A parameter that needs no conversion is the mapped file itself: pages are read when they are used, and writing to
    them (training) changes private copies, never the file. The others are copied tensor by tensor, in the order of the
    files, so that there is never a second copy of a checkpoint. `quantize` keeps matrices in fewer bits (quantize.py);
    without it stored int8 and int4 matrices are dequantized here, once. `updates` (an adapter's) are added to their
    matrices first. Raises CheckpointError.
    """
    # In the order of the files, so that the disk is read from one end to the other.
    names = sorted(dtypes, key=lambda name: (str(stored[name].file), stored[name].start))
    for path, in_file in groupby(names, key=lambda name: stored[name].file):
        if hasattr(os, "posix_fadvise") and not is_gguf(path):
            threading.Thread(target=_read_ahead, args=(path,), daemon=True).start()
        with opened(path, "pt") as file:
            for _, parameters in groupby(in_file, key=lambda name: stored[name].name):
                whole: Tensor | None = None  # a copy of the stored tensor, of which several parameters can be rows
                for parameter in parameters:
                    declared, dtype = stored[parameter], dtypes[parameter]
                    update, bits = (updates or {}).get(parameter), bits_of(parameter, declared.shape, quantize)
                    # Only what is used exactly as it is stored may be mapped (see the module).
                    as_stored = device.type == "cpu" and DTYPES.get(declared.dtype) == dtype
                    in_one_piece = declared.rows is None or declared.rows.groups == 1
                    if is_gguf(path) or (as_stored and in_one_piece and update is None and bits is None):
                        tensor: Tensor = _rows(declared, file.get_tensor(declared.name))
                    else:
                        whole = _copied(declared) if whole is None else whole
                        tensor = _rows(declared, whole)
                    if declared.scale is not None:
                        tensor = _dequantized(declared, tensor, _rows(declared.scale, _copied(declared.scale)))
                    if update is not None:
                        tensor = update.added_to(tensor, dtype)
                    if bits is None:
                        _assign(network, parameter, tensor.to(device=device, dtype=dtype))
                    else:
                        _place(network, parameter, quantized_matrix(tensor.to(device), parameter, bits, dtype))


def _rows(declared: StoredTensor, whole: Tensor) -> Tensor:
    """A parameter's rows of the whole stored tensor."""
    rows = declared.rows
    if rows is None:
        return whole
    return whole.view(rows.groups, rows.period, *whole.shape[1:])[:, rows.start : rows.stop].flatten(0, 1)


def _read_ahead(path: Path) -> None:
    """Ask the system to read all of a file, so that the disk need not wait for the work on each tensor."""
    with suppress(OSError), path.open("rb") as file:
        for start in range(0, path.stat().st_size, _ASKED_AT_ONCE):
            os.posix_fadvise(file.fileno(), start, _ASKED_AT_ONCE, os.POSIX_FADV_WILLNEED)


def _copied(declared: StoredTensor) -> Tensor:
    """A copy of a whole stored tensor. Raises CheckpointError."""
    shape = declared.shape if declared.rows is None else (declared.rows.total, *declared.shape[1:])
    # malloc would keep the memory of freed tensors for later ones; a map of its own goes back to the system.
    room, filled = mmap.mmap(-1, declared.size), 0
    with declared.file.open("rb", buffering=0) as file, memoryview(room) as view:
        file.seek(declared.start)
        while filled < len(view):
            count = file.readinto(view[filled:])
            if not count:
                raise CheckpointError(f"{declared.file} ends within '{shown(declared.name)}'; fetch it again")
            filled += count
    if declared.dtype == "int4":  # two numbers in a byte
        shape = (shape[0], shape[1] // 2)
    return torch.frombuffer(room, dtype=_FEW_BITS.get(declared.dtype) or DTYPES[declared.dtype]).view(shape)


def _assign(network: nn.Module, parameter: str, tensor: Tensor) -> None:
    owner, _, name = parameter.rpartition(".")
    setattr(network.get_submodule(owner), name, nn.Parameter(tensor))


def _place(network: nn.Module, parameter: str, matrix: QuantizedMatrix) -> None:
    owner, _, name = parameter.rpartition(".")
    module = network.get_submodule(owner)
    delattr(module, name)
    setattr(module, name, matrix)


def read_rows(tensor: StoredTensor, start: int, stop: int) -> Tensor:
    """Rows `start` to `stop` of a stored tensor, without reading the others. Raises CheckpointError."""
    with opened(tensor.file, "pt") as file:
        if is_gguf(tensor.file):
            rows: Tensor = file.get_rows(tensor.name, slice(start, stop))
            return rows
        rows = file.get_slice(tensor.name)[start:stop]
        if tensor.scale is None:
            return rows
        return _dequantized(tensor, rows, file.get_slice(tensor.scale.name)[start:stop])


def _dequantized(stored: StoredTensor, values: Tensor, scale: Tensor) -> Tensor:
    steps = scale if stored.dtype == "int8" else scale[..., 0]
    if not bool(scale.isfinite().all() & (steps >= 0).all()):
        raise CheckpointError(f"{stored.file}: the scale of '{shown(stored.name)}' holds numbers no scale can be")
    return from_int8(values, scale) if stored.dtype == "int8" else from_int4(values, scale)
