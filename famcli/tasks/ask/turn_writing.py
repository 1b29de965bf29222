"""What a checkpoint writes within a turn that holds the passages: the likelier of two answers.

A checkpoint that was trained to answer from passages and to refuse is asked twice: with all passages, and with the best
one alone. Small ones are led astray by what stands beside an answer; the answer of which it is surer, by the mean
log-likelihood of its tokens, is more often right (docs/experiments.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import torch

from famcli.checkpoint.model import Model
from famcli.reading.engine import as_batch, read_calls
from famcli.reading.scoring import score_call
from famcli.tasks.ask.question import Question
from famcli.tasks.ask.refusing import Judged, judge, knows_to_refuse
from famcli.tasks.prompts import NOT_SAID
from famcli.tasks.written_text import TurnWriter

_MOST_SENTENCES = 2


@dataclass(frozen=True)
class Written:
    """said: the first sentences of an answer. likelihood: their mean log-likelihood, in nats a token; 0 where it was
    not judged."""

    said: tuple[str, ...]
    likelihood: float = 0.0


def write_in_turn(
    pen: TurnWriter, question: Question, passages: Sequence[str], best: str, max_tokens: int
) -> Written | None:
    """The answer from the passages, in the order of the text, of which one is the best; None where it refuses."""
    if not knows_to_refuse(pen.model):
        ids = _turn(pen, question, passages)
        return Written(tuple(islice(pen.sentences(ids, max_tokens), _MOST_SENTENCES)))
    found = [_judged(pen, _turn(pen, question, passages), max_tokens)]
    # What all of them do not answer the best one alone does not either.
    if found[0] is not None and len(passages) > 1:
        found.append(_judged(pen, _turn(pen, question, [best]), max_tokens))
    return max((one for one in found if one is not None), key=lambda one: one.likelihood, default=None)


def _turn(pen: TurnWriter, question: Question, passages: Sequence[str]) -> list[int]:
    before, after = pen.around("ask", {"question": question.text}, question.before)
    return before + pen.model.tokenizer.encode("\n\n".join(passages)) + after


def _judged(pen: TurnWriter, ids: list[int], max_tokens: int) -> Written | None:
    """What is written after `ids`, or None; where it was judged that there is an answer, one."""
    judged = judge(pen.model, ids)
    if judged.refuses:
        return None
    read = (judged.state, judged.last_hidden)
    said = tuple(islice(pen.sentences([], max_tokens, *read, known=ids), _MOST_SENTENCES))
    if said[:1] == (NOT_SAID,):
        begun = pen.model.tokenizer.decode([judged.other])
        instead = pen.sentences([judged.other], max_tokens, judged.state, begun=begun, known=ids)
        said = tuple(islice(instead, _MOST_SENTENCES))
    return Written(said, _likelihood(pen.model, " ".join(said), judged))


@torch.inference_mode()
def _likelihood(model: Model, text: str, judged: Judged) -> float:
    """The mean log-likelihood of a text after the turn, in nats a token; that of nothing is the least there is."""
    last_hidden, losses = judged.last_hidden, list[torch.Tensor]()
    for ids, hidden, _ in read_calls(
        model.network, as_batch(model.tokenizer.encode(text), model.network), judged.state
    ):
        losses.append(score_call(model.network, last_hidden, hidden, ids)[0])
        last_hidden = hidden[:, -1:]
    return -float(torch.cat(losses, 1).mean()) if losses else -torch.inf
