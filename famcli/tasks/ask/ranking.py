"""Which passages are evidence for a question, and how surely.

The index of a reading gives candidates by BM25 and by meaning; they are then compared closely with the question, and
for the best of them the network says how much more likely they make it. The weights are those of a regression
(`python -m benchmarks.ask_constants`, docs/decisions.md).
"""

from __future__ import annotations

import heapq
import math
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from famcli.tasks.ask.expecting import (
    all_numbers_in,
    another_of,
    asked_about,
    asked_role,
    expected,
    has_role,
    holds,
    is_stated,
    numbers_in,
    without_title,
)
from famcli.tasks.ask.labels import told
from famcli.tasks.ask.passage_index import PassageIndex
from famcli.tasks.ask.question import Question, TermShares, all_terms, coverage, shares_of, weights_of
from famcli.tasks.ask.told_releases import told_release
from famcli.text.headings import is_contents
from famcli.text.meaning import Meanings, meanings
from famcli.text.passages import Passage
from famcli.text.words import (
    bm25_share,
    has_content,
    plain_spelling,
    similarity,
    word_set,
)

NUM_CANDIDATES = 40
"""Passages per question whose words are compared closely."""

NUM_ENCODED = 24
"""Of these, those that the sentence encoder reads."""

NUM_RERANKED = 8
"""Passages per question that the network reads once more."""

FEATURES = (
    "words", "coverage", "around", "sentence", "expected", "numbers", "names", "meaning", "nearest", "likeness",
    "likest", "gain"
)  # fmt: skip
"""Of a passage with its headings, each 0 to 1 but for the last five. words: BM25 as a share. coverage: of the
question's terms, by weight. around: what the passages before and after add to it. sentence: the coverage of its best
sentence. expected: one of its sentences holds what the question asks for (`expecting`); 1/2 where that is not known.
numbers, names: the share of those in the question that it has; "the next meeting" is like a number; of names those
around it count. meaning, nearest: how
near it and its nearest sentence are by word vectors (`text.meaning`), likeness, likest: the same by the encoder
(`text.sentence_encoder`), -1 to 1. gain: nats per token by which the network finds the question more likely after it
than after the other passages that it read for this question, -1 to 1."""

WEIGHTS = (2.1, 3.4, 1.3, 2.6, 2.0, 2.0, 1.2, 2.3, 4.0, 4.0, 6.0, 0.5)
CONFIDENCE_WEIGHTS = {
    "coverage": 1.58, "margin": 0.13, "lead": 0.36, "unexpected": -0.55, "numbers": 0.33, "names": 0.33, "nearest": 1.44
}  # fmt: skip
"""Of features and of what sets the best passage apart (see `RankedPassage`), where no encoder read it."""

CONFIDENCE_BIAS = -3.51
ENCODED_WEIGHTS = {"lead": 0.4, "names": 2.0, "met": 7.0}
"""The same where the encoder did: fitted on the tuning questions of `python -m benchmarks.quality files`, each once
more without the passages that answer it (docs/decisions.md)."""

ENCODED_BIAS = -6.2
THRESHOLD = 0.35
"""The confidence from which on a question counts as answered."""

NEAR_THRESHOLD = 0.14
"""The confidence below which nothing comes near an answer."""

_DOUBTFUL, _FAR = 0.15, 0.1
# Of 153 answers to questions about real files 76 % were right where the fit said 0.6 to 0.97, and 82 % above.
_LIKELY, _LEVELS_OFF = 0.7, 0.55
_COST_OF_NAMES, _GAIN_OF_FIRST = 3.0, 5.0
_GAIN_OF_NAMED, _NAMED = 30.0, 0.9  # where the value that is asked for stands under its name
_UNEXPLAINED = 0.5  # where a question asks who somebody is and the passage only names them
_UNSAID = 0.3  # where it asks who has a role, or where something was done, and none of its sentences says so
_BY_WORDS = 0.6  # where a text's language has no other rules: what is asked for is not told
_LEAD_OVER = 24  # passages
_SCORE_OF_NOTHING, _ENCODED_NOTHING = 5.0, 8.0  # of a passage that is not about the question, on average
# Where there are no vectors: what they say of the usual right passage, so that confidences mean the same.
_UNKNOWN_MEANING, _UNKNOWN_NEAREST = 0.35, 0.45
_NEIGHBOUR_SHARE = 0.15  # of a neighbour's BM25 share that counts for a candidate
_MEANING_SHARE = 0.5  # of its likeness in meaning
_NEAR = 0.3  # likeness from which on a passage that shares no word is a candidate
_NEAREST, _LEAST_NEAR = 8, 0.1  # passages of a part that are so from less on
_ALIKE = 0.9  # likeness of words from which on two sources say the same
_LOOKED_THROUGH = 256  # passages that name a role, for one that says whose it is
_COPIES = 4  # times as many candidates, because some may say the same

_ABOUT_CONTENTS = re.compile(r"\b(?:contents|chapters?|sections?|parts?|appendix|appendices|headings?|pages?)\b", re.I)


@dataclass(frozen=True)
class RankedPassage:
    """A passage and what speaks for it. features: see `FEATURES`; gain is 0 where the network did not read it.

    margin: its score minus that of the best other one. lead: its score minus the mean of the first 24; where there
    are fewer, the missing ones count as an unrelated passage. likeness: of each of its sentences, by the encoder;
    () where that did not read it. met: how near it is to the word of the question that it has least of, by the
    encoder. alike: passages of other sources that say the same, and stand behind it. only_names: the question asks
    who or what a name is, and no sentence says that. is_unsaid: none states who has a role, or where something was
    done. is_first_said: this is the first passage with that name, and says it. met_by: of each sentence, as
    `text.sentence_encoder` has it. told: the part of it that has the value that is asked for, under its name
    (`labels`). is_foreign: its text is in no language whose questions are understood.
    """

    passage: Passage
    features: tuple[float, ...]
    margin: float = 0.0
    lead: float = 0.0
    likeness: tuple[float, ...] = ()
    met: float = 0.0
    met_by: tuple[tuple[float, float], ...] = ()
    alike: int = 0
    only_names: bool = False
    is_unsaid: bool = False
    is_first_said: bool = False
    told: Passage | None = None
    is_foreign: bool = False

    @property
    def score(self) -> float:
        score = math.fsum(w * x for w, x in zip(WEIGHTS, self.features, strict=True))
        score += _GAIN_OF_FIRST * self.is_first_said - _COST_OF_NAMES * (self.only_names or self.is_unsaid)
        return score + _GAIN_OF_NAMED * (self.told is not None)

    def comes_near(self, question: Question) -> bool:
        """True if it may be worth reading, whether it answers or not. The lines of a log are alike, so that none leads
        and none is likely; what has two words of the question, and half of them, comes near all the same."""
        shared = set(question.terms) & set(all_terms(self.passage.text))
        return self.confidence >= NEAR_THRESHOLD or (len(shared) > 1 and 2 * len(shared) >= len(question.terms))

    @property
    def confidence(self) -> float:
        """How likely, 0 to 1, the question is answered here."""
        if self.told is not None:
            return _NAMED
        # Scores of different questions cannot be compared; what a passage has, and its lead over the others, can.
        known = dict(zip(FEATURES, self.features, strict=True))
        signs = {**known, "margin": self.margin, "lead": self.lead, "unexpected": float(known["expected"] == 0)}
        signs["met"] = self.met
        weights, bias = (ENCODED_WEIGHTS, ENCODED_BIAS) if self.likeness else (CONFIDENCE_WEIGHTS, CONFIDENCE_BIAS)
        found = 1 / (1 + math.exp(-bias - math.fsum(w * signs[name] for name, w in weights.items())))
        # Of two that are both likely, the likelier is hardly more often right.
        found = min(found, _LIKELY + _LEVELS_OFF * (found - _LIKELY))
        if self.is_foreign:
            found = min(found, _BY_WORDS)
        # What has another number, or no word of the question where words alone are compared, is never sure; and what
        # has neither a word nor a name of it is not even near.
        if not known["coverage"] and not known["names"]:
            return min(found, _FAR)
        is_near = (known["coverage"] or self.likeness) and known["numbers"] == 1
        return min(
            found, _DOUBTFUL if not is_near else _UNSAID if self.is_unsaid else _UNEXPLAINED if self.only_names else 1.0
        )


# ------------------------------------------------------------------------------------------------------- passages


def rank_passages(
    index: PassageIndex,
    question: Question,
    count: int = NUM_CANDIDATES,
    *,
    encoded: bool = True,
    without: Collection[int] = (),
) -> list[RankedPassage]:
    """The passages that have words in common with the question or are near it in meaning, best first, before the
    network has read them. encoded: the sentence encoder compares the first ones, which takes most of the time. without:
    the numbers of sources that are left out."""
    if not question.terms or not index.num_passages:
        return []
    weights, meaning = weights_of(question, index), meanings([question.text])
    # A table of contents has the words of every question, and answers none but one about itself.
    titles = None if _ABOUT_CONTENTS.search(question.text) else index.titles()
    shares, candidates = shares_of(question, weights), _candidates(index, question, weights, meaning, _COPIES * count)
    # Who or what something is, a text says where it names it first.
    first = _first_said(index, question.text)
    if first is not None:
        candidates = [(first, dict(candidates).get(first, 0.0)), *(one for one in candidates if one[0] != first)]
    named = told_release(index, question.text) or told(index, question.text)
    if named is not None and named.passage.source not in without:
        candidates = [(named.number, 0.0), *(one for one in candidates if one[0] != named.number)]
    distinct = _distinct(index, candidates, count, without, titles)
    found = [
        replace(_compared(index, number, words, question, shares, meaning, number == first), alike=alike)
        for number, words, alike in distinct
    ]
    if named is not None and distinct and distinct[0][0] == named.number:
        found[0] = replace(found[0], passage=named.passage, told=named.quoted)
    return _ordered(_encoded(question, _ordered(found))) if encoded else _ordered(found)


def _first_said(index: PassageIndex, question: str) -> int | None:
    """The first passage that names who or what a question is about; of a role, the first that says who has it."""
    if (role := asked_role(question)) is not None:
        some = islice(index.holding(all_terms(role)), _LOOKED_THROUGH)
        return next((one for one in some if has_role(role, index.passage(one).text)), None)
    if (term := asked_about(question)) is None:
        return None
    name = without_title(term)
    numbers = index.holding(all_terms(name))
    return next((one for one in numbers if name == term or name in plain_spelling(index.passage(one).text)), None)


def _distinct(
    index: PassageIndex,
    candidates: Iterable[tuple[int, float]],
    count: int,
    without: Collection[int],
    titles: Collection[tuple[str, ...]] | None,
) -> list[tuple[int, float, int]]:
    """The first `count` candidates, those that say the same in several sources once, with how often more it is said:
    versions of a document must not outvote the others. titles: see `is_contents`; None keeps tables of contents."""
    kept = list[tuple[int, float, Passage, frozenset[str], list[int]]]()
    for number, words in candidates:
        passage = index.passage(number)
        is_list = titles is not None and is_contents(passage.sentences, passage.headings, titles)
        if passage.source in without or is_list:
            continue
        said, figures = word_set(passage.text), all_numbers_in(passage.text)
        twins = (
            alike
            for _, _, other, known, alike in kept
            if other.source != passage.source and similarity(said, known) >= _ALIKE
            # What has another number says something else.
            if all_numbers_in(other.text) == figures
        )
        if (twin := next(twins, None)) is not None:
            twin.append(number)
            continue
        if len(kept) == count:
            break
        kept.append((number, words, passage, said, []))
    return [(number, words, len(alike)) for number, words, _, _, alike in kept]


def _encoded(question: Question, passages: Sequence[RankedPassage]) -> Sequence[RankedPassage]:
    """The passages with what the sentence encoder says of the first ones, if there is one."""
    # Here, so that a question that is refused does not wait for torch.
    from famcli.text.sentence_encoder import likeness

    texts, parts = list[str](), list[list[tuple[int, int]]]()
    for one in passages[:NUM_ENCODED]:
        # Headings say what the passage is about, so they are read before it.
        text, spans = "".join(f"{title} " for title in one.passage.headings), list[tuple[int, int]]()
        for sentence in one.passage.sentences:
            text += (sentence.gap or "") if spans else ""
            said = plain_spelling(sentence.text)
            spans.append((len(text), len(text) + len(said)))
            text += said
        texts.append(text)
        parts.append(spans)
    # Function words alone are near to anything that is said.
    found = likeness(question.text, texts, parts) if passages and has_content(question.text) else None
    if found is None:
        return passages
    # What it did not read is as far as the farthest that it read.
    unread = min(one.whole for one in found), min(max(one.parts) for one in found)
    near = [*((one.whole, max(one.parts)) for one in found), *[unread] * (len(passages) - len(found))]
    place = FEATURES.index("likeness")
    whole = [
        replace(one, features=(*one.features[:place], *values, *one.features[place + 2 :]))
        for one, values in zip(passages, near, strict=True)
    ]
    read = [
        replace(one, likeness=like.parts, met=like.least, met_by=like.met)
        for one, like in zip(whole, found, strict=False)
    ]
    return [*read, *whole[len(read) :]]


def rerank(passages: Sequence[RankedPassage], likelihoods: Sequence[float]) -> list[RankedPassage]:
    """`passages`, best first, once the network has said of the first ones how likely the question is after them."""
    # How likely a question is at all differs from one to the next: only its difference between passages says something.
    mean = math.fsum(likelihoods) / max(1, len(likelihoods))
    gains = [min(1.0, max(-1.0, one - mean)) for one in likelihoods]
    seen = [replace(one, features=(*one.features[:-1], gain)) for one, gain in zip(passages, gains, strict=False)]
    return _ordered([*seen, *passages[len(gains) :]])


def _ordered(passages: Sequence[RankedPassage]) -> list[RankedPassage]:
    """In the order of their scores, best first, each compared with the others."""
    ordered = sorted(passages, key=lambda one: (-one.score, one.passage.source, one.passage.span))
    scores = [one.score for one in ordered]
    others = [_ENCODED_NOTHING if any(one.likeness for one in ordered) else _SCORE_OF_NOTHING] * _LEAD_OVER
    mean = math.fsum((scores + others)[:_LEAD_OVER]) / _LEAD_OVER
    best, second = (scores + others)[:2]
    return [
        replace(one, margin=score - (best if place else second), lead=score - mean)
        for place, (one, score) in enumerate(zip(ordered, scores, strict=True))
    ]


def _candidates(
    index: PassageIndex, question: Question, weights: NDArray[np.float64], meaning: Meanings | None, count: int
) -> list[tuple[int, float]]:
    """(number, BM25 share) of the passages whose words, a little those of their neighbours, and meaning say most.

    The parts of an index are gone through one after the other, so that what is held does not grow with the text.
    """
    heap: list[tuple[float, int, float]] = []
    last = 0.0
    for first, lengths, counts in index.parts(question.terms):
        shares = bm25_share(counts, lengths, weights, index.mean_length)
        rows = index.meanings(first)
        near = np.zeros(len(shares)) if meaning is None or not len(rows) else rows @ meaning[0]
        # The neighbour of a part's last passage is in the next part, which is not known yet: it counts for nothing.
        padded = np.concatenate(([last], shares, [0.0]))
        values = shares + _NEIGHBOUR_SHARE * (padded[:-2] + padded[2:]) + _MEANING_SHARE * np.maximum(near, 0)
        # The nearest ones are candidates from less likeness on.
        far = near < min(_NEAR, max(_LEAST_NEAR, np.sort(near)[-_NEAREST:][0]))
        values[(shares == 0) & far] = 0
        last = float(shares[-1])
        for place in np.argsort(-values, kind="stable")[:count]:
            if values[place] > 0:
                one = float(values[place]), -(first + int(place)), float(shares[place])
                heapq.heappush(heap, one) if len(heap) < count else heapq.heappushpop(heap, one)
    return [(-number, share) for _, number, share in sorted(heap, reverse=True)]


def _compared(
    index: PassageIndex,
    number: int,
    words: float,
    question: Question,
    shares: TermShares,
    meaning: Meanings | None,
    is_first: bool,
) -> RankedPassage:
    passage = index.passage(number)
    beside = [index.passage(other) for other in (number - 1, number + 1) if 0 <= other < index.num_passages]
    own = all_terms(passage.with_headings)
    around = [*own, *(term for one in beside if one.source == passage.source for term in all_terms(one.text))]
    sentences = [coverage(shares, all_terms(sentence.text)) for sentence in passage.sentences]
    alike = meanings([passage.with_headings, *(sentence.text for sentence in passage.sentences)])
    near_it = [] if meaning is None or alike is None else (alike @ meaning[0]).tolist()
    covered, kind, term = coverage(shares, own), expected(question.text), asked_about(question.text)
    numbers, another, names = (
        numbers_in(question.text),
        another_of(question.text),
        set(all_terms(" ".join(question.names))),
    )
    is_held = kind is not None and any(holds(kind, one.text, question.text) for one in passage.sentences)
    features = (
        words,
        covered,
        coverage(shares, around) - covered,
        max(sentences),
        0.5 if kind is None or (is_first and not is_held) else float(is_held),
        _share_of_numbers(numbers, another, passage.with_headings),
        len(names & set(around)) / len(names) if names else 1.0,
        near_it[0] if near_it else _UNKNOWN_MEANING,
        max(near_it[1:]) if near_it else _UNKNOWN_NEAREST,
        0.0,
        0.0,
        0.0,
    )
    of_name = kind == "meaning" and term is not None and term[:1].isupper()
    # Who somebody with a title is, a text says where it names him first, if anywhere.
    is_held = is_held or (of_name and is_first and without_title(term or "") != term)
    if (role := asked_role(question.text)) is not None:
        of_name, is_held = True, any(has_role(role, one.text) for one in passage.sentences)
    return RankedPassage(
        passage,
        features,
        only_names=of_name and not is_held,
        is_unsaid=not any(is_stated(question.text, one.text) for one in passage.sentences),
        is_first_said=of_name and is_first and is_held,
    )


def _share_of_numbers(numbers: frozenset[str], another: re.Pattern[str] | None, text: str) -> float:
    found = all_numbers_in(text) if numbers else numbers
    wanted = [number in found for number in numbers]
    if another is not None:
        wanted.append(another.search(text) is not None)
    return sum(wanted) / len(wanted) if wanted else 1.0
