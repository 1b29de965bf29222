"""The benchmarks passkey, needle and babi: the streams that each one reads, and the scores of their answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from famcli.errors import UsageError
from famcli.evaluation.intervals import Interval, bootstrap, wilson
from famcli.evaluation.recall import RecallAnswer, Trial, run_trials
from famcli.evaluation.texts import TokenCorpus
from famcli.nn import MemoryMode, Network
from famcli.synthetic.episodes import Episode, needles, passkey, questions_of, statements_of
from famcli.synthetic.facts import TASKS, facts
from famcli.tokens.tokenizer import Tokenizer

RECALL_DEFINITION = (
    "Sentences stand in filler, between its sentences. After `length` tokens (BOS counted) each question is read on a "
    "fork of the state, up to where its answer begins. right: greedy decoding then writes exactly the answer. blocks: "
    "full blocks read by then, each one update of the memory. Intervals are 95 %: Wilson's, as if questions were "
    "independent; over streams by bootstrap where a stream was asked several questions (Wilson's over streams if all "
    "answers agree)."
)
Depth = float | Literal["random"]


@dataclass(frozen=True)
class CellScore:
    """What one model recalled in one memory mode, in one cell: one task at one length, at one depth or at any.

    blocks: full blocks read before the question, each an update of the memory. right of total questions were answered,
    over `streams` streams. share: right / total. interval: Wilson's, as if questions were independent.
    stream_interval: if a stream was asked several, by bootstrap over streams, or Wilson's over streams if all answers
    agree. token_accuracy: share of answer tokens that were the most likely ones after the right ones before them.
    nats_per_token: -ln p of the answers.
    """

    model: str
    memory_mode: MemoryMode
    task: str
    length: int
    depth: float | None
    blocks: int
    right: int
    total: int
    streams: int
    interval: Interval
    stream_interval: Interval | None
    token_accuracy: float
    nats_per_token: float
    share: float


def passkey_trials(
    lengths: Sequence[int], *, streams: int, depth: Depth = "random", seed: int = 0, digits: int = 5
) -> list[Trial]:
    """`streams` streams at each length (in tokens), with one key in each, asked for at the end.

    depth: "random", or a share of the stream. At 0, the form of the TransformerFAM paper, the key comes first and one
    reading serves all lengths.
    """
    ordered = _checked(lengths, streams)
    # With the key first, longer streams continue shorter ones.
    groups = [tuple(ordered)] if depth == 0 and ordered[0] else [(length,) for length in ordered]
    depths = None if depth == "random" else (float(depth),)
    trials = []
    for stops in groups:
        for number in range(streams):
            # The second number keeps the draws of the three benchmarks apart.
            key = (seed, 1, stops[-1], number)
            episode = passkey(np.random.default_rng(key), digits=digits)
            trials.append(Trial("passkey", episode, stops, (*key, 1), depths, depths))
    return trials


def needle_trials(
    lengths: Sequence[int], depths: Sequence[float], *, streams: int, count: int = 1, seed: int = 0
) -> list[Trial]:
    """`streams` streams at each length, with `count` named codes in each, all asked for at the end.

    The codes take the depths in turn, so each cell of the grid gets `streams * count / len(depths)` questions, rounded
    up or down.
    """
    if not depths or not all(0 <= depth <= 1 for depth in depths):
        raise UsageError("depths are shares of a stream: give at least one, each from 0 to 1")
    if len(depths) > streams * count:
        raise UsageError(
            f"{streams * count} values cannot stand at {len(depths)} depths; give more streams, or fewer depths"
        )
    trials = []
    for length in _checked(lengths, streams):
        for number in range(streams):
            key = (seed, 2, length, number)
            episode = needles(np.random.default_rng(key), count=count, queries=count)
            # In turn over streams too, so that all depths get as many questions.
            places = tuple(depths[(number * count + index) % len(depths)] for index in range(count))
            asked = tuple(places[index] for index in _asked_statements(episode))
            trials.append(Trial("needle", episode, (length,), (*key, 1), places, asked))
    return trials


def babi_trials(
    tasks: Sequence[str], lengths: Sequence[int], *, streams: int, count: int | None = None, seed: int = 0
) -> list[Trial]:
    """`streams` stories of facts in filler for each task and length, each asked everything that it answers.

    count: statements in a story; 2 to 10 if not given.
    """
    unknown = [task for task in tasks if task not in TASKS]
    if unknown or not tasks:
        raise UsageError(f"unknown tasks: {', '.join(unknown) or 'none given'}; use some of {', '.join(TASKS)}")
    trials = []
    for task in dict.fromkeys(tasks):
        for length in _checked(lengths, streams):
            for number in range(streams):
                key = (seed, 3, TASKS.index(task), length, number)
                try:
                    episode = facts(np.random.default_rng(key), task=task, count=count, questions=None)
                except ValueError as error:
                    raise UsageError(str(error)) from error
                trials.append(Trial(task, episode, (length,), (*key, 1)))
    return trials


def score_trials(
    trials: Sequence[Trial],
    model: str,
    network: Network,
    tokenizer: Tokenizer,
    texts: TokenCorpus,
    *,
    memory_mode: MemoryMode = "on",
    batch: int = 16,
    on_tokens: Callable[[int], None] = lambda count: None,
) -> Iterator[list[CellScore]]:
    """Yield the scores of all cells so far after each group of streams; the last ones are of all streams."""
    cells: dict[tuple[str, int, float | None], list[RecallAnswer]] = {}
    groups = run_trials(network, tokenizer, texts, trials, memory_mode=memory_mode, batch=batch, on_tokens=on_tokens)
    for group in groups:
        for answer in group:
            trial = trials[answer.trial]
            # Random depths are counted together.
            depth = None if trial.question_depths is None else trial.question_depths[answer.question]
            cells.setdefault((trial.task, answer.stop, depth), []).append(answer)
        ordered = sorted(cells.items(), key=lambda item: (min(a.trial for a in item[1]), item[0][1]))
        yield [_score(*cell, found, model, memory_mode, network.fam.block_size) for cell, found in ordered]


def _score(
    task: str,
    length: int,
    depth: float | None,
    answers: Sequence[RecallAnswer],
    model: str,
    memory_mode: MemoryMode,
    block_size: int,
) -> CellScore:
    by_stream: dict[int, list[bool]] = {}
    for answer in answers:
        by_stream.setdefault(answer.trial, []).append(answer.right)
    rights, totals = [sum(found) for found in by_stream.values()], [len(found) for found in by_stream.values()]
    num_tokens = sum(answer.num_tokens for answer in answers)
    return CellScore(
        model=model,
        memory_mode=memory_mode,
        task=task,
        length=length,
        depth=depth,
        blocks=max(answer.num_read for answer in answers) // block_size,
        right=sum(rights),
        total=sum(totals),
        streams=len(totals),
        interval=wilson(sum(rights), sum(totals)),
        stream_interval=_stream_interval(rights, totals) if max(totals) > 1 else None,
        token_accuracy=sum(answer.num_right for answer in answers) / num_tokens,
        nats_per_token=sum(answer.nats for answer in answers) / num_tokens,
        share=sum(rights) / sum(totals),
    )


def _stream_interval(rights: Sequence[int], totals: Sequence[int]) -> Interval | None:
    """By bootstrap over streams, which needs answers that differ; else each stream counts as one trial."""
    if sum(rights) in (0, sum(totals)):
        return wilson(sum(right > 0 for right in rights), len(rights))
    return bootstrap(rights, totals)


def _checked(lengths: Sequence[int], streams: int) -> list[int]:
    """The lengths, each once, ascending. Raises UsageError."""
    if not lengths or min(lengths) < 0:
        raise UsageError("give at least one length in tokens, 0 or more")
    if streams < 1:
        raise UsageError(f"{streams} streams were asked for; give at least 1")
    return sorted(set(lengths))


def _asked_statements(episode: Episode) -> list[int]:
    """The index of the statement that each question of a `needles` episode is about."""
    statements = statements_of(episode)
    # A question ends with the beginning of the sentence that it asks for.
    beginnings = [question.text.split("? ")[1] + " " for question in questions_of(episode)]
    return [next(i for i, text in enumerate(statements) if text.startswith(start)) for start in beginnings]
