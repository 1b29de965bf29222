"""Kill -9 at random points of what is saved: nothing is lost, and going on ends where an unbroken run ends.

Half of the kills come at a random moment, half before a random system call of those that may change a file.
"""

from __future__ import annotations

import random
import shutil
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import torch

from famcli.documents.opening import open_source
from famcli.errors import FamcliError
from famcli.reading.memory_file import load_memory
from famcli.reading.reader import Reader
from famcli.tasks.ask.ask import ask
from famcli.tasks.ask.reading_cache import ReadingCache
from famcli.tasks.read import ReadConfig, read
from famcli.training.loop.run_folder import load_run, save_run
from tests.faults.children import Child, Figures, command
from tests.faults.hub import fetching, serving
from tests.faults.saves import FACT, QUESTION
from tests.faults.stepping import can_step, stepped
from tests.helpers import make_random_checkpoint
from tests.reading.support import same_reading
from tests.tasks.support import LARGE, byte_model, prose
from tests.training.conftest import make_toy

_STEPS = 40
ADAPT = "--steps 3 --lanes 2 --rank 2 --block-size 16 --memory-segments 1 --fam-length 2 --dtype float32 --device cpu"
ADAPT_WORDS = (*ADAPT.split(), "--set", "schedule.max_blocks=2")

# How many calls an unbroken run makes, and how long it lasts, by what is run.
_CALLS: dict[str, int] = {}
_SECONDS: dict[str, float] = {}

Work = Callable[[], object]
Check = Callable[[Figures], None]
Kind = Callable[[Path, random.Random], tuple[Work, Check]]
"""Prepares a folder: gives what is to be killed, and a check of what is there then."""


def kills(size: int, seed: int, folder: Path) -> Figures:
    """`size` kills, divided over what famcli writes."""
    figures, draw = Figures("kills"), random.Random(seed)
    with ExitStack() as stack:
        kinds = {"read": _saves, "append": _appends, "save_run": _checkpoints, "ask": _readings}
        kinds |= _commands(folder, stack)
        for number in range(size):
            name = list(kinds)[(seed * size + number) % len(kinds)]
            figures.trials += 1
            try:
                _measure(name, kinds[name], folder / f"measured-{name}")
                _kill(name, kinds[name], folder / f"kill-{number}", draw, figures)
            except (AssertionError, FamcliError, OSError) as error:
                figures.failures.append(f"{name} {number}: {type(error).__name__}: {error}"[:300])
            shutil.rmtree(folder / f"kill-{number}", ignore_errors=True)
    return figures


def _measure(name: str, kind: Kind, place: Path) -> None:
    """Note how many calls an unbroken run makes, and how long it lasts, once."""
    if name not in _SECONDS:
        (place / "streams").mkdir(parents=True)
        work, _ = kind(place, random.Random(0))
        began = time.monotonic()
        _CALLS[name] = len(stepped(work, place / "streams")[0]) if can_step() else 0
        _SECONDS[name] = time.monotonic() - began if can_step() else 1.0
        shutil.rmtree(place)


def _kill(name: str, kind: Kind, place: Path, draw: random.Random, figures: Figures) -> None:
    """Kill it at a random moment or before a random call, and check what is there."""
    (place / "streams").mkdir(parents=True)
    work, check = kind(place, draw)
    if draw.random() < 0.5 and _CALLS[name]:
        _, code = stepped(work, place / "streams", draw.randrange(_CALLS[name]))
    else:
        child = Child(work, place / "streams")
        time.sleep(draw.uniform(0, _SECONDS[name]))
        child.send(signal.SIGKILL)
        code = child.wait()
    figures.count("ended before the kill" if code >= 0 else "killed")
    figures.count("leftovers found", sum(path.name.startswith(".") for path in place.rglob("*")))
    check(figures)


def _no_leftovers(folder: Path) -> None:
    assert not [path.name for path in folder.rglob(".*")], f"leftovers stay: {list(folder.rglob('.*'))}"


# ------------------------------------------------------------------------------------------------- reading


def _saves(folder: Path, draw: random.Random) -> tuple[Work, Check]:
    model, text, memory = byte_model(LARGE), folder / "text.txt", folder / "text.fam"
    text.write_text(prose(25, draw.randrange(1000)))

    def check(figures: Figures) -> None:
        if memory.exists():
            load_memory(memory, model)
            _goes_on(model, text, memory)
        else:
            # Killed before anything was saved: then nothing is in the way.
            assert read(model, [text], ReadConfig(save=memory)).total.num_bytes == text.stat().st_size
        _no_leftovers(folder)

    return lambda: read(model, [text], ReadConfig(save=memory, save_every=1e-9)), check


def _appends(folder: Path, draw: random.Random) -> tuple[Work, Check]:
    model, text, memory = byte_model(LARGE), folder / "text.txt", folder / "text.fam"
    content = prose(25, draw.randrange(1000))
    text.write_text(content[: draw.randrange(200, 800)])
    read(model, [text], ReadConfig(save=memory))
    before = memory.read_bytes()
    text.write_text(content)
    config = ReadConfig(save=memory, save_every=1e-9, append=True)

    def check(figures: Figures) -> None:
        figures.count("still the old file", memory.read_bytes() == before)
        _goes_on(model, text, memory)
        _no_leftovers(folder)

    return lambda: read(model, [text], config), check


def _goes_on(model, text: Path, memory: Path) -> None:  # type: ignore[no-untyped-def]
    """What is read on from a memory file is what an unbroken run reads."""
    result = read(model, [text], ReadConfig(save=memory, append=True))
    assert result.total.num_bytes == text.stat().st_size
    unbroken = Reader(model)
    for _ in unbroken.read([open_source(text)]):
        pass
    same_reading(Reader(model, resume=load_memory(memory, model)), Reader(model, resume=unbroken.cursor()))


def _readings(folder: Path, draw: random.Random) -> tuple[Work, Check]:
    model, cache = byte_model(LARGE), ReadingCache(folder / "readings")
    texts = [folder / f"{number}.txt" for number in range(3)]
    for number, text in enumerate(texts):
        text.write_text(prose(8, number) + FACT + prose(8, number + 9))

    def work() -> None:
        for text in texts:
            ask(model, QUESTION, [text], cache=cache)

    def check(figures: Figures) -> None:
        # One that is surely new is kept too, so that what was left by the killed one goes.
        (folder / "new.txt").write_text(prose(3) + FACT)
        for text in (*texts, folder / "new.txt"):
            found, unbroken = ask(model, QUESTION, [text], cache=cache), ask(model, QUESTION, [text])
            assert found.answers == unbroken.answers, "another answer"
            assert not found.warnings, found.warnings
            figures.count("answered from what was kept", found.cached)
        assert not list(cache.folder.glob(".*")), "leftovers stay"

    return work, check


def _checkpoints(folder: Path, draw: random.Random) -> tuple[Work, Check]:
    run = folder / "run"

    def train() -> None:
        for step in range(1, _STEPS):
            save_run(run, step, {"network": {"w": torch.full((64, 64), float(step))}}, {"step": step})

    run.mkdir()
    save_run(run, 0, {"network": {"w": torch.zeros(64, 64)}}, {"step": 0})

    def check(figures: Figures) -> None:
        found = load_run(run)
        assert found is not None, "no checkpoint is left"
        _, sections, values = found
        assert (sections["network"]["w"] == values["step"]).all(), "a mixed checkpoint"
        save_run(run, _STEPS, {"network": {"w": torch.ones(2)}}, {"step": _STEPS})
        assert [path.name for path in run.iterdir()] == [f"checkpoint-{_STEPS:08d}"], "leftovers stay"

    return train, check


# ------------------------------------------------------------------------------------------------- whole commands


def _commands(folder: Path, stack: ExitStack) -> dict[str, Kind]:
    """Commands that write a checkpoint, killed and given again: then there is what an unbroken one writes."""
    base = make_random_checkpoint(folder / "base", fam=None)
    (folder / "toy").mkdir()
    recipe, story = make_toy(folder / "toy"), folder / "story.txt"
    story.write_text(prose(30))
    address = stack.enter_context(serving(make_random_checkpoint(folder / "remote")))
    unbroken: dict[str, dict[str, bytes]] = {}

    def adapt(place: Path) -> Work:
        words = ["adapt", base, "--data", story, "--progress", "none", *ADAPT_WORDS]
        return command([*words, "--out", place / "made", "--run", place / "run"])

    def merge(place: Path) -> Work:
        if not (folder / "adapter").exists():
            _made(folder / "adapter", adapt)
        return command(["merge", base, folder / "adapter" / "made", place / "made"])

    works: dict[str, Callable[[Path], Work]] = {
        "train": lambda place: command(["train", recipe, "--run", place / "made", "--set", "schedule.steps=5"]),
        "adapt": adapt,
        "merge": merge,
        "quantize": lambda place: command(["quantize", base, place / "made"]),
        "enable": lambda place: command(["enable", shutil.copytree(base, place / "made", dirs_exist_ok=True)]),
        "pull": lambda place: fetching(address, place / "made"),
    }

    def kind(name: str, place: Path, draw: random.Random) -> tuple[Work, Check]:
        def check(figures: Figures) -> None:
            if name not in unbroken:
                unbroken[name] = _content(_made(folder / f"unbroken-{name}", works[name]))
            child = Child(works[name](place), place / "streams")
            code, error = child.wait(), child.texts()[1]
            # Or it was done before the kill.
            assert code == 0 or "there already" in error or "was enabled before" in error, error
            found, whole = _content(place / "made"), unbroken[name]
            differ = [name for name in found.keys() | whole.keys() if found.get(name) != whole.get(name)]
            assert not differ, f"{differ} are not those of an unbroken run"
            # What is refused writes nothing, and sweeps nothing.
            left = code == 0 and [
                one for one in place.rglob(".*") if one.suffix in (".tmp", ".old") or one.name.startswith(".tmp")
            ]
            assert not left, f"leftovers stay: {left}"

        return works[name](place), check

    return {name: partial(kind, name) for name in works}


def _made(place: Path, work: Callable[[Path], Work]) -> Path:
    """What a command makes in a folder without a kill."""
    place.mkdir()
    child = Child(work(place), place)
    code = child.wait()
    assert code == 0, child.texts()[1]
    return place / "made"


def _content(folder: Path) -> dict[str, bytes]:
    """The files that others open, by their names: not logs, which have times, nor a cache's own."""
    files = [path for path in folder.rglob("*") if path.is_file() and "blobs" not in path.parts]
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in files
        # The library that fetches leaves what it had in the making, which nobody takes for a name.
        if not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.suffix != ".tmp"
        and path.name not in ("log.jsonl", "recipe.toml", "state.json")
    }
