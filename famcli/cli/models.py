"""`famcli models`: the checkpoints that can be asked for by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from famcli.cli.options import CacheOption, JsonOption

if TYPE_CHECKING:
    from famcli.checkpoint.locate import ListedModel


def models(
    cache: CacheOption = None,
    json: JsonOption = False,
) -> None:
    """List the checkpoints that --model can name.

    Those that ship with famcli, then those in the hub's cache on this machine, each with its family, its size, and
    whether its memory is trained. A cached checkpoint can be read with once `famcli enable` has given it a memory. Any
    folder and any GGUF file can be named by its path as well.
    """
    from famcli.checkpoint.locate import list_models
    from famcli.cli.render import Output, describe_bytes
    from famcli.cli.work import cache_environment
    from famcli.plain import to_json

    found = list_models(cache_environment(cache))
    output = Output()
    if json:
        output.json({"models": [to_json(model) | {"enabled": model.enabled} for model in found]})
        return
    cells = [(model.name, model.family or "?", describe_bytes(model.num_bytes), model.where) for model in found]
    widths = [max((len(row[column]) for row in cells), default=0) for column in range(4)]
    for model, row in zip(found, cells, strict=True):
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        output.line(f"{line}  {_memory(model)}")


def _memory(model: ListedModel) -> str:
    if not model.known:
        return "a family that famcli does not open"
    if not model.whole:
        return f"not whole: famcli pull {model.name}"
    if model.memory is None:
        return f"not enabled: famcli enable {model.name}"
    return "memory trained" if model.memory == "trained" else "memory not trained"
