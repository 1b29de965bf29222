"""Which files a result may be written to, so that nothing is lost by it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from famcli.errors import UsageError

_FIRST_BYTES = 64


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


def _is_stream(target: Path) -> bool:
    """True for the name of an open file, such as /dev/stdout and /dev/fd/1. Other names below /dev may be files."""
    folder = os.path.realpath(target.absolute().parent)
    return folder == "/dev" or folder.startswith("/proc/")


def is_utf8(path: str | os.PathLike[str]) -> bool:
    """True if a path is valid text: the safetensors library opens no other, though files may have such names."""
    return not any("\ud800" <= letter <= "\udfff" for letter in os.fspath(path))


def check_page(target: Path, texts: Iterable[str | os.PathLike[str]] = ()) -> None:
    """`check_target` for a page of HTML."""
    check_target(target, "page", lambda first: first.lstrip().lower().startswith(b"<!doctype html"), texts)
