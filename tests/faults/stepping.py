"""A process that can be killed before any of its system calls that change a file: by ptrace, on Linux and x86-64."""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from tests.faults.children import Child

_TRACEME, _PEEKUSER, _KILL, _SYSCALL, _SETOPTIONS = 0, 3, 8, 24, 0x4200
_TELL_SYSCALLS, _END_TOGETHER = 0x1, 0x100000
_NUMBER, _SECOND, _THIRD = 8 * 15, 8 * 13, 8 * 12  # where a call's number and two of its arguments are
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_OPEN, _OPENAT = 2, 257
# fmt: off
CHANGES = {
    1: "write", 18: "pwrite", 20: "writev", 40: "sendfile", 326: "copy_file_range",
    _OPEN: "open", _OPENAT: "open", 85: "create", 76: "truncate", 77: "truncate", 285: "fallocate",
    82: "rename", 264: "rename", 316: "rename", 86: "link", 265: "link", 88: "link", 266: "link",
    87: "unlink", 263: "unlink", 84: "rmdir", 83: "mkdir", 258: "mkdir",
    74: "fsync", 75: "fsync", 26: "fsync", 73: "lock", 90: "chmod", 91: "chmod", 268: "chmod",
}
# fmt: on
"""System calls that may change what is on the disk, or who may write it, by their number."""

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_libc.ptrace.restype = ctypes.c_long


def can_step() -> bool:
    """Whether this machine lets a process be stopped at its system calls."""
    return sys.platform == "linux" and platform.machine() == "x86_64"


def stepped(work: Callable[[], object], folder: Path, stop_before: int | None = None) -> tuple[list[str], int]:
    """Run `work` in a child, and kill it before its call of the number `stop_before`, from 0, that may change a file.

    Returns the names of the calls it came to, and its exit code or minus the signal that ended it.
    """

    def traced() -> None:
        _libc.ptrace(_TRACEME, 0, None, None)
        os.kill(os.getpid(), signal.SIGSTOP)
        work()

    child = Child(traced, folder)
    _, status = os.waitpid(child.pid, 0)
    assert os.WIFSTOPPED(status), f"it cannot be traced: {child.texts()[1]}"
    _libc.ptrace(_SETOPTIONS, child.pid, None, _TELL_SYSCALLS | _END_TOGETHER)
    seen, passed_on, is_entry = list[str](), 0, True
    while True:
        _libc.ptrace(_SYSCALL, child.pid, None, passed_on)
        _, status = os.waitpid(child.pid, 0)
        if not os.WIFSTOPPED(status):
            return seen, os.waitstatus_to_exitcode(status)
        stop = os.WSTOPSIG(status)
        if stop != signal.SIGTRAP | 0x80:
            passed_on = 0 if stop == signal.SIGTRAP else stop  # that one says that it runs another program now
            continue
        passed_on = 0
        if is_entry and (name := _change(child.pid)):
            if len(seen) == stop_before:
                child.send(signal.SIGKILL)
                os.waitpid(child.pid, 0)
                return seen, -signal.SIGKILL
            seen.append(name)
        is_entry = not is_entry


def _change(pid: int) -> str | None:
    """The name of the call that a stopped process is about to make, if it may change a file."""
    number = _libc.ptrace(_PEEKUSER, pid, _NUMBER, None)
    if number in (_OPEN, _OPENAT):
        flags = _libc.ptrace(_PEEKUSER, pid, _SECOND if number == _OPEN else _THIRD, None)
        return "open" if flags & _WRITES else None
    return CHANGES.get(number)
