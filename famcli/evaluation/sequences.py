"""How many answers of made sequences are right: `famcli eval algorithmic`."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch

from famcli.errors import UsageError
from famcli.evaluation.positions import Subject
from famcli.evaluation.recall import CellScore, RecallAnswer, judge_answer, score_cell
from famcli.reading.engine import read_side_by_side
from famcli.synthetic.sequences import SEQUENCES, sequence
from famcli.tokens.tokenizer import Tokenizer, begin_ids

SEQUENCE_DEFINITION = (
    "Each sequence is read from a fresh start, with the right answers in it; right: each token of an answer is the "
    "most likely one after all before it. Intervals are 95 %: Wilson's, as if answers were independent, and over "
    "streams by bootstrap."
)


def score_sequences(
    task: str,
    size: int,
    subject: Subject,
    tokenizer: Tokenizer,
    *,
    num_tokens: int = 512,
    streams: int = 100,
    seed: int = 0,
    batch: int = 16,
    on_tokens: Callable[[int], None] = lambda count: None,
) -> Iterator[CellScore]:
    """Yield the score so far after each `batch` of the `streams` sequences of `num_tokens` tokens each.

    size: variables, letters or moves (see `famcli.synthetic.sequences`). Raises UsageError for an unknown task, a size
    that it does not have, and sequences too short for one answer.
    """
    if task not in SEQUENCES:
        raise UsageError(f"unknown task: {task}; use one of {', '.join(SEQUENCES)}")
    if size < 1 or (task.startswith("algorithmic") and size > 10):
        raise UsageError(f"a size of {size} does not exist for {task}: give 1 or more, and at most 10 variables")
    bos = begin_ids(tokenizer)
    answers: list[RecallAnswer] = []
    for first in range(0, streams, batch):
        numbers = range(first, min(first + batch, streams))
        # The second number keeps these draws apart from those of training, whose seeds have other lengths.
        drawn = [sequence(task, tokenizer, num_tokens, np.random.default_rng([seed, 4, n]), size) for n in numbers]
        runs = [np.concatenate((np.array(bos, dtype=np.int32), ids)) for ids, _ in drawn]
        with torch.inference_mode():
            state = subject.network.start(len(runs), subject.memory_mode)
            wanted = [range(len(run) - 1) for run in runs]
            rows = read_side_by_side(subject.network, state, runs, wanted)
            for number, (ids, places), hidden in zip(numbers, drawn, rows, strict=True):
                for index in range(places.max() + 1):
                    at = np.flatnonzero(places == index)
                    before = torch.from_numpy(at) + len(bos) - 1
                    place = (number, index, num_tokens, num_tokens)
                    answers.append(judge_answer(subject.network, tokenizer, hidden[before], ids[at], place))
        on_tokens(sum(map(len, runs)))
        if not answers:
            raise UsageError(f"{num_tokens} tokens hold no answer of {task} at this size: give a larger length")
        yield score_cell(f"{task} {size}", num_tokens, None, answers, subject)
