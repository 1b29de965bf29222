from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from famcli.errors import UsageError
from famcli.tasks.ask.ask import Ask, AskConfig, AskResult, ask
from famcli.tasks.ask.asked_text import TextReader
from famcli.tasks.ask.reading_cache import ReadingCache, text_key
from famcli.tasks.task import Advance
from tests.reading.support import pipe
from tests.tasks.ask.test_ask import FACT, OTHER, QUESTION, check_citations, planted
from tests.tasks.support import LARGE, byte_model, collect, write


@pytest.fixture
def cache(tmp_path: Path) -> ReadingCache:
    return ReadingCache(tmp_path / "readings")


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """An entry for each time that documents are read."""
    found: list[str] = []
    read = TextReader.events

    def watched(self: TextReader, documents, *first):  # type: ignore[no-untyped-def]
        found.append("read")
        return read(self, documents, *first)

    monkeypatch.setattr(TextReader, "events", watched)
    return found


def test_a_second_question_reads_nothing_and_gets_the_same_answer(
    cache: ReadingCache, reads: list[str], tmp_path: Path
) -> None:
    model, path = byte_model(LARGE), write(tmp_path, planted())
    both = ask(model, [QUESTION, OTHER], [path])
    assert len(reads) == 1
    first = ask(model, OTHER, [path], cache=cache)
    assert (len(reads), first.cached) == (2, False)
    task = Ask(model, [QUESTION], cache=cache)
    events = list(task.events([path]))
    second = task.result()
    task.close()
    assert (len(reads), second.cached, second.partial) == (2, True, False)
    assert collect(events, Advance) == []
    assert second.counts.sources == both.counts.sources
    assert (*second.answers, *first.answers) == both.answers
    check_citations(second, path.read_bytes())


def test_the_content_is_what_counts(cache: ReadingCache, reads: list[str], tmp_path: Path) -> None:
    model, path = byte_model(LARGE), write(tmp_path, planted(), "a.txt")
    ask(model, QUESTION, [path], cache=cache)
    moved = path.rename(tmp_path / "b.txt")
    result = ask(model, QUESTION, [str(moved)], cache=cache)
    assert (result.cached, result.answers[0].citations[0].source) == (True, str(moved))
    assert [source.name for source in result.counts.sources] == [str(moved)]
    check_citations(result, moved.read_bytes())
    moved.write_bytes(moved.read_bytes().replace(b"third", b"other"))
    assert not ask(model, QUESTION, [moved], cache=cache).cached
    assert len(reads) == 2


@pytest.mark.parametrize("change", ["seed", "mode", "encoding", "files", "order"])
def test_what_shapes_a_reading_makes_another_one(change: str, cache: ReadingCache, tmp_path: Path) -> None:
    model, paths = byte_model(LARGE), [write(tmp_path, planted(), "a.txt"), write(tmp_path, OTHER, "b.txt")]
    config = AskConfig()
    ask(model, QUESTION, paths, config, cache)
    if change == "seed":
        model = byte_model(LARGE, seed=1)
    elif change == "mode":
        config = replace(config, memory_mode="frozen")
    elif change == "encoding":
        config = replace(config, encoding="latin-1")
    elif change == "files":
        paths.pop()
    else:
        paths.reverse()
    assert not ask(model, QUESTION, paths, config, cache).cached
    assert len(cache.entries()) == 2
    assert ask(model, OTHER, paths, config, cache).cached


def test_a_pipe_a_question_first_and_an_interrupted_reading_are_not_kept(cache: ReadingCache, tmp_path: Path) -> None:
    model, path = byte_model(LARGE), write(tmp_path, planted(0.1, 300))
    ask(model, QUESTION, [pipe(planted().encode())], cache=cache)
    ask(model, QUESTION, [path], AskConfig(question_first=True), cache)
    task, num_bytes = Ask(model, [QUESTION], cache=cache), 0
    for event in task.events([path]):
        num_bytes += event.num_bytes if isinstance(event, Advance) else 0
        if num_bytes > 5000:
            break
    result = task.result()
    task.close()
    assert result.partial
    assert FACT.removesuffix(".") in result.answers[0].text
    assert cache.entries() == []
    assert not cache.folder.exists() or list(cache.folder.iterdir()) == []


def test_a_damaged_entry_is_read_again(cache: ReadingCache, tmp_path: Path) -> None:
    model, path, config = byte_model(LARGE), write(tmp_path, planted()), AskConfig(style="span")
    ask(model, QUESTION, [path], config, cache)
    for name in ("state.fam", "passages.sqlite", "entry.json"):
        (entry,) = cache.entries()
        file = cache.folder / entry.key / name
        file.write_bytes(file.read_bytes()[:99])
        assert not ask(model, QUESTION, [path], config, cache).cached
        assert ask(model, QUESTION, [path], config, cache).cached
    file = cache.folder / cache.entries()[0].key / "state.fam"
    file.unlink()
    assert not ask(model, QUESTION, [path], config, cache).cached


def test_the_network_reads_a_text_only_where_answers_depend_on_it(cache: ReadingCache, tmp_path: Path) -> None:
    model, path = byte_model(LARGE), write(tmp_path, planted())
    quoted = ask(model, QUESTION, [path], cache=cache)
    assert (quoted.counts.num_bytes, quoted.counts.num_tokens) == (path.stat().st_size, 0)
    (entry,) = cache.entries()
    assert not (cache.folder / entry.key / "state.fam").exists()
    again = ask(model, QUESTION, [path], cache=cache)
    assert (again.cached, again.answers, again.counts.sources) == (True, quoted.answers, quoted.counts.sources)
    # A span is copied by a network that has read everything, which such a reading cannot serve.
    copied = ask(model, QUESTION, [path], AskConfig(style="span"), cache)
    assert (copied.cached, copied.counts.num_tokens) == (False, path.stat().st_size)
    assert copied.answers[0].citations == quoted.answers[0].citations


def test_a_source_that_changes_after_it_was_found_is_not_cited(cache: ReadingCache, tmp_path: Path) -> None:
    model, path = byte_model(LARGE), write(tmp_path, planted())
    ask(model, QUESTION, [path], cache=cache)
    task = Ask(model, [], cache=cache)
    list(task.events([path]))
    path.write_bytes(path.read_bytes()[::-1])
    list(task.more([QUESTION]))
    result: AskResult = task.result()
    task.close()
    assert not result.answers[0].found
    assert "changed since it was read" in result.warnings[0]


def test_what_was_asked_longest_ago_goes_first(tmp_path: Path) -> None:
    model, cache = byte_model(LARGE), ReadingCache(tmp_path / "readings")
    paths = [write(tmp_path, planted(place), f"{place}.txt") for place in (0.1, 0.4, 0.7)]
    for path in paths:
        ask(model, QUESTION, [path], cache=cache)
    entries = {entry.names[0]: entry for entry in cache.entries()}
    for age, path in enumerate(paths[1:] + paths[:1]):  # the first one was asked last
        os.utime(cache.folder / entries[str(path)].key / "entry.json", (1000 + age, 1000 + age))
    size = max(entry.size for entry in entries.values())
    small = ReadingCache(cache.folder, limit=3 * size + size // 2)
    ask(model, QUESTION, [write(tmp_path, planted(0.9), "new.txt")], cache=small)
    assert {entry.names[0] for entry in small.entries()} == {str(tmp_path / "new.txt"), str(paths[0]), str(paths[2])}
    assert ask(model, QUESTION, [paths[0]], cache=small).cached


def test_what_is_larger_than_the_limit_is_not_kept(tmp_path: Path) -> None:
    cache, path = ReadingCache(tmp_path / "readings", limit=1000), write(tmp_path, planted())
    assert ask(byte_model(LARGE), QUESTION, [path], cache=cache).answers[0].found
    assert cache.entries() == []
    assert list(cache.folder.iterdir()) == []
    with pytest.raises(UsageError, match="limit"):
        ReadingCache(tmp_path, limit=-1)


def test_clearing_touches_nothing_else_and_entries_are_private(cache: ReadingCache, tmp_path: Path) -> None:
    ask(byte_model(LARGE), QUESTION, [write(tmp_path, planted())], AskConfig(style="span"), cache)
    (entry,) = cache.entries()
    assert (cache.folder / entry.key).stat().st_mode & 0o077 == 0
    assert (cache.folder / entry.key / "passages.sqlite").stat().st_mode & 0o077 == 0
    assert entry.size > 1000
    assert entry.num_bytes == entry.num_tokens == (tmp_path / "text.txt").stat().st_size
    (cache.folder / "mine").mkdir()
    (cache.folder / ".making-killed").mkdir()
    assert cache.clear() == 1
    assert [path.name for path in cache.folder.iterdir()] == ["mine"]
    assert ReadingCache(tmp_path / "absent").clear() == 0


def test_where_nothing_can_be_kept_it_says_so_and_answers(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    cache = ReadingCache(tmp_path / "file" / "readings")
    result = ask(byte_model(LARGE), QUESTION, [write(tmp_path, planted())], cache=cache)
    assert result.answers[0].found
    assert "nothing can be kept in" in result.warnings[0]


def test_a_file_that_changes_while_it_is_read_is_not_kept(cache: ReadingCache, tmp_path: Path) -> None:
    model, path = byte_model(LARGE), write(tmp_path, planted())
    task = Ask(model, [OTHER], cache=cache)
    for number, event in enumerate(task.events([path])):
        if number == 1 and isinstance(event, Advance):
            with path.open("a") as file:
                file.write("One more sentence stands here.")
    task.close()
    assert cache.entries() == []
    key = text_key(model, "on", [path], None)
    assert cache.find(model, key, [path]) is None
