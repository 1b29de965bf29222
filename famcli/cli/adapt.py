"""`famcli adapt`: teach a pretrained checkpoint to read with a memory."""

from __future__ import annotations

import os
import shlex
import shutil
from pathlib import Path
from typing import Annotated, Literal

import typer

from famcli.cli.options import CacheOption, EstimateJsonOption, OfflineOption, ReportOptions, RunJsonlOption
from famcli.errors import CheckpointError, RecipeError, UsageError


def adapt(
    *,
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A checkpoint folder, or a name as --model takes it.")],
    data: Annotated[
        list[Path] | None,
        typer.Option(
            "--data",
            metavar="PATH",
            help="Texts: .jsonl(.zst) with id and text, a text file, a folder of .txt; repeatable.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Where the adapter goes (with full: the checkpoint).")
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option("--run", metavar="DIR", help="The run's folder: checkpoints, log, recipe. Default: runs/OUT."),
    ] = None,
    method: Annotated[
        Literal["lora", "full"],
        typer.Option("--method", help="lora: small updates and the memory prompt; full: every weight."),
    ] = "lora",
    objective: Annotated[
        Literal["task", "distill"],
        typer.Option(
            "--objective",
            help="task: text, and questions about what was read; distill: on plain text, what the same checkpoint says "
            "with full attention.",
        ),
    ] = "task",
    rank: Annotated[int, typer.Option("--rank", min=1, help="Rank of the updates.")] = 64,
    alpha: Annotated[
        float | None, typer.Option("--alpha", min=1e-6, help="Updates are scaled by alpha / rank. Default: the rank.")
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option("--target", metavar="NAME", help="A matrix that gets an update, q_proj say; repeatable."),
    ] = None,
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="Steps of the run.")] = None,
    minutes: Annotated[
        float | None, typer.Option("--minutes", min=0.01, help="Minutes of the run. Default: 60, without --steps.")
    ] = None,
    lanes: Annotated[int, typer.Option("--lanes", min=1, help="Documents read side by side.")] = 4,
    learning_rate: Annotated[
        float | None, typer.Option("--lr", min=0.0, help="Learning rate. Default: 0.001, or 0.0001 with full.")
    ] = None,
    block_size: Annotated[int | None, typer.Option("--block-size", min=1, help="Tokens in a block, C.")] = None,
    memory_segments: Annotated[
        int | None, typer.Option("--memory-segments", min=0, help="Closed blocks that a token still sees, m.")
    ] = None,
    fam_length: Annotated[int | None, typer.Option("--fam-length", min=1, help="Rows of the memory, f.")] = None,
    device: Annotated[
        Literal["auto", "cpu", "cuda", "mps"],
        typer.Option("--device", envvar="FAMCLI_DEVICE", help="auto takes cuda, else cpu."),
    ] = "auto",
    dtype: Annotated[
        Literal["float32", "bfloat16"], typer.Option("--dtype", help="What to compute in; updates are float32.")
    ] = "bfloat16",
    threads: Annotated[
        int | None,
        typer.Option("--threads", envvar="FAMCLI_THREADS", min=1, help="CPU threads. Default: torch's choice."),
    ] = None,
    cache: CacheOption = None,
    offline: OfflineOption = False,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Draws updates, prompt and documents.")] = 0,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Any key of a recipe, e.g. schedule.max_blocks=16; repeatable."
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Measure a step, and print what the run will need.")
    ] = False,
    as_json: EstimateJsonOption = False,
    jsonl: RunJsonlOption = False,
    report: ReportOptions,
) -> None:
    """Teach a pretrained checkpoint to read with a memory.

    By LoRA: updates of low rank in attention and feed-forward, and the memory prompt; nothing else changes, and the
    checkpoint's own files stay as they are. The adapter has PEFT's layout; --adapter DIR reads with it, famcli merge
    makes it part of a checkpoint. The run is one of famcli train: given again, the same command goes on where it was
    stopped, and its recipe is in the run's folder, to be changed and run with famcli train.
    """
    from famcli.checkpoint.folder import check_new_folder
    from famcli.cli.render import Notes
    from famcli.cli.train import follow
    from famcli.cli.train_estimate import show_estimate
    from famcli.cli.work import cache_environment, cache_options, find_model
    from famcli.training.loop.distributed import is_first_process
    from famcli.training.recipe.adapt_plan import AdaptPlan, to_toml
    from famcli.training.recipe.recipe import make_recipe

    if as_json and not dry_run:
        raise UsageError("--json goes with --dry-run; a run prints its events with --jsonl")
    if out is None and not dry_run:
        raise UsageError("--out is missing: give the folder that the adapter goes to")
    if out is not None:
        check_new_folder(out)
    notes, elsewhere = Notes(report.quiet), cache_options(cache)
    bars = report.progress_mode == "bar"
    find_model(model, cache_environment(cache, offline), notes, asked_by="MODEL", bars=bars)
    if cache is not None:
        os.environ["FAMCLI_CACHE"] = str(cache)  # the run looks for what its recipe names there too
    name = (out or Path(model)).expanduser().resolve().name or "adapted"
    folder = run or Path("runs") / name
    plan = AdaptPlan(
        model=model,
        data=tuple(data or ()),
        method=method,
        objective=objective,
        rank=rank,
        alpha=alpha,
        targets=tuple(target) if target else None,
        steps=steps,
        minutes=minutes,
        lanes=lanes,
        learning_rate=learning_rate,
        block_size=block_size,
        memory_segments=memory_segments,
        fam_length=fam_length,
        device=device,
        dtype=dtype,
        threads=threads,
        seed=seed,
    )
    table, path = plan.table(name), (folder / "recipe.toml").resolve()
    try:
        recipe = make_recipe(table, path, settings or [])
    except RecipeError as error:  # there is no such file yet
        raise RecipeError(str(error).removeprefix(f"{path}: ")) from error
    if dry_run:
        show_estimate(recipe, folder, as_json, "goes where --out says" if out is None else f"goes to {out}")
        return
    assert out is not None
    _check_writable(out)

    def keep_recipe() -> None:
        path.write_text(to_toml(table), encoding="utf-8")

    exported = follow(recipe, folder, report, jsonl, "the same command", shown=out, on_start=keep_recipe)
    if is_first_process():
        try:
            shutil.copytree(exported, out, dirs_exist_ok=True)
        except (OSError, shutil.Error) as error:
            raise CheckpointError(f"{out} cannot be written ({error}); what was trained is in {exported}") from error
        read = ["--model", str(out)] if method == "full" else ["--model", model, "--adapter", str(out)]
        command = ["famcli", "ppl", "FILE", "--memory-mode", "compare", *read, *elsewhere]
        notes.note(f"next: {shlex.join(command)}")


def _check_writable(out: Path) -> None:
    """Raise UsageError where the result could not be written after hours of training."""
    place = out if out.exists() else next(parent for parent in out.resolve().parents if parent.exists())
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        raise UsageError(f"--out {out} cannot be written: {place} is no folder that can be written to; choose another")
