"""The chat template of an instruction-following checkpoint: messages become token ids.

A template is a Jinja program in the checkpoint's folder. It runs in a sandbox (chat_program.py) and sees stand-ins for
what is said; what it puts around them becomes ids with its control tokens, and what is said becomes ids as any text
does. So nothing in a document can open or close a turn, and a template never sees a document.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from famcli.errors import CheckpointError, FamcliError
from famcli.tokens.added import CONFIG_FILE, named, parse_object, read_bytes
from famcli.tokens.gguf_file import is_gguf, read_gguf
from famcli.tokens.prompt import PromptPart, encode_prompt
from famcli.tokens.tokenizer import Tokenizer

TEMPLATE_FILE, TEMPLATE_JSON = "chat_template.jinja", "chat_template.json"
_PROGRAM = Path(__file__).with_name("chat_program.py")
# Of the process that renders: processor time, memory, and characters it may write. The clock is for where the system
# cannot bound the first.
_LIMITS = {"seconds": 5, "bytes": 1 << 30, "chars": 1 << 20}
_CLOCK_SECONDS = 60
_MAX_TIMES = 8  # that a template may write what one side says
_ENDLESS = "it takes too long, or too much memory"
_EDGE = "\u2003"  # a space that no template writes: where it is gone, the template strips what is said
_STAND_IN = re.compile(f"({_EDGE}?)\ue0fa([0-9]{{1,6}})\ue0fb({_EDGE}?)")


@dataclass(frozen=True)
class Message:
    """What one side says. role: "system", "user" or "assistant", as the template knows them."""

    role: str
    content: str


@dataclass(frozen=True)
class ChatTemplate:
    """A template, ready to use. path: the file it was found in. names: bos_token, eos_token and the like, as text."""

    path: Path
    source: str
    names: Mapping[str, str]
    tokenizer: Tokenizer

    def encode(self, messages: Sequence[Message], *, answer: bool = True) -> list[int]:
        """The ids of a conversation; with `answer` up to where the answer to its last message begins.

        Raises CheckpointError when the template cannot be used, refuses the order of the roles, or leaves out what
        somebody says.
        """
        said = [f"{_EDGE}\ue0fa{index}\ue0fb{_EDGE}" for index in range(len(messages))]
        conversation = tuple(zip((one.role for one in messages), said, strict=True))
        rendered = _rendered(self.path, self.source, tuple(self.names.items()), conversation, answer)
        parts, place, times = [], 0, [0] * len(messages)
        for found in _STAND_IN.finditer(rendered):
            index = int(found[2])
            if index >= len(messages):  # the template's own
                continue
            text = messages[index].content
            text = text if found[1] else text.lstrip()
            parts += [
                PromptPart(rendered[place : found.start()]),
                PromptPart(text if found[3] else text.rstrip(), True),
            ]
            place = found.end()
            times[index] += 1
        parts.append(PromptPart(rendered[place:]))
        for one, count in zip(messages, times, strict=True):
            if not 0 < count <= _MAX_TIMES:
                does = "leaves out" if count == 0 else f"writes {count:,} times"
                raise CheckpointError(
                    f"the chat template in {self.path} {does} what the {one.role} says; use another one"
                )
        return encode_prompt(self.tokenizer, parts)

    def around(self, tokenizer: Tokenizer, text: str) -> list[int]:
        """The ids of a turn of the user that says `text`, to follow what was read: nothing begins a text anew."""
        ids = self.encode([Message("user", text)])
        return ids[1:] if ids and ids[0] == tokenizer.bos_id else ids


def has_chat_template(folder: Path) -> bool:
    """Whether the checkpoint in `folder` has a chat template: it was made to follow instructions."""
    return _found(folder) is not None


def open_chat_template(folder: Path, tokenizer: Tokenizer) -> ChatTemplate | None:
    """The chat template of the checkpoint in `folder` (or GGUF file), None if it has none.

    Raises CheckpointError for one that cannot be used at all.
    """
    found = _found(folder)
    if found is None:
        return None
    template = ChatTemplate(*found, _names(folder, tokenizer), tokenizer)
    template.encode([Message("user", "?")])
    return template


def _found(folder: Path) -> tuple[Path, str] | None:
    """The file that holds the template, and the template: a file of its own goes before a key of a file."""
    if is_gguf(folder):
        text = read_gguf(folder).value("tokenizer.chat_template", str, "")
        return (folder, text) if text else None
    path = folder / TEMPLATE_FILE
    if path.is_file():
        return path, read_bytes(path).decode("utf-8", errors="replace")
    for path in (folder / TEMPLATE_JSON, folder / CONFIG_FILE):
        source = _object(path).get("chat_template")
        if isinstance(source, list):  # several, by name
            by_name = {entry.get("name"): entry.get("template") for entry in source if isinstance(entry, dict)}
            source = by_name.get("default")
        if isinstance(source, str):
            return path, source
    return None


def _names(folder: Path, tokenizer: Tokenizer) -> dict[str, str]:
    """What the template may write as bos_token, eos_token and whatever else tokenizer_config.json names so."""
    config = {} if is_gguf(folder) else _object(folder / CONFIG_FILE)
    by_id = {index: name for name, index in tokenizer.control_ids.items()}
    own = {"bos_token": tokenizer.bos_id, "eos_token": tokenizer.eos_id}
    names = {key: by_id.get(-1 if index is None else index, "") for key, index in own.items()}
    given = {key: named(config, key) for key in config if key.endswith("_token")}
    return names | {key: name for key, name in given.items() if name is not None}


def _object(path: Path) -> dict[str, Any]:
    """The JSON object of a file, empty where there is none."""
    try:
        return parse_object(read_bytes(path), path) if path.is_file() else {}
    except FamcliError as error:
        raise CheckpointError(str(error)) from error


@lru_cache(maxsize=64)
def _rendered(
    path: Path, source: str, names: tuple[tuple[str, str], ...], conversation: tuple[tuple[str, str], ...], answer: bool
) -> str:
    """What the template of `path` makes of (role, content) pairs. Raises CheckpointError.

    A process of its own renders it, since nothing in this one could stop a loop or a string of gigabytes. What a
    template sees depends on the roles alone, so each kind of conversation is rendered once.
    """
    if find_spec("jinja2") is None:
        raise CheckpointError(f"the chat template in {path} needs the package jinja2: install famcli[hf]")
    values = {
        "messages": [{"role": role, "content": content} for role, content in conversation],
        "add_generation_prompt": answer,
        "tools": None,
        "documents": None,
    }
    order = {"source": source, "values": dict(names) | values, **_LIMITS}
    command = [sys.executable, "-P", "-W", "ignore", str(_PROGRAM)]
    try:
        done = subprocess.run(command, input=json.dumps(order).encode(), capture_output=True, timeout=_CLOCK_SECONDS)
        made: dict[str, str] = json.loads(done.stdout) if done.stdout else {"error": _ENDLESS}
    except subprocess.TimeoutExpired:
        made = {"error": _ENDLESS}
    except OSError as error:
        made = {"error": f"no process for it could be started: {error.strerror}"}
    if "error" in made:
        reason = " ".join(made["error"].split())[:200]
        raise CheckpointError(f"the chat template in {path} cannot be used: {reason}; use another one")
    return made["text"]
