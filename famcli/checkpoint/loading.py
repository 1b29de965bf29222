"""Weights from safetensors files into a network, by memory map. What is read here was checked before (weights.py)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from famcli.checkpoint.int8 import dequantize
from famcli.checkpoint.jsonfile import shown
from famcli.checkpoint.weights import StoredTensor, opened
from famcli.errors import CheckpointError


def assign_weights(
    network: nn.Module, stored: Mapping[str, StoredTensor], device: torch.device, dtypes: Mapping[str, torch.dtype]
) -> None:
    """Give every parameter of `network` named in `dtypes` its stored values, on `device` and in that type.

    Where nothing needs converting the parameter is the mapped file itself: pages are read when they are used, and
    writing to them (training) changes private copies, never the file. int8 matrices are turned back to numbers of
    that type here, once. Raises CheckpointError.
    """
    files: dict[Path, list[str]] = {}
    for parameter in dtypes:
        files.setdefault(stored[parameter].file, []).append(parameter)
    for path, parameters in files.items():
        with opened(path, "pt") as file:
            for parameter in parameters:
                tensor: Tensor = file.get_tensor(stored[parameter].name)
                scale = stored[parameter].scale
                if scale is not None:
                    tensor = _turned_back(stored[parameter], tensor, file.get_tensor(scale.name))
                _assign(network, parameter, tensor.to(device=device, dtype=dtypes[parameter]))


def _assign(network: nn.Module, parameter: str, tensor: Tensor) -> None:
    owner, _, name = parameter.rpartition(".")
    setattr(network.get_submodule(owner), name, nn.Parameter(tensor))


def read_rows(tensor: StoredTensor, start: int, stop: int) -> Tensor:
    """Rows `start` to `stop` of a stored tensor, without reading the others. Raises CheckpointError."""
    with opened(tensor.file, "pt") as file:
        rows: Tensor = file.get_slice(tensor.name)[start:stop]
        if tensor.scale is None:
            return rows
        return _turned_back(tensor, rows, file.get_slice(tensor.scale.name)[start:stop])


def _turned_back(stored: StoredTensor, values: Tensor, scale: Tensor) -> Tensor:
    if not bool((scale.isfinite() & (scale >= 0)).all()):
        raise CheckpointError(f"{stored.file}: the scale of '{shown(stored.name)}' holds numbers no scale can be")
    return dequantize(values, scale)
