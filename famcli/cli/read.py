"""`famcli read`: read once and keep what was read in a memory file, to be asked and continued later."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from famcli.cli.options import (
    DocumentOptions,
    FilesArgument,
    MachineOptions,
    MemoryModeOption,
    OutputOptions,
    ReportOptions,
)
from famcli.cli.render import plural
from famcli.cli.work import Work
from famcli.errors import UsageError

if TYPE_CHECKING:
    from famcli.tasks.read import ReadResult


def read(
    machine: MachineOptions,
    documents: DocumentOptions,
    output: OutputOptions,
    report: ReportOptions,
    files: FilesArgument = None,
    save: Annotated[Path | None, typer.Option("--save", metavar="FILE.fam", help="The memory file to write.")] = None,
    kind: Annotated[
        Literal["full", "memory"],
        typer.Option("--kind", help="full: the whole state, exact; memory: the memory only, small and lossy."),
    ] = "full",
    append: Annotated[
        bool,
        typer.Option("--append", help="Go on from --save: give the whole grown text, or only new text on stdin."),
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing memory file.")] = False,
    follow: Annotated[
        bool, typer.Option("--follow", help="Keep reading what is appended to the last file, until Ctrl-C.")
    ] = False,
    memory_mode: MemoryModeOption = None,
) -> None:
    """Read texts once and save what was read as a memory file.

    Ask the memory file with `famcli ask QUESTION --load FILE.fam`, look at it with `famcli inspect`, continue it with
    --append when the text has grown. It is also written every few minutes while reading, and on Ctrl-C.
    """
    if save is None and (append or force or follow):
        option = "--append" if append else "--force" if force else "--follow"
        raise UsageError(f"{option} has no meaning without --save FILE.fam")
    if append and force:
        raise UsageError("--append goes on with the memory file and --force replaces it: choose one")
    if save is not None and append and not save.is_file():
        raise UsageError(f"{save}: no such memory file to append to; leave out --append to begin one")
    if save is not None and save.exists() and not (append or force):
        raise UsageError(f"{save} exists: --append goes on with it, --force replaces it")
    with Work(report, output) as work:
        names = work.check_documents(files or [], documents)
        model = work.open_model(machine)

        from famcli.tasks.common import open_documents
        from famcli.tasks.read import Read, ReadConfig

        config = ReadConfig(save=save, kind=kind, append=append, force=force, follow=follow, memory_mode=memory_mode)
        task = Read(model, config)
        show = _Show(work)
        work.follow(task.events(open_documents(names, documents.encoding)), show.event)
        if work.interrupted:
            work.progress.close()
            saved = task.save()
            if saved is not None:
                show.event(saved)
                work.notes.note(
                    f"interrupted; what was read is saved: go on with {_go_on(names, saved.path, model.name)}"
                )
        show.result(task.result())
        work.finish()


def _go_on(names: list[str], path: Path, model: str) -> str:
    return shlex.join(["famcli", "read", *names, "--save", str(path), "--append", "--model", model])


class _Show:
    """Shows saves and the result."""

    def __init__(self, work: Work) -> None:
        self._work = work

    def event(self, event: Any) -> None:
        from famcli.tasks.read import Saved

        if isinstance(event, Saved) and self._work.form == "jsonl":
            values = {"path": str(event.path), "bytes": event.num_bytes, "tokens": event.num_tokens}
            self._work.output.json({"event": "saved", **values})

    def result(self, result: ReadResult) -> None:
        work = self._work
        work.make_room()
        if work.form != "text":
            event = {"event": "result"} if work.form == "jsonl" else {}
            work.output.json(event | result.to_json())
            return
        work.show_counts(result.counts, result.partial)
        if result.saved is not None:
            work.output.line(
                f"{result.saved} holds {plural(result.total_bytes, 'byte')}, {plural(result.total_tokens, 'token')}, "
                f"{plural(result.total_blocks, 'block')}."
            )
