"""Kill -9 before every system call of a save that may change a file: the old state or the new one, and no leftovers.

What `kills` does at random, and may miss in the thousandth of a second that matters, is done here without a gap.
"""

from __future__ import annotations

import shutil
from contextlib import nullcontext, suppress
from pathlib import Path

from famcli.errors import FamcliError
from tests.faults.children import Figures
from tests.faults.saves import KINDS, NEW, OLD, Save
from tests.faults.stepping import can_step, stepped


def steps(size: int, seed: int, folder: Path) -> Figures:
    """Each kind of save, killed before `size` in a hundred of its calls: all of them by 100 / `size` seeds in a row."""
    figures, every = Figures("steps"), max(1, 100 // size)
    if not can_step():
        figures.count("not on this machine: it needs Linux on x86-64")
        return figures
    for name, kind in KINDS.items():
        place = folder / name.replace(" ", "-")
        for part in ("disk", "streams"):
            (place / part).mkdir(parents=True)
        save = kind(place / "disk", seed)
        shutil.copytree(save.folder, place / "old")
        calls, code = stepped(save.write, place / "streams")
        if code:
            figures.failures.append(f"{name}: it ends with {code} without a kill")
        for number in range(seed % every, len(calls), every):
            figures.trials += 1
            shutil.rmtree(save.folder)
            shutil.copytree(place / "old", save.folder)
            try:
                figures.count(_killed(save, number, place / "streams"))
            except (AssertionError, FamcliError, OSError) as error:
                line = f"{name}, before call {number} of {len(calls)} ({calls[number]}): {type(error).__name__}"
                figures.failures.append(f"{line}: {error}"[:300])
    return figures


def _killed(save: Save, number: int, streams: Path) -> str:
    """Kill it before the call of that number; what is there then, once it is known to be right and is saved again."""
    _, code = stepped(save.write, streams, number)
    assert code < 0, "it ended before the kill"
    found = save.state(save.folder)
    assert found in {OLD, NEW, *save.halves}, found
    # What may not be replaced is there, whole; nothing will be written there again, and a lock that nobody holds is in
    # nobody's way.
    with suppress(FamcliError, OSError) if found == NEW else nullcontext():
        save.write()
    assert save.state(save.folder) == NEW, "saving again does not help"
    left = {path.name for path in save.folder.rglob("*") if path.name.startswith(".")}
    left |= {path.name for path in save.folder.iterdir()} - save.names
    assert all(found == NEW and name.endswith(".lock") for name in left), f"leftovers stay: {sorted(left)}"
    return found
