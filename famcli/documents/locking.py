"""One writer at a time: a lock beside what is written, which ends with the process that holds it.

The lock is the system's, on a file `.NAME.lock` beside the target; the file says who holds it. A process that is killed
leaves the file and no lock, and the next writer takes the file over. Where a file system has no locks, there are none.
"""

from __future__ import annotations

import errno
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from famcli.errors import BusyError
from famcli.interrupts import interruptible, undivided

_WAIT_SECONDS = 0.05
_NO_LOCKS = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS}
_HOLDER_BYTES = 200

# What this process holds: by which thread, how often, and the handle. Who holds a lock may take it again.
_held: dict[str, tuple[int, int, int]] = {}


@contextmanager
def sole_writer(target: Path, wait: float = 0.0) -> Iterator[None]:
    """In the `with`, no other process that asks by this function writes `target`. It may be taken again inside.

    wait: seconds to wait for another process that writes. Raises BusyError, which names it; OSError where the folder of
    `target` cannot be written.
    """
    place, thread = os.path.realpath(target), threading.get_ident()
    folder, name = os.path.split(place)
    path = os.path.join(folder, f".{name}.lock")
    with undivided():
        holder, count, handle = _held.get(place, (thread, 0, -1))
        if not count or holder != thread:
            count, handle = 0, _taken(path, target, time.monotonic() + wait)
        _held[place] = thread, count + 1, handle
        try:
            with interruptible():
                yield
        finally:
            # Nothing is held any more after `release_all`.
            _, count, _ = _held.get(place, (thread, 0, handle))
            if count > 1:
                _held[place] = thread, count - 1, handle
            elif count:
                del _held[place]
                _release(path, handle)


def release_all() -> None:
    """Give back what this process still holds, before it ends. An interruption between taking a lock and the body of
    the `with` leaves nobody who would."""
    for place, (_, _, handle) in list(_held.items()):
        del _held[place]
        folder, name = os.path.split(place)
        _release(os.path.join(folder, f".{name}.lock"), handle)


def _taken(path: str, target: Path, until: float) -> int:
    """A handle of the file at `path`, which this process has locked."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600)
        try:
            if _lock(handle):
                if _is_at(handle, path):
                    _say_who(handle)
                    return handle
            elif time.monotonic() >= until:
                holder = os.read(handle, _HOLDER_BYTES).decode("utf-8", "replace").strip() or "another process"
                raise BusyError(target, holder)
            else:
                with interruptible():
                    time.sleep(_WAIT_SECONDS)
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def _release(path: str, handle: int) -> None:
    is_windows = os.name == "nt"
    if is_windows:
        os.close(handle)  # it removes no open file, neither ours nor that of who is next
    # Elsewhere removed while it is held: whoever opened it before looks whether it is still there.
    with suppress(OSError):
        os.unlink(path)
    if not is_windows:
        os.close(handle)


def _is_at(handle: int, path: str) -> bool:
    """Whether the open file still has its name: its last holder may have removed it."""
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False


def _say_who(handle: int) -> None:
    # Nothing of the command but its name: the rest may be private. On a full disk nobody is named.
    command = " ".join(["famcli", *[word for word in sys.argv[1:2] if word.isalpha()]])
    with suppress(OSError):
        os.truncate(handle, 0)
        os.write(handle, f"process {os.getpid()} ({command}, since {time.strftime('%H:%M:%S')})".encode())


if sys.platform == "win32":
    import msvcrt

    def _lock(handle: int) -> bool:
        # Far behind what is written into the file: a locked byte cannot be read by others.
        os.lseek(handle, 1 << 20, os.SEEK_SET)
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        finally:
            os.lseek(handle, 0, os.SEEK_SET)
        return True
else:
    import fcntl

    def _lock(handle: int) -> bool:
        """True if the lock was free, and is now held until the handle is closed."""
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            return error.errno in _NO_LOCKS
        return True
