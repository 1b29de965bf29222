"""What safetensors files declare of a checkpoint's weights: compared with the configuration before one is read.

Neither torch is loaded here nor memory taken for weights; nothing is ever unpickled. safetensors itself checks that a
file is as long as its header says, so a file cannot lie about its size.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import RawIOBase
from math import prod
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from famcli.checkpoint.families.pretrained import PretrainedConfig
from famcli.checkpoint.families.weight_names import Piece, Rows
from famcli.checkpoint.folder import beside, inside, named_file
from famcli.checkpoint.gguf.tensors import declared_tensors, gguf_name, open_tensors
from famcli.checkpoint.gguf.values import GGUF_TYPES
from famcli.checkpoint.jsonfile import Fields, read_json_object, shown
from famcli.documents.target import is_utf8
from famcli.errors import CheckpointError
from famcli.tokens.gguf_file import is_gguf

WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
PROMPT_FILE = "fam.safetensors"
PROMPT_NAME = "memory_prompt"

_DTYPES = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}
_DTYPES_BY_STORAGE = {
    "float": _DTYPES,
    "int8": _DTYPES | {"I8": "int8"},
    "int4": _DTYPES | {"I8": "int8", "U8": "int4"},
}
ITEM_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "int8": 1}
_GROUP_BYTES = {name: (size, count) for name, size, count in GGUF_TYPES.values() if count > 1} | {"int4": (1, 2)}
SCALE_SUFFIX = "_scale"
# Of matrices in few bits: the type of their scales, and columns that share one (0: a whole row does). In int4 a zero
# follows each scale.
_SCALE_OF = {"int8": ("float32", 0), "int4": ("bfloat16", 32)}
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt")
_MAX_INDEX_BYTES = 64 << 20
_NAMES_SHOWN = 3
# Files up to this size are hashed whole; of larger ones three samples of each tensor are.
_WHOLE_HASH_BYTES = 128 << 20
_SAMPLE_BYTES = 1 << 16
_READ_AT_ONCE = 1 << 20


@dataclass(frozen=True)
class StoredTensor:
    """What a safetensors header declares of one tensor. dtype: a key of ITEM_BYTES. start: byte of the file.

    scale: of an int8 or int4 matrix [rows, columns], the tensor in the same file that turns it back (int8.py, int4.py):
    float32 [rows], or bfloat16 [rows, columns / 32, 2].
    rows: those of the stored tensor that are meant where it holds several parameters; shape is theirs.
    """

    file: Path
    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int = 0
    scale: StoredTensor | None = None
    rows: Rows | None = None

    @property
    def stored_bytes(self) -> int:
        """Of the whole stored tensor."""
        return self.num_bytes if self.rows is None else self.num_bytes // self.rows.count * self.rows.total

    @property
    def num_bytes(self) -> int:
        size, group = _GROUP_BYTES.get(self.dtype) or (ITEM_BYTES[self.dtype], 1)
        return prod(self.shape) // group * size


@contextmanager
def opened(path: Path, framework: str = "np") -> Iterator[Any]:
    """A weight file, by memory map; its tensors are torch's for the framework "pt". Raises CheckpointError."""
    if is_gguf(path):
        yield open_tensors(path)
        return
    if not is_utf8(path):
        raise CheckpointError(f"{path}: this name is not UTF-8, which safetensors files need: give it another one")
    try:
        with safe_open(path, framework=framework) as file:
            yield file
    except (SafetensorError, OSError, ValueError, RuntimeError, OverflowError) as error:
        if isinstance(error, CheckpointError):
            raise
        problem = f"is not a whole safetensors file ({shown(error)})"
        raise CheckpointError(f"{path} {problem}; it was cut short or damaged, fetch it again") from error


def weight_files(folder: Path) -> tuple[Path, ...]:
    """The files that hold the weights: `model.safetensors`, or the shards its index names. Raises CheckpointError."""
    if is_gguf(folder):
        return (folder,)
    single, index = folder / WEIGHTS_FILE, folder / INDEX_FILE
    if single.exists() or single.is_symlink():
        return (inside(folder, single),)
    if index.exists():
        names = Fields(index, read_json_object(index, max_bytes=_MAX_INDEX_BYTES)).strings("weight_map")
        if not names:
            raise CheckpointError(f"{index} names no weights; fetch it again")
        return tuple(named_file(folder, name) for name in sorted(set(names.values())))
    pickles = sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern))
    if pickles:
        raise CheckpointError(
            f"{folder} has its weights only as pickles ({_some(pickles)}), which can run code and are never opened; "
            "get the safetensors version, or convert with transformers' save_pretrained"
        )
    raise CheckpointError(f"{folder} has no weights: neither {WEIGHTS_FILE} nor {INDEX_FILE}")


def stored_weights(folder: Path, config: PretrainedConfig) -> dict[str, StoredTensor]:
    """What the folder's weight files declare, by the name of the network's parameter. Raises CheckpointError.

    In the storages "int8" and "int4" some of them are matrices of such numbers, each with its scale.
    """
    stored: dict[str, StoredTensor] = {}
    dtypes = _DTYPES_BY_STORAGE[config.storage]
    for path in weight_files(folder):
        for tensor in headers(path, dtypes, lambda name: bool(_pieces(name, config))):
            for piece in _pieces(tensor.name, config):
                if piece.parameter in stored:
                    other = stored[piece.parameter].file.name
                    raise CheckpointError(f"{path} has '{shown(tensor.name)}', which {other} has too")
                stored[piece.parameter] = _cut(tensor, piece)
    return _with_scales(stored) if config.storage != "float" else stored


def _pieces(name: str, config: PretrainedConfig) -> tuple[Piece, ...]:
    """The parameters of a stored tensor; a scale's are those of its matrix, by their names with the suffix."""
    if config.storage == "float" or not name.endswith(SCALE_SUFFIX):
        return config.family.pieces(name, config.decoder)
    matrix = config.family.pieces(name.removesuffix(SCALE_SUFFIX), config.decoder)
    return tuple(replace(piece, parameter=piece.parameter + SCALE_SUFFIX) for piece in matrix)


def _cut(tensor: StoredTensor, piece: Piece) -> StoredTensor:
    """The rows of a stored tensor that one parameter is. Raises CheckpointError for another number of rows in all."""
    if piece.rows is None:
        return tensor
    total = piece.rows.total
    check_shape(tensor, (total, *tensor.shape[1:]))
    return replace(tensor, shape=(piece.rows.count, *tensor.shape[1:]), rows=piece.rows)


def _with_scales(stored: Mapping[str, StoredTensor]) -> dict[str, StoredTensor]:
    """Every quantized matrix with its scale, which leaves the list of weights. Raises CheckpointError."""
    joined = {}
    for name, tensor in stored.items():
        owner = stored.get(name.removesuffix(SCALE_SUFFIX)) if name.endswith(SCALE_SUFFIX) else None
        if owner is not None and owner.dtype in _SCALE_OF:
            continue
        if tensor.dtype in _SCALE_OF:
            scale = stored.get(name + SCALE_SUFFIX)
            if scale is None or scale.file != tensor.file:
                raise CheckpointError(
                    f"{tensor.file}: '{shown(tensor.name)}' is {tensor.dtype} and has no scale beside it"
                )
            dtype, columns = _SCALE_OF[tensor.dtype]
            shape = tensor.shape[:1] if columns == 0 else (tensor.shape[0], tensor.shape[-1] // columns, 2)
            uneven = columns and tensor.shape[-1] % columns
            if len(tensor.shape) != 2 or uneven or (scale.dtype, scale.shape) != (dtype, shape):
                per = f"two bfloat16 numbers for each {columns} columns" if columns else "a float32 number for each row"
                raise CheckpointError(
                    f"{tensor.file}: '{shown(scale.name)}' is {shown(list(scale.shape))} in {scale.dtype}, an "
                    f"{tensor.dtype} matrix of {shown(list(tensor.shape))} needs {per}"
                )
            tensor = replace(tensor, scale=scale)
        joined[name] = tensor
    return joined


def stored_prompt(folder: Path) -> StoredTensor:
    """What `fam.safetensors` declares of the memory prompt. Raises CheckpointError."""
    path = beside(folder, PROMPT_FILE)
    if not path.exists() and not path.is_symlink():
        raise CheckpointError(f"{path} is missing: it holds the memory prompt that fam.json needs; copy it again")
    tensors = {tensor.name: tensor for tensor in headers(inside(path.parent, path))}
    if set(tensors) != {PROMPT_NAME}:
        raise CheckpointError(f"{path} must hold '{PROMPT_NAME}' and nothing else, it holds {_some(sorted(tensors))}")
    return tensors[PROMPT_NAME]


def headers(
    path: Path, dtypes: Mapping[str, str] = _DTYPES, wanted: Callable[[str], bool] = lambda name: True
) -> Iterator[StoredTensor]:
    """What one weight file declares, tensor by tensor. Raises CheckpointError for a type that is not in `dtypes`.

    Tensors that are not `wanted` may be of any type: Pythia's files hold attention masks as bytes.
    """
    if is_gguf(path):
        for name, kind, tensor in declared_tensors(path):
            yield StoredTensor(path, name, kind, tensor.shape, tensor.start)
        return
    with opened(path) as file:  # which checks the header
        starts = _starts(path)
        for name in filter(wanted, file.keys()):
            view = file.get_slice(name)
            dtype = dtypes.get(view.get_dtype())
            if dtype is None:
                known = ", ".join(dtypes)
                raise CheckpointError(f"{path}: '{shown(name)}' is stored as {view.get_dtype()}; known are {known}")
            shape = tuple(view.get_shape())
            if dtype == "int4" and shape:  # two numbers in a byte
                shape = (*shape[:-1], 2 * shape[-1])
            yield StoredTensor(path, name, dtype, shape, starts[name])


def _starts(path: Path) -> dict[str, int]:
    """Where each tensor begins in a file whose header safetensors has checked."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    return {name: 8 + length + entry["data_offsets"][0] for name, entry in header.items() if name != "__metadata__"}


def check_weights(stored: Mapping[str, StoredTensor], shapes: Mapping[str, tuple[int, ...]], folder: Path) -> None:
    """Compare what is stored with the `shapes` the network wants. Raises CheckpointError that names the tensors.

    A tied head that is stored all the same is accepted and not used.
    """
    config = "the metadata" if is_gguf(folder) else "config.json"
    missing = [name for name in shapes if name not in stored]
    if missing:
        hint = f"; if the head is tied, {config} must say so" if missing == ["lm_head.weight"] else ""
        raise CheckpointError(
            f"{folder}: the weights lack {_some(_own(folder, missing))}, which {config} asks for{hint}"
        )
    extra = [name for name in stored if name not in shapes and name != "lm_head.weight"]
    if extra:
        raise CheckpointError(
            f"{folder}: the weights have {_some(_own(folder, extra))}, which {config} does not ask for"
        )
    for name, shape in shapes.items():
        check_shape(stored[name], shape)


def check_shape(tensor: StoredTensor, shape: tuple[int, ...]) -> None:
    """Raise CheckpointError when `tensor` is not declared with `shape`."""
    if tensor.shape != shape:
        found, wanted = list(tensor.shape), list(shape)
        [name] = _own(tensor.file, [tensor.name])
        raise CheckpointError(f"{tensor.file}: '{name}' is {shown(found)}, the configuration asks for {wanted}")


def _own(path: Path, names: list[str]) -> list[str]:
    """The names that a file has for tensors: another one's, where it is GGUF."""
    return [gguf_name(path, name) for name in names] if is_gguf(path) else names


def weights_fingerprint(stored: Mapping[str, StoredTensor]) -> str:
    """sha256 of the weights as they are stored: names, types, shapes and values, however they lie in files.

    Up to 128 MiB every byte counts. Above that, three samples of 64 KiB from each tensor (its beginning, middle and
    end): seconds would pass otherwise, and training changes every tensor all over.
    """
    scales = {name + SCALE_SUFFIX: tensor.scale for name, tensor in stored.items() if tensor.scale is not None}
    stored = {**stored, **scales}
    whole = sum(tensor.num_bytes for tensor in stored.values()) <= _WHOLE_HASH_BYTES
    parts: dict[str, bytes] = {}
    for path in {tensor.file for tensor in stored.values()}:
        own = {name: tensor for name, tensor in stored.items() if tensor.file == path}
        try:
            with path.open("rb", buffering=0) as file:
                if not whole and hasattr(os, "posix_fadvise"):  # the system need not read what lies between samples
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
                parts |= {name: _tensor_digest(file, tensor, whole) for name, tensor in own.items()}
        except OSError as error:
            raise CheckpointError(f"{path} cannot be read ({shown(error)}); fetch it again") from error
    digest = hashlib.sha256(b"whole" if whole else b"sampled")
    for parameter in sorted(stored):
        tensor = stored[parameter]
        digest.update(f"{parameter} torch.{tensor.dtype} {tensor.shape} ".encode())
        digest.update(parts[parameter])
    return digest.hexdigest()


def main_dtype(stored: Mapping[str, StoredTensor]) -> str:
    """The type most of the stored weights have, by bytes (the prompt's does not count); bfloat16 for quantized ones."""
    sizes: Counter[str] = Counter()
    for name, tensor in stored.items():
        if name != PROMPT_NAME:
            sizes[tensor.dtype] += tensor.num_bytes
    main = sizes.most_common(1)[0][0]
    return main if main in ("float32", "float16") else "bfloat16"


def _tensor_digest(file: RawIOBase, tensor: StoredTensor, whole: bool) -> bytes:
    start, size, digest = tensor.start, tensor.stored_bytes, hashlib.sha256()
    pieces = [(start, size)]
    if not whole and size > 3 * _SAMPLE_BYTES:
        pieces = [(start + place, _SAMPLE_BYTES) for place in (0, (size - _SAMPLE_BYTES) // 2, size - _SAMPLE_BYTES)]
    for place, left in pieces:
        file.seek(place)
        while left:
            read = file.read(min(left, _READ_AT_ONCE))
            if not read:
                raise CheckpointError(f"{tensor.file} ends within a tensor; fetch it again")
            digest.update(read)
            left -= len(read)
    return digest.digest()


def _some(names: list[str]) -> str:
    listed = ", ".join(f"'{shown(name)}'" for name in names[:_NAMES_SHOWN]) or "nothing"
    return listed if len(names) <= _NAMES_SHOWN else f"{listed} and {len(names) - _NAMES_SHOWN} more"
