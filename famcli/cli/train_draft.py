"""`famcli train-draft`: train a draft that guesses what a checkpoint writes."""

from __future__ import annotations

import shlex
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from famcli.cli import options as opt
from famcli.cli.failures import interrupted_code, interrupts_raise
from famcli.cli.render import Notes, Output, describe_seconds
from famcli.cli.train import Watch
from famcli.cli.work import cache_environment, find_model
from famcli.errors import UsageError
from famcli.plain import plural, user_path

if TYPE_CHECKING:
    from famcli.checkpoint.model import Model
    from famcli.training.data.made import OpenFiller
    from famcli.training.draft import DraftStep


@dataclass(frozen=True)
class DraftOptions:
    """The draft's shape, what it learns from, and for how long."""

    PANEL: ClassVar = "Training"

    data: opt.TextsOption = None
    layers: Annotated[
        int | None, typer.Option("--layers", min=1, help="Layers of the draft. Default: a quarter of the checkpoint's.")
    ] = None
    window: Annotated[int, typer.Option("--window", min=1, help="Tokens before its own that the draft sees.")] = 64
    drafted_tokens: Annotated[int, typer.Option("--drafted-tokens", min=1, help="Tokens drafted at a time.")] = 4
    steps: Annotated[int, typer.Option("--steps", min=1, help="Steps of the run.")] = 1000
    texts: Annotated[int, typer.Option("--texts", min=1, help="Texts read side by side.")] = 4
    text_tokens: Annotated[int, typer.Option("--text-tokens", min=1, help="Tokens read of each text.")] = 512
    learning_rate: Annotated[float, typer.Option("--lr", min=0.0, help="Learning rate of the matrices (Muon).")] = 2e-2
    seed: Annotated[int, typer.Option("--seed", min=0, help="Draws the texts.")] = 0


def train_draft(
    *,
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A checkpoint folder, or a name as --model takes it.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the draft goes.")],
    training: DraftOptions,
    run: opt.RunFolderOption = None,
    device: opt.DeviceOption = "auto",
    threads: opt.ThreadsOption = None,
    cache: opt.CacheOption = None,
    offline: opt.OfflineOption = False,
    report: opt.ReportOptions,
) -> None:
    """Train a draft that guesses what a checkpoint writes.

    The draft begins as the checkpoint's last layers and learns to guess the next tokens as the checkpoint would choose
    them (SPIRe). It is for this checkpoint alone. A run that was stopped goes on when the same command is given again.
    `--draft DIR` of summarize, ask and chat writes with it: the likeliest words stay the same.
    """
    from famcli.checkpoint.folder import check_new_folder

    if not training.data:
        raise UsageError("there is nothing to learn from", remedy={"data": "PATH"})
    for path in training.data:
        if not user_path(path).exists():
            raise UsageError(f"{path} does not exist; give .jsonl(.zst), text files, or a folder of .txt")
    check_new_folder(out)
    notes, folder = Notes(report.quiet), run or Path("runs") / user_path(out).resolve().name
    located = find_model(
        model, cache_environment(cache, offline), notes, asked_by="MODEL", bars=report.progress_mode == "bar"
    )
    with closing(Watch(report, located.name, jsonl=False)) as watch:
        from famcli.checkpoint.device import keep_freed_memory, set_threads
        from famcli.checkpoint.draft import default_layers
        from famcli.checkpoint.open import open_model
        from famcli.nn.draft import DraftConfig
        from famcli.training.draft import DraftTraining
        from famcli.training.draft import train_draft as train

        keep_freed_memory()
        set_threads(threads)
        opened = open_model(located, device=device, dtype="float32")
        interrupts_raise()
        chosen = asdict(training)
        layers = chosen["layers"] or default_layers(opened.network.config.num_layers)
        how = DraftTraining(
            DraftConfig(layers, window=training.window, drafted_tokens=training.drafted_tokens),
            learning_rate=training.learning_rate,
            seed=training.seed,
            **{name: chosen[name] for name in ("steps", "texts", "text_tokens")},
        )
        filler = _filler(training.data, opened, folder, training.seed, watch)
        notes.note(f"a draft of {plural(layers, 'layer')} for {opened.name}, {plural(how.steps, 'step')}")
        last = list[Any]()

        def show(event: DraftStep) -> None:
            last[:] = [event]
            left = event.seconds / event.step * (event.steps - event.step)
            numbers = f"step {event.step:,}  loss {event.loss:.3f}  {event.accepted:.2f} tokens at a time  "
            numbers += f"{event.tokens_per_second:,.0f} tokens/s  ETA {describe_seconds(left)}"
            watch.show({"stage": f"training {out.name}", **asdict(event)}, event.step / event.steps, 1.0, numbers)

        watch.catch_signals()
        finished = train(opened, filler, how, folder, out, show, lambda: watch.stop)
    if not finished:
        again = f"give the same command again, with --run {shlex.quote(str(folder))}"
        notes.note(f"stopped and saved after {plural(last[0].step, 'step')}; to go on, {again}")
        raise typer.Exit(interrupted_code())
    done = f", about {last[0].accepted:.2f} tokens at a time" if last else ""
    Output().line(f"{out}: trained {plural(how.steps, 'step')}{done}.")


def _filler(paths: list[Path], model: Model, folder: Path, seed: int, watch: Watch) -> OpenFiller:
    """Text of `paths`, tokenized once into a folder beside the run."""
    from famcli.training.data.corpus import named, pack
    from famcli.training.data.made import filler_of
    from famcli.training.recipe.sections import CorpusRecipe

    corpora = [
        pack(CorpusRecipe(name, path, 1.0), model.tokenizer, folder.parent / "tokens", seed, on_progress=watch.event)
        for name, path in named(paths)
    ]
    return filler_of(corpora, [float(corpus.num_tokens) for corpus in corpora])
