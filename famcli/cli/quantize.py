"""`famcli quantize`: a checkpoint's folder with its matrices in int8 or int4."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from famcli.cli.options import CacheOption, JsonOption, OfflineOption


def quantize(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A checkpoint folder, a GGUF file, or a name as --model takes it.")
    ],
    target: Annotated[Path, typer.Argument(metavar="DIR", help="The folder to write; empty, or not there yet.")],
    to: Annotated[
        Literal["int8", "int4"], typer.Option("--to", help="8 bits for each number, or 4; embedding and head take 8.")
    ] = "int8",
    cache: CacheOption = None,
    offline: OfflineOption = False,
    json: JsonOption = False,
) -> None:
    """Write a checkpoint with its matrices in int8 or int4.

    A half of bfloat16 on disk, or about a third; norms and the memory prompt stay as they are. The folder opens like
    any other, and --quantize keeps the same numbers in memory too. Tokenizer, chat template and fam.json go along.
    """
    from famcli.checkpoint.save import save_quantized
    from famcli.cli.failures import interrupts_raise
    from famcli.cli.render import Notes, Output, describe_bytes
    from famcli.cli.work import cache_environment, find_model

    interrupts_raise()
    located = find_model(model, cache_environment(cache, offline), Notes(), asked_by="MODEL")
    made = save_quantized(located.path, target.expanduser(), to)
    size = sum(path.stat().st_size for path in made.glob("*.safetensors"))
    if json:
        Output().json({"model": located.name, "path": str(made), "to": to, "weights_bytes": size})
    else:
        Output().line(f"wrote {describe_bytes(size)} of weights in {to} in {made}")
