"""The one way that famcli writes files: whole or not at all, and where nothing is lost by it.

Everything is written under a temporary name beside its place, flushed to the disk, and moved there by a rename, by one
process at a time (`locking`). A failure or an interruption leaves what was there before and nothing else. A process
that is killed may leave `.NAME.*.tmp`, which the next one that writes NAME removes.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from famcli.documents.locking import sole_writer
from famcli.errors import UsageError
from famcli.interrupts import interruptible, undivided

_FIRST_BYTES = 64  # of a file that is there, to tell what it is
_WAIT_SECONDS = 10.0


@contextmanager
def atomic_file(target: Path, *, private: bool = False, new: bool = False) -> Iterator[Path]:
    """Yields an empty file to fill, which takes the place of `target` at the end. Raises OSError, and BusyError where
    another process goes on writing it.

    A link stays and leads to the new file. private: readable by its owner only, which is right for all that holds text
    of a document; else the umask decides. new: raise FileExistsError where there is something.
    """
    place = Path(os.path.realpath(target))
    with sole_writer(place, _WAIT_SECONDS):
        sweep(place)
        if new and os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
        # In a folder of its own: libraries make files beside the one that they are told to write.
        with undivided(), _in_the_making(place) as made:
            beside = made / place.name
            # Not tempfile's functions: the umask can only be asked by changing it, and here it decides by itself.
            beside.touch(0o600 if private else 0o666)
            mode = beside.stat().st_mode & 0o777
            with interruptible():
                yield beside
            # Libraries may write a file of their own in its place, with another mode.
            beside.chmod(mode)
            _flush(beside)
            os.replace(beside, place)
        _flush(place.parent)


def write_text(target: Path, text: str) -> None:
    with atomic_file(target) as beside:
        beside.write_text(text, encoding="utf-8")


@contextmanager
def atomic_folder(target: Path, *, private: bool = False, wait: float = _WAIT_SECONDS) -> Iterator[Path]:
    """Yields an empty folder to fill, which takes the place of `target` at the end. Raises as `atomic_file` does.

    Missing parents are made. What was in a folder of that name before is gone then. wait: seconds to wait for another
    process that writes it.
    """
    make_folder(target.parent)
    with sole_writer(target, wait):
        sweep(target)
        with undivided(), _in_the_making(target, 0o700 if private else 0o777) as made:
            with interruptible():
                yield made
            put_in_place(made, target)


@contextmanager
def atomic_files(folder: Path, last: Collection[str], replaced: Iterable[str] = ()) -> Iterator[Path]:
    """Yields an empty folder to fill with files, which move into `folder` at the end. Raises as `atomic_file` does.

    last: names of the files by which others open the folder. Those that are there go first, and the new ones come when
    all else is in its place, so that files of two checkpoints never open as one. Other files in `folder` stay, but for
    those of the names or patterns `replaced`; links of the same name are replaced. A missing folder appears whole.
    """
    place = Path(os.path.realpath(folder))
    if not place.exists():
        with atomic_folder(place) as made:
            yield made
        return
    with sole_writer(place, _WAIT_SECONDS):
        sweep(place / "new")
        with undivided(), _in_the_making(place / "new") as made:
            with interruptible():
                yield made
            _move_files(made, place, last, {path.name for pattern in replaced for path in place.glob(pattern)})


def _move_files(made: Path, place: Path, last: Collection[str], replaced: set[str]) -> None:
    names = {path.name for path in made.iterdir()}
    for name in names:
        _flush(made / name)
    first, second = sorted(names.difference(last)), sorted(names.intersection(last))
    # Each step is on the disk before the next begins: a loss of power must not change their order.
    for gone, moved in ((second, ()), (replaced - names, first), ((), second)):
        for name in gone:
            (place / name).unlink(missing_ok=True)
        for name in moved:
            os.replace(made / name, place / name)
        _flush(place)


@contextmanager
def scratch_folder(target: Path) -> Iterator[Path]:
    """Yields an empty folder on the disk of `target` for what is needed on the way there. Raises as `atomic_file` does.

    It is gone at the end; what a killed process left of one goes with the next one for `target`.
    """
    place = Path(os.path.realpath(target))
    place = place.with_name(f"{place.name}-scratch")
    make_folder(place.parent)
    with sole_writer(place, _WAIT_SECONDS):
        sweep(place)
        with undivided(), _in_the_making(place) as made, interruptible():
            yield made


@contextmanager
def _in_the_making(target: Path, mode: int = 0o700) -> Iterator[Path]:
    """A new folder beside `target`, which is gone at the end."""
    folder = temporary_name(target)
    try:
        folder.mkdir(mode)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def put_in_place(made: Path, target: Path) -> None:
    """Move a folder that lies beside `target` there, in the place of the folder that may be there. Raises OSError."""
    for path in made.iterdir():
        _flush(path)
    _flush(made)
    old = temporary_name(target, "old")
    try:
        # No system replaces a folder that has files in one step, so the old one is moved aside first.
        target.rename(old)
    except FileNotFoundError:
        made.rename(target)
    else:
        try:
            made.rename(target)
        except BaseException:
            old.rename(target)
            raise
        shutil.rmtree(old, ignore_errors=True)
    _flush(target.parent)


def make_folder(folder: Path, mode: int = 0o777) -> None:
    """Make a folder and its parents, if they are missing, in a way that a loss of power does not undo. Raises OSError.

    mode: of the folder, before the umask.
    """
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(mode, parents=True, exist_ok=True)
    for path in missing:
        _flush(path.parent)


def temporary_name(target: Path, kind: str = "tmp") -> Path:
    """A new name beside `target` for what is in the making, or (kind "old") what makes room for it."""
    return target.with_name(f".{target.name}.{secrets.token_hex(4)}.{kind}")


def sweep(target: Path) -> None:
    """Remove what processes that were killed left beside `target`. For the one that may write it (`sole_writer`)."""
    own = re.compile(re.escape(f".{target.name}.") + r"[0-9a-f]{8}\.(tmp|old)")
    with suppress(OSError):
        for path in [path for path in target.parent.iterdir() if own.fullmatch(path.name)]:
            if path.suffix == ".old" and not os.path.lexists(target):
                # Killed between two renames: the folder that was to be replaced is all there is.
                path.rename(target)
            elif path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def check_target(
    target: Path, what: str, is_such: Callable[[bytes], bool], texts: Iterable[str | os.PathLike[str]] = ()
) -> None:
    """Raise UsageError for a target that a result must not replace.

    That is a folder, device or pipe; a file that is not empty and not `what`, which `is_such` tells by its first bytes;
    one of the `texts` that are read; and a place in a folder that does not exist.
    """
    place = Path(os.path.realpath(target))  # a link stays, and leads to the result
    if place.is_dir():
        raise UsageError(f"{target} is a directory: name a file in it")
    if _is_stream(target) or (place.exists() and not place.is_file()):
        raise UsageError(f"{target} is a device or a pipe, which a {what} cannot replace: name a file")
    if not place.parent.is_dir():
        raise UsageError(f"cannot write {target}: there is no folder {place.parent}; make it, or name another file")
    if not place.exists():
        return
    if any(os.path.exists(text) and place.samefile(text) for text in texts):
        raise UsageError(f"{target} is a text that is read, and would be lost: name another file")
    with place.open("rb") as file:
        first = file.read(_FIRST_BYTES)
    if first and not is_such(first):
        raise UsageError(f"{target} is there already and is no {what}, so it is not replaced: name another file")


def check_page(target: Path, texts: Iterable[str | os.PathLike[str]] = ()) -> None:
    check_target(target, "page", lambda first: first.lstrip().lower().startswith(b"<!doctype html"), texts)


def is_utf8(path: str | os.PathLike[str]) -> bool:
    """True if a path is valid text: the safetensors library opens no other, though files may have such names."""
    return not any("\ud800" <= letter <= "\udfff" for letter in os.fspath(path))


def _is_stream(target: Path) -> bool:
    """True for the name of an open file, such as /dev/stdout and /dev/fd/1. Other names below /dev may be files."""
    folder = os.path.realpath(target.absolute().parent)
    return folder == "/dev" or folder.startswith("/proc/")


def _flush(path: Path) -> None:
    """Wait until a file's content, or a folder's names, are on the disk."""
    is_windows = os.name == "nt"
    if is_windows and path.is_dir():
        return  # Windows cannot open a folder, and keeps names without that
    handle = os.open(path, os.O_RDWR if is_windows else os.O_RDONLY)  # Windows flushes only what can be written
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
