"""How results and progress look: the only file that knows rich, and it imports it only for a terminal.

Results are plain text on a pipe, styled on a terminal (unless NO_COLOR is set), or JSON. What comes from a document is
made harmless for a terminal: control characters would otherwise let a text move the cursor or rename the window.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal, TextIO

from famcli.plain import harmless, harmless_json, plural, to_json

if TYPE_CHECKING:
    from rich.console import RenderableType

STANDARD_OUTPUT = "standard output"
_BAR_WIDTH = 12
Style = Literal["", "bold", "dim", "cyan", "yellow", "red"]


class Output:
    """stdout: the result and nothing else, as text or as JSON objects of one line each."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stdout
        self.is_terminal = self.stream.isatty()
        self._in_line = False  # what was printed last has not ended its line
        self._styled = self.is_terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"

    def line(self, text: str = "", style: Style = "") -> None:
        """Print one line of text: a name may hold a line break, and is still one line."""
        self.write(text.replace("\n", "\\n") + "\n", style)

    def write(self, text: str, style: Style = "") -> None:
        """Print text without a newline of its own, at once: generated text appears as it comes."""
        if self.is_terminal:
            text = harmless(text)
        if self._styled and style:
            text = _styled(text, style)
        self._print(text)

    def end_line(self) -> None:
        """End the line that stands open, where something else is about to be printed there."""
        if self._in_line:
            self._print("\n")

    def goes_with(self, other: TextIO) -> bool:
        """True if what is printed on the other stream appears among this one's lines: on a terminal, or `2>&1`."""
        if self.is_terminal and other.isatty():
            return True
        with suppress(OSError, ValueError):
            return os.path.sameopenfile(self.stream.fileno(), other.fileno())
        return False

    def shaded(self, cells: Iterable[tuple[str, float | None]]) -> None:
        """Print one line of cells, each with a background from red (share 0) to green (1); None has none."""
        line = ""
        for text, share in cells:
            text = harmless(text) if self.is_terminal else text
            line += _shaded(text, share) if self._styled and share is not None else text
        self._print(line + "\n")

    def paragraph(self, text: str, style: Style = "", indent: str = "") -> None:
        """Print a paragraph: its words wrap at the width of a terminal; one line elsewhere."""
        text = text.replace("\n", "\\n")  # of a name
        if self.is_terminal:
            width = max(20 + len(indent), shutil.get_terminal_size().columns - 1)
            # What is longer than a line, as addresses are, stays in one piece: it can then be copied.
            text = textwrap.fill(
                text,
                width,
                initial_indent=indent,
                subsequent_indent=indent,
                break_long_words=False,
                break_on_hyphens=False,
            )
        else:
            text = indent + text
        self.write(text + "\n", style)

    def facts(self, lines: Iterable[tuple[str, str]]) -> None:
        """Print lines of a name and a text; the texts stand below each other."""
        for name, text in lines:
            self.write(f"{name:<14}", "bold")
            self.line(text)

    def json(self, value: Any) -> None:
        """Print one JSON object on one line; numbers that JSON has no word for become null. What the stream's encoding
        cannot hold is escaped as JSON does it."""
        is_unicode = (self.stream.encoding or "utf-8").lower().startswith("utf")
        text = json.dumps(_finite(to_json(value)), ensure_ascii=not is_unicode, allow_nan=False)
        self._print((harmless_json(text) if self.is_terminal else text) + "\n")

    def _print(self, text: str) -> None:
        try:
            self.stream.write(text)
            self.stream.flush()
            self._in_line = not text.endswith("\n") if text else self._in_line
        except OSError as error:
            # An OSError of a stream names no file, and the message should.
            error.filename = STANDARD_OUTPUT
            raise


def say(text: str, stream: TextIO | None = None) -> None:
    """Print one line on stderr, or `stream`: the way of every message that is no progress and no result."""
    try:
        # Looked up each time: while a bar is shown, sys.stderr is what prints above it.
        print(f"famcli: {harmless(' '.join(text.split()))}", file=stream or sys.stderr, flush=True)
    except OSError:
        # A terminal that was closed, or a full disk: the work goes on, and the exit code must do.
        give_up(sys.stderr)


class Notes:
    """stderr: one-line notes and warnings, or nothing when quiet."""

    def __init__(self, quiet: bool = False, stream: TextIO | None = None, output: Output | None = None) -> None:
        """output: what may print on the same terminal, in the middle of a line."""
        self.quiet = quiet
        self._stream, self._output = stream, output

    def note(self, text: str) -> None:
        """Say something on stderr, unless quiet."""
        if not self.quiet:
            if self._output is not None and self._output.goes_with(self._stream or sys.stderr):
                self._output.end_line()
            say(text, self._stream)

    def warn(self, text: str) -> None:
        self.note(f"warning: {text}")


class Bar:
    """A progress bar of one line on a terminal's stderr, and below it what is best so far; erased at the end."""

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console
        from rich.live import Live
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

        # Rich takes NO_COLOR for set even where it is empty, which the convention calls not set.
        console = Console(file=stream, no_color=bool(os.environ.get("NO_COLOR")) or None)
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=_BAR_WIDTH),
            TextColumn("{task.fields[numbers]}", markup=False),
            console=console,
        )
        self._task = self._bar.add_task("", total=None, numbers="")
        self._below = ""
        self._live = Live(
            get_renderable=self._lines,
            console=console,
            refresh_per_second=10,
            transient=True,
            # Results belong to stdout even while a bar is shown.
            redirect_stdout=False,
        )
        self._live.start()

    def room(self, name: str) -> int:
        """The characters that are left for numbers beside `name`."""
        # The spinner, a blank between columns, and the last cell of the line take five.
        return self._bar.console.width - _BAR_WIDTH - len(name) - 5

    def show(self, name: str, done: float, total: float | None, numbers: str, below: str = "") -> None:
        """Show work of which `done` of `total` is done (None: nobody knows), with numbers and a text below."""
        self._below = harmless(below)
        with suppress(OSError):
            self._bar.update(self._task, description=harmless(name), total=total, completed=done, numbers=numbers)

    def close(self) -> None:
        # Its terminal may be closed.
        with suppress(OSError):
            self._live.stop()

    def _lines(self) -> RenderableType:
        from rich.console import Group
        from rich.text import Text

        below = Text(self._below, style="dim", no_wrap=True, overflow="ellipsis")
        return Group(self._bar, below) if self._below else self._bar


def describe_bytes(number: int) -> str:
    """A size in decimal units: 999 B, 1.2 kB, 3.4 MB."""
    size = float(number)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 999.5:
            return f"{number} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def describe_seconds(seconds: float) -> str:
    """A duration as m:ss or h:mm:ss."""
    # Rounded first: 59.6 seconds are 1:00, not 0:60.
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def describe_sizes(num_bytes: int, num_tokens: int, num_blocks: int) -> str:
    """`325,012 bytes, 81,234 tokens, 79 full blocks`: what was read, in the words that every command uses."""
    return f"{plural(num_bytes, 'byte')}, {plural(num_tokens, 'token')}, {plural(num_blocks, 'full block')}"


def aligned(rows: Sequence[Sequence[str]], words: int) -> Iterator[str]:
    """Lines with the cells of each column one below the other: the first `words` columns flush left, others right.

    A column with nothing in it is left out. A row that is shorter than the others has its figures as they are, and they
    count for no column.
    """
    num_cells = max((len(row) for row in rows), default=0)
    whole = [row for row in rows if len(row) == num_cells]
    widths = [max(len(row[i]) for row in (rows if i < words else whole) if i < len(row)) for i in range(num_cells)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row[:words], widths, strict=False) if width]
        if len(row) == num_cells:
            cells += [cell.rjust(width) for cell, width in zip(row[words:], widths[words:], strict=True) if width]
        else:
            cells += row[words:]
        yield "  ".join(cells).rstrip()


def give_up(stream: TextIO) -> None:
    """Point a standard stream that cannot be written at nothing: what is still buffered would fail again, loudly, when
    the interpreter ends."""
    with suppress(OSError, ValueError):
        # Streams of tests have no number.
        descriptor = stream.fileno()
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, descriptor)
        os.close(devnull)


def _styled(text: str, style: Style) -> str:
    from rich.style import Style as RichStyle

    body, newline = (text[:-1], "\n") if text.endswith("\n") else (text, "")
    return RichStyle.parse(style).render(body) + newline


def _shaded(text: str, share: float) -> str:
    from rich.style import Style as RichStyle

    red, green = round(230 * min(1, 2 - 2 * share)), round(200 * min(1, 2 * share))
    return RichStyle.parse(f"black on rgb({red},{green},60)").render(text)


def _finite(value: Any) -> Any:
    """Plain values, with None for infinities and NaN, which JSON cannot write."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
