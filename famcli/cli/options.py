"""Options that several commands share, as frozen dataclasses, so that one meaning has one name everywhere.

A command takes a whole group as one parameter (`machine: MachineOptions`); `expand_option_groups` shows typer the
group's fields as options of their own and hands the command the filled group.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import typer

from famcli.errors import UsageError

_MODES = "on: carry the memory; frozen: keep the initial memory; none: no memory keys at all"
MemoryModeOption = Annotated[
    Literal["on", "frozen", "none"] | None,
    typer.Option("--memory-mode", help=f"{_MODES}. Default: on, or none where the memory is not trained."),
]
ScoreModeOption = Annotated[
    Literal["on", "frozen", "none", "compare"] | None,
    typer.Option(
        "--memory-mode",
        help=f"{_MODES}; compare: on and frozen over one pass. Default: on, or none where the memory is not trained.",
    ),
]
JudgeModeOption = Annotated[
    Literal["on", "frozen", "none", "compare"] | None,
    typer.Option(
        "--memory-mode",
        help=f"{_MODES}; compare: on, then frozen over the same tokens. Default: on, or none where the memory is not "
        "trained.",
    ),
]
FilesArgument = Annotated[
    list[str] | None, typer.Argument(metavar="FILE", help="Text files; none, or -, is standard input.")
]
EachOption = Annotated[bool, typer.Option("--each", help="Treat each file alone, instead of one after the other.")]
EstimateJsonOption = Annotated[
    bool, typer.Option("--json", help="With --dry-run: print that, and the recipe, as one JSON object.")
]
RunJsonlOption = Annotated[bool, typer.Option("--jsonl", help="Print one JSON object per event of the run.")]
LoadOption = Annotated[
    Path | None,
    typer.Option("--load", metavar="FILE.fam", help="Ask a memory file of `famcli read` instead of reading."),
]
CacheOption = Annotated[
    Path | None,
    typer.Option(
        "--cache", envvar="FAMCLI_CACHE", metavar="DIR", help="The hub's cache. Default: where its own tools keep it."
    ),
]
OfflineOption = Annotated[
    bool,
    typer.Option("--offline", envvar="FAMCLI_OFFLINE", help="Never touch the network: what is not here is missing."),
]
QuantizeOption = Annotated[
    Literal["none", "int8", "int4"],
    typer.Option("--quantize", help="Keep the matrices in 8 or 4 bits: less memory, and faster writing on a CPU."),
]
AdapterOption = Annotated[
    Path | None,
    typer.Option("--adapter", metavar="DIR", help="A LoRA adapter (famcli adapt, peft) to add to the checkpoint."),
]


@dataclass(frozen=True)
class MachineOptions:
    """Where the network comes from and what it runs on."""

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
    device: Annotated[
        Literal["auto", "cpu", "cuda", "mps"],
        typer.Option("--device", envvar="FAMCLI_DEVICE", help="auto takes cuda, else cpu."),
    ] = "auto"
    dtype: Annotated[
        Literal["auto", "float32", "bfloat16", "float16"],
        typer.Option("--dtype", envvar="FAMCLI_DTYPE", help="What to compute in; auto takes what suits the device."),
    ] = "auto"
    threads: Annotated[
        int | None,
        typer.Option("--threads", envvar="FAMCLI_THREADS", min=1, help="CPU threads. Default: torch's choice."),
    ] = None
    cache: CacheOption = None
    offline: OfflineOption = False
    quantize: QuantizeOption = "none"
    adapter: AdapterOption = None


@dataclass(frozen=True)
class ReportOptions:
    """What is shown on stderr while a command works."""

    progress: Annotated[
        Literal["none", "bar", "json"] | None,
        typer.Option(
            "--progress",
            envvar="FAMCLI_PROGRESS",
            help="How to show progress on stderr. Default: bar on a terminal, else none.",
        ),
    ] = None
    quiet: Annotated[
        bool, typer.Option("--quiet", help="Nothing on stderr but errors: no progress, notes or warnings.")
    ] = False

    @property
    def progress_mode(self) -> Literal["none", "bar", "json"]:
        """The kind of progress display, decided by the options and by what stderr is."""
        if self.quiet:
            return "none"
        if self.progress is not None:
            return self.progress
        return "bar" if sys.stderr.isatty() else "none"


@dataclass(frozen=True)
class OutputOptions:
    """The form of the result on stdout."""

    json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")] = False
    jsonl: Annotated[bool, typer.Option("--jsonl", help="Print one JSON object per event, as it happens.")] = False

    @property
    def form(self) -> Literal["text", "json", "jsonl"]:
        """One of the three forms; raises UsageError when two are asked for."""
        if self.json and self.jsonl:
            raise UsageError("--json and --jsonl exclude each other: choose one")
        return "json" if self.json else "jsonl" if self.jsonl else "text"


@dataclass(frozen=True)
class DocumentOptions:
    """How the bytes of documents become text."""

    encoding: Annotated[
        str | None,
        typer.Option(
            "--encoding", metavar="NAME", help="The encoding of the input; ascii means utf-8. Default: detected."
        ),
    ] = None


def check_html(html: Path | None, each: bool, texts: Sequence[str]) -> None:
    """Refuse a page (--html) that cannot be written. Raises UsageError."""
    from famcli.documents.target import check_page

    if str(html) == "-":
        raise UsageError("--html writes no page to standard output: give the name of a file, such as page.html")
    if html is not None and each:
        raise UsageError("--html is one page for one reading: leave out --each, or give the files one by one")
    if html is not None:
        check_page(html, texts)


def expand_option_groups(function: Callable[..., None]) -> Callable[..., None]:
    """`function` with each parameter that is an option group replaced by the group's fields, for typer to read."""
    hints = get_type_hints(function, include_extras=True)
    groups: dict[str, type] = {}
    parameters: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(function).parameters.items():
        hint = hints[name]
        if isinstance(hint, type) and is_dataclass(hint):
            groups[name] = hint
            parameters += _parameters_of(hint)
        else:
            parameters.append(parameter.replace(annotation=hint, kind=inspect.Parameter.KEYWORD_ONLY))

    @wraps(function)
    def expanded(**values: Any) -> None:
        for name, group in groups.items():
            values[name] = group(**{field.name: values.pop(field.name) for field in fields(group)})
        function(**values)

    expanded.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    expanded.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return expanded


def _parameters_of(group: type) -> list[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    found = []
    for field in fields(group):
        assert field.default is not MISSING, f"{group.__name__}.{field.name} needs a default"
        found.append(
            inspect.Parameter(
                field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name]
            )
        )
    return found
