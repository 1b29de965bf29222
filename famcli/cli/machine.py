"""From the options that describe the machine to an opened checkpoint, with what there is to say on the way."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from famcli.cli.options import MachineOptions
from famcli.cli.progress import Progress
from famcli.cli.render import Notes

if TYPE_CHECKING:
    from famcli.checkpoint.model import Model


def cache_environment(cache: Path | None) -> Mapping[str, str]:
    """The environment in which checkpoints are looked up: `--cache` replaces the hub's own variables."""
    return os.environ if cache is None else {**os.environ, "HF_HUB_CACHE": str(cache)}


def open_chosen_model(machine: MachineOptions, progress: Progress, notes: Notes) -> Model:
    """Find the checkpoint, name it on stderr, and open it. What is missing is noticed before torch is imported."""
    from famcli.checkpoint.locate import resolve

    located = resolve(machine.model, cache_environment(machine.cache))
    progress.stage(f"loading {located.name}")

    from famcli.checkpoint.device import set_threads
    from famcli.checkpoint.open import open_model

    set_threads(machine.threads)
    model = open_model(located, device=machine.device, dtype=machine.dtype)
    dtype = str(model.dtype).removeprefix("torch.")
    notes.note(f"model {located.name} ({located.where}, by {located.chosen_by}), {model.device}, {dtype}")
    if not model.sidecar.memory_trained:
        notes.warn(f"the memory of {located.name} is not trained, so it is off; --memory-mode on turns it on")
    return model
