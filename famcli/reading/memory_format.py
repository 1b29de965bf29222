"""The format of a memory file, and how a file is checked before its tensors are loaded.

Apart from `memory_file`, so that `famcli inspect`, and the refusal of a wrong file, need not load torch.

One safetensors file. Its metadata holds `format`, `info` (a JSON object, see `MemoryFileInfo`) and `sha256` (over the
info and every tensor's name, type, shape and bytes). Tensors: the state's (kind "full") or `memory` [l, f, w] of the
layers that have one (kind "memory"); `last_hidden` [1, 1, d]; `open_tokens`, `unread_ids` int32, `unread_starts`,
`unread_ends` int64 and `tail` uint8 as in `Cursor`.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

from safetensors import SafetensorError, safe_open

from famcli.checkpoint.choose import sidecar_for
from famcli.checkpoint.families.pretrained import read_config
from famcli.checkpoint.fingerprints import Fingerprints, config_fingerprint
from famcli.documents.encodings import begins_safetensors
from famcli.documents.regular import open_regular
from famcli.documents.writing import check_target, is_utf8
from famcli.errors import MemoryFileError, UsageError
from famcli.nn import MEMORY_MODES, MemoryMode
from famcli.nn.config import DecoderConfig, FamConfig
from famcli.nn.shapes import memory_shape, state_shapes
from famcli.reading.cursor import Progress, SourceRecord

if TYPE_CHECKING:
    from torch import Tensor

MemoryKind = Literal["full", "memory"]
FORMAT = 1
_MARK = "famcli memory"
_DAMAGED = "the file is damaged: read the text again, or restore it from a copy"
_COMPUTE = ("F32", "BF16", "F16")
_NO_UTF8 = "its name is not UTF-8, which memory files need: give it another one"
_FIRST_BYTES = 10


@dataclass(frozen=True)
class MemoryFileInfo:
    """The description in a memory file.

    weights, config, tokenizer: fingerprints of the model that read. fam: its settings; in the file its keys are among
    the others. num_bytes, num_tokens, num_blocks: read, over all sources. bytes_unread: bytes at the end of `num_bytes`
    that the network has not read yet. seen_tokens, seen_blocks: `num_tokens` and `num_blocks` with the provisional last
    tokens, which change if the text goes on (see `Progress`). position: of the next token. next_byte, begun, line,
    num_closed, memory_is_initial, fill: see `Cursor` and `State`.
    """

    kind: MemoryKind
    model: str
    weights: str
    config: str
    tokenizer: str
    memory_mode: MemoryMode
    fam: FamConfig
    sources: tuple[SourceRecord, ...]
    num_bytes: int
    num_tokens: int
    num_blocks: int
    bytes_unread: int
    seen_tokens: int
    seen_blocks: int
    position: int
    fill: int
    num_closed: int
    memory_is_initial: bool
    next_byte: int
    begun: bool
    line: int

    @property
    def progress(self) -> Progress:
        return Progress(self.num_bytes - self.bytes_unread, self.seen_tokens, self.seen_blocks, self.bytes_unread)

    @property
    def state_meta(self) -> dict[str, Any]:
        """What `State.from_tensors` needs besides the tensors."""
        meta = {name: getattr(self, name) for name in ("fill", "num_closed", "memory_mode")}
        return meta | {"architecture": self.fam.architecture, "memory_is_initial": [self.memory_is_initial]}

    def dumps(self) -> str:
        """The JSON object for the file's metadata."""
        values = asdict(self) | self.fam.to_json()
        del values["fam"]
        # Escaped to ASCII: the name of a source may hold bytes that are not Unicode, which safetensors refuses.
        return json.dumps(values, sort_keys=True)


def check_save(
    path: Path, append: bool = False, force: bool = False, texts: Iterable[str | os.PathLike[str]] = ()
) -> None:
    """Refuse to save where there is something that may not be replaced, or nothing to append to. Raises UsageError."""
    if not is_utf8(path):
        raise UsageError(f"{path}: {_NO_UTF8}")
    # With append, loading shows whether it is a memory file.
    if append:
        if not path.exists():
            raise UsageError(f"{path} does not exist, so there is nothing to append to: read without appending")
        return
    check_target(path, "memory file", begins_safetensors, texts)
    if path.exists() and not force:
        raise UsageError(f"{path} exists: append to it, or replace it", remedy={"append": "", "force": ""})


def checksum(info: str, tensors: Mapping[str, Tensor]) -> str:
    """sha256 in hex over the info and all tensors (on the CPU, contiguous)."""
    import torch

    digest = hashlib.sha256(info.encode("utf-8", "surrogatepass"))
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"\0{name} {tensor.dtype} {tuple(tensor.shape)}\0".encode())
        # An empty tensor may have strides that no view allows.
        if tensor.numel():
            digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def metadata(info: str, tensors: Mapping[str, Tensor]) -> dict[str, str]:
    return {"format": f"{_MARK} {FORMAT}", "info": info, "sha256": checksum(info, tensors)}


class OpenedMemoryFile:
    """A memory file whose header was read and checked, but none of its tensors. Raises MemoryFileError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if path.is_dir():
            raise MemoryFileError(f"{path} is a directory, a memory file is needed")
        if not is_utf8(path):
            raise MemoryFileError(f"{path}: {_NO_UTF8}")
        try:
            with open_regular(path) as file:
                self.file_size, first = os.fstat(file.fileno()).st_size, file.read(_FIRST_BYTES)
            if not begins_safetensors(first):
                raise MemoryFileError(
                    f"{path} is not a memory file or checkpoint: `famcli read FILE` makes a memory file, if it is told "
                    "where to save it",
                    remedy={"save": "FILE.fam"},
                )
            # As numpy: `famcli inspect` must not wait for torch to load. safetensors has no types for it.
            opened = cast(Any, safe_open(path, framework="np"))
        except FileNotFoundError as error:
            raise MemoryFileError(
                f"{path}: no such memory file; `famcli read FILE` makes one, if it is told where to save it",
                remedy={"save": str(path)},
            ) from error
        except OSError as error:
            raise MemoryFileError(f"{path} cannot be read: {error.strerror or error}") from error
        except SafetensorError as error:
            raise MemoryFileError(f"{path} was cut short, or {_DAMAGED}") from error
        header: dict[str, str] = opened.metadata() or {}
        self.info_text, self.sha256 = header.get("info", ""), header.get("sha256", "")
        found = header.get("format", "")
        if found != f"{_MARK} {FORMAT}":
            if found.startswith(_MARK):
                raise MemoryFileError(f"{path} has format '{found}', this famcli reads {FORMAT}: use a newer famcli")
            raise MemoryFileError(f"{path} holds a checkpoint's weights, it is no memory file: name its folder instead")
        self.info = _parse_info(path, self.info_text)
        self.names = set(opened.keys())

    def tensors(self, config: DecoderConfig) -> dict[str, Tensor]:
        """All tensors, on the CPU. Their declared shapes and types must fit `config`. Raises MemoryFileError."""
        try:
            wanted = _wanted(self.info, config)
            file = cast(Any, safe_open(self.path, framework="pt"))
        except ValueError as error:
            raise self.damaged(str(error)) from error
        except (OSError, SafetensorError) as error:
            raise self.damaged("it was changed or removed just now") from error
        if missing := sorted(set(wanted) - self.names) or sorted(self.names - set(wanted) - {"last_hidden"}):
            raise self.damaged(f"tensor {missing[0]} is missing or should not be there")
        for name in self.names:
            declared = file.get_slice(name)
            shape, dtype = tuple(declared.get_shape()), declared.get_dtype()
            dtypes, sizes = wanted.get(name, (_COMPUTE, (1, 1, config.hidden_size)))
            fits = len(shape) == len(sizes) and all(size in (-1, n) for size, n in zip(sizes, shape, strict=True))
            if dtype not in dtypes or not fits:
                raise self.damaged(f"tensor {name} has shape {shape} and type {dtype}, which does not fit")
        # Copies: a mapped file that is replaced or cut short while it is in use would end the process.
        tensors: dict[str, Tensor] = {name: file.get_tensor(name).clone() for name in self.names}
        if checksum(self.info_text, tensors) != self.sha256:
            raise self.damaged("its contents do not match its checksum")
        return tensors

    def damaged(self, what: str) -> MemoryFileError:
        return MemoryFileError(f"{self.path}: {what}; {_DAMAGED}")


def inspect_memory_file(path: str | os.PathLike[str]) -> MemoryFileInfo:
    """The description of a memory file, from its header. Raises MemoryFileError if it is none, or was cut short."""
    return OpenedMemoryFile(Path(path)).info


def check_checkpoint(path: str | os.PathLike[str], folder: Path, name: str) -> None:
    """Raise MemoryFileError if another checkpoint wrote the file, as far as can be told without loading weights."""
    info, decoder = inspect_memory_file(path), read_config(folder).decoder
    fam = sidecar_for(folder, decoder, name)[0].fam
    config = config_fingerprint(decoder, fam)
    check_model(Path(path), info, name, fam, Fingerprints(info.weights, config, info.tokenizer))


def check_model(path: Path, info: MemoryFileInfo, name: str, fam: FamConfig, prints: Fingerprints) -> None:
    """Raise MemoryFileError naming both sides unless the model `name`, which reads as `fam` says, wrote the file."""
    has_changed = info.model == name
    other = f"{name} has changed since, go back to what it was" if has_changed else "choose that model"
    keys = {**info.fam.to_json(), **fam.to_json()}
    sides = [(key, getattr(info.fam, key), getattr(fam, key)) for key in keys]
    for kind, what in (("weights", "weights"), ("config", "configuration"), ("tokenizer", "tokenizer")):
        sides.append((what, getattr(info, kind)[:12], getattr(prints, kind)[:12]))
    for what, there, here in sides:
        if there != here:
            raise MemoryFileError(
                f"{path} was written with {info.model} ({what} {there}), the model here is {name} ({what} {here}): "
                f"{other}, or read the text again",
                remedy={} if has_changed else _options_of(info.model),
            )


def _options_of(model: str) -> dict[str, str]:
    """The settings that open a model of this name: "NAME", or "NAME with ADAPTER" (`checkpoint.open`)."""
    name, _, adapter = model.partition(" with ")
    options = {"model": name, "adapter": adapter} if os.path.isdir(adapter) else {"model": name}
    return {key: shlex.quote(value) for key, value in options.items()}


def _wanted(info: MemoryFileInfo, config: DecoderConfig) -> dict[str, tuple[Iterable[str], tuple[int, ...]]]:
    """The allowed types and the shape of every tensor; -1 is any size (the size of the file bounds it)."""
    shapes = state_shapes(config, info.fam, info.state_meta)
    wanted: dict[str, tuple[Iterable[str], tuple[int, ...]]] = {
        "open_tokens": (("I32",), (-1,)),
        "unread_ids": (("I32",), (-1,)),
        "unread_starts": (("I64",), (-1,)),
        "unread_ends": (("I64",), (-1,)),
        "tail": (("U8",), (-1,)),
    }
    if info.kind == "memory":
        return wanted | {"memory": (("F32",), memory_shape(config, info.fam))}
    for name, shape in shapes.items():
        memory = name.endswith(".memory")
        wanted[f"state.{name}"] = (("I64",) if name == "position" else ("F32",) if memory else _COMPUTE, shape)
    return wanted


# ---------------------------------------------------------------------------------------------------------- parsing


def _parse_info(path: Path, text: str) -> MemoryFileInfo:
    try:
        values = json.loads(text)
        # The keys of FamConfig lie among the others: the first files were written before there was one codec for it.
        settings = {each.name for each in fields(FamConfig)} & set(values)
        fam = FamConfig.from_json({name: values.pop(name) for name in settings})
        sources = tuple(SourceRecord(**_checked(SourceRecord, one)) for one in values.pop("sources"))
        info = MemoryFileInfo(**_checked(MemoryFileInfo, values | {"sources": sources, "fam": fam}))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise MemoryFileError(f"{path}: its description cannot be understood ({error}); {_DAMAGED}") from error
    if info.bytes_unread > info.num_bytes:
        raise MemoryFileError(f"{path}: more bytes are unread than there are; {_DAMAGED}")
    if info.kind not in get_args(MemoryKind) or info.memory_mode not in MEMORY_MODES or not info.sources:
        raise MemoryFileError(f"{path}: its description names a kind or a mode that does not exist; {_DAMAGED}")
    return info


def _checked(kind: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """`values` if they have the types that the fields of `kind` declare, and no number is negative."""
    allowed: dict[str, tuple[type, ...]] = {"int": (int,), "bool": (bool,), "float": (int, float)}
    allowed |= {"str | None": (str, type(None)), "tuple[SourceRecord, ...]": (tuple,), "FamConfig": (FamConfig,)}
    # Files from before documents were converted do not name the format.
    values = {each.name: each.default for each in fields(kind) if each.default is not MISSING} | dict(values)
    for each in fields(kind):
        value, types = values[each.name], allowed.get(str(each.type), (str,))
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
            raise ValueError(f"{each.name} is {str(value)[:40]!r}")
        # Below 2^62 two of them can be added without overflow where they become int64.
        if isinstance(value, int) and not 0 <= value < 1 << 62:
            raise ValueError(f"{each.name} is {value}")
    if extra := set(values) - {each.name for each in fields(kind)}:
        raise ValueError(f"unknown key {sorted(extra)[0][:40]!r}")
    return values
