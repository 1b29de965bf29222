"""The JSON files beside a tokenizer: added tokens, and which tokens begin and end a text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from famcli.errors import TokenizerError
from famcli.tokens.tokenizer import AddedToken

CONFIG_FILE = "tokenizer_config.json"
ADDED_FILE = "added_tokens.json"
MAX_BYTES = 64 << 20


def read_config(folder: Path) -> tuple[dict[str, Any], tuple[AddedToken, ...], tuple[Path, ...]]:
    """`tokenizer_config.json` of `folder` (empty when absent), the added tokens that it and `added_tokens.json` name,
    by id, and the files that were read. Raises TokenizerError."""
    files = tuple(path for name in (CONFIG_FILE, ADDED_FILE) if (path := folder / name).is_file())
    parsed = {path.name: parse_object(read_bytes(path), path) for path in files}
    config = parsed.get(CONFIG_FILE, {})
    try:
        decoder = config.get("added_tokens_decoder") or {}
        found = {int(index): added_token(token, int(index)) for index, token in decoder.items()}
        for text, index in parsed.get(ADDED_FILE, {}).items():
            found.setdefault(index, AddedToken(text, index))
        if any(type(index) is not int or not 0 <= index < 1 << 31 for index in found):
            raise ValueError("an impossible id")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise TokenizerError(
            f"{folder}: an added token in {CONFIG_FILE} or {ADDED_FILE} has no text, or an impossible id; fetch the "
            "files again"
        ) from error
    return config, tuple(found[index] for index in sorted(found)), files


def added_token(token: Mapping[str, Any], index: int) -> AddedToken:
    """An added token as tokenizer.json and tokenizer_config.json write it."""
    if not isinstance(token["content"], str):
        raise ValueError("a token without text")
    switches = [bool(token.get(key, False)) for key in ("special", "lstrip", "rstrip")]
    return AddedToken(token["content"], index, *switches)


def token_name(config: Mapping[str, Any], key: str) -> str | None:
    """The text of the token at `key` (bos_token, eos_token): files write a string, or an object with its content."""
    name = config.get(key)
    if isinstance(name, dict):
        name = name.get("content")
    return name if isinstance(name, str) else None


def read_bytes(path: Path) -> bytes:
    """A tokenizer file's content. Raises TokenizerError."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise TokenizerError(f"{path} is larger than any tokenizer's file ({MAX_BYTES >> 20} MiB)")
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
