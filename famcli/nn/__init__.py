"""The networks: one block in, the next state out. Pure tensors: no files, no text, no printing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from famcli.nn.config import MEMORY_MODES, DecoderConfig, FamConfig, MemoryMode, RopeConfig

if TYPE_CHECKING:
    from famcli.nn.network import Network, State, make_network

__all__ = ["MEMORY_MODES", "DecoderConfig", "FamConfig", "MemoryMode", "Network", "RopeConfig", "State", "make_network"]


def __getattr__(name: str) -> Any:
    # What a checkpoint says of its shape can be read without loading torch.
    if name in ("Network", "State", "make_network"):
        from famcli.nn import network

        return getattr(network, name)
    raise AttributeError(f"module 'famcli.nn' has no attribute '{name}'")
