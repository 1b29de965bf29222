"""`famcli pull`: fetch a checkpoint from the Hugging Face hub."""

from __future__ import annotations

import shlex
import sys
from typing import Annotated

import typer

from famcli.cli.options import CacheOption, JsonOption, OfflineOption, QuietOption


def pull(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="owner/name of a repository, or owner/name/FILE.gguf in it; @REVISION may follow."
        ),
    ],
    cache: CacheOption = None,
    offline: OfflineOption = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Fetch a checkpoint from the Hugging Face hub.

    It goes into the hub's own cache, which other tools share; what is there already is not fetched again. Only what
    famcli reads is fetched: safetensors or GGUF, JSON, tokenizers and chat templates, never pickles or code.
    """
    from famcli.checkpoint.hub import pull as pull_from_hub
    from famcli.checkpoint.locate import HubName, listed
    from famcli.cli.failures import interrupts_raise
    from famcli.cli.render import Notes, Output, describe_bytes
    from famcli.cli.work import cache_environment, cache_options
    from famcli.errors import UsageError
    from famcli.plain import to_json

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
    if not found.known:
        notes.warn(f"famcli does not know the family '{found.family}': it will not open")
    elif not found.whole:
        notes.warn("it has no tokenizer that famcli reads: it will not open")
    elif not found.enabled:
        notes.note(f"next: {shlex.join(['famcli', 'enable', name, *cache_options(cache)])}")
