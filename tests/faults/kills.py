"""Kill -9 at random points of what is saved: nothing is lost, and going on ends where an unbroken run ends."""

from __future__ import annotations

import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import torch

from famcli.errors import FamcliError
from famcli.reading.memory_file import load_memory
from famcli.reading.reader import Reader
from famcli.tasks.ask.ask import ask
from famcli.tasks.ask.reading_cache import ReadingCache
from famcli.tasks.read import ReadConfig, read
from famcli.training.loop.run_folder import load_run, save_run
from tests.faults.children import Child, Figures
from tests.reading.support import same_reading
from tests.tasks.support import LARGE, byte_model, prose

QUESTION = "Where did the keeper hide the treasure map?"
FACT = "The keeper Ottilie hid the treasure map under a red stone. "
_STEPS = 40


def kills(size: int, seed: int, folder: Path) -> Figures:
    """`size` kills, divided over saves, appends, training checkpoints and kept readings."""
    figures, draw = Figures("kills"), random.Random(seed)
    kinds = (_saves, _appends, _checkpoints, _readings)
    for number in range(size):
        place = folder / f"kill-{number}"
        place.mkdir(parents=True)
        figures.trials += 1
        kind = kinds[number % len(kinds)]
        try:
            kind(place, draw, figures)
        except (AssertionError, FamcliError) as error:
            figures.failures.append(f"{kind.__name__} {number}: {type(error).__name__}: {error}"[:300])
        shutil.rmtree(place)
    return figures


def _killed(work: Callable[[], object], folder: Path, draw: random.Random, figures: Figures, has_begun: Path) -> None:
    """Run `work` in a child and kill it at a random moment after `has_begun` exists."""
    child = Child(work, folder)
    until = time.monotonic() + 20
    while not has_begun.exists() and time.monotonic() < until:
        time.sleep(0.0005)
    time.sleep(draw.expovariate(1 / 0.05))
    child.send(signal.SIGKILL)
    figures.count("killed before the end" if child.wait() < 0 else "ended before the kill")
    figures.count("leftovers found", sum(path.name.startswith(".") for path in folder.rglob("*")))


def _no_leftovers(folder: Path) -> None:
    assert not [path for path in folder.rglob(".*") if path.name != ".lock"], "leftovers stay"


def _saves(folder: Path, draw: random.Random, figures: Figures) -> None:
    model, text, memory = byte_model(LARGE), folder / "text.txt", folder / "text.fam"
    text.write_text(prose(25, draw.randrange(1000)))
    _killed(lambda: read(model, [text], ReadConfig(save=memory, save_every=1e-9)), folder, draw, figures, memory)
    load_memory(memory, model)
    _goes_on(model, text, memory)
    _no_leftovers(folder)


def _appends(folder: Path, draw: random.Random, figures: Figures) -> None:
    model, text, memory = byte_model(LARGE), folder / "text.txt", folder / "text.fam"
    content = prose(25, draw.randrange(1000))
    text.write_text(content[: draw.randrange(200, 800)])
    read(model, [text], ReadConfig(save=memory))
    before = memory.read_bytes()
    text.write_text(content)
    config = ReadConfig(save=memory, save_every=1e-9, append=True)
    _killed(lambda: read(model, [text], config), folder, draw, figures, folder / ".text.fam.lock")
    figures.count("still the old file", memory.read_bytes() == before)
    _goes_on(model, text, memory)
    _no_leftovers(folder)


def _goes_on(model, text: Path, memory: Path) -> None:  # type: ignore[no-untyped-def]
    """What is read on from a memory file is what an unbroken run reads."""
    result = read(model, [text], ReadConfig(save=memory, append=True))
    assert result.total.num_bytes == text.stat().st_size
    unbroken = Reader(model)
    from famcli.documents.opening import open_source

    for _ in unbroken.read([open_source(text)]):
        pass
    same_reading(Reader(model, resume=load_memory(memory, model)), Reader(model, resume=unbroken.cursor()))


def _checkpoints(folder: Path, draw: random.Random, figures: Figures) -> None:
    run = folder / "run"

    def train() -> None:
        for step in range(1, _STEPS):
            save_run(run, step, {"network": {"w": torch.full((64, 64), float(step))}}, {"step": step})

    run.mkdir()
    _killed(train, folder, draw, figures, run / "checkpoint-00000001")
    found = load_run(run)
    assert found is not None, "no checkpoint is left"
    _, sections, values = found
    assert (sections["network"]["w"] == values["step"]).all(), "a mixed checkpoint"
    save_run(run, _STEPS, {"network": {"w": torch.ones(2)}}, {"step": _STEPS})
    assert [path.name for path in run.iterdir()] == [f"checkpoint-{_STEPS:08d}"], "leftovers stay"


def _readings(folder: Path, draw: random.Random, figures: Figures) -> None:
    model, cache = byte_model(LARGE), ReadingCache(folder / "readings")
    texts = [folder / f"{number}.txt" for number in range(3)]
    for number, text in enumerate(texts):
        text.write_text(prose(8, number) + FACT + prose(8, number + 9))

    def work() -> None:
        for text in texts:
            ask(model, QUESTION, [text], cache=cache)

    _killed(work, folder, draw, figures, folder / "readings")
    for text in texts:
        found, unbroken = ask(model, QUESTION, [text], cache=cache), ask(model, QUESTION, [text])
        assert found.answers == unbroken.answers, "another answer"
        assert not found.warnings, found.warnings
        figures.count("answered from what was kept", found.cached)
    assert not list(cache.folder.glob(".*")), "leftovers stay"
