"""A disk that fills at every byte of a save: what was there stays, and an answer is given all the same."""

from __future__ import annotations

import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from famcli.errors import FamcliError
from tests.faults.children import Figures
from tests.faults.saves import KINDS, Save

_TURNS = 5


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
    """Each kind of save, with the disk full at some `size` places of its largest file.

    They lie evenly, at least five bytes apart, so that five seeds in a row are at all bytes of a file of 5 * `size`.
    """
    figures = Figures("disks")
    for name, kind in KINDS.items():
        place = folder / name.replace(" ", "-")
        place.mkdir()
        save = kind(place, seed)
        # Slow ones, which read a text or a checkpoint, at fewer places.
        places = _places(save, max(4, size // 20) if save.is_slow else size, seed)
        before = {path: path.is_file() and path.read_bytes() for path in save.folder.rglob("*")}
        for num_bytes in places:
            figures.trials += 1
            try:
                _fill(save, num_bytes)
                left = {path: path.is_file() and path.read_bytes() for path in save.folder.rglob("*")}
                assert left == before, f"not as before: {sorted(map(str, left.keys() ^ before.keys()))}"
            except (AssertionError, FamcliError, OSError) as error:
                line = f"{name} full at byte {num_bytes}: {type(error).__name__}: {error}"
                figures.failures.append(line[:300])
        figures.count(f"places of a {name}", len(places))
    return figures


def _fill(save: Save, num_bytes: int) -> None:
    """Save on a disk that is full at this byte: that fails in one line, or the answer is given without it."""
    refused = None
    with _full_at(num_bytes):
        try:
            save.write()
        except (FamcliError, OSError) as error:
            refused = error
    if save.never_fails:
        assert refused is None, refused
    else:
        assert refused is not None, "it says that it is saved"
        assert "\n" not in str(refused)


def _places(save: Save, size: int, seed: int) -> range:
    step = max(_TURNS, save.largest // size)
    return range(seed * step // _TURNS % step, save.largest, step)
