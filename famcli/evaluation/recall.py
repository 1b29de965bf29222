"""Tests if what was read long ago is still known: streams are read side by side, then questions are asked on forks.

A stream is made as it is read, and only the network's state is kept, so any length can be measured. One reading serves
any number of questions, and any number of lengths if the beginning of the stream is the same.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from famcli.errors import UsageError
from famcli.evaluation.texts import TokenCorpus
from famcli.nn import MemoryMode, Network, State
from famcli.reading.batch import read_side_by_side
from famcli.reading.engine import call_lengths, check_finite
from famcli.synthetic.episodes import Episode, RecallQuestion, questions_of
from famcli.synthetic.streams import layout, num_statement_tokens, question_ids
from famcli.tokens.tokenizer import Ids, Tokenizer

CALL_TOKENS = 4096
"""Tokens, over all streams, that one call to the network reads; at least one block of each stream."""


@dataclass(frozen=True)
class Trial:
    """One stream: the statements of `episode` in filler, with all its questions asked at each of `stops`.

    stops: tokens read before the questions, ascending, BOS counted; a stop of 0 is where the statements end without any
    filler. depths: where each statement stands, as a share of the filler before the last stop; drawn if not given.
    seed: of filler and places. task, and question_depths (the depth each question is about), are only for counting.
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


_Verdict = tuple[bool, int, int, float, str]
"""The fields of a `RecallAnswer` from `right` on."""


def run_trials(
    network: Network,
    tokenizer: Tokenizer,
    texts: TokenCorpus,
    trials: Sequence[Trial],
    *,
    memory_mode: MemoryMode = "on",
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
            yield _run_group(network, tokenizer, members[first : first + batch], memory_mode, on_tokens)


def trial_tokens(trials: Sequence[Trial], tokenizer: Tokenizer) -> int:
    """Tokens that `run_trials` reads for them (without BOS where there is no filler)."""
    return sum(trial.stops[-1] or num_statement_tokens(trial.episode, tokenizer) for trial in trials)


class _Stream:
    """The stream of a trial: its next tokens, where to stop, and what to ask."""

    def __init__(self, number: int, trial: Trial, tokenizer: Tokenizer, texts: TokenCorpus) -> None:
        # Filler and places are drawn from one generator: a stream depends on its seed and the files alone.
        rng = np.random.default_rng(trial.seed)
        bos = [] if tokenizer.bos_id is None else [tokenizer.bos_id]
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
    streams: Sequence[_Stream],
    memory_mode: MemoryMode,
    on_tokens: Callable[[int], None],
) -> list[RecallAnswer]:
    """Read `streams`, which have the same stops, side by side; each call reads whole blocks of all of them."""
    block_size = network.fam.block_size
    blocks_per_call = max(1, CALL_TOKENS // (block_size * len(streams)))
    num_questions = max(len(stream.questions) for stream in streams)
    answers, done = list[RecallAnswer](), 0
    with torch.no_grad():
        state = network.start(len(streams), memory_mode)
        for index, stop in enumerate(streams[0].stops):
            for n in call_lengths(stop - done, state.fill, block_size, blocks_per_call):
                tokens = torch.from_numpy(np.stack([stream.take(n) for stream in streams]).astype(np.int64))
                hidden, state = network.read(tokens.to(network.device), state)
                check_finite(hidden)
                on_tokens(n * len(streams))
            done = stop
            for question in range(num_questions):
                asked = [stream.questions[question] if question < len(stream.questions) else None for stream in streams]
                for stream, verdict in zip(streams, _ask(network, tokenizer, state, asked), strict=True):
                    if verdict is not None:
                        answers.append(RecallAnswer(stream.number, question, stream.trial.stops[index], stop, *verdict))
    return answers


def _ask(
    network: Network, tokenizer: Tokenizer, state: State, asked: Sequence[tuple[Ids, Ids] | None]
) -> list[_Verdict | None]:
    """Ask at most one question, given with its answer, in each row, on a fork of `state`.

    The right answer is read with its question. Greedy decoding writes exactly the answer if and only if each of its
    tokens is the most likely one.
    """
    runs = [np.empty(0, np.int32) if pair is None else np.concatenate(pair) for pair in asked]
    # The last token of the question predicts the first one of the answer; the answer's last token predicts nothing.
    wanted = [
        range(0) if pair is None else range(len(pair[0]) - 1, len(run) - 1)
        for pair, run in zip(asked, runs, strict=True)
    ]
    found = read_side_by_side(network, state, runs, wanted)
    return [
        None if pair is None else _judge(network, tokenizer, hidden, pair[1])
        for hidden, pair in zip(found, asked, strict=True)
    ]


def _judge(network: Network, tokenizer: Tokenizer, hidden: Tensor, answer: Ids) -> _Verdict:
    """The verdict from the hidden rows [n, d] that predict the tokens of `answer` [n]."""
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
