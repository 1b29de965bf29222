"""Two processes on everything that can be shared: nothing is lost, and whoever comes second is told who is first."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from famcli.checkpoint.open import open_model
from famcli.errors import FamcliError
from famcli.nn import FamConfig
from famcli.reading.memory_file import inspect_memory_file
from tests.faults.children import Child, Figures, command, run_command
from tests.faults.saves import FACT, QUESTION
from tests.helpers import make_random_checkpoint
from tests.tasks.support import prose

Check = Callable[[Path, list[int], list[str]], None]


def writers(size: int, seed: int, folder: Path) -> Figures:
    """`size` times two commands at once that write the same, a random moment apart."""
    figures, draw = Figures("writers"), random.Random(seed)
    make_random_checkpoint(folder / "tiny", fam=FamConfig(block_size=128, memory_segments=1, fam_length=4))
    (folder / "story.txt").write_text(prose(30) + FACT + prose(30, 1))
    kinds = (_save, _append, _page, _readings, _quantize)
    for number in range(size):
        place = folder / f"writers-{number}"
        place.mkdir()
        figures.trials += 1
        kind = kinds[number % len(kinds)]
        try:
            _both(kind, folder, place, draw, figures)
        except (AssertionError, TimeoutError, FamcliError, OSError) as error:
            figures.failures.append(f"{kind.__name__} {number}: {type(error).__name__}: {error}"[:400])
        shutil.rmtree(place)
    return figures


def _both(
    kind: Callable[..., tuple[list[list[object]], Check]],
    folder: Path,
    place: Path,
    draw: random.Random,
    figures: Figures,
) -> None:
    both, check = kind(folder, place)
    children = []
    for number, words in enumerate(both):
        own = place / f"streams-{number}"
        own.mkdir()
        children.append(
            Child(command(words, environ={"FAMCLI_READINGS": str(place / "kept"), "FAMCLI_THREADS": "1"}), own)
        )
        time.sleep(draw.expovariate(1 / 0.1) * (number == 0))
    codes = [child.wait() for child in children]
    errors = [child.texts()[1] for child in children]
    assert 0 in codes, f"neither did it: {errors}"
    for code, error in zip(codes, errors, strict=True):
        told = "is being written by process" in error or "exists: append to it" in error or "there already" in error
        assert code == 0 or told, error
        figures.count("did it" if code == 0 else "was told who writes")
    check(place, codes, errors)
    left = list(place.rglob(".*"))
    assert not left, f"leftovers: {left}"


def _save(folder: Path, place: Path) -> tuple[list[list[object]], Check]:
    words: list[object] = ["read", folder / "story.txt", "--save", place / "new.fam", "--model", folder / "tiny"]

    def check(place: Path, codes: list[int], errors: list[str]) -> None:
        assert sorted(codes)[0] == 0
        assert codes.count(0) == 1, "both saved, and one is lost"
        assert inspect_memory_file(place / "new.fam").num_bytes == (folder / "story.txt").stat().st_size

    return [words, words], check


def _append(folder: Path, place: Path) -> tuple[list[list[object]], Check]:
    memory = place / "new.fam"
    code, _, error = run_command(["read", folder / "story.txt", "--save", memory, "--model", folder / "tiny"], place)
    assert code == 0, error
    both = []
    for name in ("a.txt", "b.txt"):
        (place / name).write_text(prose(40, ord(name[0])))
        both.append(["read", place / name, "--save", memory, "--append", "--model", folder / "tiny"])

    def check(place: Path, codes: list[int], errors: list[str]) -> None:
        names = [Path(source.name).name for source in inspect_memory_file(memory).sources]
        assert len(names) == 1 + codes.count(0), f"{codes} and {names}: one is lost"

    return both, check


def _page(folder: Path, place: Path) -> tuple[list[list[object]], Check]:
    words: list[object] = ["summarize", folder / "story.txt", "--html", place / "p.html", "--model", folder / "tiny"]

    def check(place: Path, codes: list[int], errors: list[str]) -> None:
        assert codes == [0, 0], "a page is written in a moment, so both can"
        assert (place / "p.html").read_text().rstrip().endswith("</html>")

    return [words, words], check


def _readings(folder: Path, place: Path) -> tuple[list[list[object]], Check]:
    words: list[object] = ["ask", QUESTION, "-f", folder / "story.txt", "--model", folder / "tiny", "--json"]

    def check(place: Path, codes: list[int], errors: list[str]) -> None:
        assert codes == [0, 0], errors
        environ = {"FAMCLI_READINGS": str(place / "kept")}
        code, output, error = run_command(words, place, environ=environ)
        assert code == 0, error
        assert '"cached": true' in output, "it was not kept"

    return [words, words], check


def _quantize(folder: Path, place: Path) -> tuple[list[list[object]], Check]:
    both: list[list[object]] = [["quantize", folder / "tiny", place / "made", "--to", to] for to in ("int8", "int4")]

    def check(place: Path, codes: list[int], errors: list[str]) -> None:
        # Of one or the other: a mixed one could not be opened.
        open_model(place / "made")

    return both, check
