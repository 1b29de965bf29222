"""Summaries judged by ROUGE against references, beside LEAD, TextRank and LexRank on the same sentences and budget."""

from __future__ import annotations

import io
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.quality.summary_sets import Ranking, SummaryItem
from famcli.checkpoint.model import Model
from famcli.documents.source import Piece
from famcli.documents.text_source import TextSource
from famcli.errors import UsageError
from famcli.evaluation.intervals import Interval, bootstrap
from famcli.tasks.summarize.candidates import Budget
from famcli.tasks.summarize.quotable import is_quotable
from famcli.tasks.summarize.summarize import summarize
from famcli.tasks.summarize.summary_result import SummarizeConfig
from famcli.text.sentences import Sentence, SentenceSplitter
from famcli.text.words import num_words

MEASURES = ("rouge1", "rouge2", "rougeLsum")
QUARTERS = 4
DEFINITION = (
    "Every system is given the same sentences of a text (those that can stand alone) and the same number of words: it "
    "chooses in the order of its ranking until the sum is nearest to it. ROUGE-1, ROUGE-2 and ROUGE-L (summary level) "
    "are F1 of the package rouge-score with stemming, against the best of a text's references. Quarters: where in the "
    "text the chosen words stand. Intervals are 95 %, by bootstrap over texts; the mean is over sets."
)
Scores = NDArray[np.float64]


@dataclass
class SystemScores:
    """What one system got on one set: scores [texts, 3] of `MEASURES`, quarters [texts, 4] as shares of words."""

    name: str
    scores: list[Scores] = field(default_factory=list)
    quarters: list[Scores] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Plain values: means with their intervals."""
        table = np.array(self.scores)
        return {
            "system": self.name,
            "scores": {
                measure: {"mean": float(column.mean()), "interval": _listed(bootstrap(column))}
                for measure, column in zip(MEASURES, table.T, strict=True)
            },
            "quarters": np.array(self.quarters).mean(0).tolist(),
        }


@dataclass(frozen=True)
class SetScores:
    """One set: its name, how many texts were summarized, to how many words, and what each system got."""

    name: str
    num_words: int
    systems: tuple[SystemScores, ...]

    @property
    def num_texts(self) -> int:
        """Texts that were summarized."""
        return len(self.systems[0].scores)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "set": self.name,
            "texts": self.num_texts,
            "words": self.num_words,
            "systems": [system.to_json() for system in self.systems],
            "differences": differences([self]),
        }


def rouge() -> Callable[[Sequence[str], str], Scores]:
    """References and a summary (one sentence a line) to the F1 of `MEASURES` [3]. Raises UsageError without the
    package rouge-score."""
    try:
        from rouge_score.rouge_scorer import RougeScorer
    except ImportError as error:
        raise UsageError(
            "benchmarks.quality summary needs the package rouge-score: pip install 'famcli[eval]'"
        ) from error
    scorer = RougeScorer(list(MEASURES), use_stemmer=True)

    def score(references: Sequence[str], summary: str) -> Scores:
        lined = ["\n".join(sentence.text for sentence in split(reference)) for reference in references]
        found = scorer.score_multi(lined, summary)
        return np.array([found[measure].fmeasure for measure in MEASURES])

    return score


def split(text: str) -> list[Sentence]:
    """The sentences of a text that is held as a whole."""
    splitter = SentenceSplitter()
    piece = Piece(text, 0, len(text.encode("utf-8", "replace")))
    return splitter.feed(text, piece.char_offsets()) + splitter.flush()


def median_words(items: Sequence[SummaryItem]) -> int:
    """Of the references: what every system is given where no number was asked for."""
    return round(statistics.median(num_words(text) for item in items for text in item.references))


def score_set(
    name: str,
    items: Sequence[SummaryItem],
    words: int,
    model: Model,
    peers: dict[str, Ranking],
) -> Iterator[SetScores]:
    """Summarize each text with every system; yields what is known after each text."""
    judge, budget = rouge(), Budget(words, "words")
    systems = [SystemScores(name) for name in ("famcli", *peers)]
    for item in items:
        sentences = [sentence for sentence in split(item.text) if is_quotable(sentence)]
        if not sentences:
            continue
        texts = [" ".join(sentence.text.split()) for sentence in sentences]
        chosen = [_summarize(model, item, budget)]
        for rank in peers.values():
            order = within(rank(texts), sentences, budget)
            chosen.append([(sentences[number].start, sentences[number].text) for number in order])
        for system, summary in zip(systems, chosen, strict=True):
            lines = "\n".join(" ".join(text.split()) for _, text in summary)
            system.scores.append(judge(item.references, lines))
            system.quarters.append(_quarters(summary, len(item.text.encode("utf-8", "replace"))))
        yield SetScores(name, words, tuple(systems))


def differences(sets: Sequence[SetScores]) -> list[dict[str, Any]]:
    """The first system minus each other one, text by text: means over sets, and intervals by bootstrap within them."""
    found = []
    for index in range(1, len(sets[0].systems)):
        gaps = [np.array(one.systems[0].scores) - np.array(one.systems[index].scores) for one in sets]
        means = np.mean([gap.mean(0) for gap in gaps], 0)
        low, high = _macro_bootstrap(gaps)
        found.append(
            {
                "system": sets[0].systems[0].name,
                "minus": sets[0].systems[index].name,
                "scores": {
                    measure: {"mean": float(means[i]), "interval": [float(low[i]), float(high[i])]}
                    for i, measure in enumerate(MEASURES)
                },
            }
        )
    return found


def _macro_bootstrap(tables: Sequence[Scores], resamples: int = 1000) -> tuple[Scores, Scores]:
    """95 % intervals of the mean of means: texts are drawn anew within each set."""
    rng = np.random.default_rng(0)
    drawn = [
        np.mean([table[rng.integers(0, len(table), len(table))].mean(0) for table in tables], 0)
        for _ in range(resamples)
    ]
    low, high = np.quantile(np.array(drawn), (0.025, 0.975), axis=0)
    return low, high


def _summarize(model: Model, item: SummaryItem, budget: Budget) -> list[tuple[int, str]]:
    """Where the sentences that famcli chooses begin, and their text."""
    raw = item.text.encode("utf-8", "replace")
    document = TextSource(io.BytesIO(raw), item.id, None, len(raw))
    result = summarize(model, [document], SummarizeConfig(mode="extract", length=budget, focus=item.question))
    return [(quote.span[0], quote.text) for quote in result.sentences]


def within(order: Sequence[int], sentences: Sequence[Sentence], budget: Budget) -> list[int]:
    """The first of a ranking whose words come nearest to the budget, in the order of the text."""
    taken, used = list[int](), 0
    for number in order:
        cost = budget.cost(sentences[number].text)
        if taken and used + cost - budget.count > budget.count - used:
            break
        taken.append(number)
        used += cost
        if used >= budget.count:
            break
    return sorted(taken)


def _quarters(summary: Sequence[tuple[int, str]], size: int) -> Scores:
    shares = np.zeros(QUARTERS)
    for start, text in summary:
        shares[min(QUARTERS - 1, start * QUARTERS // max(1, size))] += num_words(text)
    return np.asarray(shares / max(1.0, shares.sum()))


def _listed(interval: Interval | None) -> list[float] | None:
    return None if interval is None else list(interval)
