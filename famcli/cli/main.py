"""The `famcli` command: names its commands and loads the one that was chosen.

A command's module is imported only when the command is chosen, and a command's own imports (torch above all) happen
only when it runs, so that `--help`, completion and usage errors answer at once.
"""

from __future__ import annotations

import inspect
import os
import re
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from functools import wraps
from importlib import import_module
from typing import Annotated, Any, get_type_hints

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup

from famcli.cli.failures import (
    end_at_once,
    guarded,
    interrupted_code,
    interrupts_end_at_once,
    mend_streams,
    was_interrupted,
)

# name: first line of the command's help. `train` is defined by the function `train` in famcli/cli/train.py, if
# MODULES names no other. The list stands here because help must not import a module for each command.
COMMANDS = {
    "summarize": "Summarize texts in verbatim quotes with their places.",
    "ask": "Ask questions about texts; evidence is quoted and verified.",
    "chat": "Ask one question after the other about texts read once.",
    "ppl": "Measure perplexity, bits per byte, next-token accuracy.",
    "read": "Read texts once and save what was read as a memory file.",
    "readings": "Show or clear what was read for questions.",
    "inspect": "Show what a checkpoint, an adapter or a memory file holds.",
    "models": "List the checkpoints that --model can name.",
    "pull": "Fetch a checkpoint from the Hugging Face hub.",
    "quantize": "Write a checkpoint with its matrices in int8 or int4.",
    "enable": "Give a pretrained checkpoint folder a memory.",
    "adapt": "Teach a pretrained checkpoint to read with a memory.",
    "merge": "Make an adapter part of a checkpoint's weights.",
    "train": "Train a checkpoint from a recipe.",
    "train-draft": "Train a draft that guesses what a checkpoint writes.",
    "eval": "Judge a checkpoint: ppl, passkey, needle, babi, algorithmic.",
}

MODULES = {
    **dict.fromkeys(("models", "pull", "quantize", "enable", "merge"), "checkpoints"),
    "train-draft": "train_draft",
}
_NEARLY = 0.8  # how much alike two names are of which one may be a slip
# Headings in this order; others take the empty place, before what nearly all commands share.
_PANELS = ("Arguments", "Options", "", "Reading", "Output", "Machine")


def load_command(name: str) -> TyperCommand | TyperGroup:
    """The command called `name`, with all its options: imports its module (which imports nothing heavy).

    A module with a table `COMMANDS` of its own defines a group of commands; its `HELP` says what they share.
    """
    module = import_module(f"famcli.cli.{MODULES.get(name, name)}")
    group: dict[str, Callable[..., None]] | None = getattr(module, "COMMANDS", None)
    if group is None:
        return make_command({name: getattr(module, name.replace("-", "_"))})
    return make_command(group, module.HELP)


def make_command(
    functions: Mapping[str, Callable[..., None]], group_help: str | None = None
) -> TyperCommand | TyperGroup:
    """A command from the function that defines it, or with `group_help` a group of commands."""
    command = typer.main.get_command(make_app(functions, group_help, TyperGroup))
    assert isinstance(command, TyperCommand | TyperGroup)
    for each in command.commands.values() if isinstance(command, TyperGroup) else [command]:
        for parameter in each.params:
            # The names of arguments say enough, and `<list[str]>` says nothing.
            if isinstance(parameter, TyperArgument):
                parameter.display_type_rich = lambda ctx: None  # type: ignore[method-assign]
    return command


class GuardedGroup(TyperGroup):
    """Turns failures into one line and an exit code."""

    def make_context(self, *args: Any, **more: Any) -> Any:
        # Help is printed while options are parsed, and may go to a pipe that is closed.
        with guarded():
            return super().make_context(*args, **more)

    def invoke(self, ctx: Any) -> Any:
        with guarded(debug=bool(ctx.params.get("debug"))):
            return super().invoke(ctx)


def make_app(
    functions: Mapping[str, Callable[..., None]],
    group_help: str | None = None,
    group: type[TyperGroup] = GuardedGroup,
) -> typer.Typer:
    """An app of functions with option groups: what the scripts in tools/ and benchmarks/ run too."""
    app = typer.Typer(cls=group, add_completion=False, rich_markup_mode=None, no_args_is_help=True)
    if group_help is not None:
        app.callback(help=group_help)(lambda: None)
    for name, function in functions.items():
        app.command(name, cls=PanelCommand)(expand_option_groups(function))
    return app


def expand_option_groups(function: Callable[..., None]) -> Callable[..., None]:
    """`function` with each parameter that is an option group replaced by the group's fields, for typer to read.

    A group may hold other groups.
    """
    # Annotations are strings under `from __future__ import annotations`; typer needs the options that they name.
    hints = get_type_hints(function, include_extras=True)
    given = inspect.signature(function).parameters
    parameters = [flat for name, each in given.items() for flat in _flat(name, hints[name], each.default, None)]

    @wraps(function)
    def expanded(**values: Any) -> None:
        for name, hint in hints.items():
            if is_dataclass(hint):
                values[name] = _filled(hint, values)
        function(**values)

    expanded.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    expanded.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return expanded


def _flat(name: str, hint: Any, default: Any, panel: str | None) -> list[inspect.Parameter]:
    if is_dataclass(hint):
        inner = get_type_hints(hint, include_extras=True)
        heading = getattr(hint, "PANEL", None)
        return [flat for each in fields(hint) for flat in _flat(each.name, inner[each.name], each.default, heading)]
    # Options that commands share have a heading of their own.
    hint.__metadata__[0].rich_help_panel = hint.__metadata__[0].rich_help_panel or panel
    return [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hint)]


def _filled(group: Any, values: dict[str, Any]) -> Any:
    hints = get_type_hints(group, include_extras=True)
    names = [field.name for field in fields(group)]
    return group(
        **{name: _filled(hints[name], values) if is_dataclass(hints[name]) else values.pop(name) for name in names}
    )


class PanelCommand(TyperCommand):
    """Lists its options under the headings that their groups name. Typer does that only in boxes, which need rich.

    Of an option that does not exist it names those that are spelt nearly so, or whose help has the word.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except Exception as error:
            name = getattr(error, "option_name", None)
            if name is not None and hasattr(error, "possibilities"):
                near = get_close_matches(name, error.possibilities or (), cutoff=_NEARLY)
                error.possibilities = {*near, *self._told_of(ctx, name)} or error.possibilities
            raise

    def _told_of(self, ctx: Any, name: str) -> list[str]:
        """The option whose help has the word of this name most often; the first of several."""
        word = re.compile(rf"\b{re.escape(name.strip('-').replace('-', ' '))}\b", re.IGNORECASE)
        told = [(len(word.findall(getattr(one, "help", None) or "")), one) for one in self.get_params(ctx)]
        most, option = max(told, key=lambda pair: pair[0], default=(0, None))
        return [option.opts[0]] if option is not None and most and option.opts[0].startswith("--") else []

    def format_options(self, ctx: Any, formatter: Any) -> None:
        panels: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            usual = "Arguments" if isinstance(parameter, TyperArgument) else "Options"
            if record is not None:
                panels.setdefault(getattr(parameter, "rich_help_panel", None) or usual, []).append(record)
        for panel in sorted(panels, key=lambda panel: _PANELS.index(panel) if panel in _PANELS else 2):
            with formatter.section(panel):
                formatter.write_dl(panels[panel])


class LazyGroup(GuardedGroup):
    """Lists commands from the table and loads the chosen one."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for name, line in COMMANDS.items():
            self.add_command(TyperCommand(name=name, help=line, rich_markup_mode=None))

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        name, listed, rest = super().resolve_command(ctx, args)
        return name, load_command(name) if name else listed, rest


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"famcli {version('famcli')}")
        raise typer.Exit


app = typer.Typer(
    cls=LazyGroup,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show tracebacks and Python's warnings; goes before the command.")
    ] = False,
) -> None:
    """Read documents of any length in constant memory: summarize, ask, measure perplexity.

    FILE arguments are text files; none, or -, is standard input. Results go to stdout, everything else to stderr.
    Exit codes: 0 done, 1 the work failed, 2 bad usage, 130 interrupted (143 by SIGTERM, 129 by a closed
    terminal).
    """


def main() -> None:
    """Entry point of the `famcli` script."""
    mend_streams()
    interrupts_end_at_once()
    # Threads that wait by spinning for long make torch many times slower where others use the machine, and threads
    # that sleep at once slower where nobody does (docs/decisions.md).
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    if not sys.warnoptions and "--debug" not in sys.argv[1:2]:
        # A user can do nothing about a library's deprecations.
        warnings.simplefilter("ignore")
    try:
        try:
            app(prog_name="famcli")
        finally:
            # All is done: an exception while the interpreter ends would only be shown.
            interrupts_end_at_once()
    except KeyboardInterrupt:
        end_at_once(interrupted_code())
    except SystemExit as ended:
        of_several = os.environ.get("WORLD_SIZE", "1") != "1"
        if (was_interrupted() or of_several) and isinstance(ended.code, int):
            end_at_once(ended.code)
        raise
