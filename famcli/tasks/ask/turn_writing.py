"""What a checkpoint writes within a turn that holds the evidence: of several answers the one that fits all readings.

A checkpoint that was trained to answer from passages and to refuse reads the evidence several times: all of it, the
best passage alone, the sentences around the best one. Small ones are led astray by what stands beside an answer, each
time by something else; the answer that is likely after all of these readings is more often right, and how many of them
give it says how sure that is (docs/experiments.md).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from statistics import fmean

import torch
from torch import Tensor

from famcli.checkpoint.model import Model
from famcli.checkpoint.probes import rows
from famcli.reading.engine import as_batch, copies, read_side_by_side
from famcli.reading.scoring import cross_entropy
from famcli.tasks.ask.expecting import lacks
from famcli.tasks.ask.question import Question
from famcli.tasks.ask.refusing import Judged, denies, judge, knows_to_refuse
from famcli.tasks.grounding import stands_in
from famcli.tasks.prompts import NOT_SAID
from famcli.tasks.written_text import TurnWriter
from famcli.text.words import compounds

_MOST_SENTENCES = 2
# What an answer is worth more, in nats a token, that stands in the text word for word, and less that has nothing of the
# kind that is asked for.
_VERBATIM, _OTHER_KIND = 1.0, 3.0
# How likely an answer is right if the text answers at all: a logistic regression on its likelihood, the share of the
# readings that give it and what the probe says, over 172 questions of SQuAD and FairytaleQA (documents to choose by).
_BIAS, _OF_LIKELIHOOD, _OF_AGREEMENT, _OF_RIGHT = -0.26, 0.53, 0.81, 0.84
_LEAST_LIKELIHOOD = -3.0  # nats a token; all below it are alike
_ALIKE = 0.5  # Dice's coefficient of the words of two answers


@dataclass(frozen=True)
class Written:
    """said: the first sentences of an answer. likelihood: the mean log-likelihood of their tokens after each reading,
    in nats. agreement: the share of the readings after which it was written, more or less. Both None where the
    checkpoint does not know to refuse. right, answered: what its probes say, the log-odds that this is the answer if
    there is one, and that there is one, each the mean of all readings; 0 and None of a checkpoint without probes."""

    said: tuple[str, ...]
    likelihood: float | None = None
    agreement: float | None = None
    right: float = 0.0
    answered: float | None = None

    @property
    def text(self) -> str:
        return " ".join(self.said)

    def answers(self, confidence: float) -> float:
        """How likely the text answers, 0 to 1, of the confidence that its passages do: with probes the odds of both
        multiply."""
        if self.answered is None:
            return confidence
        odds = math.exp(self.answered) * confidence / max(1e-9, 1 - confidence)
        return odds / (1 + odds)

    @property
    def sureness(self) -> float:
        """How likely it is right if the text answers, 0 to 1."""
        if self.likelihood is None or self.agreement is None:
            return 1.0
        likelihood = max(self.likelihood, _LEAST_LIKELIHOOD)
        known = _OF_LIKELIHOOD * likelihood + _OF_AGREEMENT * self.agreement + _OF_RIGHT * self.right
        return 1 / (1 + math.exp(-_BIAS - known))


@dataclass(frozen=True)
class Score:
    """A text as an answer after a turn. likelihood: the mean log-likelihood of its tokens, in nats. rows: what the
    model's probes look at of it [l, 2, d], None without probes. right: what they say, log-odds."""

    likelihood: float
    rows: Tensor | None = None
    right: float = 0.0


def write_in_turn(
    pen: TurnWriter, question: Question, readings: Sequence[Sequence[str]], max_tokens: int
) -> Written | None:
    """The answer; None where it refuses.

    readings: texts in which the answer is looked for, as they are read together; all of them first. A checkpoint that
    does not know to refuse reads only those.
    """
    before, asking = pen.around("ask", {"question": question.text}, question.before)
    encode = pen.model.tokenizer.encode
    turns = [before + encode("\n\n".join(texts)) + asking for texts in dict.fromkeys(map(tuple, readings))]
    if not knows_to_refuse(pen.model):
        return Written(tuple(islice(pen.sentences(turns[0], max_tokens), _MOST_SENTENCES)))
    probes, judged = pen.model.probes, list[Judged]()
    for ids in turns:
        judged.append(judge(pen.model, ids, num_asking=len(asking)))
        # What all of them do not answer none of them does; probes know better whether that is so.
        if judged[0].refuses and probes is None:
            return None
    each = [_said(pen, ids, one, max_tokens) for ids, one in zip(turns, judged, strict=True)]
    said = [one for one in dict.fromkeys(each) if one and not denies(" ".join(one))]
    if not said:
        return None
    answered = None
    if probes is not None:
        answered = fmean(probes.how_answered(one.asked) for one in judged if one.asked is not None)
    after = [score(pen.model, list(map(" ".join, said)), one) for one in judged]
    found = [
        Written(
            said=one,
            likelihood=fmean(some.likelihood for some in scores),
            agreement=fmean(_are_alike(one, other) for other in each),
            right=fmean(some.right for some in scores),
            answered=answered,
        )
        for one, scores in zip(said, zip(*after, strict=True), strict=True)
    ]
    return max(found, key=lambda one: _worth(one, question, readings[0]))


def _worth(one: Written, question: Question, texts: Sequence[str]) -> float:
    assert one.likelihood is not None
    other_kind = lacks(question.text, one.text)
    return one.likelihood + _VERBATIM * stands_in(one.text, texts) - _OTHER_KIND * other_kind


def _are_alike(one: Sequence[str], other: Sequence[str]) -> bool:
    words, others = (set(compounds(" ".join(said))) for said in (one, other))
    return 2 * len(words & others) >= _ALIKE * max(1, len(words) + len(others))


def _said(pen: TurnWriter, ids: list[int], judged: Judged, max_tokens: int) -> tuple[str, ...]:
    """What is written after the turn `ids`; nothing where it refuses and no probe knows better."""
    if judged.refuses and pen.model.probes is None:
        return ()
    read = (judged.state, judged.last_hidden)
    said = tuple(islice(pen.sentences([], max_tokens, *read, known=ids), _MOST_SENTENCES))
    if said[:1] == (NOT_SAID,):
        begun = pen.model.tokenizer.decode([judged.other])
        instead = pen.sentences([judged.other], max_tokens, judged.state, begun=begun, known=ids)
        said = tuple(islice(instead, _MOST_SENTENCES))
    return said


@torch.inference_mode()
def score(model: Model, texts: Sequence[str], judged: Judged) -> list[Score]:
    """Each text as an answer after the turn that was judged."""
    network, probes, picked = model.network, model.probes, list[Tensor]()
    runs = [model.tokenizer.encode(text) for text in texts]
    # The row of a token predicts the next one.
    wanted = [range(len(run) - 1) for run in runs]
    on_levels = None if probes is None else lambda levels: picked.append(probes.picked(levels))
    hidden = read_side_by_side(network, copies(judged.state, len(runs)), runs, wanted, on_levels)
    levels, found = torch.cat(picked, 2) if picked else None, list[Score]()
    for number, (row, run) in enumerate(zip(hidden, runs, strict=True)):
        before = torch.cat((judged.last_hidden[0], row))[None]
        likelihood = -float(cross_entropy(network, before, as_batch(run, network))[0].mean())
        if probes is None or levels is None or judged.asked is None:
            found.append(Score(likelihood))
        else:
            written = rows(levels[:, number, : len(run)])
            found.append(Score(likelihood, written, probes.how_right(judged.asked, written)))
    return found
