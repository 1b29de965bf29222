"""`famcli adapt`: teach a pretrained checkpoint to read with a memory."""

from __future__ import annotations

import os
import shlex
import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import typer

from famcli.cli import options as opt
from famcli.cli.failures import interrupts_raise
from famcli.cli.render import Notes
from famcli.cli.train import follow, show_estimate
from famcli.cli.work import cache_environment, cache_options, find_model
from famcli.errors import BusyError, CheckpointError, RecipeError, UsageError
from famcli.plain import user_path


@dataclass(frozen=True)
class AdaptOptions:
    """What is trained, on what, and for how long."""

    PANEL: ClassVar = "Training"

    data: opt.TextsOption = None
    method: Annotated[
        Literal["lora", "full", "keep"],
        typer.Option(
            "--method",
            help="lora: small updates and the memory prompt; full: every weight; keep: no weight, only which tokens "
            "the memory keeps, in minutes.",
        ),
    ] = "lora"
    objective: Annotated[
        Literal["task", "distill"],
        typer.Option(
            "--objective",
            help="task: text, and questions about what was read; distill: on plain text, what the same checkpoint says "
            "with full attention.",
        ),
    ] = "task"
    rank: Annotated[int, typer.Option("--rank", min=1, help="Rank of the updates.")] = 64
    alpha: Annotated[
        float | None, typer.Option("--alpha", min=1e-6, help="Updates are scaled by alpha / rank. Default: the rank.")
    ] = None
    targets: Annotated[
        list[str] | None,
        typer.Option("--target", metavar="NAME", help="A matrix that gets an update, q_proj say; repeatable."),
    ] = None
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="Steps of the run.")] = None
    minutes: Annotated[
        float | None, typer.Option("--minutes", min=0.01, help="Minutes of the run. Default: 60, without --steps.")
    ] = None
    lanes: Annotated[int, typer.Option("--lanes", min=1, help="Documents read side by side.")] = 4
    learning_rate: Annotated[
        float | None, typer.Option("--lr", min=0.0, help="Learning rate. Default: 0.001, or 0.0001 with full.")
    ] = None
    seed: Annotated[int, typer.Option("--seed", min=0, help="Draws updates, prompt and documents.")] = 0


def adapt(
    *,
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A checkpoint folder, or a name as --model takes it.")],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Where the adapter goes (with full: the checkpoint).")
    ] = None,
    training: AdaptOptions,
    blocks: opt.BlockOptions,
    options: opt.RunOptions,
    device: opt.DeviceOption = "auto",
    dtype: Annotated[
        Literal["float32", "bfloat16"],
        typer.Option("--dtype", help="What to compute in; updates are float32.", rich_help_panel="Machine"),
    ] = "bfloat16",
    threads: opt.ThreadsOption = None,
    cache: opt.CacheOption = None,
    offline: opt.OfflineOption = False,
    report: opt.ReportOptions,
) -> None:
    """Teach a pretrained checkpoint to read with a memory.

    By LoRA: updates of low rank in attention and feed-forward, and the memory prompt; nothing else changes, and the
    checkpoint's own files stay as they are. The adapter has PEFT's layout; --adapter DIR reads with it, famcli merge
    makes it part of a checkpoint. The run is one of famcli train: given again, the same command goes on where it was
    stopped, and its recipe is in the run's folder, to be changed and run with famcli train.
    """
    from famcli.checkpoint.folder import check_new_folder

    options.check()
    if out is not None:
        check_new_folder(out)
    elif not options.dry_run:
        raise UsageError("--out is missing: give the folder that the adapter goes to")
    for path in training.data or ():
        if not user_path(path).exists():
            raise RecipeError(f"{path} does not exist; give .jsonl(.zst), text files, or a folder of .txt")
    notes, elsewhere = Notes(report.quiet), cache_options(cache)
    environ, bars = cache_environment(cache, offline), report.progress_mode == "bar"
    located = find_model(model, environ, notes, asked_by="MODEL", bars=bars)
    name = user_path(out or model).resolve().name or "adapted"
    folder = options.run or Path("runs") / name
    from famcli.training.adapt import adapt_table

    model = _unpacked(model, located.path, folder, notes)
    # The recipe names the checkpoint, so it must say too where that name is looked up, in this run and later ones.
    kept = str(user_path(cache).resolve()) if cache is not None and elsewhere else None
    chosen = {each: getattr(training, each) for each in ("method", "objective", "rank", "alpha")}
    table = adapt_table(
        name,
        model,
        training.data or (),
        adapter={**chosen, "targets": training.targets or None, "cache": kept},
        network=blocks.chosen(),
        schedule={"steps": training.steps, "max_minutes": training.minutes, "lanes": training.lanes},
        hardware={"device": device, "dtype": dtype, "threads": threads},
        learning_rate=training.learning_rate,
        seed=training.seed,
    )
    read = ["--model", str(out)] if training.method == "full" else ["--model", model, "--adapter", str(out)]
    if _run(table, folder, out, options, report):
        notes.note(f"next: {shlex.join(['famcli', 'ppl', 'FILE', '--memory-mode', 'compare', *read, *elsewhere])}")


def _run(
    table: dict[str, Any], folder: Path, out: Path | None, options: opt.RunOptions, report: opt.ReportOptions
) -> bool:
    """Run the recipe in `table` and copy what was trained to `out`; True once that is done, in the first process."""
    from famcli.checkpoint.families.pretrained import CONFIG_FILE
    from famcli.checkpoint.folder import ADAPTER_CONFIG
    from famcli.documents.writing import atomic_files, write_text
    from famcli.training.adapt import to_toml
    from famcli.training.loop.processes import is_first_process
    from famcli.training.recipe.recipe import make_recipe

    path = (folder / "recipe.toml").resolve()
    try:
        recipe = make_recipe(table, path, options.settings or [])
    except RecipeError as error:
        # The message names the recipe's file, which is not there yet.
        raise RecipeError(str(error).removeprefix(f"{path}: ")) from error
    if out is None or options.dry_run:
        show_estimate(recipe, folder, options.as_json, "goes where --out says" if out is None else f"goes to {out}")
        return False
    _check_writable(out)
    keep_recipe = partial(write_text, path, to_toml(table))
    exported = follow(recipe, folder, report, options.jsonl, "the same command", shown=out, on_start=keep_recipe)
    if not is_first_process():
        return False
    try:
        with atomic_files(out, (CONFIG_FILE, ADAPTER_CONFIG)) as made:
            shutil.copytree(exported, made, dirs_exist_ok=True)
    except (OSError, BusyError) as error:
        raise CheckpointError(f"{out} cannot be written ({error}); what was trained is in {exported}") from error
    return True


def _unpacked(model: str, path: Path, folder: Path, notes: Notes) -> str:
    """MODEL, or, of a GGUF file, the folder of its own that is made of it beside the run: the adapter is for that."""
    from famcli.tokens.gguf_file import is_gguf

    if not is_gguf(path):
        return model
    from famcli.checkpoint.convert import save_unpacked

    interrupts_raise()
    base = folder.expanduser().resolve().with_name(f"{folder.name}-base")
    if not base.exists():
        save_unpacked(path, base)
    notes.note(f"{model} is a GGUF file: the adapter is for the folder made of it, {base}")
    return str(base)


def _check_writable(out: Path) -> None:
    """Raise UsageError where the result could not be written after hours of training."""
    place = out if out.exists() else next(parent for parent in out.resolve().parents if parent.exists())
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        raise UsageError(f"--out {out} cannot be written: {place} is no folder that can be written to; choose another")
