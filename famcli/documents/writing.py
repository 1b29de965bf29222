"""The one way that famcli writes files: whole or not at all, and where nothing is lost by it.

Everything is written under a temporary name beside its place, flushed to the disk, and moved there by a rename. A
failure or an interruption leaves what was there before and nothing else; a killed process may leave `.NAME.*.tmp`.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from famcli.errors import UsageError

_FIRST_BYTES = 64  # of a file that is there, to tell what it is


@contextmanager
def atomic_file(target: Path, *, private: bool = False) -> Iterator[Path]:
    """Yields an empty file to fill, which takes the place of `target` at the end. Raises OSError.

    A link stays and leads to the new file. private: readable by its owner only; else the umask decides.
    """
    place = Path(os.path.realpath(target))
    beside = temporary_name(place)
    # Not tempfile's functions: what they make is the owner's alone, and the umask can only be asked by changing it.
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
    return target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")


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
    """`check_target` for a page of HTML."""
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
