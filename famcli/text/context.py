"""How much a sentence depends on those around it: plain rules, for English first of all."""

from __future__ import annotations

import re

from famcli.text.words import num_words

_LEAD = (
    r"^\W*(?:(?:and|but|so|then|yet|or|nor|for|now|well|however|therefore|thus|when|as|if|though|although|after|before|"
    r"while|because|since),?\s+)?"
)
_NOUN_LEFT_OUT = re.compile(_LEAD + r"(?:he|she|it|they|him|them|his|her|their|its|hers|theirs)\b", re.I)
_POINTS_BACK = re.compile(
    _LEAD + r"(?:this|that|these|those)\s+(?:is|was|are|were|has|had|have|can|could|may|might|must|will|would|does|did|"
    r"do|should|also|means|meant|makes|made)\b",
    re.I,
)
# "This causes ...", not "This class ...".
_ACTS_BACK = re.compile(_LEAD + r"(?:this|that)\s+\w+[^\Ws]s\b", re.I)
_GOES_ON = re.compile(
    r"^\W*(?:and|but|so|then|yet|or|nor|for|now|well|however|therefore|thus|hence|moreover|furthermore|also|besides|"
    r"still|instead|otherwise|similarly|likewise|consequently|accordingly|nevertheless|nonetheless|meanwhile|finally|"
    r"indeed|in addition|as a result|for example|for instance|on the other hand|in contrast|in fact|of course|"
    r"after all|at last|not that)\b",
    re.I,
)
_PRONOUN = re.compile(r"\b(?:he|she|they|him|them|his|her|hers|their|it|its)\b", re.I)
_SPOKEN = re.compile(
    '^\\W*["\u201c\u201e\u00ab\u300c\u300e\u2018\']|[,.!?\u2026\u2014]["\u201d\u00bb\u300d\u300f]|\u2014\\W*$'
)
_ASKS = re.compile("[?\uff1f]\\W*$")


def context_dependence(text: str) -> float:
    """How much a sentence needs those around it, from 0: speech, questions, continuations, and pronouns whose nouns are
    elsewhere (English ones; in other languages only speech and questions count).

    The unit is the standard deviation of a sentence's score in a summary (`famcli.tasks.summarize.sentence_score`).
    """
    # The weights are as high as they can be without a loss of ROUGE on the training texts.
    pronouns = len(_PRONOUN.findall(text)) / max(1, num_words(text))
    return (
        1.8 * is_spoken(text)
        + 1.5 * bool(_ASKS.search(text))
        + 0.9 * bool(_NOUN_LEFT_OUT.match(text))
        + 1.0 * bool(_POINTS_BACK.match(text))
        + 0.75 * bool(_GOES_ON.match(text))
        + 4.5 * pronouns
    )


def points_back(text: str) -> bool:
    """True if a sentence begins with a pronoun whose noun is elsewhere: "This can be done with ..."."""
    return any(one.match(text) is not None for one in (_NOUN_LEFT_OUT, _POINTS_BACK, _ACTS_BACK))


def is_spoken(text: str) -> bool:
    """True if somebody in the text says this, or part of it."""
    return _SPOKEN.search(text) is not None
