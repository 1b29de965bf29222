"""Memory files: what was read goes on as if it had never stopped, and nothing that is damaged is believed."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import stat
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from famcli.documents.opening import open_source
from famcli.errors import MemoryFileError, UsageError
from famcli.nn import FamConfig
from famcli.reading import memory_file
from famcli.reading.append import open_append
from famcli.reading.events import BlockEvent
from famcli.reading.memory_file import inspect_memory_file, load_memory, save_memory
from famcli.reading.reader import Reader
from famcli.tokens.tokenizer import ByteTokenizer
from tests.reading.support import nll_of, pipe, same_reading, text_of, tiny_model, tokens_of
from tests.reading.test_reader import text_bytes

MODEL = tiny_model()
BYTES = tiny_model(ByteTokenizer())
ROOT = Path(__file__).parents[2]
TEXT = "abca bcab\r\n cab é 語 aab ".encode() * 5


def read_in_two(
    data: bytes, cut: int, folder: Path, source: str, encoding: str = "utf-8"
) -> tuple[Reader, list[int], torch.Tensor]:
    """Read data[:cut], save, load, append the rest; the reader, its tokens and their losses."""
    path, saved = folder / "text.txt", folder / "text.fam"
    path.write_bytes(data[:cut])
    first = Reader(MODEL, score=True)
    stdin = io.BytesIO(data[:cut])
    events = list(first.read([open_source(path if source == "file" else "-", encoding=encoding, stdin=stdin)]))
    save_memory(saved, first)
    mark = load_memory(saved, MODEL)
    known = mark.num_tokens
    losses = nll_of(events)[:known]
    path.write_bytes(data)
    document, continues = open_append(mark, path if source == "file" else "-", stdin=io.BytesIO(data[cut:]))
    second = Reader(MODEL, score=True, resume=mark)
    rest = list(second.read([document], continues=continues))
    return second, tokens_of(events)[:known] + tokens_of(rest), torch.cat((losses, nll_of(rest)))


def test_a_memory_file_names_all_that_its_state_needs(tmp_path: Path) -> None:
    reader = Reader(MODEL)
    list(reader.read([pipe(TEXT)]))
    info = save_memory(tmp_path / "x.fam", reader)
    assert info.state_meta == inspect_memory_file(tmp_path / "x.fam").state_meta == reader.state.to_tensors()[1]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text_bytes, st.floats(0, 1), st.sampled_from(["file", "pipe"]))
def test_read_and_append_is_read_whole(tmp_path: Path, data: bytes, where: float, source: str) -> None:
    """Wherever the first part ends: in a word, a character, a CRLF, an invalid sequence."""
    whole = Reader(MODEL, score=True)
    events = list(whole.read([pipe(data)]))
    reader, tokens, losses = read_in_two(data, int(where * len(data)), tmp_path, source)
    assert tokens == tokens_of(events)
    torch.testing.assert_close(losses, nll_of(events), rtol=2e-3, atol=2e-3)
    same_reading(whole, reader)
    assert (whole.progress.num_tokens, whole.num_bytes, whole.progress.num_blocks) == (
        reader.progress.num_tokens,
        reader.num_bytes,
        reader.progress.num_blocks,
    )
    assert whole.sources()[0].num_replaced == reader.sources()[0].num_replaced
    if source == "file":
        assert whole.sources()[0].sha256 == reader.sources()[0].sha256


@pytest.mark.parametrize("source", ["file", "pipe"])
@pytest.mark.parametrize("encoding", ["utf-16", "shift_jis"])
def test_append_in_the_middle_of_a_character(tmp_path: Path, encoding: str, source: str) -> None:
    data = "ab 語\r\nか abc".encode(encoding) + b"\x81"
    for cut in range(len(data) + 1):
        whole = Reader(MODEL)
        events = list(whole.read([pipe(data, encoding=encoding)]))
        reader, tokens, _ = read_in_two(data, cut, tmp_path, source, encoding)
        assert tokens == tokens_of(events)
        same_reading(whole, reader)


def test_interrupted_before_anything_new_was_read(tmp_path: Path) -> None:
    """Loaded, told to go on, and stopped at once: what is saved then is what was loaded."""
    reader = Reader(MODEL)
    list(reader.read([pipe(b"abc ca\xe8")]))
    save_memory(tmp_path / "x.fam", reader)
    before = load_memory(tmp_path / "x.fam", MODEL)
    mark = load_memory(tmp_path / "x.fam", MODEL)
    document, continues = open_append(mark, "-", stdin=io.BytesIO(b"never read"))
    second = Reader(MODEL, resume=mark)
    next(second.read([document], continues=continues))
    save_memory(tmp_path / "x.fam", second)
    after = load_memory(tmp_path / "x.fam", MODEL)
    assert (after.next_byte, after.tail, after.line, after.sources) == (4, b"ca\xe8", 1, before.sources)
    assert after.num_tokens == before.num_tokens == 2


def test_appending_through_a_pipe_again_and_again(tmp_path: Path) -> None:
    reader, saved = Reader(MODEL), tmp_path / "x.fam"
    list(reader.read([pipe(TEXT[:1])]))
    for place in range(1, len(TEXT)):
        save_memory(saved, reader)
        mark = load_memory(saved, MODEL)
        document, continues = open_append(mark, "-", stdin=io.BytesIO(TEXT[place : place + 1]))
        reader = Reader(MODEL, resume=mark)
        list(reader.read([document], continues=continues))
    whole = Reader(MODEL)
    list(whole.read([pipe(TEXT)]))
    same_reading(whole, reader)
    assert (reader.num_bytes, reader.progress.num_tokens) == (whole.num_bytes, whole.progress.num_tokens)


def test_saved_between_whole_calls(tmp_path: Path) -> None:
    """Events are of two blocks: what was saved after one goes on with the next."""
    model = tiny_model(fam=FamConfig(block_size=256, memory_segments=1, fam_length=8, memory_update="kept"))
    path = tmp_path / "text.txt"
    path.write_text(" ".join(f"word{n % 90}" for n in range(1900)))
    whole, reader = Reader(model, whole_calls=True), Reader(model, whole_calls=True)
    ends = [event.span[1] for event in whole.read([open_source(path)]) if isinstance(event, BlockEvent)]
    for event in reader.read([open_source(path)]):
        if isinstance(event, BlockEvent) and event.span[1] == ends[1]:
            break
    save_memory(tmp_path / "x.fam", reader)
    mark = load_memory(tmp_path / "x.fam", model)
    document, continues = open_append(mark, path)
    resumed = Reader(model, resume=mark, whole_calls=True)
    rest = resumed.read([document], continues=continues)
    assert [event.span[1] for event in rest if isinstance(event, BlockEvent)] == ends[2:]
    same_reading(resumed, whole)


def test_a_block_larger_than_a_document_keeps(tmp_path: Path) -> None:
    """Interrupted while 600 kB of tokens wait for their block to be full: all of them are kept."""
    model = tiny_model(ByteTokenizer(), fam=FamConfig(block_size=1 << 20, memory_segments=0, fam_length=0))
    data = np.random.default_rng(0).integers(97, 123, 600_000, dtype=np.uint8).tobytes()

    class Interrupted(io.BytesIO):
        def read1(self, size: int | None = -1) -> bytes:
            part = super().read1(1 << 16)
            if not part:
                raise KeyboardInterrupt
            return part

    reader = Reader(model)
    with pytest.raises(KeyboardInterrupt):
        list(reader.read([open_source("-", encoding="utf-8", stdin=Interrupted(data))]))
    save_memory(tmp_path / "x.fam", reader)
    mark = load_memory(tmp_path / "x.fam", model)
    assert (mark.unread.ids.astype(np.uint8).tobytes(), mark.tail, mark.num_tokens) == (data, data, 0)


@pytest.mark.parametrize("cut", range(0, 60, 7))
def test_saved_in_the_middle(tmp_path: Path, cut: int) -> None:
    """Between any two events, with tokens that wait for their block: nothing is lost, nothing comes twice."""
    path = tmp_path / "text.txt"
    path.write_bytes(TEXT)
    whole = Reader(MODEL, score=True)
    events = list(whole.read([open_source(path)]))
    reader, seen = Reader(MODEL, score=True), []
    for event in reader.read([open_source(path)]):
        seen.append(event)
        if reader.progress.num_tokens > cut:
            break
    save_memory(tmp_path / "text.fam", reader)
    mark = load_memory(tmp_path / "text.fam", MODEL)
    document, continues = open_append(mark, path)
    assert continues
    second = Reader(MODEL, score=True, resume=mark)
    rest = list(second.read([document], continues=True))
    assert tokens_of(seen) + tokens_of(rest) == tokens_of(events)
    torch.testing.assert_close(torch.cat((nll_of(seen), nll_of(rest))), nll_of(events))
    assert text_of(rest) == TEXT[mark.next_byte :].decode()
    lines = {event.span[0]: event.line for event in events if hasattr(event, "span")}
    for event in rest:
        if hasattr(event, "span"):
            assert event.line == TEXT[: event.span[0]].count(b"\n") + 1
    assert lines
    same_reading(whole, second)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_loading_and_finishing_is_where_reading_ended(tmp_path: Path, dtype: torch.dtype) -> None:
    model = tiny_model()
    model.network.to(dtype)
    reader = Reader(model)
    list(reader.read([pipe(TEXT[:-9])]))
    info = save_memory(tmp_path / "x.fam", reader)
    loaded = Reader(model, resume=load_memory(tmp_path / "x.fam", model))
    loaded.finish()
    same_reading(reader, loaded)
    assert loaded.progress.num_tokens == reader.progress.num_tokens
    assert info == inspect_memory_file(tmp_path / "x.fam")
    assert info.num_bytes == len(TEXT) - 9


def test_another_source_after_loading(tmp_path: Path) -> None:
    for name, data in (("a.txt", b"abc ab"), ("b.txt", b"cab abc ac")):
        (tmp_path / name).write_bytes(data)
    whole = Reader(MODEL)
    list(whole.read([open_source(tmp_path / "a.txt"), open_source(tmp_path / "b.txt")], names=True))
    first = Reader(MODEL)
    list(first.read([open_source(tmp_path / "a.txt")], names=True))
    save_memory(tmp_path / "x.fam", first)
    mark = load_memory(tmp_path / "x.fam", MODEL)
    document, continues = open_append(mark, tmp_path / "b.txt")
    assert not continues
    second = Reader(MODEL, resume=mark)
    list(second.read([document], continues=continues))
    same_reading(whole, second)
    assert [source.name for source in second.sources()] == [str(tmp_path / "a.txt"), str(tmp_path / "b.txt")]
    save_memory(tmp_path / "x.fam", second)
    with pytest.raises(MemoryFileError, match="only the last source can grow"):
        open_append(load_memory(tmp_path / "x.fam", MODEL), tmp_path / "a.txt")


def test_kind_memory_keeps_the_memory_and_the_open_block(tmp_path: Path) -> None:
    model = tiny_model(ByteTokenizer(), fam=FamConfig(block_size=64, memory_segments=3, fam_length=2))
    reader = Reader(model)
    list(reader.read([pipe(b"all of it " * 60)]))
    save_memory(tmp_path / "full.fam", reader)
    save_memory(tmp_path / "small.fam", reader, "memory")
    assert (tmp_path / "small.fam").stat().st_size < (tmp_path / "full.fam").stat().st_size / 4
    mark = load_memory(tmp_path / "small.fam", model)
    for one, other in zip(mark.state.layers, reader.state.layers, strict=True):
        torch.testing.assert_close(one.memory, other.memory)
        assert one.segment_keys.shape[2] == 0
    assert mark.state.fill == reader.state.fill
    assert torch.equal(mark.state.position, reader.state.position)
    again = Reader(model, resume=mark)
    list(again.read([pipe(b" more")], continues=False))
    assert again.num_bytes == 605


def test_kind_memory_of_kept_tokens_has_the_window_that_they_do_not_have_yet(tmp_path: Path) -> None:
    """What it kept is of blocks that left the window, so the window's tokens are read again."""
    fam = FamConfig(block_size=8, memory_segments=2, fam_length=4, memory_update="kept")
    model = tiny_model(ByteTokenizer(), fam=fam)
    for num_bytes in (5, 16, 21, 100):
        reader = Reader(model)
        list(reader.read([pipe((bytes(range(97, 107)) * 10)[:num_bytes])]))
        save_memory(tmp_path / "full.fam", reader)
        same_reading(reader, Reader(model, resume=load_memory(tmp_path / "full.fam", model)))
        save_memory(tmp_path / "x.fam", reader, "memory")
        mark = load_memory(tmp_path / "x.fam", model)
        assert torch.equal(mark.state.position, reader.state.position)
        assert (mark.state.fill, mark.state.memory_is_initial) == (reader.state.fill, reader.state.memory_is_initial)
        for number, (one, other) in enumerate(zip(mark.state.layers, reader.state.layers, strict=True)):
            torch.testing.assert_close(one.memory, other.memory)
            assert one.segment_keys.shape == other.segment_keys.shape
            if not number:  # higher layers had seen more
                torch.testing.assert_close(one.segment_keys, other.segment_keys)
        # Saved once more it is as long, and not longer.
        again = Reader(model, resume=mark)
        save_memory(tmp_path / "y.fam", again, "memory")
        assert len(load_memory(tmp_path / "y.fam", model).open_tokens) == len(mark.open_tokens)


def test_kind_memory_without_a_closed_block_is_exact(tmp_path: Path) -> None:
    reader = Reader(BYTES)
    list(reader.read([pipe(b"short")]))
    save_memory(tmp_path / "x.fam", reader, "memory")
    loaded = Reader(BYTES, resume=load_memory(tmp_path / "x.fam", BYTES))
    loaded.finish()
    same_reading(reader, loaded)


@pytest.mark.parametrize("mode", ["none", "frozen"])
def test_modes_without_a_memory_keep_their_state_only(tmp_path: Path, mode: str) -> None:
    reader = Reader(BYTES, memory_mode=mode)  # type: ignore[arg-type]
    list(reader.read([pipe(b"some text that is longer")]))
    with pytest.raises(UsageError, match="has no memory to keep"):
        save_memory(tmp_path / "x.fam", reader, "memory")
    save_memory(tmp_path / "x.fam", reader)
    loaded = Reader(BYTES, resume=load_memory(tmp_path / "x.fam", BYTES))
    assert loaded.memory_mode == mode
    same_reading(reader, loaded)
    with pytest.raises(UsageError, match=f"memory mode '{mode}' so far"):
        Reader(BYTES, memory_mode="on", resume=load_memory(tmp_path / "x.fam", BYTES))


def test_nothing_to_keep(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing was read"):
        save_memory(tmp_path / "x.fam", Reader(MODEL))
    reader = Reader(MODEL, memory_mode="compare")
    list(reader.read([pipe(b"abc")]))
    with pytest.raises(UsageError, match="compare"):
        save_memory(tmp_path / "x.fam", reader)
    assert not list(tmp_path.iterdir())


# ------------------------------------------------------------------------------------------------ a source that changed


def test_a_changed_source_is_not_continued(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    path.write_bytes(b"abc cab\n")
    reader = Reader(MODEL)
    list(reader.read([open_source(path)]))
    mark = reader.cursor()
    path.write_bytes(b"abc bab\nmore")
    with pytest.raises(MemoryFileError, match=r"first 8 bytes of .* are not those that were read"):
        open_append(mark, path)
    path.write_bytes(b"abc")
    with pytest.raises(MemoryFileError, match="shorter"):
        open_append(mark, path)


# ------------------------------------------------------------------------------------------------ the file itself


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    reader = Reader(BYTES)
    list(reader.read([pipe(b"something to remember, of some length")]))
    save_memory(tmp_path / "book.fam", reader)
    return tmp_path / "book.fam"


def test_readable_by_its_owner_only_and_nothing_left_beside(saved: Path) -> None:
    assert stat.S_IMODE(saved.stat().st_mode) == 0o600
    assert list(saved.parent.iterdir()) == [saved]


@pytest.mark.parametrize(("seed", "what"), [(1, "weights-of-1"), (2, "tiny-2")])
def test_another_model_is_named(saved: Path, seed: int, what: str) -> None:
    with pytest.raises(MemoryFileError, match="weights-of-0") as raised:
        load_memory(saved, tiny_model(ByteTokenizer(), seed=seed))
    assert what in str(raised.value)


def test_another_way_of_reading_is_named(saved: Path) -> None:
    other = tiny_model(ByteTokenizer(), fam=FamConfig(block_size=8, memory_segments=2, fam_length=3))
    with pytest.raises(MemoryFileError, match=r"memory_segments 1\), the model here is tiny-0 \(memory_segments 2\)"):
        load_memory(saved, other)


def test_the_checkpoint_that_wrote_it_is_named_as_an_option(saved: Path) -> None:
    fam = FamConfig(block_size=128, memory_segments=1, fam_length=3)
    with pytest.raises(MemoryFileError, match=r"written with tiny-0 \(block_size 8\).*choose that model") as raised:
        load_memory(saved, tiny_model(ByteTokenizer(), seed=3, fam=fam))
    assert raised.value.remedy == {"model": "tiny-0"}


def test_every_truncation_is_found(saved: Path) -> None:
    data = saved.read_bytes()
    for length in [0, 1, 7, 8, 9, 100, len(data) // 2, len(data) - 1]:
        saved.write_bytes(data[:length])
        with pytest.raises(MemoryFileError):
            load_memory(saved, BYTES)
        with pytest.raises(MemoryFileError):
            inspect_memory_file(saved)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_every_changed_byte_is_found(saved: Path, data: st.DataObject) -> None:
    """Any damaged byte gives an error, or at least not another reading (JSON has spare spaces)."""
    good = saved.read_bytes()
    place = data.draw(st.integers(0, len(good) - 1))
    bad = bytearray(good)
    bad[place] ^= data.draw(st.integers(1, 255))
    path = saved.parent / "damaged.fam"
    path.write_bytes(bad)
    message = ""
    try:
        mark = load_memory(path, BYTES)
    except MemoryFileError as error:
        message = str(error)
    if message:
        assert "damaged.fam" in message
        assert "\n" not in message
    else:
        expected = load_memory(saved, BYTES)
        for name, tensor in expected.state.to_tensors()[0].items():
            assert torch.equal(tensor, mark.state.to_tensors()[0][name])
        assert mark.sources == expected.sources


def rewrite(path: Path, change_info: dict[str, object], tensors: dict[str, torch.Tensor | None]) -> None:
    """The same file with other contents and a checksum that fits them: what a hostile writer can do."""
    there = {name: tensor.clone() for name, tensor in safetensors.torch.load_file(path).items()}
    for name, tensor in tensors.items():
        there.pop(name, None)
        if tensor is not None:
            there[name] = tensor
    info = json.loads(memory_file.OpenedMemoryFile(path).info_text) | change_info
    text = json.dumps(info)
    safetensors.torch.save_file(there, path, memory_file.metadata(text, there))


@pytest.mark.parametrize(
    ("info", "tensors"),
    [
        ({"fill": 7}, {}),
        ({"fill": -1}, {}),
        ({"fill": 1 << 40}, {}),
        ({"fill": 2.5}, {}),
        ({"num_closed": 99}, {}),
        ({"position": 3}, {}),
        ({"kind": "other"}, {}),
        ({"kind": "memory"}, {}),
        ({"memory_mode": "off"}, {}),
        ({"sources": []}, {}),
        ({"sources": [{"name": 1}]}, {}),
        ({"sources": "book"}, {}),
        ({"next_byte": 1 << 50}, {}),
        ({"surprise": 1}, {}),
        ({"begun": 1}, {}),
        ({}, {"tail": torch.zeros(9, dtype=torch.uint8)}),
        ({}, {"open_tokens": torch.full((6,), 1 << 20, dtype=torch.int32)}),
        ({}, {"open_tokens": torch.full((6,), -1, dtype=torch.int32)}),
        ({}, {"open_tokens": None}),
        ({}, {"state.layers.0.memory": torch.zeros(1, 3, 17)}),
        ({}, {"state.layers.0.memory": torch.zeros(1, 3, 16, dtype=torch.float64)}),
        ({}, {"state.layers.7.memory": torch.zeros(1, 3, 16)}),
        ({}, {"last_hidden": torch.zeros(1, 2, 16)}),
        ({}, {"unread_ids": torch.zeros(2, dtype=torch.int32)}),
        ({}, {"state.position": torch.tensor([5])}),
    ],
)
def test_what_cannot_be_is_refused(
    saved: Path, info: dict[str, object], tensors: dict[str, torch.Tensor | None]
) -> None:
    rewrite(saved, info, tensors)
    with pytest.raises(MemoryFileError):
        load_memory(saved, BYTES)


def test_unread_spans_are_checked(saved: Path) -> None:
    """Spans that run backwards or past the end would be quoted from."""
    for starts, ends in (([5, 2], [6, 3]), ([30, 99], [31, 100]), ([-4, 3], [3, 4])):
        rewrite(
            saved,
            {"next_byte": 37},
            {
                "tail": torch.zeros(37 - starts[0], dtype=torch.uint8),
                "unread_ids": torch.zeros(2, dtype=torch.int32),
                "unread_starts": torch.tensor(starts),
                "unread_ends": torch.tensor(ends),
            },
        )
        with pytest.raises(MemoryFileError):
            load_memory(saved, BYTES)


def test_files_that_are_something_else(tmp_path: Path) -> None:
    for content, what in (
        (b"", "is not a memory file"),
        (b"hello", "is not a memory file"),
        (b"just a text that is longer", "is not a memory file"),
        (b"\x10\0\0\0\0\0\0\0{}      ", "was cut short, or the file is damaged: read the text again"),
        (b"\x08\0\0\0\0\0\0\0{}      ", "no memory file"),
    ):
        (tmp_path / "x.fam").write_bytes(content)
        with pytest.raises(MemoryFileError, match=what) as raised:
            load_memory(tmp_path / "x.fam", MODEL)
        assert "safetensors" not in str(raised.value)
    safetensors.torch.save_file({"a": torch.zeros(2)}, tmp_path / "x.fam")
    with pytest.raises(MemoryFileError, match="no memory file"):
        inspect_memory_file(tmp_path / "x.fam")
    safetensors.torch.save_file({"a": torch.zeros(2)}, tmp_path / "x.fam", {"format": "famcli memory 2"})
    with pytest.raises(MemoryFileError, match="newer famcli"):
        inspect_memory_file(tmp_path / "x.fam")
    with pytest.raises(MemoryFileError, match="directory"):
        load_memory(tmp_path, MODEL)
    with pytest.raises(MemoryFileError, match="no such memory file"):
        load_memory(tmp_path / "absent.fam", MODEL)


# ------------------------------------------------------------------------------------------------ saving that fails


@pytest.mark.parametrize("step", ["save_file", "fsync", "replace"])
def test_a_full_disk_leaves_the_old_file(saved: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    before = saved.read_bytes()
    reader = Reader(BYTES)
    list(reader.read([pipe(b"other")]))

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    target = memory_file if step == "save_file" else os
    monkeypatch.setattr(target, step, full)
    with pytest.raises(MemoryFileError, match="No space left on device"):
        save_memory(saved, reader)
    monkeypatch.undo()
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    reader = Reader(BYTES)
    list(reader.read([pipe(b"other")]))
    with pytest.raises(MemoryFileError, match="cannot save"):
        save_memory(tmp_path / "absent" / "x.fam", reader)
    (tmp_path / "folder").mkdir()
    with pytest.raises(MemoryFileError, match="cannot save"):
        save_memory(tmp_path / "folder", reader)


def test_a_file_size_limit_is_a_full_disk(saved: Path) -> None:
    """The real thing, in a process that may write 20 kB: the error is one line, the old file stays."""
    before = saved.read_bytes()
    code = f"""
        import resource, signal, sys
        from tests.reading.test_memory_file import *
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        reader = Reader(tiny_model(ByteTokenizer(), fam=FamConfig(block_size=256, memory_segments=1, fam_length=3)))
        list(reader.read([pipe(b"x" * 600)]))
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        try:
            save_memory({str(saved)!r}, reader)
        except MemoryFileError as error:
            print(error)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert "cannot save to" in done.stdout, done.stderr
    assert done.stdout.count("\n") == 1
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


def test_killed_while_saving(tmp_path: Path) -> None:
    """A process that saves again and again dies without warning: the file is always a whole one."""
    saved = tmp_path / "book.fam"
    code = f"""
        from tests.reading.test_memory_file import *
        reader = Reader(tiny_model(ByteTokenizer(), fam=FamConfig(block_size=256, memory_segments=3, fam_length=3)))
        for _ in reader.read([pipe(b"the text goes on " * 2000)]):
            save_memory({str(saved)!r}, reader)
            print("saved", flush=True)
        while True:
            save_memory({str(saved)!r}, reader)
    """
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.readline()
        time.sleep(0.3)
        process.send_signal(signal.SIGKILL)
    model = tiny_model(ByteTokenizer(), fam=FamConfig(block_size=256, memory_segments=3, fam_length=3))
    data = b"the text goes on " * 2000
    mark = load_memory(saved, model)
    rest = data[mark.sources[-1].num_bytes :]
    document, _ = open_append(mark, "-", stdin=io.BytesIO(rest))
    second, whole = Reader(model, resume=mark), Reader(model)
    list(second.read([document], continues=True))
    list(whole.read([pipe(data)]))
    assert second.progress.num_tokens == whole.progress.num_tokens == len(data)
    same_reading(whole, second)
