"""`famcli read`: read once and keep what was read in a memory file, to be asked and continued later."""

from __future__ import annotations

import os
import shlex
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from famcli.cli import options as opt
from famcli.cli.failures import interrupts_wait, was_terminated
from famcli.cli.readings import allowed_sources
from famcli.cli.render import describe_bytes, describe_sizes
from famcli.cli.work import Work, cache_options, describe_counts
from famcli.errors import UsageError
from famcli.plain import plural

if TYPE_CHECKING:
    from famcli.tasks.read import ReadResult


def read(
    *,
    files: opt.FilesArgument = None,
    save: Annotated[Path | None, typer.Option("--save", metavar="FILE.fam", help="The memory file to write.")] = None,
    kind: Annotated[
        Literal["full", "memory"] | None,
        typer.Option(
            "--kind",
            help="full: the whole state, exact; memory: the memory only, smaller and lossy. Default: full, and with "
            "--append what the file is.",
        ),
    ] = None,
    append: Annotated[
        bool,
        typer.Option("--append", help="Go on from --save: give the whole grown text, or only new text on stdin."),
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing memory file.")] = False,
    follow: Annotated[
        bool, typer.Option("--follow", help="Keep reading what is appended to the last file, until Ctrl-C.")
    ] = False,
    memory_mode: opt.MemoryModeOption = None,
    encoding: opt.EncodingOption = None,
    common: opt.CommonOptions,
) -> None:
    """Read texts once and save what was read as a memory file.

    Ask the memory file with `famcli ask QUESTION --load FILE.fam`, look at it with `famcli inspect`, continue it with
    --append when the text has grown. It is also written every few minutes while reading, and on Ctrl-C, which is how
    --follow ends.
    """
    given = {"--append": append, "--force": force, "--follow": follow, "--kind": kind is not None}
    for option in [option for option, is_given in given.items() if is_given]:
        if save is None:
            raise UsageError(f"{option} has no meaning without --save FILE.fam")
    if append and force:
        raise UsageError("--append goes on with the memory file and --force replaces it: choose one")
    with ExitStack() as stack:
        work = stack.enter_context(Work(common))
        if save is not None:
            from famcli.reading.memory_format import check_save

            check_save(save, append, force, files or [])
        names = work.check_documents(files or [], encoding, needs_all=True)
        model = work.open_model(save if append else None)
        is_pipe = any(name == "-" or not Path(name).is_file() for name in names)
        if save is not None and kind != "memory" and is_pipe and not follow:
            whole = "the text that it continues" if append else "it"
            work.notes.note(
                f"a pipe cannot be read again: nothing of {whole} will be quoted; to ask about it, read a file"
            )
        if save is not None and kind != "memory" and (folders := _unseen_folders(names, save)):
            sources = " ".join(f"--sources {shlex.quote(folder)}" for folder in folders)
            work.notes.note(
                f"to quote what is neither below the folder of {save} nor below the current one, `famcli ask --load` "
                f"needs {sources}"
            )

        from famcli.tasks.read import Read, ReadConfig

        config = ReadConfig(
            save=save,
            kind=kind,
            append=append,
            force=force,
            follow=follow,
            encoding=encoding,
            memory_mode=memory_mode,
        )
        task = stack.enter_context(closing(Read(model, config)))
        # The command to go on with must find the same checkpoint, computing in the same way.
        base = common.machine.model or (model.name if common.machine.adapter is None else str(model.path))
        options = ["--model", base, *_settings(common.machine, encoding)]
        work.follow(task.events(names), lambda event: work.emit("saved", event))
        if work.interrupted:
            # Before anything is said: the terminal may be gone.
            with interrupts_wait():
                saved = task.save()
            work.progress.close()
            if saved is not None:
                work.emit("saved", saved)
                how = _how(names, task.result(), saved.path, follow, options)
                work.notes.note(f"interrupted; what was read is saved: go on {how}")
        result = task.result()
        work.show(result, lambda: _show(work, result))
        if save is None:
            work.notes.note("nothing was kept of what was read: to keep it, name a memory file with --save")
        if result.stopped and result.saved is not None:
            how = _how(names, result, result.saved.path, follow, options)
            work.notes.note(f"stopped following; all that was there is read and saved: go on {how}")
            # Ctrl-C is how following ends; other signals end what would go on.
            work.interrupted = was_terminated()
        work.finish()


def _unseen_folders(names: list[str], save: Path) -> list[str]:
    """The folders of files that a memory file's reader opens only where they are named (`rereading`)."""
    seen = [os.path.realpath(folder) for folder in (save.parent, Path(), *allowed_sources(None))]
    files = [Path(os.path.realpath(name)) for name in names if name != "-" and Path(name).is_file()]
    unseen = [str(file.parent) for file in files if not any(map(file.is_relative_to, seen))]
    return list(dict.fromkeys(unseen))


def _settings(machine: opt.MachineOptions, encoding: str | None) -> list[str]:
    """The options without which reading would go on in another way."""
    given = {
        "--adapter": machine.adapter,
        "--quantize": None if machine.quantize == "none" else machine.quantize,
        "--dtype": None if machine.dtype == "auto" else machine.dtype,
        "--encoding": encoding,
    }
    return [*cache_options(machine.cache), *(str(part) for item in given.items() if item[1] for part in item)]


def _how(names: list[str], result: ReadResult, path: Path, follow: bool, options: list[str]) -> str:
    """How to go on after Ctrl-C: with the file that was being read, and those after it. options: of this reading."""
    # The last file may not be whole: --append finds in it where reading stopped.
    left = names[max(0, len(result.counts.sources) - 1) :]
    again = ["--append", "--follow"] if follow else ["--append"]
    command = ["famcli", "read", *left, "--save", str(path), *again, *options]
    return ("by piping the rest into: " if left == ["-"] else "with: ") + shlex.join(command)


def _show(work: Work, result: ReadResult) -> None:
    work.end_text(describe_counts(result.counts), result.partial)
    if (saved := result.saved) is not None:
        unread = f" (and {plural(saved.bytes_unread, 'byte')} not read yet)" if saved.bytes_unread else ""
        work.output.line(
            f"{saved.path} ({describe_bytes(saved.file_size)}) holds "
            f"{describe_sizes(saved.num_bytes, saved.num_tokens, saved.num_blocks)}{unread}."
        )
