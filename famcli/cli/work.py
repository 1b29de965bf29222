"""What every command that runs a network does: show progress, open the checkpoint, follow a task's events, stop well.

A task is an object with `.events(...)` and `.result()`; the events that all tasks share are shown here, a command's own
are handed to it.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import typer

from famcli.cli.failures import EXIT_FAILED, interrupted_code, interrupts_raise, tell_at_end, with_flags
from famcli.cli.options import CommonOptions, MachineOptions
from famcli.cli.progress import Progress
from famcli.cli.render import Notes, Output, describe_seconds, describe_sizes, say
from famcli.errors import DocumentError, FamcliError, UsageError
from famcli.plain import plural, to_json, user_folder
from famcli.text.markup import QUOTED, without_marks

if TYPE_CHECKING:
    from famcli.checkpoint.locate import HubName, Located
    from famcli.checkpoint.model import Model
    from famcli.tasks.task import ReadCounts

_NOTHING_YET = "interrupted before there was anything to show; run it again"
_DAY = 86_400
_MOST_SKIPPED = 8  # files that are told of one by one
_BLANK_LINES = re.compile(r"\r?\n[ \t\r\f\v]*\n")


class Work:
    """One run of a command, as a context manager: `output` and `form` for the result, `notes` and `progress` beside it.

    interrupted: Ctrl-C or SIGTERM came while a task was followed; `finish` then exits with its code.
    """

    def __init__(self, common: CommonOptions) -> None:
        self.machine, report = common.machine, common.report
        self.form = common.output.form
        self.output = Output()
        self.notes = Notes(report.quiet, output=self.output)
        # No progress bar until all inputs are known to exist: a mistake is then one line, and nothing else.
        self.progress = Progress("none")
        self._progress_mode, self._verbose = report.progress_mode, report.verbose
        self._results: list[Any] = []
        self._failures: list[str] = []  # documents among several that could not be read, and why
        self.interrupted = False
        self._has_nothing_yet = True  # to show

    def __enter__(self) -> Self:
        tell_at_end("" if self.notes.quiet else _NOTHING_YET)
        return self

    def __exit__(self, *error: object) -> None:
        self.progress.close()
        tell_at_end("")
        if self._has_nothing_yet and (self.interrupted or isinstance(error[1], KeyboardInterrupt)):
            self.notes.note(_NOTHING_YET)

    def check_documents(
        self, files: Sequence[str], encoding: str | None, as_is: bool = False, needs_all: bool = False
    ) -> list[str]:
        """`files`, each once, or stdin when there are none; what cannot be read is told before any work is done, and
        the others are read: `finish` then exits as for a failure.

        Folders and patterns become the documents in them, and pages are fetched. as_is: see `open_source`. needs_all:
        nothing is read where one cannot be.
        """
        names, errors = dict[str, str](), list[DocumentError]()
        for file in files:
            try:
                for name in self._documents(file, encoding, as_is):
                    # Read twice, everything in it would count twice.
                    place = os.path.realpath(name) if os.path.isfile(name) else name
                    if place in names:
                        self.notes.note(f"{name} is named twice, and read once")
                    names.setdefault(place, name)
            except DocumentError as error:
                errors.append(error)
                if needs_all or len(files) < 2:
                    raise
        for failure in errors[: None if names else -1]:
            self.tell_failure(failure)
        if errors and not names:
            raise errors[-1]
        if (not files or "-" in files) and sys.stdin.isatty():
            self.notes.note("reading from the terminal; Ctrl-D ends the text")
        return list(names.values()) or ["-"]

    def _documents(self, file: str, encoding: str | None, as_is: bool) -> list[str]:
        """The documents that one argument names."""
        from famcli.documents.fetching import is_address
        from famcli.documents.finding import is_many

        if file == "-":
            return [file]
        if is_address(file):
            return [self._fetched(file, encoding, as_is)]
        if is_many(file):
            return self._found(file, encoding, as_is)
        self._check(file, encoding, as_is)
        return [file]

    def tell_failure(self, error: FamcliError) -> None:
        """Say what went wrong with one document of several, and exit as for a failure in the end."""
        self._failures.append(with_flags(str(error), error.remedy))
        self.make_room()
        say(self._failures[-1])

    @contextmanager
    def going_on(self, each: bool) -> Iterator[None]:
        """Where each document is read by itself, one that turns out to be damaged does not keep the others from it."""
        try:
            yield
        except DocumentError as error:
            if not each:
                raise
            self.tell_failure(error)

    def _check(self, file: str, encoding: str | None, as_is: bool) -> None:
        """Refuse a file that cannot be read."""
        from famcli.documents.opening import open_source

        # A named pipe can be opened only once, and a device may have nothing to give yet.
        if os.path.exists(file) and not os.path.isfile(file):
            return
        with open_source(file, encoding=encoding, as_is=as_is) as source:
            # A damaged one, and one that needs a password or a library, is seen only where its text begins.
            if source.is_converted:
                next(source.pieces(), None)

    def _fetched(self, url: str, encoding: str | None, as_is: bool) -> str:
        """Where a page is kept that was fetched now."""
        from famcli.checkpoint.hub import is_offline
        from famcli.documents.fetching import fetch

        if is_offline(cache_environment(self.machine.cache, self.machine.offline)):
            raise DocumentError(f"{url} is not fetched: --offline forbids that; give a file")
        self.notes.note(f"fetching {url}; --offline forbids that")
        folder = user_folder("pages")
        if folder is None:
            raise UsageError("this user has no folder for what is fetched: set HOME, or fetch it by itself")
        private = self.machine.allow_private
        path = str(fetch(url, folder, lambda there: self.notes.note(f"it leads to {there}"), allow_private=private))
        self._check(path, encoding, as_is)
        return path

    def _found(self, path: str, encoding: str | None, as_is: bool) -> list[str]:
        """The documents of a folder or a pattern; what is skipped is told."""
        from famcli.documents.finding import find_documents

        documents, skipped = find_documents(path, encoding=encoding, as_is=as_is)
        self.notes.note(f"{path}: {plural(len(documents), 'document')}")
        for file, reason in skipped[:_MOST_SKIPPED]:
            self.notes.note(f"skipped {file}: it {reason}")
        if (rest := len(skipped) - _MOST_SKIPPED) > 0:
            self.notes.note(f"skipped {rest:,} more")
        return documents

    def open_model(
        self, memory: Path | None = None, machine: MachineOptions | None = None, draft: Path | None = None
    ) -> Model:
        """Find the checkpoint, name it on stderr, and open it. What is missing is noticed before torch is imported.

        memory: a memory file that the model is opened for; one of another model is refused first. machine: another
        choice than the command's options. draft: the folder of a draft that it is to write with.
        """
        from famcli.checkpoint.folder import check_draft

        # From cheap to dear: each mistake is told before the next seconds are spent.
        machine = machine or self.machine
        if memory is not None:
            from famcli.reading.memory_format import check_checkpoint, inspect_memory_file

            inspect_memory_file(memory)
        environ = cache_environment(machine.cache, machine.offline)
        located = find_model(machine.model, environ, self.notes, bars=self._progress_mode == "bar")
        if machine.adapter is not None:
            from famcli.checkpoint.adapter import read_adapter

            read_adapter(machine.adapter)
        elif memory is not None and located.adapter is None:
            check_checkpoint(memory, located.path, located.name)
        if draft is not None:
            check_draft(draft)
        self.progress = Progress(self._progress_mode, f"loading {located.name}")

        from famcli.checkpoint.device import keep_freed_memory, set_threads
        from famcli.checkpoint.open import open_model

        keep_freed_memory()
        set_threads(machine.threads)
        model = open_model(
            located, device=machine.device, dtype=machine.dtype, quantize=machine.quantize, adapter=machine.adapter
        )
        if draft is not None:
            from famcli.checkpoint.draft import with_draft

            model = with_draft(model, draft)
        # From here on there is something to keep, and torch is loaded: an exception inside its C++ would abort.
        interrupts_raise()
        dtype = str(model.dtype).removeprefix("torch.")
        chosen = "" if located.chosen_by == "default" else f", by {located.chosen_by}"
        bits = "" if machine.quantize == "none" else f", weights in {machine.quantize}"
        line = f"model {model.name} ({located.where}{chosen}) on {model.device} in {dtype}{bits}"
        if self._verbose or _is_news(line):
            self.notes.note(line)
        for note in model.notes:
            self.notes.note(note)
        for warning in model.warnings:
            self.notes.warn(warning)
        return model

    def follow(self, events: Iterable[Any], on_event: Callable[[Any], None] = lambda event: None) -> None:
        """Show a task's shared events and hand on the others, to the end or to Ctrl-C."""
        from famcli.tasks.task import Advance, Notice, Stage

        try:
            for event in events:
                if not isinstance(event, Stage | Notice):
                    self._has_nothing_yet = False
                if isinstance(event, Advance):
                    self.progress.advance(event.num_bytes, event.num_tokens, event.memory_share)
                elif isinstance(event, Stage):
                    self.progress.stage(event.name, event.total_bytes)
                elif isinstance(event, Notice):
                    self.notes.warn(with_flags(event.text, event.remedy))
                else:
                    on_event(event)
        except KeyboardInterrupt:
            self.interrupted = True

    def make_room(self) -> None:
        """Take the progress bar away where a result is about to appear on the same terminal."""
        if self.output.is_terminal:
            self.progress.close()

    def emit(self, name: str, value: Any) -> None:
        """Print an event as JSON, if events are asked for: its name and the fields of `value`."""
        if self.form == "jsonl":
            self.output.json({"event": name, **to_json(value)})

    def show(self, result: Any, text: Callable[[], None], *, told: str = "", each: bool = False) -> None:
        """Print a result in the form that was asked for. text: prints it as text.

        told: a key whose values were events already, so that the last event leaves it out. each: there may be several
        results, which are one JSON object together, printed by `finish`.
        """
        self.make_room()
        self._has_nothing_yet = False
        values = to_json(result)
        if self._failures and (not each or self.form == "jsonl"):
            values["warnings"] = [*values["warnings"], *self._failures]
        if self.form == "text":
            text()
        elif self.form == "jsonl":
            self.emit("result", {key: value for key, value in values.items() if key != told})
        elif each:
            self._results.append(values)
        else:
            self.output.json(values)

    def end_text(self, text: str, partial: bool, end: str = "the end of the input") -> None:
        """The closing lines of a result in text: how it came about, and whether it is of all there was to read."""
        if text:
            self.output.line(text, "dim")
        if partial:
            self.output.line(f"Partial: interrupted before {end}.", "yellow")

    def finish(self, found: int = 1) -> None:
        """Print the results of several files as JSON; exit with the code for an interruption, if there was one.

        found: how much text there was, in any unit; none at all is a DocumentError.
        """
        if self._results:
            self.output.json({"files": self._results, "warnings": self._failures})
        if self.interrupted:
            raise typer.Exit(interrupted_code())
        if self._failures:
            raise typer.Exit(EXIT_FAILED)
        if not found:
            raise DocumentError("there was no text to work on; give one that is not empty")


def _is_news(line: str) -> bool:
    """Whether this line was not told in the last day; from now on it was."""
    told = user_folder("told-model")
    if told is None:
        return True
    # Where nothing can be kept, it is told each time.
    with suppress(OSError, ValueError):
        if told.is_file() and time.time() - told.stat().st_mtime < _DAY and told.read_text("utf-8") == line:
            return False
        told.parent.mkdir(parents=True, exist_ok=True)
        told.write_text(line, "utf-8")
    return True


def find_model(
    name: str | None, environ: Mapping[str, str], notes: Notes, *, asked_by: str = "--model", bars: bool = False
) -> Located:
    """The checkpoint that `name` means. One of the hub that is not in its cache is fetched, unless that is forbidden.

    bars: for the progress of that, on stderr.
    """
    from famcli.checkpoint.hub import can_fetch, is_offline, pull
    from famcli.checkpoint.locate import resolve

    def fetch(wanted: HubName, environ: Mapping[str, str]) -> None:
        notes.note(f"fetching {wanted.repo} from the hub; --offline forbids that")
        pull(wanted, environ, progress=bars)

    may_fetch = can_fetch() and not is_offline(environ)
    return resolve(name, environ, asked_by=asked_by, fetch=fetch if may_fetch else None)


def cache_options(cache: Path | None) -> list[str]:
    """The options that another command needs to look in the same cache."""
    known = os.environ.get("FAMCLI_CACHE")
    return [] if cache is None or str(cache) == known else ["--cache", str(cache)]


def cache_environment(cache: Path | None, offline: bool = False) -> Mapping[str, str]:
    """The environment in which checkpoints are looked up: the options replace the variables."""
    settings = {"FAMCLI_CACHE": None if cache is None else str(cache), "FAMCLI_OFFLINE": "1" if offline else None}
    return {**os.environ, **{name: value for name, value in settings.items() if value is not None}}


def report_facts(counts: str, result: Any) -> tuple[str, ...]:
    """What a page (--html) says of a result: what was read, by whom, and whether it was all."""
    partial = ["Partial: interrupted before the end of the input."] * result.partial
    return (counts, f"{result.model}, memory {result.memory_mode}", *partial)


def describe_counts(counts: ReadCounts, memory_file: str | None = None) -> str:
    """`Read 325,012 bytes, 81,234 tokens, 79 full blocks in 1:23.`, and invalid bytes if there were any."""
    sizes = plural(counts.num_bytes, "byte")
    if counts.num_tokens:
        sizes = describe_sizes(counts.num_bytes, counts.num_tokens, counts.num_blocks)
    if memory_file is None:
        text = f"Read {sizes} in {describe_seconds(counts.seconds)}."
    else:
        text = f"From {memory_file}: {sizes}."
    if counts.num_replaced:
        text += f" {plural(counts.num_replaced, 'invalid byte sequence')} replaced by U+FFFD."
    return text


def one_line(text: str) -> str:
    """A quote for display: line breaks and runs of blanks as one blank. The JSON forms keep the text as it is."""
    return " ".join(text.split())


def paragraphs(text: str) -> list[str]:
    """A longer quote for display, without marks: each paragraph on one line, but lines that are not wrapped prose as
    they are."""
    shown: list[str] = []
    for part in _BLANK_LINES.split(without_marks(text)):
        lines = [line.rstrip() for line in part.splitlines() if line.strip()]
        # The mark before each line of a quotation, in the middle of a joined one.
        joined = [*lines[:1], *(QUOTED.sub("", line, count=1) for line in lines[1:])]
        is_quoted = all(QUOTED.match(line) for line in lines)
        shown += [one_line(" ".join(joined))] * bool(lines) if _is_wrapped(joined if is_quoted else lines) else lines
    return shown


def _is_wrapped(lines: list[str]) -> bool:
    """Whether lines go on from one another: half of them begin as a sentence goes on, which logs, code and verse do
    not. Of two lines the second may begin with a name."""
    later = lines[1:]
    # A wrapped line goes on in the middle of a sentence; a name or an "I" at its start is the exception.
    return 2 * sum(line[0].islower() for line in later) >= len(later) or (len(later) == 1 and later[0][0].isalpha())
