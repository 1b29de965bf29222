"""Signals that interrupt (Ctrl-C and its like), and the few steps that none may divide.

A handler that calls `interrupt` raises KeyboardInterrupt between any two steps of Python, but not inside `undivided`:
there it waits for the end. For short steps only, such as putting a file in its place.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

_depth, _is_waiting = 0, False


def interrupt() -> None:
    """Raise KeyboardInterrupt, now or at the end of `undivided`. For the main thread, which is where signals arrive."""
    global _is_waiting
    if _depth > 0:
        _is_waiting = True
    else:
        raise KeyboardInterrupt


@contextmanager
def undivided() -> Iterator[None]:
    """In the `with` no signal interrupts; one that came raises KeyboardInterrupt at its end."""
    try:
        _deepen(1)
        yield
    finally:
        _deepen(-1)


@contextmanager
def interruptible() -> Iterator[None]:
    """In the `with`, which is inside `undivided`, signals interrupt again: for the caller of a context manager."""
    try:
        _deepen(-1)
        yield
    finally:
        _deepen(1)


def _deepen(step: int) -> None:
    global _depth, _is_waiting
    if threading.current_thread() is not threading.main_thread():
        return
    _depth += step
    if _depth == 0 and _is_waiting:
        _is_waiting = False
        raise KeyboardInterrupt
