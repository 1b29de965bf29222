"""What judged questions come to: shares and means with intervals over stories or titles, and paired differences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from benchmarks.quality.qa import RANKS, DocumentOutcome, QuestionOutcome
from famcli.evaluation.intervals import Interval, bootstrap
from famcli.tasks.perplexity.scores import Batches

QA_DEFINITION = (
    "Passages of question sets stand among other text, each at a place of its own; the document is read once and all "
    "its questions are asked. recall at k: of answerable questions, the share for which one of the first k passages "
    "shares at least half of the shorter of the two with the passage the question was written for. famcli: as `famcli "
    "ask` ranks; famcli, frozen: with the memory switched off; words: before the network has seen the candidates; "
    "network: by the gain in the question's likelihood at each block alone; bm25: a library's, over the same passages. "
    "exact match and F1: SQuAD's, over answerable questions, every one answered. bm25 as a system: the same network, "
    "having read nothing else, answers from BM25's best passage. not found: as `famcli ask` decides by its threshold; "
    "its precision and recall over questions that their own passage does not answer, and over those whose passage was "
    "left out. Intervals are 95 %, by bootstrap over stories or titles; standard errors of differences are paired, "
    "over the same groups."
)


@dataclass(frozen=True)
class Figure:
    """A mean over questions. name: what of; interval: None for fewer than two groups."""

    name: tuple[str, ...]
    value: float
    interval: Interval | None
    questions: int
    groups: int


@dataclass(frozen=True)
class Gap:
    """One mean minus another over the same questions. standard_error: None for fewer than two groups."""

    name: tuple[str, ...]
    minus: tuple[str, ...]
    value: float
    standard_error: float | None


@dataclass(frozen=True)
class QaFigures:
    """recall: by (ranker, k). gaps: of recall, famcli and words minus bm25. answers: by (system, style, mode, measure).
    answer_gaps: famcli minus bm25, and memory on minus frozen. silence: by (measure, kind). citations, verified: how
    many quotes were looked for in the documents, and were there."""

    documents: int
    tokens: int
    bytes: int
    questions: int
    recall: tuple[Figure, ...]
    gaps: tuple[Gap, ...]
    answers: tuple[Figure, ...]
    answer_gaps: tuple[Gap, ...]
    silence: tuple[Figure, ...]
    citations: int
    verified: int


_T = TypeVar("_T")
Value = Callable[[QuestionOutcome], float | None]


def qa_figures(outcomes: Sequence[DocumentOutcome]) -> QaFigures:
    """The figures over all documents."""
    questions = [question for outcome in outcomes for question in outcome.questions]
    recall, gaps = _recall(questions)
    answers, answer_gaps = _answers(questions)
    return QaFigures(
        documents=len(outcomes),
        tokens=sum(outcome.num_tokens for outcome in outcomes),
        bytes=sum(outcome.num_bytes for outcome in outcomes),
        questions=len(questions),
        recall=recall,
        gaps=gaps,
        answers=answers,
        answer_gaps=answer_gaps,
        silence=_silence(questions),
        citations=sum(outcome.citations for outcome in outcomes),
        verified=sum(outcome.verified for outcome in outcomes),
    )


def _recall(questions: list[QuestionOutcome]) -> tuple[tuple[Figure, ...], tuple[Gap, ...]]:
    def hit(ranker: str, k: int) -> Value:
        def value(question: QuestionOutcome) -> float | None:
            if question.kind != "answerable" or ranker not in question.ranks:
                return None
            rank = question.ranks[ranker]
            return float(rank is not None and rank < k)

        return value

    rankers = list(dict.fromkeys(name for question in questions for name in question.ranks))
    figures = [figure((ranker, f"at {k}"), questions, hit(ranker, k)) for ranker in rankers for k in RANKS]
    gaps = [
        gap((ranker, f"at {k}"), ("bm25", f"at {k}"), questions, hit(ranker, k), hit("bm25", k))
        for ranker in rankers
        if ranker != "bm25"
        for k in RANKS
    ]
    return _there(figures), _there(gaps)


def _answers(questions: list[QuestionOutcome]) -> tuple[tuple[Figure, ...], tuple[Gap, ...]]:
    def score(system: str, style: str, mode: str, measure: str) -> Value:
        def value(question: QuestionOutcome) -> float | None:
            for one in question.answers:
                if (one.system, one.style, one.memory_mode) == (system, style, mode):
                    return one.match if measure == "exact match" else one.f1
            return None

        return value

    kinds = dict.fromkeys(
        (one.system, one.style, one.memory_mode) for question in questions for one in question.answers
    )
    measures = ("exact match", "F1")
    figures = [figure((*kind, measure), questions, score(*kind, measure)) for kind in kinds for measure in measures]
    gaps = list[Gap | None]()
    for system, style, mode in kinds:
        for other in ((system, style, "frozen"), ("bm25", style, mode)):
            if system == "famcli" and mode != "frozen" and other in kinds:
                gaps += [
                    gap(
                        (system, style, mode, measure),
                        (*other, measure),
                        questions,
                        score(system, style, mode, measure),
                        score(*other, measure),
                    )
                    for measure in measures
                ]
    return _there(figures), _there(gaps)


def _silence(questions: list[QuestionOutcome]) -> tuple[Figure, ...]:
    def answered(question: QuestionOutcome) -> float | None:
        return float(question.found) if question.kind == "answerable" else None

    figures = [figure(("answered", "answerable"), questions, answered)]
    for kind in ("unanswerable", "absent"):

        def precision(question: QuestionOutcome, kind: str = kind) -> float | None:
            asked = question.kind in ("answerable", kind) and not question.found
            return float(question.kind == kind) if asked else None

        def recall(question: QuestionOutcome, kind: str = kind) -> float | None:
            return float(not question.found) if question.kind == kind else None

        if any(question.kind == kind for question in questions):
            figures.append(figure(("precision", kind), questions, precision))
            figures.append(figure(("recall", kind), questions, recall))
    return _there(figures)


def figure(name: tuple[str, ...], questions: Sequence[QuestionOutcome], value: Value) -> Figure | None:
    """The mean of `value` over the questions for which it is not None; None without any."""
    groups = _groups(questions, value)
    count = sum(n for _, n in groups)
    if not count:
        return None
    sums, counts = [x for x, _ in groups], [float(n) for _, n in groups]
    return Figure(name, sum(sums) / count, bootstrap(sums, counts), count, len(groups))


def gap(
    name: tuple[str, ...], minus: tuple[str, ...], questions: Sequence[QuestionOutcome], one: Value, other: Value
) -> Gap | None:
    """The mean difference of two values over the questions that have both; None without any."""

    def difference(question: QuestionOutcome) -> float | None:
        first, second = one(question), other(question)
        return None if first is None or second is None else first - second

    batches, total, count = Batches(), 0.0, 0
    for x, n in _groups(questions, difference):
        batches.add(x, n)
        total, count = total + x, count + n
    return Gap(name, minus, total / count, batches.standard_error) if count else None


def _groups(questions: Sequence[QuestionOutcome], value: Value) -> list[tuple[float, int]]:
    """Sum and number of the values in each group."""
    found: dict[str, tuple[float, int]] = {}
    for question in questions:
        if (x := value(question)) is not None:
            total, count = found.get(question.group, (0.0, 0))
            found[question.group] = total + x, count + 1
    return list(found.values())


def _there(values: Sequence[_T | None]) -> tuple[_T, ...]:
    return tuple(value for value in values if value is not None)
