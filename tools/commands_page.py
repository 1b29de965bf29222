"""docs/commands.md, generated from the commands: `python -m tools.commands_page docs/commands.md` (make docs)."""

from __future__ import annotations

import sys
from pathlib import Path

import typer

from famcli.cli.main import COMMANDS, app, load_command

_WIDTH = 100
_INTRODUCTION = """\
# Commands

Generated from the commands by `make docs`; a test fails when this page and the commands disagree.
What the JSON objects of `--json` and `--jsonl` hold stands in [output.md](output.md).
"""


def commands_page() -> str:
    """The whole page, in Markdown: each command's own help."""
    pages = [(["famcli"], typer.main.get_command(app))]
    for name in COMMANDS:
        pages.append((["famcli", name], loaded := load_command(name)))
        pages += [(["famcli", name, part], inner) for part, inner in getattr(loaded, "commands", {}).items()]
    sections = [_INTRODUCTION]
    for words, command in pages:
        context = typer.Context(command, info_name=" ".join(words), terminal_width=_WIDTH)
        context.help_option_names = ["-h", "--help"]
        text = "\n".join(line.rstrip() for line in command.get_help(context).splitlines())
        sections.append(f"## {' '.join(words)}\n\n```text\n{text}\n```\n")
    return "\n".join(sections)


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(commands_page(), encoding="utf-8")
