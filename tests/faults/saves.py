"""What famcli saves, one value for each kind: an old state in a folder, how it is replaced by a new one, and which of
the two a folder holds. The campaigns break off the writing of each at every place they can think of."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from famcli.checkpoint.convert import save_quantized
from famcli.checkpoint.enable import enable
from famcli.checkpoint.open import open_model
from famcli.checkpoint.save import save_adapter, save_checkpoint
from famcli.checkpoint.sidecar import Sidecar
from famcli.checkpoint.weights import check_folder
from famcli.documents.writing import atomic_file
from famcli.nn.lora import LoraConfig, LowRank
from famcli.reading.memory_file import load_memory, save_memory
from famcli.reading.reader import Reader
from famcli.tasks.ask.ask import ask
from famcli.tasks.ask.reading_cache import ReadingCache
from famcli.tasks.report.page import Item, Report, write_report
from famcli.training.data.corpus import write_packed
from famcli.training.loop.run_folder import load_run, save_run
from tests.helpers import TINY_FAM, make_random_checkpoint, random_network
from tests.reading.support import pipe, same_reading
from tests.tasks.support import LARGE, byte_model, prose

QUESTION = "Where did the keeper hide the treasure map?"
FACT = "The keeper Ottilie hid the treasure map under a red stone. "
OLD, NEW = "old state", "new state"


@dataclass(frozen=True)
class Save:
    """One save. folder: all that it changes lies in there, and the old state when this is made.

    write: makes it the new state, or raises FamcliError or OSError. state: OLD or NEW, of what such a folder holds;
    raises AssertionError, FamcliError or OSError for anything else. names: all that is in `folder` without leftovers.
    largest: bytes of the largest file that it writes. never_fails: `write` gives its answer all the same where nothing
    can be written. is_slow: it reads a text or a checkpoint. halves: what else `state` may say after a kill: of several
    files in a folder that stays, that it does not open.
    """

    folder: Path
    write: Callable[[], object]
    state: Callable[[Path], str]
    names: frozenset[str]
    largest: int
    never_fails: bool = False
    is_slow: bool = False
    halves: frozenset[str] = frozenset()


def memory_file(folder: Path, seed: int) -> Save:
    """A memory file that grows."""
    model = byte_model(LARGE)
    old, new = Reader(model), Reader(model)
    for reader, text in ((old, "Old text, in a few words."), (new, prose(8, seed))):
        for _ in reader.read([pipe(text.encode())]):
            pass
    path = folder / "text.fam"
    save_memory(path, new)
    largest = path.stat().st_size
    save_memory(path, old)

    def state(root: Path) -> str:
        found = Reader(model, resume=load_memory(root / path.name, model))
        is_old = found.num_bytes == old.num_bytes
        same_reading(found, old if is_old else new)
        assert is_old or found.num_bytes == new.num_bytes
        return OLD if is_old else NEW

    return Save(folder, lambda: save_memory(path, new), state, frozenset({"text.fam"}), largest)


def page(folder: Path, seed: int) -> Save:
    """A page of --html."""
    path = folder / "page.html"

    def write(text: str) -> None:
        write_report(path, Report("Summary", (), (Item(text),), ()), ())

    write("new " + prose(3, seed))
    new = path.read_bytes()
    write("old")
    old = path.read_bytes()

    def state(root: Path) -> str:
        found = (root / path.name).read_bytes()
        assert found in (old, new), "neither the old page nor the new one"
        return OLD if found == old else NEW

    return Save(folder, lambda: write("new " + prose(3, seed)), state, frozenset({"page.html"}), len(new))


def conversation(folder: Path, seed: int) -> Save:
    """What /save of `famcli chat` writes: a new file, whole or not there."""
    path, text = folder / "notes.md", prose(3, seed)

    def write() -> None:
        with atomic_file(path, private=True, new=True) as beside:
            beside.write_text(text)

    def state(root: Path) -> str:
        if not (root / path.name).exists():
            return OLD
        assert (root / path.name).read_text() == text
        return NEW

    return Save(folder, write, state, frozenset({"notes.md"}), len(text))


def training_checkpoint(folder: Path, seed: int) -> Save:
    """A training checkpoint, which takes the place of the one before."""

    def save(step: int) -> None:
        save_run(folder, step, {"network": {"w": torch.full((16, 16), float(step))}}, {"step": step})

    save(1)
    largest = _largest(folder)

    def state(root: Path) -> str:
        found = load_run(root)
        assert found is not None, "no checkpoint is left"
        _, sections, values = found
        assert (sections["network"]["w"] == values["step"]).all(), "a mixed checkpoint"
        return OLD if values["step"] == 1 else NEW

    return Save(folder, lambda: save(2), state, frozenset({"checkpoint-00000002"}), largest)


def kept_reading(folder: Path, seed: int) -> Save:
    """What is kept of a text for the next question."""
    model, text = byte_model(LARGE), folder.with_name(f"{folder.name}-text.txt")
    text.write_text(prose(6, seed) + FACT)
    answers = ask(model, QUESTION, [text]).answers

    def asked(root: Path, is_broken: bool) -> bool:
        result = ask(model, QUESTION, [text], cache=ReadingCache(root))
        assert result.answers == answers, "another answer"
        assert not result.warnings or is_broken, result.warnings
        return result.cached

    def state(root: Path) -> str:
        return NEW if asked(root, is_broken=False) else OLD

    write = lambda: asked(folder, is_broken=True)  # noqa: E731
    write()
    (entry,), largest = ReadingCache(folder).entries(), _largest(folder)
    ReadingCache(folder).clear()
    return Save(folder, write, state, frozenset({entry.key}), largest, never_fails=True, is_slow=True)


def new_checkpoint(folder: Path, seed: int) -> Save:
    """What `famcli quantize` writes: a new folder."""
    base, made = make_random_checkpoint(folder.with_name(f"{folder.name}-base")), folder / "made"

    def state(root: Path) -> str:
        if not (root / made.name).exists():
            return OLD
        assert open_model(root / made.name).fingerprints == whole
        return NEW

    save_quantized(base, made)
    whole, largest = open_model(made).fingerprints, _largest(made)
    shutil.rmtree(made)
    return Save(folder, lambda: save_quantized(base, made), state, frozenset({"made"}), largest, is_slow=True)


def replaced_checkpoint(folder: Path, seed: int) -> Save:
    """The checkpoint that a training run exports, in the place of an earlier one with weights in more files."""
    model = open_model(make_random_checkpoint(folder.with_name(f"{folder.name}-base")))
    made, networks = folder / "export", [random_network(model.network.config, TINY_FAM, seed=n) for n in (1, 2)]

    def write(number: int) -> None:
        shard_bytes = None if number else 12_000
        save_checkpoint(made, networks[number], model.tokenizer, Sidecar(TINY_FAM, True), shard_bytes=shard_bytes)

    return _in_place(folder, made, "config.json", write)


def replaced_adapter(folder: Path, seed: int) -> Save:
    """An adapter with a memory prompt, in the place of another one."""
    checked = check_folder(make_random_checkpoint(folder.with_name(f"{folder.name}-base"), fam=None))
    made, name = folder / "adapter", "model.layers.0.self_attn.q_proj.weight"
    rows, columns = checked.weights[name].shape

    def write(number: int) -> None:
        update = LowRank(torch.full((2, columns), float(number)), torch.full((rows, 2), float(number)), 1.0)
        prompt = torch.full((TINY_FAM.fam_length, columns), float(number))
        lora = LoraConfig(2, 2.0, ("q_proj",))
        own, sidecar = {"memory_prompt": prompt}, Sidecar(TINY_FAM, True)
        save_adapter(made, {name: update}, lora, checked.weights, base="base", sidecar=sidecar, own=own)

    return _in_place(folder, made, "adapter_config.json", write)


def enabled_checkpoint(folder: Path, seed: int) -> Save:
    """What `famcli enable --force` writes beside the weights, which it leaves alone."""
    made = make_random_checkpoint(folder / "plain", fam=None)

    def write(number: int) -> None:
        enable(made, seed=number, force=True, block_size=16, memory_segments=1, fam_length=2 + number)

    return _in_place(folder, made, "fam.json", write)


def _in_place(folder: Path, made: Path, last: str, write: Callable[[int], object]) -> Save:
    """A save of several files in a folder that stays: they are of one state, or `last`, which opens it, is missing."""

    def content(root: Path) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in root.iterdir() if not path.name.startswith(".")}

    write(0)
    old = content(made)
    write(1)
    new = content(made)
    for path in made.iterdir():
        path.unlink()
    for name, data in old.items():
        (made / name).write_bytes(data)

    def state(root: Path) -> str:
        found = content(root / made.name)
        if found in (old, new):
            return OLD if found == old else NEW
        # Files of both: then the one that it is opened by is not there.
        mixed = [name for name, data in found.items() if data not in (old.get(name), new.get(name))]
        assert not mixed, f"{mixed} are neither old nor new"
        assert last not in found, f"files of two checkpoints: {sorted(found)}"
        return "does not open"

    largest = max(map(len, (data for name, data in new.items() if data != old.get(name))))
    halves = frozenset({"does not open"})
    return Save(folder, lambda: write(1), state, frozenset({made.name}), largest, is_slow=True, halves=halves)


def packed_corpus(folder: Path, seed: int) -> Save:
    """A corpus as tokens."""
    source, made = folder.with_name(f"{folder.name}-text.txt"), folder / "packed"
    source.write_text("text")
    texts = [(str(number), prose(2, seed + number)) for number in range(3)]

    def write() -> None:
        write_packed(made, source, byte_model().tokenizer, texts, "name", 100)

    write()
    whole, largest = {path.name: path.read_bytes() for path in made.iterdir()}, _largest(made)
    shutil.rmtree(made)

    def state(root: Path) -> str:
        if not (root / made.name).exists():
            return OLD
        assert {path.name: path.read_bytes() for path in (root / made.name).iterdir()} == whole
        return NEW

    return Save(folder, write, state, frozenset({"packed"}), largest)


def _largest(folder: Path) -> int:
    return max(path.stat().st_size for path in folder.rglob("*") if path.is_file())


KINDS: dict[str, Callable[[Path, int], Save]] = {
    kind.__name__.replace("_", " "): kind
    for kind in (
        memory_file,
        page,
        conversation,
        training_checkpoint,
        kept_reading,
        new_checkpoint,
        replaced_checkpoint,
        replaced_adapter,
        enabled_checkpoint,
        packed_corpus,
    )
}
