"""Prompts that are built from a template's text and from what somebody says: ids with control tokens.

Only in a template's own text does the name of a control token become that token; what is said stays text, whatever it
spells. Between two control tokens, text is encoded as one, template and said together: as the tokenizer's own library
does it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from famcli.tokens.tokenizer import Tokenizer


@dataclass(frozen=True)
class PromptPart:
    """A piece of a prompt. said: it is what somebody says, and names no control token."""

    text: str
    said: bool = False


def encode_prompt(tokenizer: Tokenizer, parts: Sequence[PromptPart]) -> list[int]:
    """The ids of the parts one after the other. White space that belongs to a control token goes with it."""
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

    for part in parts:
        for piece in [part.text] if part.said or pattern is None else pattern.split(part.text):
            token = None if part.said else tokens.get(piece)
            if token is None:
                text += piece
                continue
            close(token.lstrip)
            ids.append(token.id)
            after_control, strip = True, token.rstrip
    close(False)
    return ids
