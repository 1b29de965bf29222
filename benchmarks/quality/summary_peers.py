"""What a summary is compared with: the first sentences, and TextRank and LexRank as the library sumy has them.

TextRank: Mihalcea and Tarau 2004. LexRank: Erkan and Radev 2004.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from famcli.errors import UsageError

Ranking = Callable[[Sequence[str]], list[int]]
"""Sentences in, their numbers out, the best first."""

_WORD = re.compile(r"[^\W\d_]+(?:['\u2019][^\W\d_]+)?")


def rankings() -> dict[str, Ranking]:
    """Each peer by its name. Raises UsageError where the library is not installed."""
    try:
        from sumy.summarizers.lex_rank import LexRankSummarizer
        from sumy.summarizers.text_rank import TextRankSummarizer
    except ImportError as error:
        raise UsageError(
            "benchmarks.quality summary compares with the package sumy: pip install 'famcli[eval]'"
        ) from error
    return {
        "LEAD": lambda sentences: list(range(len(sentences))),
        "TextRank": _ranked_by(TextRankSummarizer),
        "LexRank": _ranked_by(LexRankSummarizer),
    }


class _Words:
    """sumy's tokenizer for sentences that are known already."""

    def to_words(self, text: str) -> list[str]:
        return _WORD.findall(text)


def _ranked_by(summarizer_class: Any) -> Ranking:
    from sumy.models.dom import ObjectDocumentModel, Paragraph, Sentence
    from sumy.nlp.stemmers import Stemmer
    from sumy.utils import get_stop_words

    class Ranked(summarizer_class):  # type: ignore[misc]
        """The summarizer, asked for its order instead of its choice."""

        def _get_best_sentences(self, sentences: Any, count: Any, rating: Any, *_: Any, **__: Any) -> Any:
            rate = rating if callable(rating) else rating.__getitem__
            return [(rate(sentence), sentence) for sentence in sentences]

    summarizer = Ranked(Stemmer("english"))
    summarizer.stop_words = get_stop_words("english")

    def rank(sentences: Sequence[str]) -> list[int]:
        units = [Sentence(" ".join(sentence.split()), _Words()) for sentence in sentences]
        if not units:
            return []
        rated = {id(unit): float(rate) for rate, unit in summarizer(ObjectDocumentModel([Paragraph(units)]), 1)}
        return sorted(range(len(units)), key=lambda number: (-rated.get(id(units[number]), 0.0), number))

    return rank
