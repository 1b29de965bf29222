"""What is looked at during and after a run: the right documents, both memory modes, keys where they can be found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from famcli.evaluation.texts import TokenCorpus
from famcli.nn import DecoderConfig, FamConfig
from famcli.nn.decoder import Decoder
from famcli.tokens.tokenizer import ByteTokenizer
from famcli.training.loop.validation import check_documents, check_passkeys, choose_validation, heldout_figures
from famcli.training.recipe.sections import ChecksRecipe
from tests.helpers import random_network

CONFIG = DecoderConfig(257, 16, 24, 2, 2, 1, 8)
NETWORK = random_network(CONFIG, FamConfig(4, 1, 2), gain=4.0)
TOKENIZER = ByteTokenizer()


def corpus(name: str, *texts: bytes) -> TokenCorpus:
    tokens = np.frombuffer(b"".join(texts), dtype=np.uint8).astype(np.uint16)
    lengths = [len(text) for text in texts]
    offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
    return TokenCorpus(tuple(f"{name}-{n}" for n in range(len(texts))), tokens, offsets, name)


LONG = corpus("long", b"short", b"a text of some length, that one", b"another one of them, and longer still")
SHORT = corpus("short", b"x", b"yy")


def test_checks_take_documents_that_are_long_enough() -> None:
    chosen = choose_validation([LONG, SHORT], 1, 20)
    (document,) = chosen.pop("long")
    assert bytes(document.tolist()) == b"a text of some length, that one"
    assert not chosen


def test_bits_per_byte_are_told_by_mode_corpus_and_position() -> None:
    done = check_documents(NETWORK, [LONG, SHORT], TOKENIZER, ChecksRecipe(tokens=20, documents=2), 7)
    assert done is not None
    assert (done.step, done.positions) == (7, (0, 4, 8, 16))
    assert set(done.by_corpus["on"]) == {"long"}
    assert done.bits_per_byte["on"] == done.by_corpus["on"]["long"] != done.bits_per_byte["frozen"]
    assert done.by_position["on"][0] == pytest.approx(done.by_position["frozen"][0], abs=1e-6)  # no update in block 0
    assert check_documents(NETWORK, [SHORT], TOKENIZER, ChecksRecipe(tokens=20), 7) is None


class _Oracle(Decoder):
    """Says the right key whatever it read, if its memory is on: it knows what is asked for."""

    def read(self, tokens, state, received=None, levels=None):  # type: ignore[no-untyped-def]
        hidden, after = super().read(tokens, state, received, levels)
        following = tokens.roll(-1, 1)
        hidden[..., 0] = following if state.memory_mode == "on" else 0
        return hidden, after

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.one_hot(hidden[..., 0].long(), self.config.vocab_size).float()


def test_passkeys_are_counted_by_distance_and_mode() -> None:
    oracle = _Oracle(CONFIG, FamConfig(1024, 1, 2))  # nothing is read in two calls
    oracle.reset_parameters(0)
    done = check_passkeys(oracle, [SHORT, LONG], TOKENIZER, [20, 200, 400], 3, 5)
    assert done is not None
    assert (done.step, done.distances, done.total) == (5, (200, 400), 3)  # in 20 tokens there is no room for a key
    assert done.right == {"on": [3, 3], "frozen": [0, 0]}
    assert check_passkeys(oracle, [], TOKENIZER, [400], 3, 5) is None
    assert check_passkeys(oracle, [LONG], TOKENIZER, [20], 3, 5) is None


def test_heldout_figures_pair_the_modes_document_by_document(tmp_path: Path) -> None:
    folder = tmp_path / "books"
    folder.mkdir()
    for number in range(4):
        (folder / f"{number}.txt").write_text(f"book {number} " * (4 + number))
    figures = heldout_figures(NETWORK, TOKENIZER, folder, folder.parent)
    assert figures["documents"] == 4
    assert figures["bytes"] == figures["tokens"] == sum(7 * (4 + number) for number in range(4))
    assert figures["longest_document_tokens"] == 49
    on, frozen = figures["modes"]["on"], figures["modes"]["frozen"]
    assert on["bits_per_byte"] != frozen["bits_per_byte"]
    assert on["by_position"][0] == pytest.approx(frozen["by_position"][0], abs=1e-6)
    assert on["perplexity"] == pytest.approx(2 ** on["bits_per_byte"])  # a token is a byte
    assert 0 <= on["accuracy"] <= 1
    assert (figures["difference"]["documents"], figures["difference"]["from_position"]) == (4, 8)
    assert figures["difference"]["standard_error"] > 0
