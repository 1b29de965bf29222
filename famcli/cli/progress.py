"""Progress on stderr: bytes, tokens per second and time left while a document is read.

A consumer of the reader's block events: it is told what was read so far and decides how often to show it. What it
holds does not grow, and the first line appears before the network is loaded.
"""

from __future__ import annotations

import json
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self, TextIO

if TYPE_CHECKING:
    from famcli.cli.render import Bar

ProgressMode = Literal["none", "bar", "json"]
_RATE_WINDOW = 16  # shown values that the rate is taken over


@dataclass(frozen=True)
class Snapshot:
    """What a display shows. Counts are since the start; the totals and what follows from them are None if unknown.

    memory_share: of the memory's attention, what went to the last block; None if nobody measures that.
    so_far: the best that was found so far, in words; None where nothing is looked for.

    Where total_tokens is known the work is counted in tokens, else in bytes.
    """

    stage: str
    num_bytes: int = 0
    total_bytes: int | None = None
    num_tokens: int = 0
    seconds: float = 0.0
    tokens_per_second: float | None = None
    eta_seconds: float | None = None
    total_tokens: int | None = None
    memory_share: float | None = None
    so_far: str | None = None

    @property
    def done(self) -> int:
        """What is done of `total`."""
        return self.num_bytes if self.total_tokens is None else self.num_tokens

    @property
    def total(self) -> int | None:
        """All there is to do, if it is known."""
        return self.total_bytes if self.total_tokens is None else self.total_tokens


class JsonLines:
    """One JSON object per shown snapshot: {"event": "progress", ...the fields of Snapshot}."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def show(self, snapshot: Snapshot) -> None:
        """Print one object on one line."""
        values = {key: round(value, 3) if isinstance(value, float) else value for key, value in vars(snapshot).items()}
        print(json.dumps({"event": "progress", **values}), file=self._stream, flush=True)

    def close(self) -> None:
        """Nothing to end."""


class Progress:
    """Shows a command's progress in the way that `mode` says; use it as a context manager."""

    def __init__(
        self,
        mode: ProgressMode,
        stage: str = "starting",
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._display = _open_display(mode, stream or sys.stderr)
        self._interval = {"none": 0.0, "bar": 0.1, "json": 1.0}[mode]
        self._started = self._last_shown = clock()
        self._stage = stage
        self._total: int | None = None
        self._total_tokens: int | None = None
        self._num_bytes = self._num_tokens = 0
        self._memory_share: float | None = None
        self._so_far: str | None = None
        self._recent: deque[tuple[float, int]] = deque(maxlen=_RATE_WINDOW)
        self._show()

    def stage(self, name: str, total_bytes: int | None = None, total_tokens: int | None = None) -> None:
        """A new stage begins: shown at once. The totals are what will be read in it, None if unknown."""
        self._stage, self._total, self._total_tokens = name, total_bytes, total_tokens
        self._num_bytes = self._num_tokens = 0
        self._so_far = None
        self._recent.clear()
        self._recent.append((self._clock(), 0))
        self._show()

    def advance(self, num_bytes: int, num_tokens: int, memory_share: float | None = None) -> None:
        """Some more bytes and tokens were read; shown when the last time is long enough ago."""
        self._memory_share = self._memory_share if memory_share is None else memory_share
        self._num_bytes += num_bytes
        self._num_tokens += num_tokens
        if self._display is not None and self._clock() - self._last_shown >= self._interval:
            self._show()

    def so_far(self, text: str) -> None:
        """What is best so far: shown with the next numbers."""
        self._so_far = text

    def close(self) -> None:
        """Show the last numbers and stop. Harmless when repeated."""
        if self._display is not None:
            self._show()
            self._display.close()
            self._display = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _show(self) -> None:
        if self._display is None:
            return
        now = self._last_shown = self._clock()
        rate = eta = None
        if self._num_tokens:
            then, tokens_then = self._recent[0] if self._recent else (self._started, 0)
            self._recent.append((now, self._num_tokens))
            if now > then:
                rate = (self._num_tokens - tokens_then) / (now - then)
        if rate and self._total_tokens:
            eta = max(0, self._total_tokens - self._num_tokens) / rate
        elif rate and self._total:
            bytes_per_token = self._num_bytes / self._num_tokens
            eta = max(0, self._total - self._num_bytes) / bytes_per_token / rate
        counts = (self._num_bytes, self._total, self._num_tokens)
        rest = (self._total_tokens, self._memory_share, self._so_far)
        self._display.show(Snapshot(self._stage, *counts, now - self._started, rate, eta, *rest))


def _open_display(mode: ProgressMode, stream: TextIO) -> JsonLines | Bar | None:
    if mode == "none":
        return None
    if mode == "json":
        return JsonLines(stream)
    from famcli.cli.render import Bar

    return Bar(stream)
