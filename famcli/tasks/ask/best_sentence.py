"""Which sentences of a passage answer a question."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from famcli.tasks.ask.expecting import Kind, expected, holds, is_stated, lacks
from famcli.tasks.ask.labels import indent
from famcli.tasks.ask.question import Question, TermShares, all_terms, coverage
from famcli.tasks.ask.ranking import RankedPassage
from famcli.text.boundaries import FENCE
from famcli.text.context import points_back
from famcli.text.headings import heading
from famcli.text.meaning import meanings
from famcli.text.passages import Passage
from famcli.text.sentences import Sentence
from famcli.text.words import content_terms, quotes_are_balanced

# Where a link leads to says what its page is about, not what the sentence says.
_ADDRESS = re.compile(r"(?<=\])\([^)\s]*\)|\bhttps?://\S+")
# What is said after it is the answer.
_BARE = re.compile(r"\W*(?:A: )?(?:yes|no|never|always|sure|of course|not really|it depends|well|right)\W*", re.I)
_ADDED_QUESTION = re.compile(
    r"^(?!\W*(?:wh\w+|how|is|are|was|were|do|does|did|can|could|will|would|have|has|had|should|may|must|shall|if|when)\b)"
    r".*\w(?:\W+\w+){5,}\s*(?:[\u2013\u2014]|--|- |, (?=(?:right|you know|ok(?:ay)?|no|eh|(?:is|are|was|were|do|does|"
    r"did|can|could|will|would|have|has|should)(?:n['\u2019]t)? (?:it|he|she|they|you|we|I|that|there))\b))"
    r"\s*(?:[\w'\u2019]+ ){0,3}[\w'\u2019]+\?\W{0,2}$",
    re.I | re.S,
)
_IS_ASKED_FOR = re.compile(r"\b(?:ask|asks|asked|questions?)\b", re.I)
_HOW = re.compile(
    r"\W*(?:how|what happens|what should|what must)\b(?! (?:many|much|long|old|often|far|big|large))", re.I
)
# Says what the code below it does; by itself it is no answer.
_COMMENT = re.compile(r"\s*(?:#+(?!!)|//+|--|;+|/\*+|\*|%+|<!--)\W*[^\W\d_]{2}")
_LACKS, _CLOSE = 1.0, 0.4  # of what a sentence is worth (docs/decisions.md)
_COMMENTS = 2.0  # where no code is asked for
_LINES_OF_CODE = 6  # that are shown below a comment
_LONGEST_ITEM = 400  # bytes of an item with those below it
_QUOTATION_REACH = 6  # sentences looked through for the end of a quotation
_MUCH_NEW = 3  # content words that the question has not
# By hand without the encoder; with it a softmax regression over 1,850 questions of SQuAD, FairytaleQA and SelQA (parts
# for training), in which marks of documents that such passages have not keep their weights (docs/decisions.md).
_WEIGHTS = (1.8, 1.6, -0.8, -0.1, 1.1, 2.0, -0.6, 2.8, 0.0, 0.0, 0.0, 0.0)
_ENCODED_WEIGHTS = (2.8, 2.1, -0.8, -0.2, 0.6, 1.5, -0.6, 0.8, 1.3, 1.8, 2.8, 1.3)


def best_sentence(one: RankedPassage, question: Question, shares: TermShares) -> Passage:
    """The sentence of a passage that answers best, with those that it cannot stand without.

    Where it opens a quotation and another sentence closes it, all up to there is the answer. What only announces the
    next sentence (a heading, a line that ends with a colon, words of the question alone) is shown with it, and below
    an item of a list what is listed under it.
    """
    passage, values = one.passage, _values(one, question, shares)
    place = values.index(max(values))
    if asks(passage.sentences[place]) and not _IS_ASKED_FOR.search(question.text):
        # What follows a question answers it, in a list of questions as in speech.
        later = (other for other in range(place, len(values)) if not asks(passage.sentences[other]))
        place = next(later, place)
    # Half a quotation is no answer: its other half may say the opposite, or who speaks.
    found = _completed(place, passage) or _announced(place, passage, question)
    return found if len(found.sentences) > 1 else _with_rival(place, values, passage)


def around_best(one: RankedPassage, question: Question, shares: TermShares) -> str:
    """The sentence of a passage that answers best, and those beside it."""
    values, sentences = _values(one, question, shares), one.passage.sentences
    place = values.index(max(values))
    return " ".join(sentence.text.strip() for sentence in sentences[max(0, place - 1) : place + 2])


def _values(one: RankedPassage, question: Question, shares: TermShares) -> list[float]:
    """How well each sentence of a passage answers."""
    rows, sentences = sentence_features(one, question, shares), one.passage.sentences
    weights = _ENCODED_WEIGHTS if one.likeness else _WEIGHTS
    asks_code = expected(question.text) == "code" or _HOW.match(question.text) is not None
    return [
        math.fsum(w * x for w, x in zip(weights, row, strict=True))
        - _LACKS * (lacks(question.text, sentence.text) or not is_stated(question.text, sentence.text))
        - _COMMENTS * (not asks_code and _is_comment(sentence))
        for row, sentence in zip(rows, sentences, strict=True)
    ]


def _with_rival(place: int, values: Sequence[float], passage: Passage) -> Passage:
    """The sentence, and the one beside it where that is almost as likely the answer."""
    sentences = passage.sentences
    beside = [
        other
        for other in (place - 1, place + 1)
        if 0 <= other < len(values)
        and values[place] - values[other] < _CLOSE
        and heading(sentences[other]) is None
        and not asks(sentences[other])
        and sentences[max(place, other)].gap is not None
    ]
    rival = max(beside, key=lambda other: values[other], default=place)
    return Passage(passage.source, sentences[min(place, rival) : max(place, rival) + 1])


def _is_comment(sentence: Sentence) -> bool:
    return sentence.is_code and _COMMENT.match(sentence.text) is not None


def asks(sentence: Sentence) -> bool:
    """True for a question; what ends with a few words of one ("..., can you imagine?") says something before."""
    text = sentence.text.rstrip("*_ ")
    return "?" in text[-3:] and not _ADDED_QUESTION.search(text)


def sentence_features(one: RankedPassage, question: Question, shares: TermShares) -> list[tuple[float, ...]]:
    """Of each sentence: its coverage, that of those beside it, whether it asks, whether it opens
    a quotation that nothing closes, whether it is finished, whether it holds what the question asks for, whether it is
    a heading, how near it is by word vectors and by the encoder, as a whole and to the words of the question on average
    and least, and whether it says anything that the question does not."""
    passage, likeness = one.passage, one.likeness
    words = [all_terms(_ADDRESS.sub("", sentence.text)) for sentence in passage.sentences]
    near = meanings([question.text, *(sentence.text for sentence in passage.sentences)])
    kind, rows = expected(question.text), list[tuple[float, ...]]()
    for place, sentence in enumerate(passage.sentences):
        covered = coverage(shares, words[place])
        beside = coverage(shares, (word for other in words[max(0, place - 1) : place + 2] for word in other))
        flags = (
            asks(sentence),
            not quotes_are_balanced(sentence.text) and _completed(place, passage) is None,
            sentence.is_finished,
            kind is not None and holds(kind, sentence.text, question.text),
            heading(sentence) is not None,
        )
        by_words = 0.0 if near is None else float(near[0] @ near[place + 1])
        encoded = (likeness[place], *one.met_by[place]) if likeness else (0.0, 0.0, 0.0)
        new = set(content_terms(_ADDRESS.sub("", sentence.text))).difference(question.terms)
        rows.append((covered, beside, *map(float, flags), by_words, *encoded, min(1.0, len(new) / _MUCH_NEW)))
    return rows


def _announced(place: int, passage: Passage, question: Question) -> Passage:
    """This sentence, the next ones as far as they are only announced, and a heading or a next sentence that holds what
    the question asks for if this one does not."""
    sentences, first, end = passage.sentences, place, place + 1
    if points_back(sentences[place].text) and _follows(sentences, place):
        first -= 1
    while end < len(sentences) and _announces(sentences[end - 1], question):
        end += 1
    if _is_comment(sentences[place]):
        end = _end_of_code(place, sentences)
    if end == place + 1 and sentences[place].is_item:
        end = _end_of_item(place, sentences)
    kind = expected(question.text)
    is_untold = kind == "time" and not holds(kind, sentences[place].text, question.text)
    if kind is not None and (kind == "version" or is_untold) and sentences[place].is_item:
        # In a list of changes the heading tells the version, and when it came.
        first = _heading_with(kind, sentences[:place], question, first)
    if kind is not None and not any(holds(kind, one.text, question.text) for one in sentences[first:end]):
        if end < len(sentences) and holds(kind, sentences[end].text, question.text):
            end += 1
        elif first and heading(sentences[first - 1]) and holds(kind, sentences[first - 1].text, question.text):
            first -= 1
    elif end < len(sentences) and _HOW.match(question.text) and points_back(sentences[end].text):
        # "Often files of one kind are wanted. This can be done with ..."
        end += _follows(sentences, end)
    return Passage(passage.source, sentences[first:end])


def _heading_with(kind: Kind, above: Sequence[Sentence], question: Question, default: int) -> int:
    """The place of the last heading that tells a version or a time, `default` where none does."""
    known = "" if kind == "version" else question.text
    places = (at for at in reversed(range(len(above))) if heading(above[at]) and holds(kind, above[at].text, known))
    return next(places, default)


def _end_of_code(place: int, sentences: Sequence[Sentence]) -> int:
    """Behind the code that a comment stands above: up to an empty line, the next comment or a fence."""
    end = place + 1
    while end < len(sentences) and sentences[end].is_code and end - place <= _LINES_OF_CODE:
        is_apart = (sentences[end].gap or "\n\n").count("\n") > 1
        if is_apart or _is_comment(sentences[end]) or FENCE.match(sentences[end].text):
            break
        end += 1
    return end


def _end_of_item(place: int, sentences: Sequence[Sentence]) -> int:
    """Behind the items that are listed below this one, as many as are not too long."""
    depth, end = indent(sentences[place]), place + 1
    while end < len(sentences) and sentences[end].is_item and indent(sentences[end]) > depth:
        if end > place + 1 and sentences[end].end - sentences[place].start > _LONGEST_ITEM:
            break
        end += 1
    return end


def _follows(sentences: Sequence[Sentence], place: int) -> bool:
    """True if a sentence goes on with the one before it, in the same paragraph, which is no heading."""
    gap = sentences[place].gap
    return bool(place) and gap is not None and gap.count("\n") < 2 and heading(sentences[place - 1]) is None


def _announces(sentence: Sentence, question: Question) -> bool:
    text = _ADDRESS.sub("", sentence.text)
    return (
        heading(sentence) is not None
        or text.rstrip("*_ ").endswith(":")
        or _BARE.fullmatch(text) is not None
        or set(content_terms(text)) <= {*question.terms}
    )


def _completed(place: int, passage: Passage) -> Passage | None:
    """The shortest run of sentences around this one that closes the quotations it opens, if it opens any and any run
    within reach does."""
    sentences = passage.sentences
    if quotes_are_balanced(sentences[place].text):
        return None
    runs = [
        Passage(passage.source, sentences[first:end])
        for first in range(max(0, place - _QUOTATION_REACH), place + 1)
        for end in range(place + 1, min(len(sentences), place + _QUOTATION_REACH) + 1)
    ]
    return min((run for run in runs if quotes_are_balanced(run.text)), key=lambda run: len(run.text), default=None)
