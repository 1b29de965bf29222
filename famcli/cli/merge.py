"""`famcli merge`: a checkpoint with an adapter made part of its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from famcli.cli.options import CacheOption, JsonOption, OfflineOption


def merge(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A checkpoint folder, or a name as --model takes it.")],
    adapter: Annotated[Path, typer.Argument(metavar="ADAPTER", help="The adapter's folder.")],
    target: Annotated[Path, typer.Argument(metavar="DIR", help="The folder to write; empty, or not there yet.")],
    cache: CacheOption = None,
    offline: OfflineOption = False,
    json: JsonOption = False,
) -> None:
    """Make an adapter part of a checkpoint's weights.

    MODEL stays as it is; the new folder has its layout and its types, so whatever opens the one opens the other. If
    famcli made the adapter, fam.json and the memory prompt go along.
    """
    from famcli.checkpoint.adapters.merge import merge as merge_folders
    from famcli.cli.failures import interrupts_raise
    from famcli.cli.render import Notes, Output, describe_bytes
    from famcli.cli.work import cache_environment, find_model

    interrupts_raise()
    located = find_model(model, cache_environment(cache, offline), Notes(), asked_by="MODEL")
    made = target.expanduser()
    warnings = merge_folders(located.path, adapter, made, located.name)
    for warning in warnings:
        Notes().warn(warning)
    size = sum(path.stat().st_size for path in made.glob("*.safetensors"))
    if json:
        done = {"model": located.name, "adapter": str(adapter), "path": str(made), "weights_bytes": size}
        Output().json({**done, "warnings": list(warnings)})
    else:
        Output().line(f"wrote {describe_bytes(size)} of weights in {made}")
