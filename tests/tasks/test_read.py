from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from famcli.errors import MemoryFileError, UsageError
from famcli.plain import to_json
from famcli.reading.cursor import Progress
from famcli.reading.events import BlockEvent
from famcli.reading.memory_file import inspect_memory_file
from famcli.tasks import read as read_module
from famcli.tasks.read import Read, ReadConfig, Saved, read
from famcli.tasks.task import Advance, Notice, ReadingTracker
from tests.reading.support import pipe, same_reading, tiny_model
from tests.tasks.support import byte_model, collect, prose, write

TEXT = prose(12).encode()


def test_it_reads_and_saves(tmp_path: Path) -> None:
    path, memory = write(tmp_path, TEXT), tmp_path / "text.fam"
    result = read(byte_model(), [path], ReadConfig(save=memory))
    assert result.saved is not None
    assert result.saved.path == memory
    assert (result.total.num_bytes, result.total.num_tokens) == (len(TEXT), len(TEXT))
    assert result.counts.num_bytes == len(TEXT)
    assert result.counts.num_blocks == result.total.num_blocks == (len(TEXT) + 1) // 8
    assert not result.partial
    info = inspect_memory_file(memory)
    assert (info.kind, info.num_bytes) == ("full", len(TEXT))
    assert json.dumps(to_json(result), allow_nan=False)


def test_without_a_memory_file_it_only_reads(tmp_path: Path) -> None:
    task = Read(byte_model())
    events = list(task.events([write(tmp_path, TEXT)]))
    assert collect(events, Saved) == []
    assert task.save() is None
    assert task.result().saved is None
    assert sum(event.num_tokens for event in collect(events, Advance)) == len(TEXT)


@pytest.mark.parametrize("cut", [0, 1, 17, len(TEXT) // 2, len(TEXT)])
@pytest.mark.parametrize("kind", ["full", "memory"])
def test_appending_goes_on_where_reading_stopped(cut: int, kind: str, tmp_path: Path) -> None:
    model, path, memory = tiny_model(), write(tmp_path, TEXT[:cut]), tmp_path / "text.fam"
    read(model, [path], ReadConfig(save=memory, kind=kind))  # type: ignore[arg-type]
    path.write_bytes(TEXT)
    appended = Read(model, ReadConfig(save=memory, append=True))
    events = list(appended.events([path]))
    at_once = Read(model)
    list(at_once.events([path]))
    assert inspect_memory_file(memory).kind == kind
    assert appended.result().total.num_bytes == len(TEXT)
    assert appended.result().total.num_tokens == at_once.result().total.num_tokens
    assert sum(event.num_bytes for event in collect(events, Advance)) == appended.result().counts.num_bytes
    if kind == "full":
        same_reading(appended._reader, at_once._reader)


def test_appending_refuses_a_source_that_changed(tmp_path: Path) -> None:
    model, path, memory = byte_model(), write(tmp_path, TEXT), tmp_path / "text.fam"
    read(model, [path], ReadConfig(save=memory))
    before = memory.read_bytes()
    path.write_bytes(b"X" + TEXT)
    with pytest.raises(MemoryFileError, match="changed"):
        read(model, [path], ReadConfig(save=memory, append=True))
    assert memory.read_bytes() == before


def test_appending_another_file_adds_a_source(tmp_path: Path) -> None:
    model, memory = byte_model(), tmp_path / "text.fam"
    read(model, [write(tmp_path, TEXT, "a.txt")], ReadConfig(save=memory))
    others = [write(tmp_path, TEXT[:50], "b.txt"), write(tmp_path, TEXT[:70], "c.txt")]
    result = read(model, others, ReadConfig(save=memory, append=True))
    assert [Path(source.name).name for source in result.counts.sources] == ["b.txt", "c.txt"]
    assert result.counts.num_bytes == 120
    # Nobody should take an unrelated text for the rest of the first.
    assert len(result.warnings) == 2
    for warning, name, before in zip(result.warnings, ("b.txt", "c.txt"), ("a.txt", "b.txt"), strict=True):
        assert warning == f"{tmp_path / name} is a new source after {tmp_path / before}, and does not continue it"
    assert result.total.num_bytes == len(TEXT) + 120
    assert len(inspect_memory_file(memory).sources) == 3


def test_an_interrupted_reading_can_be_saved_and_gone_on_with(tmp_path: Path) -> None:
    model, path, memory = byte_model(), write(tmp_path, TEXT), tmp_path / "text.fam"
    task = Read(model, ReadConfig(save=memory))
    num_bytes = 0
    for event in task.events([path]):
        num_bytes += event.num_bytes if isinstance(event, Advance) else 0
        if num_bytes > len(TEXT) // 2:
            break
    saved = task.save()
    assert saved is not None
    first = task.result()
    assert first.partial
    assert (saved.num_bytes, saved.num_tokens) == (first.counts.num_bytes, first.counts.num_tokens)
    assert saved.num_bytes == saved.num_tokens == num_bytes
    assert saved.bytes_unread == len(TEXT) - num_bytes  # it came in one piece
    assert inspect_memory_file(memory).progress == Progress(num_bytes, num_bytes, saved.num_blocks, saved.bytes_unread)
    rest = read(model, [path], ReadConfig(save=memory, append=True))
    assert rest.counts.num_bytes == saved.bytes_unread
    assert rest.total.num_blocks == saved.num_blocks + rest.counts.num_blocks
    assert rest.total.num_bytes == rest.total.num_tokens == len(TEXT)
    assert not rest.partial


def test_it_saves_while_it_reads(tmp_path: Path) -> None:
    memory = tmp_path / "text.fam"
    task = Read(byte_model(), ReadConfig(save=memory, save_every=1e-9))
    saves = collect(task.events([write(tmp_path, TEXT)]), Saved)
    assert len(saves) > 10
    assert [save.num_tokens for save in saves] == sorted(save.num_tokens for save in saves)
    assert saves[-1].file_size == memory.stat().st_size


def test_an_existing_file_is_not_replaced_unasked(tmp_path: Path) -> None:
    path, memory = write(tmp_path, TEXT), write(tmp_path, b"precious", "text.fam")
    for force in (False, True):
        with pytest.raises(UsageError, match="is no memory file, so it is not replaced"):
            Read(byte_model(), ReadConfig(save=memory, force=force))
    assert memory.read_bytes() == b"precious"
    memory.unlink()
    read(byte_model(), [write(tmp_path, b"Older.", "older.txt")], ReadConfig(save=memory))
    with pytest.raises(UsageError, match="append to it"):
        Read(byte_model(), ReadConfig(save=memory))
    read(byte_model(), [path], ReadConfig(save=memory, force=True))
    assert inspect_memory_file(memory).num_bytes == len(TEXT)


@pytest.mark.parametrize(
    "options",
    [
        {"append": True},
        {"force": True},
        {"kind": "memory"},
        {"save": Path("x"), "append": True, "force": True},
        {"save_every": 0.0},
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        ReadConfig(**options)  # type: ignore[arg-type]


def test_targets_are_checked_before_anything_is_read(tmp_path: Path) -> None:
    for config, error in (
        (ReadConfig(save=tmp_path), UsageError),
        (ReadConfig(save=tmp_path / "no" / "x.fam"), UsageError),
        (ReadConfig(save=tmp_path / "x.fam", append=True), UsageError),
        (ReadConfig(save=write(tmp_path, b"no memory file"), append=True), MemoryFileError),
    ):
        with pytest.raises(error):
            Read(byte_model(), config)


def test_an_empty_document_is_kept_too(tmp_path: Path) -> None:
    path, memory = write(tmp_path, b""), tmp_path / "text.fam"
    assert read(byte_model(), [path], ReadConfig(save=memory)).total.num_tokens == 0
    path.write_bytes(TEXT)
    assert read(byte_model(), [path], ReadConfig(save=memory, append=True)).total.num_tokens == len(TEXT)


def test_it_follows_a_file_that_grows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_module, "POLL_SECONDS", 0.01)
    path, memory = write(tmp_path, TEXT[:100]), tmp_path / "text.fam"
    task = Read(byte_model(), ReadConfig(save=memory, follow=True, save_every=0.02))
    grown = threading.Event()

    def grow() -> None:
        time.sleep(0.1)
        with path.open("ab") as file:
            file.write(TEXT[100:])
        grown.set()
        time.sleep(0.3)
        path.unlink()  # what ends the following here; a user interrupts it

    writer = threading.Thread(target=grow)
    writer.start()
    list(task.events([path]))
    writer.join()
    assert grown.is_set()
    assert task.result().total.num_bytes == len(TEXT)
    whole = Read(byte_model())
    list(whole.events([write(tmp_path, TEXT, "whole.txt")]))
    same_reading(task._reader, whole._reader)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (Path.unlink, "is not there any more"),
        (lambda path: path.write_bytes(TEXT[:50]), "became shorter than what was read of it"),
        (lambda path: write(path.parent, TEXT * 2, "new.txt").replace(path), "was replaced by another file"),
    ],
)
def test_a_file_that_can_grow_no_more_ends_the_following_with_a_warning(
    change: Callable[[Path], object], problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, TEXT)
    monkeypatch.setattr(read_module.time, "sleep", lambda seconds: change(path))
    result = read(byte_model(), [path], ReadConfig(save=tmp_path / "text.fam", follow=True))
    assert result.counts.num_bytes == len(TEXT)
    assert result.warnings == (f"{path} {problem}: following has ended with what was read until then",)


def test_a_file_that_was_moved_is_not_read_twice(tmp_path: Path) -> None:
    path, memory = write(tmp_path, TEXT), tmp_path / "text.fam"
    read(byte_model(), [path], ReadConfig(save=memory))
    before, moved = memory.read_bytes(), path.rename(tmp_path / "moved.txt")
    with pytest.raises(MemoryFileError, match=r"begins with what was read as .* move it back"):
        read(byte_model(), [moved], ReadConfig(save=memory, append=True))
    assert memory.read_bytes() == before
    other = write(tmp_path, b"Another text.", "other.txt")
    assert read(byte_model(), [other], ReadConfig(save=memory, append=True)).total.num_bytes == len(TEXT) + 13


def test_an_interruption_ends_the_wait_for_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(read_module.time, "sleep", interrupt)
    memory = tmp_path / "text.fam"
    result = read(byte_model(), [write(tmp_path, TEXT)], ReadConfig(save=memory, follow=True))
    assert (result.stopped, result.partial, result.counts.num_bytes) == (True, False, len(TEXT))
    assert inspect_memory_file(memory).progress.bytes_unread == 0


def test_what_two_runs_read_adds_up_where_the_end_was_tentative(tmp_path: Path) -> None:
    model, path, memory = tiny_model(), write(tmp_path, TEXT[:203]), tmp_path / "text.fam"
    first = read(model, [path], ReadConfig(save=memory))
    assert first.saved is not None
    assert (first.saved.num_tokens, first.saved.num_bytes) == (first.counts.num_tokens, 203)
    path.write_bytes(TEXT)
    second = read(model, [path], ReadConfig(save=memory, append=True))
    assert second.saved is not None
    assert second.saved.num_tokens == first.counts.num_tokens + second.counts.num_tokens
    assert second.saved.num_blocks == first.counts.num_blocks + second.counts.num_blocks
    assert second.counts.sources[0].num_tokens == second.counts.num_tokens


def test_nothing_new_is_said(tmp_path: Path) -> None:
    path, memory = write(tmp_path, TEXT), tmp_path / "text.fam"
    read(byte_model(), [path], ReadConfig(save=memory))
    again = read(byte_model(), [path], ReadConfig(save=memory, append=True))
    assert again.warnings == (f"nothing to read: {path} has nothing new",)
    assert (again.counts.num_bytes, again.counts.num_tokens, again.counts.num_blocks) == (0, 0, 0)


def test_a_text_of_few_bytes_a_token_is_explained() -> None:
    tracker = ReadingTracker(vocab_size=4096)
    said = []
    for number in range(1, 9):
        event = BlockEvent(
            index=number - 1,
            source="dna.txt",
            source_index=0,
            span=(0, 1200 * number),
            line=1,
            num_closed=1,
            tokens=np.zeros(1000, np.int32),
            token_starts=np.zeros(1000, np.int64),
            token_ends=np.zeros(1000, np.int64),
            nll=None,
            correct=None,
            nll_frozen=None,
            correct_frozen=None,
            attention=None,
        )
        said += [(number, event.text) for event in collect(tracker.record(event), Notice)]
    # 1.2 bytes: enough to be a beginning with tables, so it is said after 4,096 tokens.
    assert [number for number, _ in said] == [5]
    assert "dna.txt has few bytes a token (1.2)" in said[0][1]
    assert tracker.counts().num_blocks == 8


def test_a_pipe_cannot_be_followed() -> None:
    with pytest.raises(UsageError, match="can be followed"):
        list(Read(byte_model(), ReadConfig(follow=True)).events([pipe(TEXT)]))
