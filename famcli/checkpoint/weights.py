"""The weights that a checkpoint's files declare, and the checks of a whole folder. No torch.

The files of a folder are compared here before any weight is read: the weights with the configuration, the tokenizer
with the vocabulary, the memory prompt with `fam.json`. Whatever is wrong is one CheckpointError. Nothing is unpickled.
safetensors itself checks that a file is as long as its header says, so a file cannot lie about its size.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from famcli.checkpoint.families.pretrained import CONFIG_FILE, PretrainedConfig, check_ropes, read_config
from famcli.checkpoint.families.table import ParameterRows, Rows
from famcli.checkpoint.folder import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    Fields,
    beside,
    check_links,
    checkpoint_folder,
    inside,
    named_file,
    read_json_object,
    shown,
)
from famcli.checkpoint.gguf import GgufTensors, declared_tensors, gguf_name
from famcli.documents.writing import is_utf8
from famcli.errors import CheckpointError
from famcli.nn.config import FamConfig
from famcli.nn.shapes import SCORES_NAME, own_shapes, parameter_shapes
from famcli.tokens import open_tokenizer
from famcli.tokens.gguf_file import is_gguf
from famcli.tokens.tokenizer import Tokenizer

WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
PROMPT_FILE = "fam.safetensors"
PROBES_FILE = "probes.safetensors"
PROMPT_NAME = "memory_prompt"
_OWN = {PROMPT_NAME: "the memory prompt", SCORES_NAME: "the scores by which tokens are kept"}

_DTYPES = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}
_DTYPES_BY_STORAGE = {
    "float": _DTYPES,
    "int8": _DTYPES | {"I8": "int8"},
    "int4": _DTYPES | {"I8": "int8", "U8": "int4"},
}
SCALE_SUFFIX = "_scale"
# Of matrices in few bits: the type of their scales, and columns that share one (0: a whole row does). In int4 a zero
# follows each scale.
_SCALE_OF = {"int8": ("float32", 0), "int4": ("bfloat16", 32)}
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt")
_MAX_INDEX_BYTES = 64 << 20
_NAMES_SHOWN = 3


@dataclass(frozen=True)
class StoredTensor:
    """One tensor, as a file's header declares it.

    dtype: "float32", "bfloat16", "float16", "int8", "int4", or a type of GGUF's. start, size: its bytes in the file.
    scale: of an int8 or int4 matrix [rows, columns], the tensor in the same file that turns it back (quantize.py):
    float32 [rows], or bfloat16 [rows, columns / 32, 2]. rows: where a stored tensor holds several parameters, the rows
    of this one; shape is theirs.
    """

    file: Path
    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    size: int
    scale: StoredTensor | None = None
    rows: Rows | None = None

    @property
    def num_bytes(self) -> int:
        """Bytes of the parameter's own rows."""
        return self.size if self.rows is None else self.size // self.rows.total * self.rows.count


@contextmanager
def opened(path: Path, framework: str = "np") -> Iterator[Any]:
    """An open, memory-mapped weight file; its tensors are torch's for the framework "pt". Raises CheckpointError."""
    if is_gguf(path):
        yield GgufTensors(path)
        return
    # Its library is written in Rust and takes the path as a string.
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
            f"{folder} has its weights only as pickles ({some_of(pickles)}), which can run code and are never opened; "
            "get the safetensors version, or convert with transformers' save_pretrained"
        )
    raise CheckpointError(f"{folder} has no weights: neither {WEIGHTS_FILE} nor {INDEX_FILE}")


def stored_weights(folder: Path, config: PretrainedConfig) -> dict[str, StoredTensor]:
    """The tensors that the folder's weight files declare, by the network's parameters. Raises CheckpointError.

    In the storages "int8" and "int4" some of them are quantized matrices, each with its scale.
    """
    stored: dict[str, StoredTensor] = {}
    dtypes = _DTYPES_BY_STORAGE[config.storage]
    for path in weight_files(folder):
        for tensor in headers(path, dtypes, lambda name: bool(_parameters_of(name, config))):
            for parameter, rows in _parameters_of(tensor.name, config).items():
                if parameter in stored:
                    other = stored[parameter].file.name
                    raise CheckpointError(f"{path} has '{shown(tensor.name)}', which {other} has too")
                stored[parameter] = tensor
                if rows is not None:
                    check_shape(tensor, (rows.total, *tensor.shape[1:]))
                    stored[parameter] = replace(tensor, shape=(rows.count, *tensor.shape[1:]), rows=rows)
    # Every quantized matrix gets its scale, which leaves the list of weights.
    quantized = {name for name, tensor in stored.items() if tensor.dtype in _SCALE_OF}
    scales = {name + SCALE_SUFFIX for name in quantized}
    return {
        name: _with_scale(tensor, stored.get(name + SCALE_SUFFIX)) if name in quantized else tensor
        for name, tensor in stored.items()
        if name not in scales
    }


def _parameters_of(name: str, config: PretrainedConfig) -> ParameterRows:
    """The parameters of a stored tensor; a scale's are those of its matrix, by their names with the suffix."""
    if config.storage == "float" or not name.endswith(SCALE_SUFFIX):
        return config.family.parameters(name, config.decoder)
    matrix = config.family.parameters(name.removesuffix(SCALE_SUFFIX), config.decoder)
    return {parameter + SCALE_SUFFIX: rows for parameter, rows in matrix.items()}


def _with_scale(tensor: StoredTensor, scale: StoredTensor | None) -> StoredTensor:
    if scale is None or scale.file != tensor.file:
        raise CheckpointError(f"{tensor.file}: '{shown(tensor.name)}' is {tensor.dtype} and has no scale beside it")
    dtype, columns = _SCALE_OF[tensor.dtype]
    shape = tensor.shape[:1] if columns == 0 else (tensor.shape[0], tensor.shape[-1] // columns, 2)
    uneven = columns and tensor.shape[-1] % columns
    if len(tensor.shape) != 2 or uneven or (scale.dtype, scale.shape) != (dtype, shape):
        per = f"two bfloat16 numbers for each {columns} columns" if columns else "a float32 number for each row"
        raise CheckpointError(
            f"{tensor.file}: '{shown(scale.name)}' is {shown(list(scale.shape))} in {scale.dtype}, an {tensor.dtype} "
            f"matrix of {shown(list(tensor.shape))} needs {per}"
        )
    return replace(tensor, scale=scale)


def stored_own(folder: Path, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, StoredTensor]:
    """What `fam.safetensors` declares: the parameters with these `shapes`, which a pretrained decoder does not have.

    Raises CheckpointError.
    """
    path = beside(folder, PROMPT_FILE)
    if not path.exists() and not path.is_symlink():
        what = _OWN.get(next(iter(shapes)), "the layer weights")
        raise CheckpointError(f"{path} is missing: it holds {what} that fam.json needs; copy it again")
    tensors = {tensor.name: tensor for tensor in headers(inside(path.parent, path))}
    if tensors.keys() != shapes.keys():
        wanted, found = some_of(sorted(shapes)), some_of(sorted(tensors))
        raise CheckpointError(f"{path} must hold {wanted} and nothing else, it holds {found}")
    for name, tensor in tensors.items():
        check_shape(tensor, shapes[name])
    return tensors


def headers(
    path: Path, dtypes: Mapping[str, str] = _DTYPES, wanted: Callable[[str], bool] = lambda name: True
) -> Iterator[StoredTensor]:
    """The tensors that one weight file declares. Raises CheckpointError for a type that is not in `dtypes`.

    Tensors that are not `wanted` are skipped.
    """
    # Whatever their type: Pythia's files hold attention masks as bytes.
    if is_gguf(path):
        for name, kind, size, tensor in declared_tensors(path):
            yield StoredTensor(tensor.file, name, kind, tensor.shape, tensor.start, size)
        return
    # Opening lets safetensors check the header; its own interface does not tell where a tensor begins.
    with opened(path), path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    for name in sorted(filter(wanted, header.keys() - {"__metadata__"})):
        entry = header[name]
        dtype, shape = dtypes.get(entry["dtype"]), tuple(entry["shape"])
        if dtype is None:
            known = ", ".join(dtypes)
            raise CheckpointError(f"{path}: '{shown(name)}' is stored as {entry['dtype']}; known are {known}")
        # A byte holds two numbers.
        if dtype == "int4" and shape:
            shape = (*shape[:-1], 2 * shape[-1])
        first, last = entry["data_offsets"]
        yield StoredTensor(path, name, dtype, shape, 8 + length + first, last - first)


def check_weights(stored: Mapping[str, StoredTensor], shapes: Mapping[str, tuple[int, ...]], folder: Path) -> None:
    """Compare the stored tensors with the `shapes` of the network. Raises CheckpointError that names the tensors.

    A head that is stored although it is tied is accepted and not used.
    """
    config = "the metadata" if is_gguf(folder) else "config.json"
    missing = [name for name in shapes if name not in stored]
    hint = f"; if the head is tied, {config} must say so" if missing == ["lm_head.weight"] else ""
    # An unknown tensor would otherwise be ignored, and the network silently be another one.
    extra = [name for name in stored if name not in shapes and name != "lm_head.weight"]
    for names, verb, asks in ((missing, "lack", f"asks for{hint}"), (extra, "have", "does not ask for")):
        if names:
            named = some_of(_file_names(folder, names))
            raise CheckpointError(f"{folder}: the weights {verb} {named}, which {config} {asks}")
    for name, shape in shapes.items():
        check_shape(stored[name], shape)


def check_shape(tensor: StoredTensor, shape: tuple[int, ...]) -> None:
    """Raise CheckpointError when `tensor` is not declared with `shape`."""
    if tensor.shape != shape:
        [name], found = _file_names(tensor.file, [tensor.name]), shown(list(tensor.shape))
        raise CheckpointError(f"{tensor.file}: '{name}' is {found}, the configuration asks for {list(shape)}")


def _file_names(path: Path, names: list[str]) -> list[str]:
    """The names that the file itself has for tensors: GGUF renames them."""
    return [gguf_name(path, name) for name in names] if is_gguf(path) else names


def main_dtype(stored: Mapping[str, StoredTensor]) -> str:
    """The type of most stored weights, by bytes and without the prompt; bfloat16 for quantized ones."""
    sizes: Counter[str] = Counter()
    for name, tensor in stored.items():
        if name != PROMPT_NAME:
            sizes[tensor.dtype] += tensor.num_bytes
    main = sizes.most_common(1)[0][0]
    return main if main in ("float32", "float16") else "bfloat16"


def some_of(names: list[str]) -> str:
    """The first three names for a message, and how many more there are."""
    listed = ", ".join(f"'{shown(name)}'" for name in names[:_NAMES_SHOWN]) or "nothing"
    return listed if len(names) <= _NAMES_SHOWN else f"{listed} and {len(names) - _NAMES_SHOWN} more"


@dataclass(frozen=True)
class CheckedFolder:
    """A checkpoint's folder, or its GGUF file, whose files fit together.

    weights: as the files declare them, by the network's parameters and without the memory prompt.
    """

    path: Path
    config: PretrainedConfig
    weights: Mapping[str, StoredTensor]
    tokenizer: Tokenizer

    def all_weights(self, fam: FamConfig, own_folder: Path | None = None) -> dict[str, StoredTensor]:
        """The weights and, if `fam` has a memory, its parameters in `own_folder` (default: in the same folder)."""
        check_visible(self.config, fam, self.path)
        shapes = own_shapes(self.config.decoder, fam)
        return {**self.weights, **stored_own(own_folder or self.path, shapes)} if shapes else dict(self.weights)


def check_folder(path: str | os.PathLike[str], *, ignore_adapter: bool = False) -> CheckedFolder:
    """Read and check all that the folder (or GGUF file) of a checkpoint declares; no weight is loaded.

    Raises CheckpointError and TokenizerError. A LoRA adapter in the same folder is refused unless `ignore_adapter`.
    """
    folder = checkpoint_folder(path)
    # Before anything is opened: a link may lead to any file of the machine.
    check_links(folder)
    if not ignore_adapter:
        refuse_adapter(folder)
    config = read_config(folder)
    weights = checked_weights(folder, config)
    tokenizer = open_tokenizer(folder)
    if tokenizer.vocab_size > config.decoder.vocab_size:
        size = "the number of rows of token_embd.weight" if is_gguf(folder) else "config.json's vocab_size"
        raise CheckpointError(
            f"{folder}: the tokenizer has {tokenizer.vocab_size} tokens, {size} is {config.decoder.vocab_size}; one of "
            "them belongs to another checkpoint"
        )
    return CheckedFolder(folder, config, weights, tokenizer)


def checked_weights(folder: Path, config: PretrainedConfig) -> dict[str, StoredTensor]:
    """The tensors that the weight files declare, once all names and shapes are those of the network's parameters."""
    with _possible(folder):
        shapes = parameter_shapes(config.decoder, FamConfig().without_memory)
    stored = stored_weights(folder, config)
    check_weights(stored, shapes, folder)
    return {name: stored[name] for name in shapes}


def check_visible(config: PretrainedConfig, fam: FamConfig, folder: Path) -> None:
    """Raise CheckpointError unless the decoder can read as `fam` says, with the tokens that are visible then."""
    with _possible(folder):
        check_ropes(config.decoder, fam.visible_tokens)
        own_shapes(config.decoder, fam)


def refuse_adapter(folder: Path) -> None:
    """Raise CheckpointError when the folder has a LoRA adapter: reading without it would silently be another model."""
    for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
        if (folder / name).exists():
            raise CheckpointError(
                f"{folder} has a LoRA adapter ({name}) beside its weights; say which is meant, or move the adapter "
                "into a folder of its own",
                remedy={"adapter": str(folder)},
            )


@contextmanager
def _possible(folder: Path) -> Iterator[None]:
    """Turns what the numbers of a configuration lead to into a CheckpointError."""
    try:
        yield
    except (ValueError, ArithmeticError) as error:
        path = folder if is_gguf(folder) else folder / CONFIG_FILE
        raise CheckpointError(f"{path}: no network can have these numbers ({error})") from error
