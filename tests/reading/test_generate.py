"""Writing: what is drawn, when it ends, and that text comes whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from famcli.checkpoint.model import Model
from famcli.errors import UsageError
from famcli.reading import generating as module
from famcli.reading.engine import read_any, start_state
from famcli.reading.generating import GeneratedText, GenerationConfig, GenerationEnd, generate
from famcli.reading.reader import Reader
from famcli.tokens.tokenizer import ByteTokenizer
from tests.reading.support import pipe, tiny_model


class EndingTokenizer(ByteTokenizer):
    """Byte 0 ends a text."""

    eos_id: int | None = 0


MODEL = tiny_model(EndingTokenizer())
Run = Callable[..., tuple[list[str], GenerationEnd]]


def write(config: GenerationConfig, prompt: bytes = b"once", model: Model = MODEL) -> tuple[list[str], GenerationEnd]:
    *pieces, end = generate(model, start_state(model.network), [256, *prompt], config)
    assert isinstance(end, GenerationEnd)
    texts = [piece.text for piece in pieces if isinstance(piece, GeneratedText)]
    assert "".join(texts) == end.text
    assert all(texts)
    return texts, end


@pytest.fixture
def says(monkeypatch: pytest.MonkeyPatch) -> Run:
    """A model that says what the test wants, however its logits are."""

    def run(script: bytes, config: GenerationConfig) -> tuple[list[str], GenerationEnd]:
        waiting = iter(script)
        monkeypatch.setattr(module, "_next_token", lambda *_: next(waiting))
        return write(config)

    return run


def test_greedy_is_the_most_likely_token_each_time() -> None:
    _, end = write(GenerationConfig(max_tokens=30), model=replace(MODEL, end_ids=frozenset()))
    assert (len(end.tokens), end.reason) == (30, "length")
    ids = [256, *b"once"]
    for token in end.tokens:
        hidden, _ = read_any(MODEL.network, ids, start_state(MODEL.network))
        assert hidden is not None
        logits = MODEL.network.logits(hidden)[0, -1]
        logits[[0, 256]] = -torch.inf
        assert token == int(logits.argmax())
        ids.append(token)
    hidden, state = read_any(MODEL.network, ids, start_state(MODEL.network))
    torch.testing.assert_close(end.last_hidden, hidden, rtol=2e-3, atol=2e-3)
    assert torch.equal(end.state.position, state.position)


def test_goes_on_from_what_was_read_and_leaves_it_alone() -> None:
    reader = Reader(MODEL)
    list(reader.read([pipe(b"a text to go on from")]))
    state, hidden = reader.state, reader.last_hidden
    before = {name: tensor.clone() for name, tensor in state.to_tensors()[0].items()}
    ends = [list(generate(MODEL, state, [], GenerationConfig(max_tokens=20), last_hidden=hidden))[-1] for _ in "ab"]
    assert ends[0].tokens == ends[1].tokens  # type: ignore[union-attr]
    for name, tensor in state.to_tensors()[0].items():
        assert torch.equal(tensor, before[name])
    with pytest.raises(UsageError, match="nothing to write on from"):
        list(generate(MODEL, state, [], GenerationConfig()))


def test_ends_at_the_end_token(says: Run) -> None:
    texts, end = says(b"ok\0no", GenerationConfig())
    assert ("".join(texts), end.reason, end.tokens) == ("ok", "end", tuple(b"ok"))


@pytest.mark.parametrize(
    ("script", "stop", "text", "reason"),
    [
        (b"one\ntwo", ("\n",), "one", "stop"),
        (b"say END now", ("END",), "say ", "stop"),
        (b"say EN\0", ("END",), "say EN", "end"),
        (b"aab\0", ("ab",), "a", "stop"),
        (b"xaaab\0", ("aab", "never"), "xa", "stop"),
        (b"12345", ("9",), "1234", "length"),
    ],
)
def test_stop_strings_are_never_shown(says: Run, script: bytes, stop: tuple[str, ...], text: str, reason: str) -> None:
    budget = 4 if reason == "length" else 50
    texts, end = says(script, GenerationConfig(max_tokens=budget, stop=stop))
    assert ("".join(texts), end.reason) == (text, reason)


@settings(max_examples=80, deadline=None)
@given(st.text("abc", max_size=20), st.lists(st.text("abc", min_size=1, max_size=4), max_size=3), st.data())
def test_stop_strings_in_any_pieces(text: str, stops: list[str], data: st.DataObject) -> None:
    watch, shown, rest = module._StopStrings(tuple(stops)), "", text
    while rest and not watch.met:
        size = data.draw(st.integers(1, len(rest)))
        shown += watch.feed(rest[:size])
        rest = rest[size:]
    if not watch.met:
        shown += watch.flush()
    assert text.startswith(shown)
    assert not any(stop in shown for stop in stops)
    assert watch.met == any(stop in text for stop in stops)
    if not watch.met:
        assert shown == text


def test_characters_come_whole(says: Run) -> None:
    texts, _ = says("né語🙂".encode() + b"\0", GenerationConfig())
    assert texts == ["n", "é", "語", "🙂"]
    texts, end = says("a語".encode(), GenerationConfig(max_tokens=3))
    assert (texts, end.reason) == (["a"], "length")


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_tokens": 0},
        {"repetition_penalty": 0},
        {"stop": ("",)},
    ],
)
def test_wrong_settings(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=f"{next(iter(wrong))} is .*, it must be"):
        GenerationConfig(**wrong)  # type: ignore[arg-type]


def test_repetition_penalty() -> None:
    def chosen(logits: list[float], recent: list[int], penalty: float) -> int:
        none, config = torch.empty(0, dtype=torch.int64), GenerationConfig(repetition_penalty=penalty)
        return module._next_token(torch.tensor(logits), none, recent, config, torch.Generator())

    assert chosen([0.0, 3.0, 2.0, 1.0, -1.0], [], 2.0) == 1
    assert chosen([0.0, 3.0, 2.0, 1.0, -1.0], [1, 1], 2.0) == 2
    assert chosen([0.0, 3.0, 2.0, 1.0, -1.0], [1], 1.4) == 1
    assert chosen([-1.0, -2.0], [0], 3.0) == 1
