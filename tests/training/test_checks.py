"""Scores of documents: equal to scoring them plainly, whatever they are read beside."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from famcli.nn import DecoderConfig, FamConfig
from famcli.tokens.bytes import ByteTokenizer
from famcli.training.checks import bits_per_byte, bucket_starts, choose_validation, score_documents
from famcli.training.corpus import TokenDocument, token_num_bytes
from famcli.training.heldout import heldout_figures
from tests.helpers import random_network
from tests.training.test_lanes import packed

BYTES = token_num_bytes(ByteTokenizer())
NETWORK = random_network(DecoderConfig(257, 16, 24, 2, 2, 1, 8), FamConfig(4, 1, 2), gain=4.0)


def documents() -> list[TokenDocument]:
    generator = np.random.default_rng(0)
    return [TokenDocument(str(n), generator.integers(0, 256, n).astype(np.uint16), n) for n in (3, 50, 17, 16, 33)]


@pytest.mark.parametrize("mode", ["on", "frozen", "none"])
def test_scores_equal_one_plain_pass(mode: str) -> None:
    scores = score_documents(NETWORK, documents(), BYTES, 256, memory_mode=mode, batch=3, blocks_per_call=2)
    for document, score in zip(documents(), scores, strict=True):
        tokens = torch.from_numpy(document.tokens.astype(np.int64))
        inputs = torch.cat((torch.tensor([256]), tokens[:-1]))[None]
        padded = functional.pad(inputs, (0, -inputs.shape[1] % 4))
        with torch.no_grad():
            logits = NETWORK.logits(NETWORK.read(padded, NETWORK.start(1, mode))[0])[0, : len(tokens)]
        nats = functional.cross_entropy(logits, tokens, reduction="none").numpy()
        assert score.id == document.id
        assert score.nats.sum() == pytest.approx(nats.sum(), rel=1e-4)
        assert score.nats[0] == pytest.approx(nats[:4].sum(), rel=1e-4)
        assert score.num_tokens.sum() == score.num_bytes.sum() == len(tokens)
        assert score.num_right.sum() == int((logits.argmax(-1) == tokens).sum())
        assert score.bits_per_byte == pytest.approx(nats.mean() / math.log(2), rel=1e-4)


def test_buckets_and_cuts() -> None:
    assert bucket_starts(4, 3) == (0,)
    assert bucket_starts(4, 33) == (0, 4, 8, 16, 32)
    score = score_documents(NETWORK, documents()[1:2], BYTES, 256, max_tokens=20)[0]
    assert score.num_tokens.tolist() == [4, 4, 8, 4]


def test_without_bos_the_first_token_is_not_scored() -> None:
    score = score_documents(NETWORK, documents()[:1], BYTES, None)[0]
    assert score.num_tokens.sum() == 2


def test_bits_per_byte_weighs_documents_by_their_bytes() -> None:
    scores = score_documents(NETWORK, documents(), BYTES, 256)
    total = sum(score.nats.sum() for score in scores) / math.log(2) / (3 + 50 + 17 + 16 + 33)
    assert bits_per_byte(scores) == pytest.approx(total)
    assert math.isnan(bits_per_byte([]))


def test_checks_take_documents_that_are_long_enough() -> None:
    chosen = choose_validation([packed(), packed((1, 2), "short")], 2, 9)
    assert {name: [document.id for document in members] for name, members in chosen.items()} == {
        "texts": ["texts-5", "texts-6"]
    }


def test_heldout_figures_pair_the_modes_document_by_document(tmp_path: object) -> None:
    from pathlib import Path

    folder = Path(str(tmp_path)) / "books"
    folder.mkdir()
    for number in range(4):
        (folder / f"{number}.txt").write_text(f"book {number} " * (4 + number))
    figures = heldout_figures(NETWORK, ByteTokenizer(), folder, folder.parent)
    assert figures["documents"] == 4
    assert figures["bytes"] == figures["tokens"] == sum(7 * (4 + number) for number in range(4))
    assert figures["longest_document_tokens"] == 49
    on, frozen = figures["modes"]["on"], figures["modes"]["frozen"]
    assert on["bits_per_byte"] != frozen["bits_per_byte"]
    assert on["by_position"][0] == pytest.approx(frozen["by_position"][0], abs=1e-6)  # no update yet in block 0
    assert on["perplexity"] == pytest.approx(2 ** on["bits_per_byte"])  # a token is a byte
    assert 0 <= on["accuracy"] <= 1
    assert (figures["difference"]["documents"], figures["difference"]["from_position"]) == (4, 8)
    assert figures["difference"]["standard_error"] > 0
