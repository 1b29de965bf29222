"""Scores of documents: equal to scoring them plainly, whatever they are read beside."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional

from famcli.evaluation import positions
from famcli.evaluation.positions import Subject, bits_per_byte, bucket_starts, score_documents, token_num_bytes
from famcli.nn import DecoderConfig, FamConfig, MemoryMode
from famcli.tokens.tokenizer import ByteTokenizer
from tests.helpers import random_network

BYTES = token_num_bytes(ByteTokenizer())
NETWORK = random_network(DecoderConfig(257, 16, 24, 2, 2, 1, 8), FamConfig(4, 1, 2), gain=4.0)
ON = Subject("m", NETWORK, "on")


def documents() -> list[NDArray[np.uint16]]:
    generator = np.random.default_rng(0)
    return [generator.integers(0, 256, n).astype(np.uint16) for n in (3, 50, 17, 16, 33)]


@pytest.mark.parametrize("mode", ["on", "frozen", "none"])
def test_scores_equal_one_plain_pass(mode: MemoryMode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(positions, "_BATCH", 3)
    monkeypatch.setattr(positions, "_BLOCKS_PER_CALL", 2)
    scores = score_documents(Subject("m", NETWORK, mode), documents(), BYTES, 256)
    for document, score in zip(documents(), scores, strict=True):
        tokens = torch.from_numpy(document.astype(np.int64))
        inputs = torch.cat((torch.tensor([256]), tokens[:-1]))[None]
        padded = functional.pad(inputs, (0, -inputs.shape[1] % 4))
        with torch.no_grad():
            logits = NETWORK.logits(NETWORK.read(padded, NETWORK.start(1, mode))[0])[0, : len(tokens)]
        nats = functional.cross_entropy(logits, tokens, reduction="none").numpy()
        assert score.nats.sum() == pytest.approx(nats.sum(), rel=1e-4)
        assert score.nats[0] == pytest.approx(nats[:4].sum(), rel=1e-4)
        assert score.num_tokens.sum() == score.num_bytes.sum() == len(tokens)
        assert score.num_right.sum() == int((logits.argmax(-1) == tokens).sum())
        assert bits_per_byte([score]) == pytest.approx(nats.mean() / math.log(2), rel=1e-4)


def test_buckets_and_cuts() -> None:
    assert bucket_starts(4, 3) == (0,)
    assert bucket_starts(4, 33) == (0, 4, 8, 16, 32)
    score = score_documents(ON, documents()[1:2], BYTES, 256, max_tokens=20)[0]
    assert score.num_tokens.tolist() == [4, 4, 8, 4]


def test_without_bos_the_first_token_is_not_scored() -> None:
    score = score_documents(ON, documents()[:1], BYTES, None)[0]
    assert score.num_tokens.sum() == 2


def test_bits_per_byte_weighs_documents_by_their_bytes() -> None:
    scores = score_documents(ON, documents(), BYTES, 256)
    total = sum(score.nats.sum() for score in scores) / math.log(2) / (3 + 50 + 17 + 16 + 33)
    assert bits_per_byte(scores) == pytest.approx(total)
    assert math.isnan(bits_per_byte([]))
