"""Commands on checkpoints as files: `famcli models`, `pull`, `quantize`, `enable` and `merge`. None runs a network."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from famcli.cli import options as opt
from famcli.cli.failures import interrupts_raise
from famcli.cli.render import Notes, Output, aligned, describe_bytes
from famcli.cli.work import cache_environment, cache_options, find_model
from famcli.errors import UsageError
from famcli.plain import to_json, user_path

if TYPE_CHECKING:
    from famcli.checkpoint.recommended import Recommended

TargetArgument = Annotated[Path, typer.Argument(metavar="DIR", help="The folder to write; empty, or not there yet.")]


def models(cache: opt.CacheOption = None, json: opt.JsonOption = False) -> None:
    """List the checkpoints that --model can name.

    Those that ship with famcli, those that other packages carry, and those in the hub's cache on this machine, each
    with its family, its size, and whether its memory is trained. Then what is worth fetching, by the memory that it
    needs. Any folder and any GGUF file can be named by its path as well.
    """
    from famcli.checkpoint.locate import list_models
    from famcli.checkpoint.recommended import RECOMMENDED

    found, output = list_models(cache_environment(cache)), Output()
    names = {model.name for model in found}
    others = [one for one in RECOMMENDED if not names & {one.name, one.repo}]
    if json:
        listed = [to_json(model) | {"enabled": model.enabled} for model in found]
        output.json({"models": listed, "recommended": [to_json(one) for one in others]})
        return
    cells = [
        (each.name, each.family or "?", describe_bytes(each.num_bytes), each.where, _memory(each)) for each in found
    ]
    for line in aligned(cells, words=5):
        output.line(line)
    output.line()
    output.line("Worth fetching, with what their weights need in bfloat16 (--quantize int8 halves it):")
    rows = [(_how_to_get(one), describe_bytes(one.memory_bytes), one.licence, one.told) for one in others]
    for line in aligned(rows, words=4):
        output.line("  " + line)


def _how_to_get(one: Recommended) -> str:
    return one.carried.install if one.carried is not None else f"famcli pull {one.repo}"


def _memory(model: Any) -> str:
    """What can be read with a listed model, or the command that is missing."""
    # In this order: each one is what stands in the way first.
    if not model.known:
        return "a family that famcli does not open"
    if not model.whole:
        return f"not whole: famcli pull {model.name}"
    if model.memory is None:
        return "no memory"
    return "memory trained" if model.memory == "trained" else "memory not trained"


def pull(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="owner/name of a repository, or owner/name/FILE.gguf in it; @REVISION may follow."
        ),
    ],
    cache: opt.CacheOption = None,
    offline: opt.OfflineOption = False,
    json: opt.JsonOption = False,
    quiet: opt.QuietOption = False,
) -> None:
    """Fetch a checkpoint from the Hugging Face hub.

    It goes into the hub's own cache, which other tools share; what is there already is not fetched again. Only what
    famcli reads is fetched: safetensors or GGUF, JSON, tokenizers and chat templates, never pickles or code.
    """
    from famcli.checkpoint.hub import pull as pull_from_hub
    from famcli.checkpoint.locate import HubName, listed

    wanted = HubName.parse(name)
    if wanted is None:
        raise UsageError(f"'{name}' is no name of the hub: it must look like owner/name or owner/name/FILE.gguf")
    interrupts_raise()
    done = pull_from_hub(wanted, cache_environment(cache, offline), progress=not quiet and sys.stderr.isatty())
    found = listed(name, done.path, "hub cache")
    output, notes = Output(), Notes(quiet)
    if json:
        output.json(to_json(done) | {"family": found.family, "memory": found.memory})
        return
    output.line(f"{done.name}: {describe_bytes(done.num_bytes)} in {done.path}")
    if not done.checked:
        notes.note("it was here already, and the hub was not asked for a newer version")
    # The next step is named only if it can work: not every repository of the hub holds what famcli opens.
    if not found.known:
        notes.warn(f"famcli does not know the family '{found.family}': it will not open")
    elif not found.whole:
        notes.warn("it has no tokenizer that famcli reads: it will not open")
    else:
        notes.note(f"next: {shlex.join(['famcli', 'summarize', 'FILE', '--model', name, *cache_options(cache)])}")


def quantize(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A checkpoint folder, a GGUF file, or a name as --model takes it.")
    ],
    target: TargetArgument,
    to: Annotated[
        Literal["int8", "int4"], typer.Option("--to", help="8 bits for each number, or 4; embedding and head take 8.")
    ] = "int8",
    cache: opt.CacheOption = None,
    offline: opt.OfflineOption = False,
    json: opt.JsonOption = False,
) -> None:
    """Write a checkpoint with its matrices in int8 or int4.

    A half of bfloat16 on disk, or about a third; norms and the memory prompt stay as they are. The folder opens like
    any other, and --quantize keeps the same numbers in memory too. Tokenizer, chat template and fam.json go along.
    """
    from famcli.checkpoint.convert import save_quantized

    interrupts_raise()
    located = find_model(model, cache_environment(cache, offline), Notes(), asked_by="MODEL")
    made = save_quantized(located.path, user_path(target), to)
    _show_folder(made, json, f"weights in {to}", {"model": located.name, "path": str(made), "to": to})


def merge(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A checkpoint folder, or a name as --model takes it.")],
    adapter: Annotated[Path, typer.Argument(metavar="ADAPTER", help="The adapter's folder.")],
    target: TargetArgument,
    cache: opt.CacheOption = None,
    offline: opt.OfflineOption = False,
    json: opt.JsonOption = False,
) -> None:
    """Make an adapter part of a checkpoint's weights.

    MODEL stays as it is; the new folder has its layout and its types, so whatever opens the one opens the other. If
    famcli made the adapter, fam.json and the memory prompt go along.
    """
    from famcli.checkpoint.convert import merge_gguf
    from famcli.checkpoint.save import merge as merge_folders
    from famcli.tokens.gguf_file import is_gguf

    interrupts_raise()
    located = find_model(model, cache_environment(cache, offline), Notes(), asked_by="MODEL")
    made = user_path(target)
    merge_into = merge_gguf if is_gguf(located.path) else merge_folders
    warnings = merge_into(located.path, adapter, made, located.name)
    for warning in warnings:
        Notes().warn(warning)
    values = {"model": located.name, "adapter": str(adapter), "path": str(made), "warnings": warnings}
    _show_folder(made, json, "weights", values)


def _show_folder(made: Path, json: bool, what: str, values: dict[str, Any]) -> None:
    size = sum(path.stat().st_size for path in made.glob("*.safetensors"))
    if json:
        Output().json({**values, "weights_bytes": size})
    else:
        Output().line(f"wrote {describe_bytes(size)} of {what} in {made}")


def enable(
    *,
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="A checkpoint folder, a GGUF file, or a name that `famcli models` lists."),
    ],
    sink_tokens: Annotated[
        int | None, typer.Option("--sink-tokens", min=0, help="First tokens that stay visible for ever, s.")
    ] = None,
    local_memory: Annotated[
        bool | None,
        typer.Option(
            "--local-memory/--no-local-memory",
            help="Whether layers with a sliding window have a memory too. Default: only where every layer has one.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Draws the memory prompt.")] = 0,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier fam.json and fam.safetensors.")] = False,
    blocks: opt.BlockOptions,
    cache: opt.CacheOption = None,
    json: opt.JsonOption = False,
    quiet: opt.QuietOption = False,
) -> None:
    """Give a pretrained checkpoint folder a memory.

    Writes fam.json (how to read streams) and fam.safetensors (the memory prompt, drawn to match the statistics of the
    token embeddings) beside the files that are there; none of those is changed. The memory is not trained by this, and
    fam.json says so: until it is, the checkpoint reads with sliding blocks and attention sinks.
    """
    from famcli.checkpoint.enable import enable as enable_folder
    from famcli.checkpoint.locate import resolve

    interrupts_raise()
    located = resolve(model, cache_environment(cache), asked_by="MODEL")
    settings = {**blocks.chosen(), "sink_tokens": sink_tokens, "local_memory": local_memory}
    done = enable_folder(located.path, seed=seed, force=force, **settings)
    notes, output = Notes(quiet), Output()
    for note in done.notes:
        notes.note(note)
    if json:
        output.json(to_json(done) | {"sidecar": done.sidecar.to_json()})
        return
    fam = done.sidecar.fam
    # A path in the hub's cache is a long row of hashes, with nothing for the user to look at.
    cached = located.where == "hub cache"
    place = f"the hub's cache, beside {located.name}" if cached else done.files[-1].parent
    output.line(f"wrote {' and '.join(file.name for file in done.files)} in {place}")
    output.line(
        f"block_size {fam.block_size}, memory_segments {fam.memory_segments}, fam_length {fam.fam_length}, "
        f"sink_tokens {fam.sink_tokens}; {'memory not trained yet' if fam.fam_length else 'no memory'}"
    )
    command = "summarize" if done.sidecar.tasks else "ppl"
    notes.note(f"next: {shlex.join(['famcli', command, 'FILE', '--model', located.name, *cache_options(cache)])}")
