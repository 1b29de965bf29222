"""Where a result is written: what it may replace, and how, so that nothing is lost."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from famcli.errors import UsageError

_FIRST_BYTES = 64


def check_target(
    target: Path, what: str, is_such: Callable[[bytes], bool], texts: Iterable[str | os.PathLike[str]] = ()
) -> None:
    """Refuse a target that a result must not replace. Raises UsageError.

    That is whatever is no file, a file that `is_such`, asked about its first bytes, says is not `what` (an empty one
    is anything), one of the `texts` that are read, and a place in a folder that is not there.
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


def _is_stream(target: Path) -> bool:
    """Whether it names an open file, as /dev/stdout and /dev/fd/1 do; below /dev there are places for files too."""
    folder = os.path.realpath(target.absolute().parent)
    return folder == "/dev" or folder.startswith("/proc/")


def is_utf8(path: str | os.PathLike[str]) -> bool:
    """Whether a path is text, which the library that opens safetensors files needs; any file may have another name."""
    return not any("\ud800" <= letter <= "\udfff" for letter in os.fspath(path))


def check_page(target: Path, texts: Iterable[str | os.PathLike[str]] = ()) -> None:
    """`check_target` for a page of HTML."""
    check_target(target, "page", lambda first: first.lstrip().lower().startswith(b"<!doctype html"), texts)


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """An empty file beside `target`, for its owner alone, that takes its place when it is written: whole or not at all,
    and on the disk. Raises OSError."""
    place = Path(os.path.realpath(target))
    handle, name = tempfile.mkstemp(dir=place.parent, prefix=f".{place.name}.", suffix=".tmp")
    os.close(handle)
    try:
        yield Path(name)
        _sync(name)
        os.replace(name, place)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    _sync(place.parent)


def _sync(path: str | Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
