"""Documents through a network: the same tokens, numbers and states however they arrive."""

from __future__ import annotations

import io
import math
import re
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from famcli.documents.opening import open_source
from famcli.errors import UsageError
from famcli.nn import FamConfig
from famcli.reading.engine import call_lengths, read_any, start_state
from famcli.reading.events import BlockEvent, ReadingWarning, SourceEnd, SourceStart, TextEvent
from famcli.reading.reader import Reader
from famcli.tokens.stream import encode_text
from famcli.tokens.tokenizer import ByteTokenizer, Ids, Offsets
from tests.reading.support import blocks, nll_of, pipe, same_reading, spans_cover, text_of, tiny_model, tokens_of

C, M = 8, 1
MODEL = tiny_model()
BYTES = tiny_model(ByteTokenizer())

# Words over a, b, c join into tokens; the rest are bytes, of which some are no UTF-8.
text_bytes = st.lists(
    st.one_of(
        st.text("abc ", min_size=1, max_size=9).map(str.encode),
        st.sampled_from(
            [b"\r\n", b"\n", b"\r", "é".encode(), "語".encode(), "🙂".encode(), b"\xff", b"\xe8\xaa", b"\0"]
        ),
    ),
    max_size=12,
).map(b"".join)
read_sizes = st.lists(st.integers(1, 7), min_size=1, max_size=6)


def decoded(data: bytes) -> str:
    """The text that bytes are read as: a CR alone ends a line as LF does."""
    return re.sub("\r(?!\n)", "\n", data.decode("utf-8", "replace"))


@settings(max_examples=60, deadline=None)
@given(text_bytes, read_sizes, st.booleans())
def test_any_split_reads_the_same(data: bytes, sizes: list[int], eager: bool) -> None:
    whole = Reader(MODEL, score=True)
    one = list(whole.read([pipe(data)]))
    split = Reader(MODEL, score=True, eager=eager)
    other = list(split.read([pipe(data, sizes=sizes)]))
    assert tokens_of(one) == tokens_of(other) == list(encode_text(MODEL.tokenizer, decoded(data)).ids)
    spans_cover(other, len(data))
    torch.testing.assert_close(nll_of(one), nll_of(other), rtol=2e-3, atol=2e-3)
    same_reading(whole, split)


@pytest.mark.parametrize(
    "length", [0, 1, C - 2, C - 1, C, C + 1, M * C, M * C + 1, (M + 1) * C, (M + 1) * C + 1, 5 * C]
)
def test_events_at_the_edges(length: int) -> None:
    """One event for each block, closed where it ends, and the reference's numbers across every edge."""
    data = bytes(np.random.default_rng(0).integers(97, 123, length, dtype=np.uint8))
    reader = Reader(BYTES, score=True)
    events = list(reader.read([pipe(data)]))
    found = blocks(events)
    assert isinstance(events[0], SourceStart)
    assert isinstance(events[-1], SourceEnd)
    assert (events[-1].num_bytes, events[-1].num_tokens, reader.progress.num_tokens) == (length, length, length)
    assert text_of(events).encode() == data
    # The begin-of-stream token takes the first place of the first block.
    sizes = [event.num_tokens for event in found]
    assert sizes == ([min(C - 1, length)] if length else []) + [
        min(C, length - first) for first in range(C - 1, length, C)
    ]
    assert [event.index for event in found] == list(range(len(found)))
    assert [event.closed for event in found] == [(1 + sum(sizes[: i + 1])) % C == 0 for i in range(len(sizes))]
    assert reader.progress.num_blocks == (length + 1) // C == events[-1].num_blocks

    tokens = torch.tensor([[BYTES.tokenizer.bos_id, *data]])
    state, rows = start_state(BYTES.network), []
    for token in tokens[0]:
        hidden, state = read_any(BYTES.network, token[None], state)
        assert hidden is not None
        rows.append(BYTES.network.logits(hidden)[0, 0])
    logits = torch.stack(rows).log_softmax(-1)
    expected = -logits[:-1].gather(1, tokens[0, 1:, None])[:, 0]
    torch.testing.assert_close(nll_of(events), expected, rtol=2e-3, atol=2e-3)
    correct = [event.correct for event in found if event.correct is not None]
    if correct:
        assert torch.cat(correct).tolist() == (logits[:-1].argmax(-1) == tokens[0, 1:]).tolist()


def test_first_token_without_bos_is_not_scored() -> None:
    tokenizer = ByteTokenizer()
    tokenizer.bos_id = None
    events = list(Reader(tiny_model(tokenizer), score=True).read([pipe(b"hello, you")]))
    nll = nll_of(events)
    assert math.isnan(nll[0])
    assert torch.isfinite(nll[1:]).all()


def test_nothing_is_measured_unless_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_logits(*_: object) -> None:
        raise AssertionError("logits were computed")

    monkeypatch.setattr(type(MODEL.network), "logits", no_logits)
    for event in blocks(list(Reader(MODEL).read([pipe(b"abc " * 20)]))):
        assert event.nll is event.correct is event.attention is event.nll_frozen is None


def test_attention_of_the_memory() -> None:
    """Each closed block's tokens get shares of the memory's attention; together at most all of it."""
    for event in blocks(list(Reader(BYTES, attention=True).read([pipe(b"x" * 30)]))):
        assert (event.attention is not None) == event.closed
        if event.attention is not None:
            assert event.attention.shape == (event.num_tokens,)
            assert 0 < event.attention.sum() <= 1.0001


def test_compare_is_two_readings_in_one_pass() -> None:
    data = b"abc cab " * 12
    both = list(Reader(MODEL, memory_mode="compare", score=True).read([pipe(data)]))
    for mode, name in (("on", "nll"), ("frozen", "nll_frozen")):
        alone = nll_of(list(Reader(MODEL, memory_mode=mode, score=True).read([pipe(data)])))  # type: ignore[arg-type]
        torch.testing.assert_close(torch.cat([getattr(event, name) for event in blocks(both)]), alone)
    assert not torch.equal(
        nll_of(both), torch.cat([event.nll_frozen for event in blocks(both) if event.nll_frozen is not None])
    )


def test_lines_and_text_and_spans() -> None:
    data = "\ufeffeins\r\nzwei é\n\ndrei\r\n".encode() + b"\xff vier\n" + b"fuenf " * 5
    events = list(Reader(BYTES).read([pipe(data, sizes=[5], encoding="utf-8")]))
    assert text_of(events) == decoded(data).removeprefix("\ufeff")
    fed = 0
    for event in events:
        if isinstance(event, TextEvent):
            assert event.piece.text == data[event.piece.start : event.piece.end].decode("utf-8", "replace")
            fed = event.piece.end
        if isinstance(event, BlockEvent):
            assert event.span[1] <= fed, "text comes before its tokens"
    for event in blocks(events):
        start, end = event.span
        assert event.line == data[:start].count(b"\n") + 1
        assert event.num_tokens == len(event.tokens)
    end = events[-1]
    assert isinstance(end, SourceEnd)
    assert end.num_replaced == 1
    assert [event.code for event in events if isinstance(event, ReadingWarning)] == ["invalid-bytes"]


class AsciiTokenizer(ByteTokenizer):
    """Knows no other characters: each is token 0, and what it was is lost."""

    def encode(self, text: str) -> list[int]:
        return [ord(character) if character.isascii() else 0 for character in text]

    def encode_offsets(self, text: str) -> tuple[Ids, Offsets]:
        return np.array(self.encode(text), np.int32), np.arange(1, len(text) + 1)

    def token_bytes(self, token: int) -> bytes:
        return super().token_bytes(token) if token else "\ufffd".encode()


@pytest.mark.parametrize(
    ("text", "told"), [("plain text", []), ("na\u00efve", ["1 token"]), ("\u8a9e" * 20, ["20 tokens"])]
)
def test_what_a_tokenizer_does_not_know_is_counted(text: str, told: list[str]) -> None:
    events = list(Reader(tiny_model(AsciiTokenizer()), score=True).read([pipe(text.encode())]))
    found = [event for event in events if isinstance(event, ReadingWarning)]
    assert [event.code for event in found] == ["unknown-tokens"] * len(told)
    for event, count in zip(found, told, strict=True):
        assert f": {count} unknown to the tokenizer; " in event.message


def test_several_sources_with_their_names_between(tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_bytes(b"first text")
    (tmp_path / "two.txt").write_bytes(b"second")
    documents = [open_source(tmp_path / name) for name in ("one.txt", "two.txt")]
    reader = Reader(BYTES)
    events = list(reader.read(documents))
    assert bytes(tokens_of(events)) == b"first textsecond"
    assert [event.index for event in events if isinstance(event, SourceEnd)] == [0, 1]
    seen = b"[" + str(tmp_path / "one.txt").encode() + b"]\n\nfirst text\n\n["
    seen += str(tmp_path / "two.txt").encode() + b"]\n\nsecond"
    expected = read_any(BYTES.network, [256, *seen], start_state(BYTES.network))
    torch.testing.assert_close(reader.last_hidden, expected[0], rtol=1e-3, atol=1e-3)
    assert reader.progress.num_tokens == reader.num_bytes == 16
    last = blocks(events)[-1]
    assert (last.source, last.source_index, last.span[1]) == (str(tmp_path / "two.txt"), 1, 6)
    plain = Reader(BYTES)
    list(plain.read([open_source(tmp_path / "one.txt"), open_source(tmp_path / "two.txt")], names=False))
    assert int(plain.state.position[0]) == 17


def test_warns_once_past_the_validated_length() -> None:
    model = tiny_model(ByteTokenizer(), validated=20)
    for length, count in ((19, 0), (20, 1), (60, 1)):
        events = list(Reader(model).read([pipe(b"x" * length)]))
        warnings = [event for event in events if isinstance(event, ReadingWarning)]
        assert [event.code for event in warnings] == ["past-validated-length"] * count


def test_finish_in_the_middle_changes_nothing() -> None:
    data = b"abcab cab acb " * 6
    reader, plain = Reader(MODEL), Reader(MODEL)
    for _ in reader.read([pipe(data, sizes=[10])]):
        reader.finish()
    list(plain.read([pipe(data)]))
    same_reading(reader, plain)


def test_forks_do_not_disturb_one_another() -> None:
    reader = Reader(BYTES)
    stream = reader.read([pipe(b"a quick brown fox" * 3)])
    states = []
    for event in stream:
        if isinstance(event, BlockEvent):
            states.append(reader.state)
            before = [read_any(BYTES.network, list(b"what?"), state)[0] for state in states]
            read_any(BYTES.network, list(b"another question"), states[-1])
            after = [read_any(BYTES.network, list(b"what?"), state)[0] for state in states]
            for one, other in zip(before, after, strict=True):
                torch.testing.assert_close(one, other)
    plain = Reader(BYTES)
    list(plain.read([pipe(b"a quick brown fox" * 3)]))
    same_reading(reader, plain)


def test_modes_are_checked() -> None:
    with pytest.raises(UsageError, match="memory mode is 'off'"):
        Reader(MODEL, memory_mode="off")  # type: ignore[arg-type]


@given(st.integers(0, 50), st.integers(0, C - 1), st.integers(1, 4))
def test_call_lengths(n: int, fill: int, per_call: int) -> None:
    cuts = list(call_lengths(n, fill, C, per_call))
    assert sum(cuts) == n
    for cut in cuts:
        assert (fill == 0 and cut % C == 0 and cut <= per_call * C) or 0 < cut <= C - fill
        fill = (fill + cut) % C


class LineTokenizer(ByteTokenizer):
    """A line is a token: many megabytes are few tokens."""

    def encode_offsets(self, text: str) -> tuple[Ids, Offsets]:
        ends = np.flatnonzero(np.frombuffer(text.encode(), dtype=np.uint8) == 10) + 1
        ends = ends if text.endswith("\n") or not text else np.append(ends, len(text))
        return np.full(len(ends), 7, np.int32), ends.astype(np.int64)

    def safe_cut(self, text: str, low: int = 0) -> int:
        return text.rfind("\n") + 1


class LongPipe(io.RawIOBase):
    def __init__(self, num_bytes: int) -> None:
        self._left = num_bytes

    def read(self, size: int = -1) -> bytes:
        line = b"all work and no play makes jack a dull boy" * 10 + b"\n"
        part = line * min(size // len(line), self._left // len(line))
        self._left -= len(part)
        return part


def test_memory_does_not_grow_with_the_text() -> None:
    """20 MB cost no more memory than 2 MB at the peak: text, tokens, losses and events are let go."""
    model = tiny_model(LineTokenizer(), fam=FamConfig(block_size=512, memory_segments=1, fam_length=8))

    def peak(num_bytes: int) -> int:
        document = open_source("-", encoding="utf-8", stdin=LongPipe(num_bytes))  # type: ignore[arg-type]
        tracemalloc.start()
        try:
            for event in Reader(model, score=True).read([document]):
                assert not isinstance(event, SourceEnd) or event.num_tokens == event.num_bytes // 421
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(20_000_000) < 1.3 * peak(2_000_000)


KEPT = FamConfig(block_size=256, memory_segments=1, fam_length=8, memory_update="kept")


def test_whole_calls_read_what_single_blocks_read() -> None:
    """In events of two blocks after the one that the BOS opens, and to the same bits however the text comes in."""
    model, data = tiny_model(fam=KEPT), (" ".join(f"word{n % 90}" for n in range(1900))).encode()
    alone, states = Reader(model), list[dict[str, torch.Tensor]]()
    list(alone.read([pipe(data)]))
    for sizes in ([1 << 16], [700], [3000, 1]):
        reader = Reader(model, whole_calls=True)
        events = list(reader.read([pipe(data, sizes=sizes)]))
        closed = [event.num_closed for event in blocks(events)]
        assert closed[:4] == [1, 2, 2, 2]
        assert sum(closed) == reader.progress.num_blocks == alone.progress.num_blocks
        assert tokens_of(events) == encode_text(model.tokenizer, data.decode()).ids.tolist()
        same_reading(reader, alone)
        states.append(reader.state.to_tensors()[0])
    assert all(torch.equal(first, state[name]) for name, first in states[0].items() for state in states)
