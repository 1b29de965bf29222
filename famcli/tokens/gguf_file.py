"""A GGUF file: its metadata, where its tensors are, and its tokenizer. No value of a tensor is read here.

The tokenizer is rebuilt as the sentencepiece model or the tokenizer.json that it was made from.
Layout: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import json
import mmap
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from famcli.errors import CheckpointError, TokenizerError
from famcli.tokens.huggingface import GPT2, LLAMA3, O200K, QWEN2
from famcli.tokens.sentencepiece_model import PieceType, build_model
from famcli.tokens.tokenizer import Tokenizer

# The `gguf` package has a reader too, which makes several arrays of each string: for a vocabulary of 150,000 tokens
# with 300,000 merges it took 39 s and 690 MB, where this took 0.8 s and 41 MB.

T = TypeVar("T")

_MAGIC = b"GGUF"
_PART = re.compile(r"(.+)-(\d{5})-of-(\d{5})(\.gguf)", re.IGNORECASE)
_VERSIONS = (2, 3)
_STRING, _ARRAY, _BOOL = 8, 9, 7
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", _BOOL: "?", 10: "Q", 11: "q", 12: "d"}
_MAX_DIMENSIONS = 4
_MAX_ALIGNMENT = 1 << 20
_KEY = "tokenizer.ggml."
_PLAIN_TOKEN = {"normalized": False, "single_word": False, "lstrip": False, "rstrip": False}
_DIGITS = {"type": "Digits", "individual_digits": True}
_LLAMA3 = ("llama-bpe", "llama3", "llama-v3")


@dataclass(frozen=True)
class GgufTensor:
    """A tensor. shape: in torch's order. type: ggml's number of its storage type. start: its first byte in `file`."""

    name: str
    shape: tuple[int, ...]
    type: int
    start: int
    file: Path


@dataclass(frozen=True)
class GgufFile:
    """A file's metadata by key (arrays of numbers as numpy arrays, of strings as lists), and its tensors by name.

    path: of a file that was split, its first part; the tensors are those of all parts.
    """

    path: Path
    metadata: Mapping[str, Any]
    tensors: Mapping[str, GgufTensor]

    @property
    def architecture(self) -> str:
        """The kind of network, such as "llama"; empty when the file does not say."""
        return self.value("general.architecture", str, "")

    def value(self, key: str, kind: type[T], default: T) -> T:
        """The metadata at `key`, or the default where there is none. Raises CheckpointError for another type."""
        found = self.metadata.get(key, default)
        if not isinstance(found, kind) or (kind is int and isinstance(found, bool)):
            raise CheckpointError(f"{self.path}: '{key}' is of the wrong type; fetch the file again")
        return found

    def strings(self, key: str) -> list[str]:
        """An array of strings, empty when absent."""
        found = self.metadata.get(key, [])
        if not isinstance(found, list) or (found and not isinstance(found[0], str)):
            raise CheckpointError(f"{self.path}: '{key}' is no list of strings; fetch the file again")
        return found


def is_gguf(path: Path) -> bool:
    """True if `path` is a file with the suffix .gguf, or one that begins as such a file does."""
    if not path.is_file():
        return False
    if path.suffix.lower() == ".gguf":
        return True
    try:
        with path.open("rb") as file:
            return file.read(4) == _MAGIC
    except OSError:
        return False


def gguf_parts(path: Path) -> tuple[Path, ...]:
    """All parts of a file that llama.cpp split (NAME-00001-of-00003.gguf), in order; of any other file, itself."""
    match = _PART.fullmatch(path.name)
    if match is None or not 1 <= int(match[2]) <= int(match[3]):
        return (path,)
    return tuple(path.with_name(f"{match[1]}-{n:05}-of-{match[3]}{match[4]}") for n in range(1, int(match[3]) + 1))


def read_gguf(path: Path) -> GgufFile:
    """The header of a file, or of all parts of one that was split, whichever part is given.

    Raises CheckpointError when one is missing, cut short, damaged, or of another version.
    """
    first, *others = parts = gguf_parts(path)
    if missing := [part.name for part in parts if not part.is_file()] if others else []:
        raise CheckpointError(f"{path} is a part of a split file, and {missing[0]} is missing beside it; fetch it too")
    whole = _read_part(first)
    if not others:
        return whole
    tensors = {name: tensor for part in parts for name, tensor in _read_part(part).tensors.items()}
    count = whole.metadata.get("split.tensors.count", len(tensors))
    if count != len(tensors):
        raise CheckpointError(f"{first} and its parts have {len(tensors)} of {count} tensors; fetch them again")
    return GgufFile(first, whole.metadata, tensors)


def _read_part(path: Path) -> GgufFile:
    try:
        status = path.stat()
        return _read(path, status.st_size, status.st_mtime_ns)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}); check the path") from error
    except (struct.error, ValueError, KeyError, OverflowError, RecursionError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{path} is not a whole GGUF file: cut short or damaged; fetch it again") from error


# The same file is read for its shape, its weights and its tokenizer: parsed once, until it changes.
@lru_cache(maxsize=8)
def _read(path: Path, size: int, changed: int) -> GgufFile:
    with path.open("rb") as file:
        if file.read(4) != _MAGIC:
            raise CheckpointError(f"{path} is no GGUF file; give the file that the converter wrote")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return _parse(path, _Cursor(content, 4), size)


def _parse(path: Path, cursor: _Cursor, size: int) -> GgufFile:
    version = cursor.number("I")
    if version not in _VERSIONS:
        raise CheckpointError(f"{path} is GGUF version {version}, this famcli reads 2 and 3; convert the model again")
    num_tensors, num_values = cursor.number("Q"), cursor.number("Q")
    metadata: dict[str, Any] = {}
    for _ in range(num_values):
        key = cursor.string()
        metadata[key] = cursor.value(cursor.number("I"))
    found = []
    for _ in range(num_tensors):
        name, num_dimensions = cursor.string(), cursor.number("I")
        if num_dimensions > _MAX_DIMENSIONS:
            raise ValueError("too many dimensions")
        shape = tuple(cursor.number("Q") for _ in range(num_dimensions))[::-1]
        found.append(GgufTensor(name, shape, cursor.number("I"), cursor.number("Q"), path))
    alignment = metadata.get("general.alignment", 32)
    if not isinstance(alignment, int) or not 0 < alignment <= _MAX_ALIGNMENT:
        raise ValueError("no alignment")
    data = -(-cursor.place // alignment) * alignment
    tensors = {each.name: replace(each, start=data + each.start) for each in found}
    if len(tensors) != len(found) or any(tensor.start > size for tensor in tensors.values()):
        raise ValueError("a tensor is there twice, or lies beyond the end")
    return GgufFile(path, metadata, tensors)


class _Cursor:
    """Reads one value after the other, and never past the end of the file."""

    def __init__(self, content: mmap.mmap, place: int) -> None:
        self._content, self.place = content, place

    def number(self, code: str) -> Any:
        value = struct.unpack_from("<" + code, self._content, self.place)[0]
        self.place += struct.calcsize("<" + code)
        return value

    def string(self) -> str:
        return self._bytes(self.number("Q")).decode("utf-8", errors="replace")

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.string()
        if kind != _ARRAY:
            return self.number(_SCALARS[kind])
        inner, count = self.number("I"), self.number("Q")
        # Nothing writes nested arrays, and a hostile file could nest them without end.
        if inner == _ARRAY:
            raise ValueError("an array of arrays")
        if inner == _STRING:
            return [self.string() for _ in range(count)]
        # Arrays of numbers stay arrays: a vocabulary has a score and a type for each token.
        dtype = np.dtype("<" + _SCALARS[inner])
        return np.frombuffer(self._bytes(count * dtype.itemsize), dtype=dtype)

    def _bytes(self, count: int) -> bytes:
        # Before the bytes are taken: a file can claim any count.
        if count > len(self._content) - self.place:
            raise ValueError("cut short")
        self.place += count
        return self._content[self.place - count : self.place]


def _split(pattern: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


# llama.cpp's names for ways to split a text into words, and the pre-tokenizers that do the same.
_SPLITTERS: Mapping[str, tuple[dict[str, Any], ...]] = {
    **dict.fromkeys(("default", "gpt-2", "phi-2", "olmo"), (_split(GPT2),)),
    **dict.fromkeys(("smollm", "starcoder", "refact", "codeshell"), (_DIGITS, _split(GPT2))),
    **dict.fromkeys((*_LLAMA3, "dbrx", "smaug-bpe"), (_split(LLAMA3),)),
    **dict.fromkeys(("qwen2", "deepseek-r1-qwen"), (_split(QWEN2),)),
    "gpt-4o": (_split(O200K),),
}


def open_gguf_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer in a GGUF file. Raises TokenizerError for unknown kinds, CheckpointError for a damaged file."""
    file = read_gguf(path)
    kind = file.value(_KEY + "model", str, "")
    tokens = file.strings(_KEY + "tokens")
    types = _types(file, len(tokens))
    if kind == "llama":
        return _sentencepiece(file, tokens, types)
    if kind == "gpt2":
        return _byte_level(file, tokens, types)
    raise TokenizerError(f"{path} has a tokenizer of kind '{kind}'; this famcli reads 'llama' and 'gpt2'")


def _types(file: GgufFile, count: int) -> list[PieceType]:
    known, found = set(PieceType), file.metadata.get(_KEY + "token_type", [PieceType.NORMAL] * count)
    types = [PieceType(int(each)) if int(each) in known else PieceType.NORMAL for each in found]
    if not count or len(types) != count:
        raise TokenizerError(f"{file.path} has no whole tokenizer; fetch the file again")
    return types


def _sentencepiece(file: GgufFile, tokens: Sequence[str], types: list[PieceType]) -> Tokenizer:
    from famcli.tokens.sentencepiece import SentencePieceTokenizer

    scores = file.metadata.get(_KEY + "scores")
    if scores is None or len(scores) != len(tokens):
        raise TokenizerError(f"{file.path} has a tokenizer without scores; convert the model again")
    # The sentencepiece library requires an unknown piece.
    if PieceType.UNKNOWN not in types:
        unknown = _id(file, "unknown") or 0
        types[unknown if 0 <= unknown < len(types) else 0] = PieceType.UNKNOWN
    special = {"unk": types.index(PieceType.UNKNOWN)}
    for name, index in (("bos", _bos_id(file)), ("eos", _id(file, "eos"))):
        if index is not None and index < len(types):
            types[index] = PieceType.CONTROL
            special[name] = index
    pieces, seen = [], set[str]()
    for index, (text, score, kind) in enumerate(zip(tokens, scores, types, strict=True)):
        # The library refuses a piece that is empty or repeated.
        if not text or text in seen:
            text, kind = f"<unused {index}>", PieceType.CONTROL
        seen.add(text)
        pieces.append((text, float(score), kind))
    prefix = file.value(_KEY + "add_space_prefix", bool, True)
    return SentencePieceTokenizer(file.path, build_model(pieces, special, prefix))


def _byte_level(file: GgufFile, tokens: Sequence[str], types: Sequence[PieceType]) -> Tokenizer:
    from famcli.tokens.huggingface import HuggingFaceTokenizer

    way = file.value(_KEY + "pre", str, "default")
    if way not in _SPLITTERS:
        raise TokenizerError(
            f"{file.path} splits words in the way '{way[:40]}', which this famcli does not know (known: "
            f"{', '.join(_SPLITTERS)}); open the folder that the file was made from"
        )
    added = [
        {"id": index, "content": token, "special": kind is PieceType.CONTROL, **_PLAIN_TOKEN}
        for index, (token, kind) in enumerate(zip(tokens, types, strict=True))
        if kind in (PieceType.CONTROL, PieceType.USER_DEFINED)
    ]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    data = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": {"type": "NFC"} if "qwen" in way else None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [*_SPLITTERS[way], byte_level]},
        "post_processor": _begin(tokens, _bos_id(file)),
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": {token: index for index, token in enumerate(tokens)},
            "merges": file.strings(_KEY + "merges"),
            # Llama 3 takes a word that is a token itself without merging.
            "ignore_merges": way in _LLAMA3,
        },
    }
    keys = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}
    names = {key: _id(file, name) for key, name in keys.items()}
    config: dict[str, Any] = {
        key: tokens[index] for key, index in names.items() if index is not None and index < len(tokens)
    }
    config |= {"tokenizer_class": "PreTrainedTokenizerFast", "add_bos_token": _bos_id(file) is not None}
    return HuggingFaceTokenizer(file.path, (json.dumps(data).encode(), json.dumps(config).encode()))


def _begin(tokens: Sequence[str], bos: int | None) -> dict[str, Any] | None:
    """The post-processor that puts a BOS before a text, for other libraries."""
    if bos is None or bos >= len(tokens):
        return None
    token, text = {"SpecialToken": {"id": tokens[bos], "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}
    other = {"Sequence": {"id": "B", "type_id": 1}}
    special = {tokens[bos]: {"id": tokens[bos], "ids": [bos], "tokens": [tokens[bos]]}}
    return {
        "type": "TemplateProcessing",
        "single": [token, text],
        "pair": [token, text, other],
        "special_tokens": special,
    }


def _id(file: GgufFile, name: str) -> int | None:
    key = f"{_KEY}{name}_token_id"
    return file.value(key, int, 0) if key in file.metadata else None


def _bos_id(file: GgufFile) -> int | None:
    """The token that begins a text, unless the file says that none does. The default is llama.cpp's."""
    default = file.value(_KEY + "model", str, "") == "llama" or file.value(_KEY + "pre", str, "") in _LLAMA3
    return _id(file, "bos") if file.value(_KEY + "add_bos_token", bool, default) else None
