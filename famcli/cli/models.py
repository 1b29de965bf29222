"""`famcli models`: the checkpoints that can be asked for by name."""

from __future__ import annotations

from typing import Annotated

import typer

from famcli.cli.options import CacheOption


def models(
    cache: CacheOption = None,
    json: Annotated[bool, typer.Option("--json", help="Print the list as one JSON object.")] = False,
) -> None:
    """List the checkpoints that --model can name.

    Those that ship with famcli, then those in the hub's cache on this machine. A cached checkpoint can be read with
    once `famcli enable` has given it a memory. Any folder can be named by its path as well.
    """
    from famcli.checkpoint.locate import list_models
    from famcli.cli.render import Output
    from famcli.cli.work import cache_environment

    found = list_models(cache_environment(cache))
    output = Output()
    if json:
        output.json(
            {
                "models": [
                    {"name": model.name, "path": str(model.path), "where": model.where, "enabled": model.enabled}
                    for model in found
                ]
            }
        )
        return
    width = max((len(model.name) for model in found), default=0)
    for model in found:
        state = "" if model.enabled else f" (not enabled: famcli enable {model.path})"
        output.line(f"{model.name:{width}}  {model.where}{state}")
