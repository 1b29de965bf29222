"""A disk that fills at every byte of a save: what was there stays, and an answer is given all the same."""

from __future__ import annotations

import random
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from famcli.documents.writing import atomic_file
from famcli.errors import FamcliError, MemoryFileError, RecipeError
from famcli.reading.memory_file import load_memory, save_memory
from famcli.reading.reader import Reader
from famcli.tasks.ask.ask import ask
from famcli.tasks.ask.reading_cache import ReadingCache
from famcli.training.loop.run_folder import load_run, save_run
from tests.faults.children import Figures
from tests.faults.kills import FACT, QUESTION
from tests.reading.support import pipe
from tests.tasks.support import LARGE, byte_model, prose


@contextmanager
def _full_at(num_bytes: int) -> Iterator[None]:
    """In the `with` no file can be larger: writing more fails as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def disks(size: int, seed: int, folder: Path) -> Figures:
    """Saves of four kinds, each with the disk full at `size` places: all its bytes, if there are no more."""
    figures, draw = Figures("disks"), random.Random(seed)
    for kind in (_memory_file, _page, _checkpoint, _reading):
        place = folder / kind.__name__.strip("_")
        place.mkdir()
        whole, attempt = kind(place)
        # The slow ones at fewer places.
        limit = max(4, size // 40) if kind is _reading else size
        places = range(whole) if whole <= limit else sorted({0, whole - 1, *draw.sample(range(whole), limit - 2)})
        for num_bytes in places:
            figures.trials += 1
            try:
                attempt(num_bytes)
            except (AssertionError, pytest.fail.Exception, FamcliError, OSError) as error:
                line = f"{kind.__name__} full at byte {num_bytes} of {whole}: {type(error).__name__}: {error}"
                figures.failures.append(line[:300])
        figures.count(f"places of {kind.__name__.strip('_')}", len(places))
    return figures


Attempt = Callable[[int], None]


def _memory_file(folder: Path) -> tuple[int, Attempt]:
    model, path = byte_model(), folder / "text.fam"
    old, new = Reader(model), Reader(model)
    for reader, text in ((old, "Old text, in a few words."), (new, prose(5))):
        for _ in reader.read([pipe(text.encode())]):
            pass
    save_memory(path, new)
    whole = path.stat().st_size
    save_memory(path, old)
    before = path.read_bytes()

    def attempt(num_bytes: int) -> None:
        with pytest.raises(MemoryFileError, match="what was there before is untouched"), _full_at(num_bytes):
            save_memory(path, new)
        assert path.read_bytes() == before, "the old file is changed"
        assert list(folder.iterdir()) == [path], "leftovers"

    load_memory(path, model)
    return whole, attempt


def _page(folder: Path) -> tuple[int, Attempt]:
    path, content = folder / "page.html", prose(8).encode()
    path.write_bytes(b"old")

    def attempt(num_bytes: int) -> None:
        with pytest.raises(OSError, match="too large"), _full_at(num_bytes), atomic_file(path, private=True) as beside:
            beside.write_bytes(content)
        assert path.read_bytes() == b"old", "the old file is changed"
        assert list(folder.iterdir()) == [path], "leftovers"

    return len(content), attempt


def _checkpoint(folder: Path) -> tuple[int, Attempt]:
    def save(step: int) -> None:
        save_run(folder, step, {"a": {"w": torch.full((20, 20), float(step))}}, {"step": step})

    save(1)
    whole = max(path.stat().st_size for path in folder.rglob("*.*") if path.is_file())

    def attempt(num_bytes: int) -> None:
        with pytest.raises(RecipeError), _full_at(num_bytes):
            save(2)
        found = load_run(folder)
        assert found is not None
        assert found[2] == {"step": 1}, "the checkpoint before is gone"
        assert [path.name for path in folder.iterdir()] == ["checkpoint-00000001"], "leftovers"

    return whole, attempt


def _reading(folder: Path) -> tuple[int, Attempt]:
    model, cache, text = byte_model(LARGE), ReadingCache(folder / "readings"), folder / "text.txt"
    text.write_text(prose(10) + FACT)
    answers = ask(model, QUESTION, [text], cache=cache).answers
    whole = max(path.stat().st_size for path in cache.folder.rglob("*.*"))
    cache.clear()

    def attempt(num_bytes: int) -> None:
        with _full_at(num_bytes):
            result = ask(model, QUESTION, [text], cache=cache)
        assert result.answers == answers, "another answer"
        assert len(result.warnings) == 1, result.warnings
        assert "nothing can be kept in" in result.warnings[0]
        assert not list(cache.folder.iterdir()), "leftovers"

    return whole, attempt
