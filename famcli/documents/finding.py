"""Documents in folders and by patterns: which there are, and what was skipped, and why."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from famcli.documents.opening import open_source
from famcli.errors import DocumentError, FamcliError

_PATTERN = re.compile(r"[*?]|\[[^\]]+\]")
_NEVER = frozenset(("node_modules", "__pycache__", "venv", "site-packages"))


def is_many(path: str) -> bool:
    """True for a folder, and for a pattern such as `docs/*.md` that is no file's own name."""
    return os.path.isdir(path) or (_PATTERN.search(path) is not None and not os.path.lexists(path))


def find_documents(
    path: str, *, encoding: str | None = None, as_is: bool = False
) -> tuple[list[str], list[tuple[str, str]]]:
    """The documents in a folder and those below it, or what a pattern matches (`**` is any depth), in their order; and
    each file that is skipped, with the reason in a few words.

    Hidden files and folders, links that lead out of the folder, empty files and what is no document are skipped.
    encoding, as_is: see `open_source`.
    Raises DocumentError where nothing is left to read.
    """
    if os.path.isdir(path):
        names, what = list(_files(path)), f"{path} holds no document"
    else:
        # `**` follows links, which may lead round in a circle: of each file the shortest name counts.
        try:
            listed = sorted(glob.glob(path, recursive=True), key=len, reverse=True)
        except RecursionError as error:
            raise DocumentError(f"{path} leads into folders that are too deep for a pattern: name a folder") from error
        matched = {os.path.realpath(one): one for one in listed}
        folders = {real for real in matched if os.path.isdir(real)}
        # What lies in a folder that is matched itself is found there.
        found = sorted((one for real, one in matched.items() if os.path.dirname(real) not in folders), key=_in_order)
        names = [name for one in found for name in (_files(one) if os.path.isdir(one) else [one])]
        what = f"no document matches {path}"
    documents, skipped = list[str](), list[tuple[str, str]]()
    for name in names:
        reason = _why_not(name, encoding, as_is)
        # A folder that somebody gave away may hold a link to a file of the one who reads it.
        if os.path.isdir(path) and not _is_inside(name, path):
            reason = "leads out of the folder"
        if reason is None:
            documents.append(name)
        else:
            skipped.append((name, reason))
    if not documents:
        first = "".join(f"; {name} {reason}" for name, reason in skipped[:1])
        others = f", and {len(skipped) - 1:,} more were skipped" if len(skipped) > 1 else ""
        raise DocumentError(f"{what} that can be read{first}{others}")
    return list(dict.fromkeys(documents)), skipped


def _files(folder: str) -> Iterator[str]:
    """The files below a folder, in the order of their names; numbers in names count as numbers."""
    # Not os.walk, which calls itself for each level, and folders may be thousands deep.
    waiting = [folder]
    while waiting:
        place, names = waiting.pop(), list[str]()
        with suppress(OSError):
            names = sorted((one for one in os.listdir(place) if not one.startswith(".")), key=_in_order)
        paths = [os.path.join(place, one) for one in names]
        yield from (path for path in paths if not os.path.isdir(path))
        inner = [path for path in paths if os.path.isdir(path) and not os.path.islink(path)]
        waiting += [path for path in reversed(inner) if os.path.basename(path) not in _NEVER]


def _is_inside(name: str, folder: str) -> bool:
    """Whether a file below a folder really lies there; it may be a link."""
    root = os.path.realpath(folder)
    return os.path.commonpath([os.path.realpath(name), root]) == root


def _in_order(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name) if part]


def _why_not(name: str, encoding: str | None, as_is: bool) -> str | None:
    """Why a file is not read; None for a document."""
    path = Path(name)
    try:
        if not path.is_file():
            return "is no file" if path.exists() else "is a broken link"
        if not path.stat().st_size:
            return "is empty"
        with open_source(path, encoding=encoding, as_is=as_is) as source:
            # What is damaged, or needs a password or a library, is seen only where its text begins.
            if source.is_converted:
                next(source.pieces(), None)
    except (FamcliError, OSError) as error:
        return _in_short(str(error), name)
    return None


def _in_short(message: str, name: str) -> str:
    """What an error says, without the file's name."""
    return message.removeprefix(f"{name} ").removeprefix(f"{os.path.normpath(name)} ")
