"""The chat template of an instruction-following checkpoint: messages become token ids.

A template is a Jinja program in the checkpoint's folder. It runs in a sandbox (chat_program.py) and sees placeholders
for the messages. What it puts around them becomes ids with its control tokens; the messages become ids as any text
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

from famcli.checkpoint.folder import read_json_object
from famcli.errors import CheckpointError
from famcli.tokens.gguf_file import is_gguf, read_gguf
from famcli.tokens.tokenizer import CONFIG_FILE, MAX_BYTES, Tokenizer, read_bytes, token_name

TEMPLATE_FILE, TEMPLATE_JSON = "chat_template.jinja", "chat_template.json"
_PROGRAM = Path(__file__).with_name("chat_program.py")
# Limits of the process that renders: processor time, memory, and characters it may write. The clock is for systems
# that cannot bound the first.
_LIMITS = {"seconds": 5, "bytes": 1 << 30, "chars": 1 << 20}
_CLOCK_SECONDS = 60
# A template that writes one message more often than this would blow up the prompt.
_MAX_TIMES = 8
_ENDLESS = "it takes too long, or too much memory"
# Each message is rendered as a placeholder between two spaces that no template writes: where such a space is gone, the
# template strips the message on that side.
_EDGE = "\u2003"
# Stands for the text that is read between the two halves of a turn.
_HOLE = "\ue0fc"
# A template may open the assistant's thoughts itself; they are closed at once.
_THINK, _THOUGHT = "<think>", "</think>"
_PLACEHOLDER = re.compile(f"({_EDGE}?)\ue0fa([0-9]{{1,6}})\ue0fb({_EDGE}?)")


@dataclass(frozen=True)
class Message:
    """One turn of a conversation. role: "system", "user" or "assistant", as the template knows them."""

    role: str
    content: str


@dataclass(frozen=True)
class ChatTemplate:
    """A chat template. path: the file it was found in. names: the text of bos_token, eos_token and the like."""

    path: Path
    source: str
    names: Mapping[str, str]
    tokenizer: Tokenizer

    def encode(self, messages: Sequence[Message], *, answer: bool = True) -> list[int]:
        """The ids of a conversation; with `answer` up to where the answer to its last message begins.

        A system message that the template refuses or leaves out becomes the beginning of the user's. Thinking is
        turned off, where the template has it. Raises CheckpointError when the template cannot be used, refuses the
        order of the roles, or leaves a message out.
        """
        return encode_prompt(self.tokenizer, self._parts(messages, answer))

    def around(self, messages: Sequence[Message], after: str) -> tuple[list[int], list[int]]:
        """The ids before and after a text that stands between what the last message says and `after`, up to where the
        answer begins. The text itself is read between the two, as any text is. Raises CheckpointError as `encode`."""
        *others, last = messages
        parts = self._parts([*others, Message(last.role, last.content + _HOLE + after)], answer=True)
        place = next(place for place, (text, said) in enumerate(parts) if said and _HOLE in text)
        head, tail = parts[place][0].split(_HOLE, 1)
        rest = [(tail, True), *parts[place + 1 :]]
        return encode_prompt(self.tokenizer, [*parts[:place], (head, True)]), encode_prompt(self.tokenizer, rest)

    @property
    def end_ids(self) -> frozenset[int]:
        """The control token with which the template ends what the assistant says, if it has one."""
        try:
            parts = self._parts([Message("user", "?"), Message("assistant", _HOLE)], answer=False)
        except CheckpointError:
            # A template may refuse to end with the assistant.
            return frozenset()
        place = next(place for place, (text, said) in enumerate(parts) if said and text == _HOLE)
        after = "".join(text for text, _ in parts[place + 1 :]).lstrip()
        tokens = self.tokenizer.control_tokens
        found = max((name for name in tokens if name and after.startswith(name)), key=len, default=None)
        return frozenset() if found is None else frozenset({tokens[found].id})

    def _parts(self, messages: Sequence[Message], answer: bool) -> list[tuple[str, bool]]:
        """The conversation in (text, is_message) parts."""
        try:
            return self._rendered_parts(messages, answer)
        except CheckpointError:
            if len(messages) < 2 or messages[0].role != "system":
                raise
        system, first, *rest = messages
        return self._rendered_parts([Message(first.role, f"{system.content}\n\n{first.content}"), *rest], answer)

    def _rendered_parts(self, messages: Sequence[Message], answer: bool) -> list[tuple[str, bool]]:
        placeholders = [f"{_EDGE}\ue0fa{index}\ue0fb{_EDGE}" for index in range(len(messages))]
        conversation = tuple(zip((message.role for message in messages), placeholders, strict=True))
        rendered = _rendered(self.path, self.source, tuple(self.names.items()), conversation, answer)
        parts: list[tuple[str, bool]] = []
        place, times = 0, [0] * len(messages)
        for match in _PLACEHOLDER.finditer(rendered):
            index = int(match[2])
            # No message has this number: the template spelled the placeholder itself.
            if index >= len(messages):
                continue
            text = messages[index].content
            text = text if match[1] else text.lstrip()
            parts += [(rendered[place : match.start()], False), (text if match[3] else text.rstrip(), True)]
            place = match.end()
            times[index] += 1
        ending = rendered[place:]
        if answer and ending.rfind(_THINK) > ending.rfind(_THOUGHT):
            ending = f"{ending.rstrip()}\n\n{_THOUGHT}\n\n"
        parts.append((ending, False))
        for message, count in zip(messages, times, strict=True):
            if not 0 < count <= _MAX_TIMES:
                does = "leaves out" if count == 0 else f"writes {count:,} times"
                raise CheckpointError(
                    f"the chat template in {self.path} {does} what the {message.role} says; use another one"
                )
        return parts


def encode_prompt(tokenizer: Tokenizer, parts: Sequence[tuple[str, bool]]) -> list[int]:
    """The ids of (text, is_message) parts one after the other.

    Only in a template's own text does the name of a control token become that token: a message stays text, whatever it
    spells. Between two control tokens text is encoded as one, template and message together, as the tokenizer's own
    library does it. White space that belongs to a control token goes with it.
    """
    tokens = tokenizer.control_tokens
    names = sorted(filter(None, tokens), key=len, reverse=True)
    pattern = re.compile("(" + "|".join(map(re.escape, names)) + ")") if names else None
    ids: list[int] = []
    text, after_control, strip = "", False, False

    def close(right: bool) -> None:
        """Encode the text gathered since the last control token."""
        nonlocal text
        text = text.lstrip() if strip else text
        text = text.rstrip() if right else text
        opening = tokenizer.section_opening(text) if after_control else tokenizer.opening(text)
        ids.extend(tokenizer.encode(opening + text) if text else ())
        text = ""

    for part, is_message in parts:
        for piece in [part] if is_message or pattern is None else pattern.split(part):
            token = None if is_message else tokens.get(piece)
            if token is None:
                text += piece
                continue
            close(token.lstrip)
            ids.append(token.id)
            after_control, strip = True, token.rstrip
    close(False)
    return ids


def has_chat_template(folder: Path) -> bool:
    """True if the checkpoint in `folder` has a chat template: it was made to follow instructions."""
    return _find(folder) is not None


def open_chat_template(folder: Path, tokenizer: Tokenizer) -> ChatTemplate | None:
    """The chat template of the checkpoint in `folder` (or GGUF file), None if it has none.

    Raises CheckpointError for one that cannot be used at all.
    """
    found = _find(folder)
    if found is None:
        return None
    template = ChatTemplate(*found, _names(folder, tokenizer), tokenizer)
    template.encode([Message("user", "?")])
    return template


def _find(folder: Path) -> tuple[Path, str] | None:
    """The file that holds the template, and the template: a file of its own goes before a key of a file."""
    if is_gguf(folder):
        text = read_gguf(folder).value("tokenizer.chat_template", str, "")
        return (folder, text) if text else None
    path = folder / TEMPLATE_FILE
    if path.is_file():
        return path, read_bytes(path).decode("utf-8", errors="replace")
    for path in (folder / TEMPLATE_JSON, folder / CONFIG_FILE):
        source = _json_object(path).get("chat_template")
        # Some checkpoints bring several templates, by name.
        if isinstance(source, list):
            by_name = {entry.get("name"): entry.get("template") for entry in source if isinstance(entry, dict)}
            source = by_name.get("default")
        if isinstance(source, str):
            return path, source
    return None


def _names(folder: Path, tokenizer: Tokenizer) -> dict[str, str]:
    """The text of bos_token, eos_token and the other tokens that tokenizer_config.json names, for the template."""
    config = {} if is_gguf(folder) else _json_object(folder / CONFIG_FILE)
    by_id = {token.id: name for name, token in tokenizer.control_tokens.items()}
    own = {"bos_token": tokenizer.bos_id, "eos_token": tokenizer.eos_id}
    if is_gguf(folder):
        # A tokenizer that begins no text with a BOS may still have one for its template.
        metadata = read_gguf(folder).metadata
        keys = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}
        own = {key: metadata.get(f"tokenizer.ggml.{name}_token_id") for key, name in keys.items()}
    names = {key: by_id.get(-1 if index is None else index, "") for key, index in own.items()}
    given = {key: token_name(config, key) for key in config if key.endswith("_token")}
    return names | {key: name for key, name in given.items() if name is not None}


def _json_object(path: Path) -> dict[str, Any]:
    return read_json_object(path, max_bytes=MAX_BYTES) if path.is_file() else {}


# What a template sees depends on the roles alone, so each kind of conversation is rendered once: a process takes a
# tenth of a second.
@lru_cache(maxsize=64)
def _rendered(
    path: Path, source: str, names: tuple[tuple[str, str], ...], conversation: tuple[tuple[str, str], ...], answer: bool
) -> str:
    """The text that the template of `path` makes of (role, content) pairs. Raises CheckpointError."""
    # A process of its own renders it, since nothing in this one could stop an endless loop or a string of gigabytes.
    if find_spec("jinja2") is None:
        raise CheckpointError(f"the chat template in {path} needs the package jinja2: install famcli[hf]")
    values = {
        "messages": [{"role": role, "content": content} for role, content in conversation],
        "add_generation_prompt": answer,
        "tools": None,
        "documents": None,
        # What Qwen 3 and SmolLM3, Granite and others call it: an answer is wanted, not the way to it.
        "enable_thinking": False,
        "thinking": False,
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
