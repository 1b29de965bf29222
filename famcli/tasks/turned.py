"""Whether a written sentence turns around what it was written from: a "not" that is gone or new, a dropped condition.

English only. It is compared with the sentences that share most of its words; to agree with one is enough. A sentence
denies the word that comes first after its "not" or the like. It is turned around where it asserts what they all deny,
denies what they all assert or what nothing is near to, or lacks the "unless", "except" or "only" that they all have.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from famcli.text.words import content_terms, has_content, terms

# Of the written sentence's words, the least part that a sentence must have to be compared with it.
_LEAST_SHARED = 0.5
# Of the words that the nearest sentence shares, the part from which on another one counts as near too.
_NEARLY = 0.8
# Content words below which something is named rather than said, so that it needs no condition; nor does a phrase.
_FEWEST_WORDS = 4
_WORD = re.compile(r"[^\W_]+(?:['\u2019-][^\W_]+)*")
_DENYING = """
not no never none nobody nothing neither nor without cannot hardly barely unable fails fail failed refuses refuse
refused denies deny denied forbids forbid forbidden prohibits prohibit prohibited prevents prevent prevented bars barred
lacks lack lacked
"""
_DENIALS = frozenset(_DENYING.split())
_CONDITIONS = {
    "unless": re.compile(r"\bunless\b|\bonly (?:if|when|where|with|after)\b|\bexcept (?:if|when|where|with)\b", re.I),
    "except": re.compile(r"\bexcept(?:ing|ion|ions)?\b|\bother than\b|\bapart from\b|\bexclud\w+", re.I),
    "only": re.compile(r"(?<!not )(?<!if )\bonly\b(?! (?:a|an|the|two|three)\b)|\bsolely\b|\bexclusively\b", re.I),
}
# In these words a condition may be said again.
_ANY_CONDITION = re.compile(
    r"\b(?:unless|except\w*|only|solely|exclusively|other|apart|exclud\w+|if|when|without|provided|subject|until|"
    r"long as|in case|depend\w*|require\w*|must|limited|restrict\w*|just|but|not|no)\b|n['\u2019]t\b",
    re.I,
)


@dataclass(frozen=True)
class Said:
    """A sentence: its content words, those of them that it denies, and whether it has a "not" or the like at all."""

    text: str
    words: frozenset[str]
    denied: frozenset[str]
    denies: bool

    @classmethod
    def of(cls, sentence: str) -> Said:
        denied, denies, waits = set[str](), False, False
        for match in _WORD.finditer(sentence):
            word = match[0].casefold().replace("\u2019", "'")
            if word in _DENIALS or word.endswith("n't"):
                denies = waits = True
            # "Not yet finally approved" denies that it is approved.
            elif waits and has_content(word) and not word.endswith("ly"):
                denied.update(terms(word))
                waits = False
        return cls(sentence, frozenset(content_terms(sentence)), frozenset(denied), denies)


def turned_around(sentence: str, sources: Iterable[Said]) -> tuple[str, ...]:
    """What of a written sentence is said otherwise in the source sentences it is nearest to: words that are denied in
    one and not in the other, or the condition that it lacks; () if nothing. Where none is near, what it denies."""
    said = Said.of(sentence)
    near = _nearest(said, sources)
    if not near:
        # What is denied must be told of; it is what small checkpoints make up most easily.
        return tuple(f"not {word}" for word in sorted(said.denied))
    denied = frozenset.intersection(*(one.denied for one in near))
    if not said.denies and (words := denied & said.words):
        return tuple(f"{word} (denied there)" for word in sorted(words))
    known = frozenset.union(*(one.words for one in near))
    if not any(one.denies for one in near) and (words := said.denied & known):
        return tuple(f"not {word}" for word in sorted(words))
    if len(said.words) < _FEWEST_WORDS or not is_sentence(sentence) or _ANY_CONDITION.search(sentence):
        return ()
    dropped = (name for name, marks in _CONDITIONS.items() if all(marks.search(one.text) for one in near))
    return tuple(f"without its \u201c{name}\u201d" for name in dropped)[:1]


def is_sentence(text: str) -> bool:
    """True for a text that ends as sentences do; other answers are phrases."""
    return re.search(r"[.!?\u2026][\"'\u2019\u201d)\]]*\s*$", text) is not None


def _nearest(said: Said, sources: Iterable[Said]) -> list[Said]:
    shared = [(len(said.words & one.words), one) for one in sources]
    most = max((count for count, _ in shared), default=0)
    if not said.words or most < _LEAST_SHARED * len(said.words):
        return []
    return [one for count, one in shared if count >= _NEARLY * most]
