"""Whether what was read long ago is still known: streams are read side by side, then questions are asked on forks.

A stream is made as it is read and nothing of it is kept but the network's state, so any length can be measured. One
reading serves any number of questions, and any number of lengths where the stream's beginning is the same.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from famcli.errors import UsageError
from famcli.evaluation.texts import Texts
from famcli.nn import MemoryMode, Network, State
from famcli.reading.batch import read_side_by_side
from famcli.reading.engine import call_lengths, check_finite
from famcli.synthetic.episodes import Episode, Question
from famcli.synthetic.streams import layout, num_statement_tokens, question_ids
from famcli.tokens.tokenizer import Ids, Tokenizer

CALL_TOKENS = 4096
"""Tokens of all streams together that one call to the network reads, at least a block of each."""


@dataclass(frozen=True)
class Trial:
    """One stream: `episode`'s statements in filler, all its questions asked after each of `stops` tokens (ascending).

    Stops count BOS; a stop of 0 is where the statements end, without any filler. depths: where each statement stands,
    as a share of the filler up to the last stop; drawn if not given. seed: what filler and places are drawn from.
    task: what it is about; question_depths: of what each question is about. Both are for counting only.
    """

    task: str
    episode: Episode
    stops: tuple[int, ...]
    seed: tuple[int, ...]
    depths: tuple[float, ...] | None = None
    question_depths: tuple[float, ...] | None = None

    @property
    def questions(self) -> list[Question]:
        return [part for part in self.episode if isinstance(part, Question)]


@dataclass(frozen=True)
class Answer:
    """What came of one question. trial: its number; question: its number in the trial; stop: that of the trial after
    which it was asked; num_read: tokens read before it.

    right: greedy decoding writes exactly the answer. num_right of num_tokens: answer tokens that are the most likely
    ones after the right ones before them. nats: -ln p(answer). written: the answer as far as it is right, and the
    first token that is wrong.
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
    network: Network,
    tokenizer: Tokenizer,
    texts: Texts,
    trials: Sequence[Trial],
    *,
    memory_mode: MemoryMode = "on",
    batch: int = 16,
    on_tokens: Callable[[int], None] = lambda count: None,
) -> Iterator[list[Answer]]:
    """Read all streams, `batch` side by side, and give the answers of each group of streams when it is done.

    A group has the same stops. `on_tokens` is told of the tokens read as they are read, questions not counted. Raises
    UsageError where a length is too short for its statements. Needs no gradient and leaves none.
    """
    rows = [_Row(number, trial, tokenizer, texts) for number, trial in enumerate(trials)]
    groups: dict[tuple[int, ...], list[_Row]] = defaultdict(list)
    for row in rows:
        groups[row.stops].append(row)
    for members in groups.values():
        for first in range(0, len(members), batch):
            yield _run_group(network, tokenizer, members[first : first + batch], memory_mode, on_tokens)


def trial_tokens(trials: Sequence[Trial], tokenizer: Tokenizer) -> int:
    """Tokens that `run_trials` reads for them (where there is no filler, BOS is not counted)."""
    return sum(trial.stops[-1] or num_statement_tokens(trial.episode, tokenizer) for trial in trials)


_Verdict = tuple[bool, int, int, float, str]
"""The fields of an `Answer` from `right` on."""


class _Row:
    """A trial as the reading sees it: tokens to come, where to stop, and what to ask."""

    def __init__(self, number: int, trial: Trial, tokenizer: Tokenizer, texts: Texts) -> None:
        rng = np.random.default_rng(trial.seed)
        bos = [] if tokenizer.bos_id is None else [tokenizer.bos_id]
        least = num_statement_tokens(trial.episode, tokenizer)
        self.number, self.trial = number, trial
        self.stops = trial.stops if trial.stops != (0,) else (least + len(bos),)
        if self.stops[0] < least + len(bos):
            raise UsageError(
                f"a length of {self.stops[0]:,} tokens has no room for {least:,} tokens of statements; give a longer "
                "one, or 0 for statements without filler"
            )
        self.questions = [question_ids(part, tokenizer) for part in trial.questions]
        self._pieces = layout(trial.episode, tokenizer, texts.filler(rng), self.stops[-1] - len(bos), rng, trial.depths)
        self._ahead = np.array(bos, dtype=np.int32)

    def take(self, count: int) -> Ids:
        """The next tokens of the stream [count]."""
        parts, have = [self._ahead], len(self._ahead)
        while have < count:
            parts.append(next(self._pieces))
            have += len(parts[-1])
        joined = np.concatenate(parts)
        self._ahead = joined[count:]
        return joined[:count]


def _run_group(
    network: Network,
    tokenizer: Tokenizer,
    rows: Sequence[_Row],
    memory_mode: MemoryMode,
    on_tokens: Callable[[int], None],
) -> list[Answer]:
    """Read `rows`, which have the same stops, in lockstep; whole blocks of all of them in each call."""
    block_size = network.fam.block_size
    blocks_per_call = max(1, CALL_TOKENS // (block_size * len(rows)))
    num_questions = max(len(row.questions) for row in rows)
    answers, done = list[Answer](), 0
    with torch.no_grad():
        state = network.start(len(rows), memory_mode)
        for index, stop in enumerate(rows[0].stops):
            for n in call_lengths(stop - done, state.fill, block_size, blocks_per_call):
                tokens = torch.from_numpy(np.stack([row.take(n) for row in rows]).astype(np.int64))
                hidden, state = network.read(tokens.to(network.device), state)
                check_finite(hidden)
                on_tokens(n * len(rows))
            done = stop
            for question in range(num_questions):
                judged = _ask(network, tokenizer, state, [row.questions[question : question + 1] for row in rows])
                for row, verdict in zip(rows, judged, strict=True):
                    if verdict is not None:
                        answers.append(Answer(row.number, question, row.trial.stops[index], stop, *verdict))
    return answers


def _ask(
    network: Network, tokenizer: Tokenizer, state: State, asked: Sequence[list[tuple[Ids, Ids]]]
) -> list[_Verdict | None]:
    """At most one question of each row, with its answer, on a fork of `state`.

    The right answer is read with its question, and each of its tokens must be the most likely one: greedy decoding
    writes exactly the answer if and only if that holds.
    """
    runs = [np.concatenate(pairs[0]) if pairs else np.empty(0, np.int32) for pairs in asked]
    # The row of the question's last token predicts the answer's first one, and the answer's last row nothing.
    wanted = [
        range(len(pairs[0][0]) - 1, len(run) - 1) if pairs else range(0) for pairs, run in zip(asked, runs, strict=True)
    ]
    found = read_side_by_side(network, state, runs, wanted)
    return [
        _judge(network, tokenizer, hidden, pairs[0][1]) if pairs else None
        for hidden, pairs in zip(found, asked, strict=True)
    ]


def _judge(network: Network, tokenizer: Tokenizer, hidden: Tensor, answer: Ids) -> _Verdict:
    """`Answer.right` and what follows it, from the hidden rows [n, d] that predict the tokens of `answer` [n]."""
    wanted = torch.from_numpy(answer.astype(np.int64))
    log_p = network.logits(hidden[None])[0].float().log_softmax(-1).cpu()
    check_finite(log_p)
    best = log_p.argmax(-1)
    hits = best == wanted
    num_right = int(hits.sum())
    first_wrong = int(hits.int().argmin()) if num_right < len(answer) else len(answer) - 1
    written = tokenizer.decode([*answer[:first_wrong].tolist(), int(best[first_wrong])])
    nats = -float(log_p.gather(1, wanted[:, None]).sum())
    return num_right == len(answer), num_right, len(answer), nats, written
