"""The networks: one block in, the next state out. Pure tensors: no files, no text, no printing.

Names resolve when they are first used: what a checkpoint says of its shape can be read without loading torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from famcli.nn.call import Probe
    from famcli.nn.config import DecoderConfig, FamConfig, RopeConfig
    from famcli.nn.decoder import Decoder
    from famcli.nn.shapes import MEMORY_MODES, MemoryMode
    from famcli.nn.state import State

_MODULES = {
    "DecoderConfig": "config",
    "FamConfig": "config",
    "RopeConfig": "config",
    "Decoder": "decoder",
    "Probe": "call",
    "MEMORY_MODES": "shapes",
    "MemoryMode": "shapes",
    "State": "state",
}

__all__ = ["MEMORY_MODES", "Decoder", "DecoderConfig", "FamConfig", "MemoryMode", "Probe", "RopeConfig", "State"]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'famcli.nn' has no attribute '{name}'")
    value = globals()[name] = getattr(import_module(f"famcli.nn.{_MODULES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
