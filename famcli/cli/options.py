"""Options that several commands share, as frozen dataclasses, so that one meaning has one name everywhere.

A command takes a whole group as one parameter (`machine: MachineOptions`); `main.expand_option_groups` shows typer the
group's fields as options of their own and hands the command the filled group. A group's `PANEL` is the heading in the
help page of those options that do not name another one.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import typer

from famcli.errors import UsageError

# An option of one command stands in that command; what two commands share stands here, so that its help is one text.
_reading = partial(typer.Option, rich_help_panel="Reading")
_output = partial(typer.Option, rich_help_panel="Output")
_machine = partial(typer.Option, rich_help_panel="Machine")

CompareMode = Literal["on", "frozen", "none", "compare"]
_MODES = "on: carry the memory; frozen: keep the initial memory; none: no memory keys at all"
_USUAL_MODE = "Default: on, or none where the memory is not trained."
MemoryModeOption = Annotated[
    Literal["on", "frozen", "none"] | None, _reading("--memory-mode", help=f"{_MODES}. {_USUAL_MODE}")
]
CompareModeOption = Annotated[
    CompareMode | None,
    _reading("--memory-mode", help=f"{_MODES}; compare: on and frozen over the same tokens. {_USUAL_MODE}"),
]
JsonOption = Annotated[bool, _output("--json", help="Print the result as one JSON object.")]
QuietOption = Annotated[bool, _output("--quiet", help="Nothing on stderr but errors: no progress, notes or warnings.")]
HtmlOption = Annotated[
    Path | None,
    _output("--html", metavar="FILE", help="Write a page too: the result beside the text, with links to its places."),
]
FilesArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="FILE", help="Documents, folders, patterns or addresses; none, or -, is standard input."),
]
FileOption = Annotated[
    list[str] | None,
    _reading(
        "--file",
        "-f",
        metavar="FILE",
        help="A document, folder, pattern or address, repeatable; none, or -, is standard input.",
    ),
]
EachOption = Annotated[bool, _reading("--each", help="Treat each file alone, instead of one after the other.")]
LoadOption = Annotated[
    Path | None,
    _reading("--load", metavar="FILE.fam", help="Ask a memory file of `famcli read` instead of reading."),
]
SourcesOption = Annotated[
    list[Path] | None,
    _reading(
        "--sources",
        metavar="DIR",
        help="With --load: quote files below this folder too, repeatable. A memory file may name any file; those below "
        "its own folder and the current one are quoted anyway.",
    ),
]
EncodingOption = Annotated[
    str | None,
    _reading(
        "--encoding",
        metavar="NAME",
        help="The encoding of the input; ascii means utf-8. as-is reads HTML, "
        "mail, records and programs as plain text. Default: detected.",
    ),
]
ReadingsOption = Annotated[
    Path | None,
    _reading(
        "--readings",
        envvar="FAMCLI_READINGS",
        metavar="DIR",
        help="Where what was read of files is kept, with their text. Default: the user's cache folder.",
    ),
]
ReadingsLimitOption = Annotated[
    int,
    _reading(
        "--readings-limit",
        envvar="FAMCLI_READINGS_LIMIT",
        min=0,
        metavar="MB",
        help="What all kept readings may take together; those asked longest ago go first. 0 keeps nothing.",
    ),
]
DeviceOption = Annotated[
    Literal["auto", "cpu", "cuda", "mps"],
    _machine("--device", envvar="FAMCLI_DEVICE", help="auto takes cuda, else cpu."),
]
ThreadsOption = Annotated[
    int | None,
    _machine("--threads", envvar="FAMCLI_THREADS", min=1, help="CPU threads. Default: torch's choice."),
]
CacheOption = Annotated[
    Path | None,
    _machine(
        "--cache", envvar="FAMCLI_CACHE", metavar="DIR", help="The hub's cache. Default: where its own tools keep it."
    ),
]
RunFolderOption = Annotated[
    Path | None,
    typer.Option("--run", metavar="DIR", help="The run's folder: checkpoints, log, recipe. Default: runs/NAME."),
]
TextsOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--data",
        metavar="PATH",
        help="Texts: .jsonl(.zst) with id and text, a text file, a folder of .txt; repeatable.",
    ),
]
OfflineOption = Annotated[
    bool, _machine("--offline", envvar="FAMCLI_OFFLINE", help="Never touch the network: what is not here is missing.")
]


@dataclass(frozen=True)
class MachineOptions:
    """Where the network comes from and what it runs on."""

    PANEL: ClassVar = "Machine"

    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            metavar="PATH|NAME",
            help="A checkpoint folder, a GGUF file, a name that `famcli models` lists, or one of the hub "
            "(owner/name), which is fetched. Default: FAMCLI_MODEL, else the one that ships.",
        ),
    ] = None
    device: DeviceOption = "auto"
    dtype: Annotated[
        Literal["auto", "float32", "bfloat16", "float16"],
        typer.Option("--dtype", envvar="FAMCLI_DTYPE", help="What to compute in; auto takes what suits the device."),
    ] = "auto"
    threads: ThreadsOption = None
    cache: CacheOption = None
    offline: OfflineOption = False
    allow_private: Annotated[
        bool,
        typer.Option(
            "--allow-private",
            envvar="FAMCLI_ALLOW_PRIVATE",
            help="Fetch pages (https://...) from this machine and from private networks too.",
        ),
    ] = False
    quantize: Annotated[
        Literal["none", "int8", "int4"],
        typer.Option("--quantize", help="Keep the matrices in 8 or 4 bits: less memory, and faster writing on a CPU."),
    ] = "none"
    adapter: Annotated[
        Path | None,
        typer.Option("--adapter", metavar="DIR", help="A LoRA adapter (famcli adapt, peft) to add to the checkpoint."),
    ] = None


@dataclass(frozen=True)
class ReportOptions:
    """What is shown on stderr while a command works."""

    PANEL: ClassVar = "Output"

    progress: Annotated[
        Literal["none", "bar", "json"] | None,
        typer.Option(
            "--progress",
            envvar="FAMCLI_PROGRESS",
            help="How to show progress on stderr. Default: bar on a terminal, else none.",
        ),
    ] = None
    quiet: QuietOption = False
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Name the model each time, not only the first time of a day.")
    ] = False

    @property
    def progress_mode(self) -> Literal["none", "bar", "json"]:
        """The kind of progress display, decided by the options and by what stderr is."""
        if self.quiet:
            return "none"
        if self.progress is not None:
            return self.progress
        # A log file is no place for a line that is drawn again and again.
        return "bar" if sys.stderr.isatty() else "none"


@dataclass(frozen=True)
class OutputOptions:
    """The form of the result on stdout."""

    PANEL: ClassVar = "Output"

    json: JsonOption = False
    jsonl: Annotated[bool, typer.Option("--jsonl", help="Print one JSON object per event, as it happens.")] = False

    @property
    def form(self) -> Literal["text", "json", "jsonl"]:
        """One of the three forms; raises UsageError when two are asked for."""
        if self.json and self.jsonl:
            raise UsageError("--json and --jsonl exclude each other: choose one")
        return "json" if self.json else "jsonl" if self.jsonl else "text"


@dataclass(frozen=True)
class CommonOptions:
    """What every command takes that reads with a network."""

    machine: MachineOptions
    output: OutputOptions
    report: ReportOptions


@dataclass(frozen=True)
class AnswerOptions:
    """How questions are answered."""

    PANEL: ClassVar = "Answering"

    write: Annotated[
        bool | None,
        typer.Option(
            "--write/--extractive",
            help="Let the checkpoint write answers, or quote spans of the evidence only. Default: as the checkpoint "
            "says.",
            show_default=False,
        ),
    ] = None
    top: Annotated[
        int | None,
        typer.Option("--top", "-k", min=1, max=20, help="Passages to cite per question. Default: 3; in chat 1."),
    ] = None
    threshold: Annotated[
        float | None,
        typer.Option(
            "--threshold",
            min=0,
            max=1,
            metavar="P",
            help="The confidence that evidence needs; below it the answer is that nothing was found. Default: "
            "calibrated.",
        ),
    ] = None
    answer_tokens: Annotated[
        int, typer.Option("--answer-tokens", min=1, help="The longest written answer or span.")
    ] = 64


@dataclass(frozen=True)
class SamplingOptions:
    """How a checkpoint that writes chooses its words."""

    PANEL: ClassVar = "Writing"

    temperature: Annotated[
        float | None,
        typer.Option(
            "--temperature",
            min=0,
            help="Draw words at random, the more freely the higher. Default: 0, the likeliest ones, which keeps to the "
            "text.",
            show_default=False,
        ),
    ] = None
    top_p: Annotated[
        float | None,
        typer.Option("--top-p", min=0, max=1, help="Draw from the likeliest tokens that together reach this."),
    ] = None
    top_k: Annotated[int | None, typer.Option("--top-k", min=0, help="Draw from so many likeliest tokens.")] = None
    min_p: Annotated[
        float | None,
        typer.Option("--min-p", min=0, max=1, help="Draw from tokens at least so likely, beside the likeliest."),
    ] = None
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Draw the same words again.")] = None
    draft: Annotated[
        Path | None,
        typer.Option(
            "--draft",
            metavar="DIR",
            help="A draft of the checkpoint (famcli train-draft), which guesses ahead where that saves time. The "
            "likeliest words stay the same; drawn ones keep their distribution.",
        ),
    ] = None

    def chosen(self) -> dict[str, Any]:
        """The settings for drawing words that were given, by name."""
        return {name: value for name, value in _chosen(self).items() if name != "draft"}


@dataclass(frozen=True)
class BlockOptions:
    """How a decoder is to read a stream; what is None is chosen for the decoder."""

    PANEL: ClassVar = "Memory"

    block_size: Annotated[
        int | None, typer.Option("--block-size", min=1, help="Tokens in a block, C. Default: what suits the decoder.")
    ] = None
    memory_segments: Annotated[
        int | None, typer.Option("--memory-segments", min=0, help="Closed blocks that a token still sees, m.")
    ] = None
    fam_length: Annotated[
        int | None, typer.Option("--fam-length", min=0, help="Rows of the feedback memory, f; 0 for none.")
    ] = None

    def chosen(self) -> dict[str, Any]:
        """Those that were given, by name."""
        return _chosen(self)


@dataclass(frozen=True)
class RunOptions:
    """A training run: where it lies, what of its recipe is overridden, and what is shown of it."""

    PANEL: ClassVar = "Run"

    run: RunFolderOption = None
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the recipe, as in schedule.steps=10."),
    ] = None
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check the recipe, measure a step, and print what the run will need.")
    ] = False
    as_json: Annotated[
        bool, typer.Option("--json", help="With --dry-run: print that, and the recipe, as one JSON object.")
    ] = False
    jsonl: Annotated[bool, typer.Option("--jsonl", help="Print one JSON object per event of the run.")] = False

    def check(self) -> None:
        """Raise UsageError where options exclude each other."""
        if self.as_json and not self.dry_run:
            raise UsageError("--json goes with --dry-run; a run prints its events with --jsonl")


def _chosen(group: Any) -> dict[str, Any]:
    given = {field.name: getattr(group, field.name) for field in fields(group)}
    return {name: value for name, value in given.items() if value is not None}


def check_html(html: Path | None, each: bool, texts: Sequence[str]) -> None:
    """Refuse a page (--html) that cannot be written. Raises UsageError."""
    from famcli.documents.writing import check_page

    if str(html) == "-":
        raise UsageError("--html writes no page to standard output: give the name of a file, such as page.html")
    if html is not None and each:
        raise UsageError("--html is one page for one reading: leave out --each, or give the files one by one")
    # An hour of reading must not end in a folder that nobody may write to.
    if html is not None:
        check_page(html, texts)
