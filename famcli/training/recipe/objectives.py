"""Objectives as a recipe names them: what a share of the training tokens is for."""

# ruff: noqa: RUF009 - `key` is dataclasses.field with its documentation

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from famcli.synthetic.facts import TASKS
from famcli.training.recipe.tables import key

LANGUAGE_MODELLING = "language_modelling"
_TEXT = ("corpora", "text_weight")
_MADE = (*_TEXT, "answer_weight", "blocks")
_RECORDS = ("path", "license", "where", "exclude_ids", "hash_field", "hash_from", "hash_below", "max_answer_characters")
_KEYS_OF_KIND = {
    LANGUAGE_MODELLING: _TEXT,
    "repeat": (*_MADE, "segment_tokens"),
    "passkey": (*_MADE, "episodes_per_block", "digits", "distinct_digits"),
    "needles": (*_MADE, "episodes_per_block", "digits", "count", "queries"),
    "facts": (*_MADE, "count", "queries", "tasks"),
    "questions": (*_MADE, "queries", *_RECORDS),
}


@dataclass(frozen=True)
class ObjectiveRecipe:
    """What a share of the training tokens is for. Objectives but language modelling make documents of their own."""

    kind: str = key("what is learned", choices=tuple(_KEYS_OF_KIND))
    name: str = key("short name, used in logs and by --set objectives.NAME.key=value (default: the kind)", "")
    weight: float = key("share of the training tokens, relative to the other objectives", 1.0, low=0.0)
    corpora: tuple[str, ...] = key(
        "names of the corpora that give its text (default: all, by their weights; questions: passages of their file)",
        (),
    )
    text_weight: float = key("loss weight of a token that is no answer", 1.0, low=0.0)
    answer_weight: float = key("loss weight of a token of an answer", 1.0, low=0.0)
    blocks: int | None = key(
        "length of its documents (default: as many blocks as the step they are read in)", None, low=1
    )
    episodes_per_block: float = key("passkey, needles: so many one after the other; 0: one in a document", 0.0, low=0.0)
    digits: int | None = key("passkey, needles: digits of a number (default: 5, 4)", None, low=1)
    distinct_digits: int | None = key(
        "passkey: draw a number's digits from so many of the ten, so that more repeat (default: all)",
        None,
        low=1,
        high=10,
    )
    count: int | None = key("needles, facts: statements in an episode (default: 1; 2 to 10 at random)", None, low=1)
    queries: int = key("needles, facts, questions: questions in an episode at most; 0 for all there are", 1, low=0)
    tasks: tuple[str, ...] = key("facts: the tasks to draw from", ("qa1",), choices=TASKS)
    segment_tokens: int = key("repeat: tokens that are repeated", 64, low=1)
    path: Path | None = key("questions: .jsonl(.zst) with context, question, answers; relative to data.folder", None)
    license: str = key("questions: licence of the file, for the model card", "")
    where: dict[str, str] | None = key("questions: keep only records whose fields have these values", None)
    exclude_ids: tuple[str, ...] = key("questions: records never used, by id", ())
    hash_field: str = key("questions: the field whose sha256 tells what is held out", "id")
    hash_from: int = key("questions: use records whose first byte of it is at least this", 0, low=0, high=256)
    hash_below: int = key("questions: and below this", 256, low=0, high=256)
    max_answer_characters: int = key("questions: leave out records with a longer answer", 200, low=1)

    def problem(self, corpora: Mapping[str, float]) -> str | None:
        """What is wrong with it beside `corpora` (weights by name), to be put behind its name; None if nothing is."""
        for field in dataclasses.fields(self):
            known = ("kind", "name", "weight", *_KEYS_OF_KIND[self.kind])
            if field.name not in known and getattr(self, field.name) != field.default:
                return f".{field.name} has no meaning for {self.kind}; remove it"
        unknown = [name for name in self.corpora if name not in corpora]
        if unknown:
            return f".corpora names {unknown[0]!r}, which is no corpus; one of: {', '.join(corpora)}"
        if sum(corpora[name] for name in self.corpora or corpora) <= 0:
            return ": its corpora need a positive weight; raise one"
        if self.kind == "questions" and self.path is None:
            return ".path is missing; it is the file of the questions"
        if self.kind == "needles" and self.queries > (self.count or 1):
            return f".queries is {self.queries}, more than its count of {self.count or 1}; lower it"
        if self.text_weight == 0 and (self.kind == LANGUAGE_MODELLING or self.answer_weight == 0):
            return " learns nothing with its loss weights at 0; raise one"
        return None
