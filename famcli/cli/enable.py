"""`famcli enable`: make a folder with a pretrained decoder one that famcli can read with."""

from __future__ import annotations

import shlex
from typing import Annotated

import typer

from famcli.cli.options import BlockOptions, CacheOption, JsonOption, QuietOption


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
    blocks: BlockOptions,
    cache: CacheOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Give a pretrained checkpoint folder a memory.

    Writes fam.json (how to read streams) and fam.safetensors (the memory prompt, drawn to match the statistics of the
    token embeddings) beside the files that are there; none of those is changed. The memory is not trained by this, and
    fam.json says so: until it is, the checkpoint reads with sliding blocks and attention sinks.
    """
    from famcli.checkpoint.enable import enable as enable_folder
    from famcli.checkpoint.locate import resolve
    from famcli.cli.failures import interrupts_raise
    from famcli.cli.render import Notes, Output
    from famcli.cli.work import cache_environment, cache_options

    interrupts_raise()
    located = resolve(model, cache_environment(cache), asked_by="MODEL")
    done = enable_folder(
        located.path,
        **blocks.chosen(),
        sink_tokens=sink_tokens,
        local_memory=local_memory,
        seed=seed,
        force=force,
    )
    notes, output = Notes(quiet), Output()
    for note in done.notes:
        notes.note(note)
    if json:
        output.json(
            {
                "path": str(done.path),
                "files": [str(file) for file in done.files],
                "max_positions": done.max_positions,
                "seed": done.seed,
                "notes": list(done.notes),
                "sidecar": done.sidecar.to_json(),
            }
        )
        return
    fam = done.sidecar.fam
    cached = located.where == "hub cache"
    place = f"the hub's cache, beside {located.name}" if cached else done.files[-1].parent
    output.line(f"wrote {' and '.join(file.name for file in done.files)} in {place}")
    output.line(
        f"block_size {fam.block_size}, memory_segments {fam.memory_segments}, fam_length {fam.fam_length}, "
        f"sink_tokens {fam.sink_tokens}; {'memory not trained yet' if fam.fam_length else 'no memory'}"
    )
    command = "summarize" if done.sidecar.tasks else "ppl"
    notes.note(f"next: {shlex.join(['famcli', command, 'FILE', '--model', located.name, *cache_options(cache)])}")
