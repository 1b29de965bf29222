"""Guessing while writing: the same text in fewer calls."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from famcli.checkpoint.draft import make_draft
from famcli.checkpoint.model import Model
from famcli.checkpoint.open import open_model
from famcli.evaluation.texts import example_book, read_texts
from famcli.nn import DecoderConfig, FamConfig
from famcli.nn.decoder import Decoder
from famcli.nn.draft import DraftConfig
from famcli.nn.kernels import native
from famcli.reading.engine import read_any, start_state
from famcli.reading.generating import GenerationConfig, GenerationEnd, generate
from famcli.reading.guessing import MOST_GUESSED, Guess, Lookup, _Costs, kept_or_drawn
from famcli.tokens.tokenizer import ByteTokenizer
from tests.reading.support import tiny_model


def guessed(lookup: Lookup, count: int) -> list[int]:
    return [guess.token for guess in lookup.guess(0, count)]


def test_what_followed_the_last_tokens_where_they_stood_before_is_the_guess() -> None:
    lookup = Lookup([1, 2, 3, 4, 5, 9, 2, 3])
    assert guessed(lookup, 3) == [4, 5, 9]
    assert guessed(lookup, 0) == []
    # The longest run counts, and of equal ones the last.
    assert guessed(Lookup([1, 2, 3, 7, 5, 2, 3, 8, 1, 2, 3]), 1) == [7]
    assert guessed(Lookup([2, 3, 7, 5, 2, 3, 8, 4, 2, 3]), 1) == [8]
    assert guessed(Lookup([1, 2, 3]), 3) == []
    assert guessed(Lookup([4, 4, 4, 4]), 3) == [4]
    lookup.append(4)
    assert guessed(lookup, 9) == [5, 9, 2, 3, 4]


def test_as_many_tokens_are_guessed_as_pay() -> None:
    def best(share: float, right: bool) -> int:
        costs = _Costs()
        for _ in range(100):
            costs.measured(1, 1.0)
            costs.measured(4, 1 + 3 * share)
            costs.hit(right)
        return costs.best()

    assert best(0.02, True) == MOST_GUESSED
    assert best(1.5, True) == 0
    assert best(0.2, False) == 0
    costs = _Costs()
    for _ in range(100):
        costs.hit(False)
    # What did not pay is tried again some time.
    assert any(costs.best() for _ in range(500))


@pytest.fixture(scope="module")
def model() -> Model:
    """A network in bfloat16 that repeats itself, in blocks of 8 tokens."""
    model = tiny_model(ByteTokenizer())
    fam = FamConfig(block_size=8, memory_segments=2, fam_length=3, sink_tokens=2)
    config = DecoderConfig(
        vocab_size=model.tokenizer.vocab_size, hidden_size=64, intermediate_size=64, num_layers=2, num_heads=2,
        num_key_value_heads=1, head_dim=32, tie_embeddings=True,
    )  # fmt: skip
    network = Decoder(config, fam)
    network.reset_parameters(seed=2)
    with torch.no_grad():
        for parameter in network.model.parameters():
            parameter.mul_(5 if parameter.ndim > 1 else 1)
    network.model.bfloat16()
    return replace(model, network=network, end_ids=frozenset())


@pytest.mark.skipif(native.library() is None, reason="needs a C compiler")
@pytest.mark.parametrize(
    "settings", [{}, {"temperature": 0.5, "seed": 1}, {"temperature": 1.0, "seed": 3, "top_k": 3}], ids=str
)
def test_guesses_change_nothing_but_the_number_of_calls(
    model: Model, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = list[int]()
    real = Decoder.write

    def counted(self: Decoder, tokens: torch.Tensor, state: Any, levels: Any = None) -> Any:
        calls.append(tokens.shape[1])
        return real(self, tokens, state, levels)

    monkeypatch.setattr(Decoder, "write", counted)
    # Guesses must not depend on the clock here.
    monkeypatch.setattr(_Costs, "best", lambda _: 3)
    monkeypatch.setattr("famcli.reading.generating.is_looping", lambda _: False)
    prompt = [256, *b"to be or not to be, to be or not to be"]
    ends = []
    for lookup in (False, True):
        calls.clear()
        config = GenerationConfig(max_tokens=400, lookup=lookup, **settings)
        *_, end = generate(model, start_state(model.network), prompt, config)
        assert isinstance(end, GenerationEnd)
        ends.append((end, sum(calls), len(calls)))
    (plain, _, num_plain), (guessed, num_rows, num_calls) = ends
    assert guessed.tokens == plain.tokens
    assert guessed.text == plain.text
    assert (plain.guessed, plain.right) == (0, 0)
    assert num_plain == 400
    assert num_calls == 400 - guessed.right
    assert num_rows == num_calls + guessed.guessed
    assert 0 < guessed.right < guessed.guessed
    assert torch.equal(guessed.last_hidden, plain.last_hidden)
    assert guessed.state.kind == plain.state.kind
    for name, tensor in plain.state.tensors().items():
        assert torch.equal(tensor, guessed.state.tensors()[name]), name


@pytest.mark.skipif(native.library() is None, reason="needs a C compiler")
def test_what_the_state_has_read_is_looked_up(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_Costs, "best", lambda _: 3)
    monkeypatch.setattr("famcli.reading.generating.is_looping", lambda _: False)
    prompt, config = [256, *b"to be or not to be"], GenerationConfig(max_tokens=40)
    *_, plain = generate(model, start_state(model.network), prompt, replace(config, lookup=False))
    assert isinstance(plain, GenerationEnd)
    # Had all of it been read before, in the same words, each of its tokens would be known ahead.
    hidden, state = read_any(model.network, prompt, start_state(model.network))
    known = [*prompt, *plain.tokens]
    *_, end = generate(model, state, [], config, last_hidden=hidden, known=known)
    *_, without = generate(model, state, [], config, last_hidden=hidden)
    assert isinstance(end, GenerationEnd)
    assert isinstance(without, GenerationEnd)
    assert end.tokens == without.tokens == plain.tokens
    assert end.right > without.right


def test_where_rows_are_not_exact_nothing_is_guessed() -> None:
    model = tiny_model(ByteTokenizer())
    *_, end = generate(model, start_state(model.network), [256, *b"aaaaaaaa"], GenerationConfig(max_tokens=20))
    assert isinstance(end, GenerationEnd)
    assert end.guessed == 0


def drafted(model: Model, num_layers: int) -> Model:
    """With a draft that begins as the last layers, so that some of its guesses are right."""
    network = model.network
    draft = make_draft(network, DraftConfig(num_layers, window=12, drafted_tokens=3))
    return replace(model, draft=draft.bfloat16().eval().requires_grad_(False))


@pytest.mark.skipif(native.library() is None, reason="needs a C compiler")
@pytest.mark.parametrize("settings", [{}, {"repetition_penalty": 1.3}, {"lookup": True}], ids=str)
@pytest.mark.parametrize("num_layers", [1, 2])
def test_a_draft_changes_nothing_but_the_number_of_calls(
    model: Model, num_layers: int, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_Costs, "best", lambda _: 3)
    monkeypatch.setattr("famcli.reading.generating.is_looping", lambda _: False)
    config = GenerationConfig(**{"max_tokens": 300, "lookup": False} | settings)
    prompt = [256, *b"to be or not to be"]
    *_, plain = generate(model, start_state(model.network), prompt, replace(config, lookup=False))
    *_, guessed = generate(drafted(model, num_layers), start_state(model.network), prompt, config)
    assert isinstance(plain, GenerationEnd)
    assert isinstance(guessed, GenerationEnd)
    assert guessed.tokens == plain.tokens
    assert 0 < guessed.right < guessed.guessed
    # States are exact: what was guessed wrong has left no trace.
    assert torch.equal(guessed.last_hidden, plain.last_hidden)
    for name, tensor in plain.state.tensors().items():
        assert torch.equal(tensor, guessed.state.tensors()[name]), name
    # Another turn goes on from there, though the draft has not seen what came before.
    for last, text in ((plain, model), (guessed, drafted(model, num_layers))):
        *_, again = generate(text, last.state, [], config, last_hidden=last.last_hidden)
        assert isinstance(again, GenerationEnd)
        if last is plain:
            wanted = again.tokens
    assert again.tokens == wanted


@pytest.mark.skipif(native.library() is None, reason="needs a C compiler")
def test_a_seed_draws_the_same_words_again_with_a_draft(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("famcli.reading.generating.is_looping", lambda _: False)
    config = GenerationConfig(max_tokens=200, temperature=0.7, top_k=20, seed=4)
    ends = []
    for _ in range(2):
        *_, end = generate(drafted(model, 1), start_state(model.network), [256, *b"to be or not"], config)
        assert isinstance(end, GenerationEnd)
        ends.append(end)
    assert ends[0].tokens == ends[1].tokens
    assert ends[0].guessed == ends[1].guessed > 0


def test_drawn_guesses_leave_the_distribution_as_it_was() -> None:
    generator = torch.Generator().manual_seed(0)
    wanted = torch.tensor([0.5, 0.3, 0.2, 0.0])
    count, kept = 20_000, 0
    for drafted_by in (torch.tensor([0.1, 0.3, 0.3, 0.3]), torch.tensor([0.0, 0.0, 0.0, 1.0]), wanted):
        found = torch.zeros(4)
        for token in torch.multinomial(drafted_by, count, replacement=True, generator=generator).tolist():
            drawn = kept_or_drawn(wanted, Guess(token, drafted_by), generator)
            found[drawn] += 1
            kept += drawn == token
        # Four deviations of the rarest share.
        assert (found / count - wanted).abs().max() < 0.015
        assert found[3] == 0
    # As many are kept as the distributions have in common.
    assert kept / count == pytest.approx(0.6 + 0.0 + 1.0, abs=0.02)


@pytest.mark.slow
@pytest.mark.skipif(native.library() is None, reason="needs a C compiler")
def test_ten_thousand_tokens_are_the_same_with_a_draft(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_Costs, "best", lambda _: 4)
    monkeypatch.setattr("famcli.reading.generating.is_looping", lambda _: False)
    plain = open_model("fam-tiny", device="cpu", dtype="bfloat16")
    # It begins as the last layer, so that some of its guesses are right.
    draft = make_draft(open_model("fam-tiny", device="cpu", dtype="float32").network, DraftConfig(1))
    guessing = replace(plain, draft=draft.bfloat16().eval().requires_grad_(False))
    # The penalty keeps the text from going round in circles.
    config = GenerationConfig(max_tokens=500, repetition_penalty=1.3, lookup=False)
    book = read_texts([example_book()], plain.tokenizer, max_tokens=20 * 3000).tokens
    num_tokens = guessed = right = 0
    for place in range(0, 20 * 3000, 3000):
        prompt = book[place : place + 200].astype(int).tolist()
        ends = [list(generate(one, start_state(one.network), prompt, config))[-1] for one in (plain, guessing)]
        wanted, found = ends
        assert isinstance(wanted, GenerationEnd)
        assert isinstance(found, GenerationEnd)
        assert found.tokens == wanted.tokens
        num_tokens += len(found.tokens)
        guessed, right = guessed + found.guessed, right + found.right
    print(f"{num_tokens:,} tokens, {guessed:,} guessed, {right:,} right")
    assert num_tokens >= 9000
    assert 0 < right < guessed
