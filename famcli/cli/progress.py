"""Progress on stderr: bytes, tokens per second and time left while a document is read.

A consumer of the reader's block events: it is told what was read so far and decides how often to show it. What it
holds does not grow, and the first line appears before the network is loaded.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, TextIO

from famcli.cli.render import Bar, describe_bytes, describe_seconds, give_up
from famcli.plain import plural

ProgressMode = Literal["none", "bar", "json"]
# Shown values that the rate is taken over: it follows a change of speed within seconds, and does not flicker.
_RATE_WINDOW = 16
_NAME_WIDTH = 24
_STAGE_VERBS = ("loading ", "searching ")


@dataclass(frozen=True)
class Shown:
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
        return self.num_bytes if self.total_tokens is None else self.num_tokens

    @property
    def total(self) -> int | None:
        """All there is to do, if it is known."""
        return self.total_bytes if self.total_tokens is None else self.total_tokens


def describe_numbers(shown: Shown, width: int = 200) -> str:
    """`35 %  ETA 0:12  1.2 MB/3.4 MB  3,210 tokens/s  12,345 tokens`, as far as it is known and has room in `width`
    characters; what matters most comes first."""
    if not (shown.num_tokens or shown.num_bytes):
        return ""
    parts, total = [], shown.total_bytes
    if shown.total:
        parts.append(f"{min(100, 100 * shown.done // shown.total)} %")
    if shown.eta_seconds is not None:
        parts.append(f"ETA {describe_seconds(shown.eta_seconds)}")
    if shown.total_tokens is None:
        parts.append(describe_bytes(shown.num_bytes) + (f"/{describe_bytes(total)}" if total else ""))
    if shown.tokens_per_second is not None:
        parts.append(f"{shown.tokens_per_second:,.0f} tokens/s")
    if shown.num_tokens:
        parts.append(plural(shown.num_tokens, "token"))
    if shown.memory_share is not None:
        parts.append(f"memory takes {100 * shown.memory_share:.0f} %")
    # A line that wraps would leave its first half on the terminal at each refresh.
    while len(parts) > 1 and len("  ".join(parts)) > width:
        parts.pop()
    return "  ".join(parts)


def short_stage(stage: str) -> str:
    """A stage's name for a bar: of a path its last part, and of a long name its beginning and its end."""
    verb = next((verb for verb in _STAGE_VERBS if stage.startswith(verb)), "")
    name = os.path.basename(stage[len(verb) :].rstrip("/")) or stage[len(verb) :]
    if len(name) > _NAME_WIDTH:
        name = f"{name[: _NAME_WIDTH - 11]}\u2026{name[-10:]}"
    return verb + name


def print_progress(values: dict[str, Any], stream: TextIO) -> None:
    """Print one line of `--progress json`: an object {"event": "progress"} with these values."""
    try:
        print(json.dumps({"event": "progress", **values}), file=stream, flush=True)
    except OSError:
        give_up(stream)


class Progress:
    """Shows a command's progress in the way that `mode` says, until it is closed."""

    def __init__(
        self,
        mode: ProgressMode,
        stage: str = "starting",
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._mode, self._stream = mode, stream or sys.stderr
        self._bar = Bar(self._stream) if mode == "bar" else None
        # A bar is for eyes; a program that reads the lines has no use for ten of them a second.
        self._interval = 0.1 if mode == "bar" else 1.0
        self._started = self._last_shown = clock()
        self._seen = Shown(stage)
        self._recent: deque[tuple[float, int]] = deque(maxlen=_RATE_WINDOW)
        self._show()

    def stage(self, name: str, total_bytes: int | None = None, total_tokens: int | None = None) -> None:
        """A new stage begins: shown at once. The totals are what will be read in it, None if unknown."""
        share = self._seen.memory_share
        self._seen = Shown(name, total_bytes=total_bytes, total_tokens=total_tokens, memory_share=share)
        self._recent.clear()
        self._recent.append((self._clock(), 0))
        self._show()

    def advance(self, num_bytes: int, num_tokens: int, memory_share: float | None = None) -> None:
        """Some more bytes and tokens were read; shown when the last time is long enough ago."""
        seen = self._seen
        self._seen = replace(
            seen,
            num_bytes=seen.num_bytes + num_bytes,
            num_tokens=seen.num_tokens + num_tokens,
            memory_share=seen.memory_share if memory_share is None else memory_share,
        )
        if self._clock() - self._last_shown >= self._interval:
            self._show()

    def so_far(self, text: str) -> None:
        """What is best so far: shown with the next numbers."""
        self._seen = replace(self._seen, so_far=text)

    def close(self) -> None:
        """Show the last numbers and stop. Harmless when repeated."""
        self._show()
        self._mode = "none"
        if self._bar is not None:
            self._bar.close()

    def _show(self) -> None:
        if self._mode == "none":
            return
        now = self._last_shown = self._clock()
        seen, rate, eta = self._seen, None, None
        # What only words are taken from has no tokens: its bytes tell how long it takes.
        if done := seen.num_tokens or seen.num_bytes:
            then, done_then = self._recent[0] if self._recent else (self._started, 0)
            self._recent.append((now, done))
            if now > then:
                rate = (done - done_then) / (now - then)
        if rate and seen.total and seen.done:
            # How many tokens a file will have is known only at its end; bytes a token change little within one.
            eta = max(0, seen.total - seen.done) * (done / seen.done) / rate
        tokens_per_second = rate if seen.num_tokens else None
        self._print(replace(seen, seconds=now - self._started, tokens_per_second=tokens_per_second, eta_seconds=eta))

    def _print(self, shown: Shown) -> None:
        if self._bar is not None:
            name = short_stage(shown.stage)
            numbers = describe_numbers(shown, self._bar.room(name))
            self._bar.show(name, shown.done, shown.total, numbers, shown.so_far or "")
            return
        values = vars(shown).items()
        rounded = {key: round(value, 3) if isinstance(value, float) else value for key, value in values}
        print_progress(rounded, self._stream)
