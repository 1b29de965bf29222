"""The tokenizer inside a GGUF file, as the sentencepiece model or the tokenizer.json that it was made from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from famcli.errors import TokenizerError
from famcli.tokens.gguf_file import GgufFile, read_gguf
from famcli.tokens.sentencepiece_model import PieceType, build_model
from famcli.tokens.tokenizer import Tokenizer
from famcli.tokens.tokenizer_json import GPT2, LLAMA3, O200K, QWEN2

_KEY = "tokenizer.ggml."
_DIGITS = {"type": "Digits", "individual_digits": True}


def _split(pattern: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


_LLAMA3 = ("llama-bpe", "llama3", "llama-v3")
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
    if PieceType.UNKNOWN not in types:  # the library requires one
        unknown = _id(file, "unknown") or 0
        types[unknown if 0 <= unknown < len(types) else 0] = PieceType.UNKNOWN
    special = {"unk": types.index(PieceType.UNKNOWN)}
    for name, index in (("bos", _bos_id(file)), ("eos", _id(file, "eos"))):
        if index is not None and index < len(types):
            types[index] = PieceType.CONTROL
            special[name] = index
    pieces = [(text, float(score), kind) for text, score, kind in zip(tokens, scores, types, strict=True)]
    prefix = file.value(_KEY + "add_space_prefix", bool, True)
    return SentencePieceTokenizer(file.path, build_model(_unique(pieces), special, prefix))


def _unique(pieces: Sequence[tuple[str, float, PieceType]]) -> list[tuple[str, float, PieceType]]:
    """The pieces with a placeholder for each that is empty or repeated, both of which the library refuses."""
    seen: set[str] = set()
    made = []
    for index, (text, score, kind) in enumerate(pieces):
        if not text or text in seen:
            text, kind = f"<unused {index}>", PieceType.CONTROL
        seen.add(text)
        made.append((text, score, kind))
    return made


def _byte_level(file: GgufFile, tokens: Sequence[str], types: Sequence[PieceType]) -> Tokenizer:
    from famcli.tokens.huggingface import HuggingFaceTokenizer

    way = file.value(_KEY + "pre", str, "default")
    if way not in _SPLITTERS:
        raise TokenizerError(
            f"{file.path} splits words in the way '{way[:40]}', which this famcli does not know (known: "
            f"{', '.join(_SPLITTERS)}); open the folder that the file was made from"
        )
    added = [
        {"id": index, "content": token, "special": kind is PieceType.CONTROL, "normalized": False, "single_word": False}
        for index, (token, kind) in enumerate(zip(tokens, types, strict=True))
        if kind in (PieceType.CONTROL, PieceType.USER_DEFINED)
    ]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    data = {
        "added_tokens": added,
        "normalizer": {"type": "NFC"} if "qwen" in way else None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [*_SPLITTERS[way], byte_level]},
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "vocab": {token: index for index, token in enumerate(tokens)},
            "merges": file.strings(_KEY + "merges"),
            # Llama 3 takes a word that is a token itself without merging.
            "ignore_merges": way in _LLAMA3,
        },
    }
    names = {"bos_token": _bos_id(file), "eos_token": _id(file, "eos")}
    config = {key: tokens[index] for key, index in names.items() if index is not None and index < len(tokens)}
    return HuggingFaceTokenizer(file.path, (json.dumps(data).encode(), json.dumps(config).encode()))


def _id(file: GgufFile, name: str) -> int | None:
    key = f"{_KEY}{name}_token_id"
    return file.value(key, int, 0) if key in file.metadata else None


def _bos_id(file: GgufFile) -> int | None:
    """The token that begins a text, unless the file says that none does. The default is llama.cpp's."""
    default = file.value(_KEY + "model", str, "") == "llama" or file.value(_KEY + "pre", str, "") in _LLAMA3
    return _id(file, "bos") if file.value(_KEY + "add_bos_token", bool, default) else None
