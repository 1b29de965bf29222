"""What the files beside a tokenizer say: added tokens, and which tokens begin and end a text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from famcli.errors import TokenizerError

CONFIG_FILE = "tokenizer_config.json"
ADDED_FILE = "added_tokens.json"
_MAX_BYTES = 64 << 20


@dataclass(frozen=True)
class AddedToken:
    """A token beside the vocabulary. special: it stands for no text. lstrip, rstrip: white space before or after it
    belongs to it."""

    content: str
    id: int
    special: bool = True
    lstrip: bool = False
    rstrip: bool = False


@dataclass(frozen=True)
class Surroundings:
    """The files beside a tokenizer. files: those that are there. contents: their bytes. config: the parsed
    `tokenizer_config.json`, empty when absent. added: by id."""

    files: tuple[Path, ...]
    contents: tuple[bytes, ...]
    config: Mapping[str, Any]
    added: tuple[AddedToken, ...]


def read_surroundings(folder: Path) -> Surroundings:
    """What `tokenizer_config.json` and `added_tokens.json` in `folder` say. Raises TokenizerError."""
    files = tuple(path for name in (CONFIG_FILE, ADDED_FILE) if (path := folder / name).is_file())
    contents = tuple(read_bytes(path) for path in files)
    parsed = {path.name: parse_object(content, path) for path, content in zip(files, contents, strict=True)}
    config = parsed.get(CONFIG_FILE, {})
    try:
        found = {int(index): added_token(token, int(index)) for index, token in _decoder(config).items()}
        for text, index in parsed.get(ADDED_FILE, {}).items():
            found.setdefault(index, AddedToken(text, index))
        if any(type(index) is not int or not 0 <= index < 1 << 31 for index in found):
            raise ValueError("an id that cannot be")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise TokenizerError(
            f"{folder}: an added token in {CONFIG_FILE} or {ADDED_FILE} has no text, or no id that can be; fetch the "
            "files again"
        ) from error
    return Surroundings(files, contents, config, tuple(found[index] for index in sorted(found)))


def _decoder(config: Mapping[str, Any]) -> Mapping[str, Any]:
    return config.get("added_tokens_decoder") or {}


def added_token(token: Mapping[str, Any], index: int) -> AddedToken:
    """An added token as tokenizer.json and tokenizer_config.json write it."""
    if not isinstance(token["content"], str):
        raise ValueError("a token that is no text")
    switches = [bool(token.get(key, False)) for key in ("special", "lstrip", "rstrip")]
    return AddedToken(token["content"], index, *switches)


def named(config: Mapping[str, Any], key: str) -> str | None:
    """The token that `key` (bos_token, eos_token) names: a text, or an object with its text."""
    name = config.get(key)
    if isinstance(name, dict):
        name = name.get("content")
    return name if isinstance(name, str) else None


def read_bytes(path: Path) -> bytes:
    """A file's content. Raises TokenizerError."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise TokenizerError(f"{path} is larger than any tokenizer's file ({_MAX_BYTES >> 20} MiB)")
        return path.read_bytes()
    except OSError as error:
        raise TokenizerError(f"cannot read the tokenizer {path}: {error.strerror}; check the path") from error


def parse_object(content: bytes, path: Path) -> dict[str, Any]:
    """The JSON object in `content` of `path`. Raises TokenizerError."""
    try:
        data = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise TokenizerError(f"{path} is not valid JSON: fetch or copy the file again") from error
    if not isinstance(data, dict):
        raise TokenizerError(f"{path} is no tokenizer: it must hold a JSON object; fetch or copy the file again")
    return data
