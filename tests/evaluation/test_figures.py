"""Figures over documents: sums of their scores, and differences document by document."""

from __future__ import annotations

import math

import numpy as np
import pytest

from famcli.evaluation.positions import (
    DocumentFigures,
    Subject,
    document_figures,
    score_documents,
    token_num_bytes,
)
from famcli.nn import DecoderConfig, FamConfig
from famcli.tokens.tokenizer import ByteTokenizer
from tests.helpers import random_network

TOKENIZER = ByteTokenizer()
NETWORK = random_network(DecoderConfig(257, 16, 24, 2, 2, 1, 8), FamConfig(4, 1, 2), gain=4.0)
ON = Subject("m", NETWORK, "on")
LENGTHS = (3, 50, 17, 40, 33)
DOCUMENTS = [np.random.default_rng(n).integers(0, 256, n).astype(np.uint16) for n in LENGTHS]


def figures(*modes: str, max_tokens: int | None = None) -> DocumentFigures:
    subjects = [Subject("m", NETWORK, mode) for mode in modes]  # type: ignore[arg-type]
    *_, found = document_figures(subjects, TOKENIZER, [document[:max_tokens] for document in DOCUMENTS])
    return found


def test_figures_add_up_the_documents() -> None:
    found = figures("on")
    assert (found.documents, found.tokens, found.bytes, found.longest) == (5, sum(LENGTHS), sum(LENGTHS), 50)
    assert found.positions == (0, 4, 8, 16, 32)
    scores = score_documents(ON, DOCUMENTS, token_num_bytes(TOKENIZER), 256)
    (subject,) = found.subjects
    bits = sum(score.nats.sum() for score in scores) / math.log(2) / sum(LENGTHS)
    assert subject.bits_per_byte == pytest.approx(bits)
    assert subject.perplexity == pytest.approx(2**bits)  # a token is a byte
    assert 0 <= subject.accuracy <= 1
    tail = [score for score in scores if len(score.nats) > 4 and score.num_bytes[4]]
    assert subject.by_position[4] == pytest.approx(
        sum(score.nats[4] for score in tail) / math.log(2) / sum(score.num_bytes[4] for score in tail)
    )
    assert found.differences == ()


def test_differences_pair_documents_past_the_window() -> None:
    found = figures("on", "frozen", "none")
    window = 8  # (m + 1) * C
    assert [gap.other_mode for gap in found.differences] == ["frozen", "none"]
    gaps = []
    for document in DOCUMENTS:
        if len(document) > window:
            tails = []
            for mode in ("frozen", "on"):
                subject = Subject("m", NETWORK, mode)  # type: ignore[arg-type]
                (score,) = score_documents(subject, [document], token_num_bytes(TOKENIZER), 256, starts=(0, window))
                tails.append(score.nats[1] / math.log(2) / score.num_bytes[1])
            gaps.append(tails[0] - tails[1])
    assert len(gaps) == 4
    gap = found.differences[0]
    assert (gap.other, gap.from_position, gap.documents) == ("m", window, len(gaps))
    assert gap.mean == pytest.approx(np.mean(gaps))
    assert gap.standard_error == pytest.approx(np.std(gaps, ddof=1) / 2)
    assert gap.interval is not None
    assert gap.interval[0] < gap.mean < gap.interval[1]
    on, frozen = found.subjects[:2]
    assert on.by_position[0] == pytest.approx(frozen.by_position[0], abs=1e-6)  # nothing to remember yet


def test_short_documents_tell_no_difference() -> None:
    (gap,) = figures("on", "frozen", max_tokens=7).differences
    assert (gap.documents, gap.mean, gap.standard_error, gap.interval) == (0, None, None, None)
