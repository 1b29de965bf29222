"""Recall of what was read long ago: the benchmarks passkey, needle and babi, and the scores of their answers.

Streams are read side by side, then questions are asked on forks of the state. A stream is generated as it is read, and
only the network's state is kept, so any length can be measured. One reading serves any number of questions, and any
number of lengths if the beginning of the stream is the same.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from famcli.errors import UsageError
from famcli.evaluation.intervals import Interval, bootstrap, wilson
from famcli.evaluation.positions import Subject
from famcli.evaluation.texts import TokenCorpus
from famcli.nn import MemoryMode, Network
from famcli.reading.engine import call_lengths, check_finite, read_side_by_side
from famcli.synthetic import episodes
from famcli.synthetic.episodes import TASKS, Episode, RecallQuestion, questions_of, statements_of
from famcli.synthetic.streams import layout, num_statement_tokens, question_ids
from famcli.tokens.tokenizer import Ids, Tokenizer, begin_ids

CALL_TOKENS = 4096
"""Tokens, over all streams, that one call to the network reads; at least one block of each stream."""
_NOTHING = (np.empty(0, np.int32), np.empty(0, np.int32))


@dataclass(frozen=True)
class Trial:
    """One stream: the statements of `episode` in filler, with all its questions asked at each of `stops`.

    stops: tokens read before the questions, ascending, BOS counted; a stop of 0 is where the statements end without any
    filler. depths: where each statement stands, as a share of the filler before the last stop; drawn if not given.
    seed: of filler and places. task, and question_depths (the depth each question is about), only group results.
    """

    task: str
    episode: Episode
    stops: tuple[int, ...]
    seed: tuple[int, ...]
    depths: tuple[float, ...] | None = None
    question_depths: tuple[float, ...] | None = None

    @property
    def questions(self) -> list[RecallQuestion]:
        return questions_of(self.episode)


@dataclass(frozen=True)
class RecallAnswer:
    """The outcome of one question.

    trial: its number. question: its number in the trial. stop: the trial's stop at which it was asked. num_read: tokens
    read before it. right: greedy decoding writes exactly the answer. num_right of num_tokens: answer tokens that are
    the most likely ones after the right ones before them. nats: -ln p(answer). written: the answer as far as it is
    right, and the first wrong token.
    """

    trial: int
    question: int
    stop: int
    num_read: int
    right: bool
    num_right: int
    num_tokens: int
    nats: float
    written: str


def run_trials(
    subject: Subject,
    tokenizer: Tokenizer,
    texts: TokenCorpus,
    trials: Sequence[Trial],
    *,
    batch: int = 16,
    on_tokens: Callable[[int], None] = lambda count: None,
) -> Iterator[list[RecallAnswer]]:
    """Read all streams, `batch` side by side, and yield the answers of each group of streams.

    Streams of a group have the same stops. `on_tokens` is called with the number of tokens as they are read, without
    those of questions. Raises UsageError if a length is too short for its statements. Computes without gradients.
    """
    groups: dict[tuple[int, ...], list[_Stream]] = defaultdict(list)
    for number, trial in enumerate(trials):
        stream = _Stream(number, trial, tokenizer, texts)
        groups[stream.stops].append(stream)
    for members in groups.values():
        for first in range(0, len(members), batch):
            yield _run_group(subject, tokenizer, members[first : first + batch], on_tokens)


def trial_tokens(trials: Sequence[Trial], tokenizer: Tokenizer) -> int:
    """Tokens that `run_trials` reads for them (without BOS where there is no filler)."""
    return sum(trial.stops[-1] or num_statement_tokens(trial.episode, tokenizer) for trial in trials)


class _Stream:
    """The stream of a trial: its next tokens, where to stop, and what to ask."""

    def __init__(self, number: int, trial: Trial, tokenizer: Tokenizer, texts: TokenCorpus) -> None:
        # Filler and places are drawn from one generator: a stream depends on its seed and the files alone.
        rng = np.random.default_rng(trial.seed)
        bos = begin_ids(tokenizer)
        shortest = num_statement_tokens(trial.episode, tokenizer)
        self.number, self.trial = number, trial
        # A stop of 0 asks for the statements alone.
        self.stops = trial.stops if trial.stops != (0,) else (shortest + len(bos),)
        if self.stops[0] < shortest + len(bos):
            raise UsageError(
                f"a length of {self.stops[0]:,} tokens has no room for {shortest:,} tokens of statements; give a "
                "longer one, or 0 for statements without filler"
            )
        self.questions = [question_ids(question, tokenizer) for question in trial.questions]
        self._pieces = layout(trial.episode, tokenizer, texts.filler(rng), self.stops[-1] - len(bos), rng, trial.depths)
        self._ahead = np.array(bos, dtype=np.int32)

    def take(self, count: int) -> Ids:
        while len(self._ahead) < count:
            self._ahead = np.concatenate((self._ahead, next(self._pieces)))
        taken, self._ahead = self._ahead[:count], self._ahead[count:]
        return taken


@torch.no_grad()
def _run_group(
    subject: Subject, tokenizer: Tokenizer, streams: Sequence[_Stream], on_tokens: Callable[[int], None]
) -> list[RecallAnswer]:
    """Read `streams`, which have the same stops, side by side; each call reads whole blocks of all of them."""
    network, answers, done = subject.network, list[RecallAnswer](), 0
    block_size = network.fam.block_size
    blocks_per_call = max(1, CALL_TOKENS // (block_size * len(streams)))
    state = network.start(len(streams), subject.memory_mode)
    for index, stop in enumerate(streams[0].stops):
        for n in call_lengths(stop - done, state.fill, block_size, blocks_per_call):
            tokens = torch.from_numpy(np.stack([stream.take(n) for stream in streams]).astype(np.int64))
            hidden, state = network.read(tokens.to(network.device), state)
            check_finite(hidden)
            on_tokens(n * len(streams))
        done = stop
        # The n-th question of every stream is asked at once, on forks of the state.
        for number in range(max(len(stream.questions) for stream in streams)):
            pairs = [stream.questions[number] if number < len(stream.questions) else _NOTHING for stream in streams]
            # The right answer is read with its question, whose last token predicts the answer's first one.
            predicting = [range(len(asked) - 1, len(asked) + len(answer) - 1) for asked, answer in pairs]
            rows = read_side_by_side(network, state, [np.concatenate(pair) for pair in pairs], predicting)
            for stream, (_, answer), hidden in zip(streams, pairs, rows, strict=True):
                if len(answer):
                    place = (stream.number, number, stream.trial.stops[index], stop)
                    answers.append(judge_answer(network, tokenizer, hidden, answer, place))
    return answers


def judge_answer(
    network: Network, tokenizer: Tokenizer, hidden: Tensor, answer: Ids, place: tuple[int, int, int, int]
) -> RecallAnswer:
    """Judge by the rows `hidden` [n, d], which predict the tokens of `answer` [n]. place: the first fields.

    Greedy decoding writes exactly the answer if and only if each of its tokens is the most likely one.
    """
    wanted = torch.from_numpy(answer.astype(np.int64))
    log_p = network.logits(hidden[None])[0].float().log_softmax(-1).cpu()
    check_finite(log_p)
    best = log_p.argmax(-1)
    hits, last = best == wanted, len(answer) - 1
    right = bool(hits.all())
    first_wrong = last if right else int(hits.int().argmin())
    written = tokenizer.decode([*answer[:first_wrong].tolist(), int(best[first_wrong])])
    nats = -float(log_p.gather(1, wanted[:, None]).sum())
    return RecallAnswer(*place, right, int(hits.sum()), len(answer), nats, written)


RECALL_DEFINITION = (
    "Sentences stand in filler, between its sentences. After `length` tokens (BOS counted) each question is read on a "
    "copy of the state, up to where its answer begins. right: greedy decoding then writes exactly the answer. blocks: "
    "full blocks read by then, each one update of the memory. Intervals are 95 %: Wilson's, as if questions were "
    "independent; over streams by bootstrap where a stream was asked several questions (Wilson's over streams if all "
    "answers agree)."
)


@dataclass(frozen=True)
class CellScore:
    """What one model recalled in one memory mode, in one cell: one task at one length, at one depth or at any.

    blocks: full blocks read before the question, each an update of the memory. right of total questions were answered,
    over `streams` streams. share: right / total. interval, stream_interval: see `RECALL_DEFINITION`. token_accuracy:
    share of answer tokens that were the most likely ones after the right ones before them. nats_per_token: -ln p of
    the answers.
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
    lengths: Sequence[int],
    *,
    streams: int,
    depth: float | Literal["random"] = "random",
    seed: int = 0,
    digits: int = 5,
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
    for stops, number in product(groups, range(streams)):
        # The second number keeps the draws of the three benchmarks apart.
        key = (seed, 1, stops[-1], number)
        episode = episodes.passkey(np.random.default_rng(key), digits=digits)
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
    for length, number in product(_checked(lengths, streams), range(streams)):
        key = (seed, 2, length, number)
        episode = episodes.needles(np.random.default_rng(key), count=count, queries=count)
        # In turn over streams too, so that all depths get as many questions.
        places = tuple(depths[(number * count + index) % len(depths)] for index in range(count))
        stated = list(zip(statements_of(episode), places, strict=True))
        asked = tuple(next(place for text, place in stated if each.is_about(text)) for each in questions_of(episode))
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
    for task, length, number in product(dict.fromkeys(tasks), _checked(lengths, streams), range(streams)):
        key = (seed, 3, TASKS.index(task), length, number)
        try:
            episode = episodes.facts(np.random.default_rng(key), task=task, count=count, questions=None)
        except ValueError as error:
            raise UsageError(str(error)) from error
        trials.append(Trial(task, episode, (length,), (*key, 1)))
    return trials


TRIALS: dict[str, Callable[..., list[Trial]]] = {
    "passkey": passkey_trials,
    "needle": needle_trials,
    "babi": babi_trials,
}


def score_trials(
    trials: Sequence[Trial],
    subject: Subject,
    tokenizer: Tokenizer,
    texts: TokenCorpus,
    *,
    batch: int = 16,
    on_tokens: Callable[[int], None] = lambda count: None,
) -> Iterator[list[CellScore]]:
    """Yield the scores of all cells so far after each group of streams; the last ones are of all streams."""
    cells: dict[tuple[str, int, float | None], list[RecallAnswer]] = defaultdict(list)
    for group in run_trials(subject, tokenizer, texts, trials, batch=batch, on_tokens=on_tokens):
        for answer in group:
            trial = trials[answer.trial]
            # Random depths are counted together.
            depth = None if trial.question_depths is None else trial.question_depths[answer.question]
            cells[trial.task, answer.stop, depth].append(answer)
        ordered = sorted(cells.items(), key=lambda item: (min(a.trial for a in item[1]), item[0][1]))
        yield [score_cell(*cell, found, subject) for cell, found in ordered]


def score_cell(
    task: str, length: int, depth: float | None, answers: Sequence[RecallAnswer], subject: Subject
) -> CellScore:
    by_stream: dict[int, list[bool]] = defaultdict(list)
    for answer in answers:
        by_stream[answer.trial].append(answer.right)
    rights, totals = [sum(found) for found in by_stream.values()], [len(found) for found in by_stream.values()]
    right, total, num_tokens = sum(rights), sum(totals), sum(answer.num_tokens for answer in answers)
    over_streams = None
    if max(totals) > 1:
        # A bootstrap needs answers that differ; without them each stream counts as one trial.
        alike = right in (0, total)
        over_streams = wilson(sum(map(bool, rights)), len(rights)) if alike else bootstrap(rights, totals)
    return CellScore(
        model=subject.name,
        memory_mode=subject.memory_mode,
        task=task,
        length=length,
        depth=depth,
        blocks=max(answer.num_read for answer in answers) // subject.network.fam.block_size,
        right=right,
        total=total,
        streams=len(totals),
        interval=wilson(right, total),
        stream_interval=over_streams,
        token_accuracy=sum(answer.num_right for answer in answers) / num_tokens,
        nats_per_token=sum(answer.nats for answer in answers) / num_tokens,
        share=right / total,
    )


def _checked(lengths: Sequence[int], streams: int) -> list[int]:
    """The lengths, each once, ascending. Raises UsageError."""
    if not lengths or min(lengths) < 0:
        raise UsageError("give at least one length in tokens, 0 or more")
    if streams < 1:
        raise UsageError(f"{streams} streams were asked for; give at least 1")
    return sorted(set(lengths))
