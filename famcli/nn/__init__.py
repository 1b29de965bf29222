"""The networks: one block in, the next state out. Pure tensors: no files, no text, no printing.

Names resolve when they are first used: what a checkpoint says of its shape can be read without loading torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from famcli.nn.config import MEMORY_MODES, DecoderConfig, FamConfig, MemoryMode, RopeConfig
    from famcli.nn.network import Network, State, make_network

_MODULES = {
    "DecoderConfig": "config",
    "FamConfig": "config",
    "MEMORY_MODES": "config",
    "MemoryMode": "config",
    "Network": "network",
    "RopeConfig": "config",
    "State": "network",
    "make_network": "network",
}

__all__ = [
    "MEMORY_MODES",
    "DecoderConfig",
    "FamConfig",
    "MemoryMode",
    "Network",
    "RopeConfig",
    "State",
    "make_network",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'famcli.nn' has no attribute '{name}'")
    value = globals()[name] = getattr(import_module(f"famcli.nn.{_MODULES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
