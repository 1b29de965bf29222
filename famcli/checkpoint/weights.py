"""What safetensors files declare of a checkpoint's weights: compared with the configuration before one is read.

Neither torch is loaded here nor memory taken for weights; nothing is ever unpickled. safetensors itself checks that a
file is as long as its header says, so a file cannot lie about its size.
"""

from __future__ import annotations

import hashlib
import json
import mmap
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from famcli.checkpoint.families import Family
from famcli.checkpoint.folder import inside, named_file
from famcli.checkpoint.jsonfile import Fields, read_json_object, shown
from famcli.errors import CheckpointError

WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
PROMPT_FILE = "fam.safetensors"
PROMPT_NAME = "memory_prompt"

_DTYPES = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}
_DTYPES_WITH_INT8 = _DTYPES | {"I8": "int8"}
ITEM_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "int8": 1}
SCALE_SUFFIX = "_scale"
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt")
_MAX_INDEX_BYTES = 64 << 20
_NAMES_SHOWN = 3
# Files up to this size are hashed whole; of larger ones three samples of each tensor are.
_WHOLE_HASH_BYTES = 128 << 20
_SAMPLE_BYTES = 1 << 16


@dataclass(frozen=True)
class StoredTensor:
    """What a safetensors header declares of one tensor. dtype: a key of ITEM_BYTES. start: byte of the file.

    scale: of an int8 matrix [rows, columns], the float32 tensor [rows] in the same file that turns it back (int8.py).
    """

    file: Path
    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int = 0
    scale: StoredTensor | None = None

    @property
    def num_bytes(self) -> int:
        count = ITEM_BYTES[self.dtype]
        for size in self.shape:
            count *= size
        return count


@contextmanager
def opened(path: Path, framework: str = "np") -> Iterator[Any]:
    """A weight file, by memory map; its tensors are torch's for the framework "pt". Raises CheckpointError."""
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


def stored_weights(folder: Path, family: Family, storage: str = "float") -> dict[str, StoredTensor]:
    """What the folder's weight files declare, by the name of the network's parameter. Raises CheckpointError.

    With `storage` "int8" some of them are int8 matrices, each with its scale.
    """
    stored: dict[str, StoredTensor] = {}
    for path in weight_files(folder):
        for tensor in _headers(path, _DTYPES_WITH_INT8 if storage == "int8" else _DTYPES):
            parameter = family.parameter(tensor.name)
            if parameter is None:
                continue
            if parameter in stored:
                raise CheckpointError(f"{path} has '{shown(tensor.name)}', which {stored[parameter].file.name} has too")
            stored[parameter] = tensor
    return _with_scales(stored) if storage == "int8" else stored


def _with_scales(stored: Mapping[str, StoredTensor]) -> dict[str, StoredTensor]:
    """Every int8 matrix with its scale, which leaves the list of weights. Raises CheckpointError."""
    joined = {}
    for name, tensor in stored.items():
        owner = stored.get(name.removesuffix(SCALE_SUFFIX)) if name.endswith(SCALE_SUFFIX) else None
        if owner is not None and owner.dtype == "int8":
            continue
        if tensor.dtype == "int8":
            scale = stored.get(name + SCALE_SUFFIX)
            if scale is None or scale.file != tensor.file:
                raise CheckpointError(f"{tensor.file}: '{shown(tensor.name)}' is int8 and has no scale beside it")
            if len(tensor.shape) != 2 or (scale.dtype, scale.shape) != ("float32", tensor.shape[:1]):
                raise CheckpointError(
                    f"{tensor.file}: '{shown(scale.name)}' is {shown(list(scale.shape))} in {scale.dtype}, an int8 "
                    f"matrix of {shown(list(tensor.shape))} needs a float32 number for each row"
                )
            tensor = replace(tensor, scale=scale)
        joined[name] = tensor
    return joined


def stored_prompt(folder: Path) -> StoredTensor:
    """What `fam.safetensors` declares of the memory prompt. Raises CheckpointError."""
    path = folder / PROMPT_FILE
    if not path.exists() and not path.is_symlink():
        raise CheckpointError(f"{path} is missing: it holds the memory prompt; run `famcli enable {folder} --force`")
    tensors = {tensor.name: tensor for tensor in _headers(inside(folder, path))}
    if set(tensors) != {PROMPT_NAME}:
        raise CheckpointError(f"{path} must hold '{PROMPT_NAME}' and nothing else, it holds {_some(sorted(tensors))}")
    return tensors[PROMPT_NAME]


def _headers(path: Path, dtypes: Mapping[str, str] = _DTYPES) -> Iterator[StoredTensor]:
    with opened(path) as file:  # which checks the header
        starts = _starts(path)
        for name in file.keys():  # noqa: SIM118  (not a dict)
            view = file.get_slice(name)
            dtype = dtypes.get(view.get_dtype())
            if dtype is None:
                known = ", ".join(dtypes)
                raise CheckpointError(f"{path}: '{shown(name)}' is stored as {view.get_dtype()}; known are {known}")
            yield StoredTensor(path, name, dtype, tuple(view.get_shape()), starts[name])


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
    missing = [name for name in shapes if name not in stored]
    if missing:
        hint = "; if the head is tied, config.json must say so" if missing == ["lm_head.weight"] else ""
        raise CheckpointError(f"{folder}: the weights lack {_some(missing)}, which config.json asks for{hint}")
    extra = [name for name in stored if name not in shapes and name != "lm_head.weight"]
    if extra:
        raise CheckpointError(f"{folder}: the weights have {_some(extra)}, which config.json does not ask for")
    for name, shape in shapes.items():
        check_shape(stored[name], shape)


def check_shape(tensor: StoredTensor, shape: tuple[int, ...]) -> None:
    """Raise CheckpointError when `tensor` is not declared with `shape`."""
    if tensor.shape != shape:
        found, wanted = list(tensor.shape), list(shape)
        raise CheckpointError(f"{tensor.file}: '{tensor.name}' is {shown(found)}, the configuration asks for {wanted}")


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
        with _mapped(path) as content:
            for parameter, tensor in stored.items():
                if tensor.file == path:
                    with content[tensor.start : tensor.start + tensor.num_bytes] as values:
                        parts[parameter] = _tensor_digest(values, whole)
    digest = hashlib.sha256(b"whole" if whole else b"sampled")
    for parameter in sorted(stored):
        tensor = stored[parameter]
        digest.update(f"{parameter} torch.{tensor.dtype} {tensor.shape} ".encode())
        digest.update(parts[parameter])
    return digest.hexdigest()


@contextmanager
def _mapped(path: Path) -> Iterator[memoryview]:
    try:
        with (
            path.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
            memoryview(content) as view,
        ):
            yield view
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read ({shown(error)}); fetch it again") from error


def main_dtype(stored: Mapping[str, StoredTensor]) -> str:
    """The type most of the stored weights have, by bytes (the prompt's does not count); int8 stands for bfloat16."""
    sizes: Counter[str] = Counter()
    for name, tensor in stored.items():
        if name != PROMPT_NAME:
            sizes[tensor.dtype] += tensor.num_bytes
    main = sizes.most_common(1)[0][0]
    return "bfloat16" if main == "int8" else main


def _tensor_digest(flat: memoryview, whole: bool) -> bytes:
    if whole or len(flat) <= 3 * _SAMPLE_BYTES:
        return hashlib.sha256(flat).digest()
    middle = (len(flat) - _SAMPLE_BYTES) // 2
    digest = hashlib.sha256()
    for start in (0, middle, len(flat) - _SAMPLE_BYTES):
        digest.update(flat[start : start + _SAMPLE_BYTES])
    return digest.digest()


def _some(names: list[str]) -> str:
    listed = ", ".join(f"'{shown(name)}'" for name in names[:_NAMES_SHOWN]) or "nothing"
    return listed if len(names) <= _NAMES_SHOWN else f"{listed} and {len(names) - _NAMES_SHOWN} more"
