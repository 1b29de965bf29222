"""The one way that famcli writes what must not be lost: whole or not at all, and on the disk.

Everything is written under a temporary name beside its place, flushed, and moved there by a rename. A failure or an
interruption leaves what was there before, and nothing else; a killed process leaves at most `.NAME.*.tmp`.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SUFFIX = ".tmp"


@contextmanager
def atomic_file(target: Path, *, private: bool = False) -> Iterator[Path]:
    """Yields an empty file to fill, which takes the place of `target` at the end. Raises OSError.

    A link stays and leads to the new file. private: readable by its owner only; else the umask decides.
    """
    place = Path(os.path.realpath(target))
    beside = temporary_name(place)
    handle = os.open(beside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600 if private else 0o666)
    mode = os.fstat(handle).st_mode & 0o777
    os.close(handle)
    try:
        yield beside
        # Libraries may write a file of their own in its place, with another mode.
        beside.chmod(mode)
        _flush(beside)
        os.replace(beside, place)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    _flush(place.parent)


@contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """Yields an empty folder to fill, which takes the place of `target` at the end. Raises OSError.

    Missing parents are made. What was in a folder of that name before is gone then.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = temporary_name(target)
    beside.mkdir()
    try:
        yield beside
        put_in_place(beside, target)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise


@contextmanager
def atomic_files(folder: Path) -> Iterator[Path]:
    """Yields an empty folder to fill with files, which move into `folder` at the end. Raises OSError.

    Other files in `folder`, which is made if it is missing, stay; links of the same name are replaced. Files of JSON
    move last: a checkpoint is opened by them, so they must not name what is not there yet.
    """
    folder.mkdir(parents=True, exist_ok=True)
    beside = temporary_name(folder / "new")
    beside.mkdir()
    try:
        yield beside
        for path in sorted(beside.iterdir(), key=lambda path: (path.suffix == ".json", path.name)):
            _flush(path)
            os.replace(path, folder / path.name)
        _flush(folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def put_in_place(made: Path, target: Path) -> None:
    """Move a folder that lies beside `target` there, in the place of the folder that may be there. Raises OSError."""
    for path in made.iterdir():
        _flush(path)
    _flush(made)
    old = temporary_name(target)
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


def temporary_name(target: Path) -> Path:
    """A new name beside `target` for what is in the making."""
    return target.with_name(f".{target.name}.{secrets.token_hex(4)}{SUFFIX}")


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
