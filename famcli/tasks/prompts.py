"""Every wording that prompts a network, once: training teaches the same words that the tasks use later.

A template has places like `{question}`, which `fill` fills. Two wordings stand on other floors: the heading between two
documents (reading/reader.py), and the statements and questions of made texts (synthetic/).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from famcli.checkpoint.sidecar import Sidecar

# The tokens of a question are scored from here on, so the opening is encoded apart from the question.
QUESTION_OPENING = "\n\nQuestion:"

QUESTION = QUESTION_OPENING + " {question}\nAnswer:"
"""A question after a text; `ANSWER` follows."""

ANSWER = " {answer}\n"
QUESTION_FIRST = "Question: {question}\n"
"""A question before the text it is about."""

NOT_SAID = "The text does not say."
"""The answer that a checkpoint is trained to write where the text holds none; shown as "not found"."""

REMEMBER, REPEAT = "\n\nRemember this passage:\n", "\n\nRepeat the passage:\n"
"""Training only: before a passage, and before its repetition."""

ABOUT = ", as far as it is about {focus}"
"""Fills `{about}` in the prompts of a summary that has a focus; without one the place is empty."""

_PROMPTS = {
    "ask": "{passages}" + QUESTION,
    "summarize_note": (
        "Write a note of at most {words} words on what the passage that was just read says{about}. Keep names, places "
        "and numbers. Add nothing that it does not say."
    ),
    "summarize_condense": (
        "These notes were taken on consecutive parts of a text:\n\n{notes}\n\nWrite one note of at most {words} words "
        "that keeps what matters most{about}. Add nothing that they do not say."
    ),
    "summarize": (
        "The text was read to its end. These notes were taken on the way:\n\n{notes}\n\nThese are sentences of it, "
        "numbered:\n\n{quotes}\n\nWrite a summary of the text in about {words} words{about}. Where a numbered sentence "
        "supports what you say, put its number behind it, like [1]; quote only by copying exactly. Add nothing that "
        "notes and sentences do not say."
    ),
}


Exchange = tuple[str, str]
"""A question that was answered before, and its answer."""


@dataclass(frozen=True)
class Turn:
    """What is said to a checkpoint with a chat template before it answers: a system message (none if empty) and what
    the user says, around `{text}`, which is read as any text is."""

    user: str
    system: str = ""


_NOTE = (
    "Write a note of at most {words} words on what the passage says{about}. Keep names, places and numbers. Add "
    "nothing that it does not say."
)
_ANSWER = (
    "Answer the question in as few words as possible, from the passages only. If they do not answer it, write: "
    "not in the text.\n\nQuestion: {question}"
)
_TURNS: Mapping[str, Turn] = {
    "summarize_note": Turn(_NOTE + "\n\n{text}\n\n" + _NOTE),
    "summarize_condense": Turn(
        "These notes were taken on consecutive parts of a text:\n\n{text}\n\nWrite one note of at most {words} words "
        "that keeps what matters most{about}. Add nothing that they do not say."
    ),
    "summarize": Turn(
        "These notes were taken on consecutive parts of a text:\n\n{text}\n\nWrite a summary of them in about {words} "
        "words{about}. Add nothing that they do not say."
    ),
    "ask": Turn("{text}\n\n" + _ANSWER),
}
# The words of the data that SmolLM2 was taught to summarize with; of five forms the most grounded (docs/decisions.md).
_SMOL_SUMMARY = Turn(
    "{text}",
    "Provide a concise, objective summary of the input text in up to three sentences, focusing on key actions and "
    "intentions without using second or third person pronouns{about}.",
)
# What a family was trained with, by a text that its chat template has.
_FAMILY_TURNS: Mapping[str, Mapping[str, Turn]] = {
    "named SmolLM": dict.fromkeys(("summarize_note", "summarize_condense", "summarize"), _SMOL_SUMMARY),
}


def turn(sidecar: Sidecar, template: str, name: str, values: Mapping[str, str]) -> Turn:
    """The turn of that name for a checkpoint with this chat template, its places but `{text}` filled.

    A wording in the checkpoint's `fam.json` goes first, then one of its family. One without `{text}` follows the text.
    A name that has `{text}` in it is a wording itself.
    """
    own = name if "{text}" in name else sidecar.prompts.get(name)
    if own is not None:
        for place in ("{notes}", "{passages}"):
            own = own.replace(place, "{text}")
        found = Turn(own if "{text}" in own else "{text}\n\n" + own)
    else:
        family = next((turns for mark, turns in _FAMILY_TURNS.items() if mark in template), {})
        found = family.get(name, _TURNS[name])
    return Turn(fill(found.user, dict(values)), fill(found.system, dict(values)))


def prompt(sidecar: Sidecar, name: str, values: dict[str, str]) -> str:
    """The prompt of that name with its places filled. A checkpoint may bring its own wording in its `fam.json`."""
    return fill(sidecar.prompts.get(name, _PROMPTS[name]), values)


def fill(template: str, values: dict[str, str]) -> str:
    """`template` with each `{name}` replaced, all at once: a place's name inside a value stays as it is."""
    names = "|".join(map(re.escape, values))
    return re.sub(f"\\{{({names})\\}}", lambda match: values[match[1]], template)
