"""Open a checkpoint: a folder becomes a network, a tokenizer, and what identifies them.

Everything that a folder declares is checked before memory is taken for its weights; whatever is wrong is one
CheckpointError. Nothing is unpickled, and no file outside the folder is read.

A weight that is used as it is stored is a part of the mapped file. A weight that must be converted (to another type or
device, from rows that are apart, to fewer bits) is made from a copy of that tensor alone: if it were mapped, its pages
would stay in memory beside the converted tensor for as long as any other tensor of the file is used.
"""

from __future__ import annotations

import mmap
import os
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from famcli.checkpoint.adapter import Fitted, adapted_fingerprint, base_warnings, fit, read_adapter
from famcli.checkpoint.choose import sidecar_for
from famcli.checkpoint.device import DTYPES, select_device, select_dtype
from famcli.checkpoint.fingerprints import Fingerprints, config_fingerprint
from famcli.checkpoint.folder import shown
from famcli.checkpoint.locate import Located, resolve
from famcli.checkpoint.model import Model, read_end_ids, read_sampling
from famcli.checkpoint.probes import read_probes
from famcli.checkpoint.quantize import QUANTIZATIONS, bits_of, from_int4, from_int8, quantized_matrix
from famcli.checkpoint.save import load_updates
from famcli.checkpoint.weights import StoredTensor, check_folder, main_dtype, opened
from famcli.errors import CheckpointError, UsageError
from famcli.nn import DecoderConfig, FamConfig, Network, make_network
from famcli.nn.kernels.few_bits import FewBits, Grouped, attach
from famcli.nn.kernels.quantized import QuantizedMatrix
from famcli.nn.lora import LowRank
from famcli.nn.shapes import own_shapes
from famcli.tokens.gguf_file import is_gguf

# Linux takes no more of a larger request than the disk's read-ahead.
_ASKED_AT_ONCE = 128 << 10
# An update's rank times so much is at most a side of the matrix that it goes beside.
_WORTH = 4
_FEW_BITS = {"int8": torch.int8, "int4": torch.uint8}


def open_model(
    name: str | os.PathLike[str] | Located | None = None,
    *,
    device: str = "auto",
    dtype: str = "auto",
    quantize: str = "none",
    adapter: str | os.PathLike[str] | None = None,
    **settings: Any,
) -> Model:
    """Open the checkpoint that `name` means (see `resolve`), ready to read on `device` and in `dtype`.

    A checkpoint without `fam.json` is read as `famcli enable` would choose, without a memory. `settings` are those of
    `FamConfig` that override the sidecar's; `quantize` ("int8", "int4") keeps the matrices in
    fewer bits, for reading only. `adapter`: the folder of a LoRA adapter, which is added to the weights; if famcli made
    it, its FamConfig and its memory prompt replace the checkpoint's. Without one it is the adapter that ships for this
    name, if there is one. Raises CheckpointError when files are missing,
    damaged or do not fit together, TokenizerError for the tokenizer's, UsageError for an impossible device, type or
    override.
    """
    if quantize not in QUANTIZATIONS:
        raise UsageError(f"quantization '{quantize}' is not known; choose one of {', '.join(QUANTIZATIONS)}")
    located = name if isinstance(name, Located) else resolve(name)
    chosen_adapter = located.adapter if adapter is None else Path(adapter)
    added = None if chosen_adapter is None else read_adapter(chosen_adapter)
    checked = check_folder(located.path, ignore_adapter=added is not None)
    decoder, shown = checked.config.decoder, located.name
    fitted: Fitted = {}
    warnings: tuple[str, ...] = ()
    if added is not None:
        fitted = fit(added, checked.config, checked.weights, located.name)
        shown = f"{located.name} with {added.folder.name}"
        if adapter is not None:
            # Of the one that ships the weights may be the hub's or a package's, which differ by a rounding.
            warnings = base_warnings(added, checked.weights, located.name)
            shown = f"{located.name} with {added.folder}"
    home = added.folder if added is not None and added.sidecar is not None else checked.path
    sidecar, notes = sidecar_for(home, decoder, located.name)
    try:
        sidecar = replace(sidecar, fam=replace(sidecar.fam, **settings))
    except ValueError as error:
        raise UsageError(f"the options do not fit this checkpoint: {error}") from error
    stored = checked.all_weights(sidecar.fam, home)
    chosen = select_device(device)
    compute = select_dtype(dtype, chosen, DTYPES[main_dtype(stored)])
    # First, because the pages that hashing reads are given back before those that stay are taken.
    fingerprints = Fingerprints(
        weights=adapted_fingerprint(stored, added),
        config=config_fingerprint(decoder, sidecar.fam),
        tokenizer=checked.tokenizer.fingerprint,
    )
    updates = {} if added is None else load_updates(added, fitted)
    return Model(
        network=load_network(decoder, sidecar.fam, stored, chosen, compute, quantize, updates),
        tokenizer=checked.tokenizer,
        sidecar=sidecar,
        path=checked.path,
        name=shown,
        fingerprints=fingerprints,
        chosen_by=located.chosen_by,
        end_ids=read_end_ids(checked.path, checked.tokenizer),
        sampling=read_sampling(checked.path),
        adapter=added,
        probes=read_probes(home, decoder),
        warnings=warnings,
        notes=notes,
    )


def load_network(
    config: DecoderConfig,
    fam: FamConfig,
    stored: Mapping[str, StoredTensor],
    device: torch.device,
    dtype: torch.dtype,
    quantize: str = "none",
    updates: Mapping[str, LowRank] | None = None,
) -> Network:
    """The network with its checked weights `stored` in `dtype`, the memory prompt in float32.

    updates: an adapter's, by parameter.
    """
    # Tensors made in inference mode could never be trained, nor tell when they change.
    with torch.inference_mode(False):
        with torch.device("meta"):
            network = make_network(config, fam)
        names = [name for name, _ in network.named_parameters()]
        own = own_shapes(config, fam)
        dtypes = {name: torch.float32 if name in own else dtype for name in names}
        assign_weights(network, stored, device, dtypes, quantize, updates)
    return network.eval()


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
                # Several parameters can be rows of one stored tensor, which is then copied once.
                whole: Tensor | None = None
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
                        value = nn.Parameter(tensor.to(device=device, dtype=dtype))
                        _place(network, parameter, value)
                        if is_gguf(path) and dtype == torch.bfloat16 and device.type == "cpu":
                            _attach_few_bits(value, file.few_bits(declared.name), declared, update)
                    else:
                        _place(network, parameter, quantized_matrix(tensor.to(device), parameter, bits, dtype))


def _attach_few_bits(
    weight: Tensor, make: Callable[[], Grouped] | None, declared: StoredTensor, update: LowRank | None
) -> None:
    """Let the network write from the file's own bits, with an update beside them if that is of low rank indeed."""
    pair = None if update is None else (update.b * update.scale, update.a)
    if make is not None and (update is None or _WORTH * len(update.a) <= min(weight.shape)):
        attach(weight, lambda: FewBits(make().changed(partial(_rows, declared)), pair))


def _rows(declared: StoredTensor, whole: Tensor) -> Tensor:
    return whole if declared.rows is None else declared.rows.of(whole).flatten(0, 1)


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
    # A byte holds two numbers.
    if declared.dtype == "int4":
        shape = (shape[0], shape[1] // 2)
    return torch.frombuffer(room, dtype=_FEW_BITS.get(declared.dtype) or DTYPES[declared.dtype]).view(shape)


def _place(network: nn.Module, parameter: str, value: nn.Parameter | QuantizedMatrix) -> None:
    owner, _, name = parameter.rpartition(".")
    module = network.get_submodule(owner)
    # A module refuses another module under the name of a parameter.
    if isinstance(value, QuantizedMatrix):
        delattr(module, name)
    setattr(module, name, value)


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
