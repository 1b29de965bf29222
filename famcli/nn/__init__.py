"""The networks: one block in, the next state out. Pure tensors: no files, no text, no printing."""

from famcli.nn.config import DecoderConfig, FamConfig, RopeConfig
from famcli.nn.decoder import Decoder, Probe
from famcli.nn.state import MEMORY_MODES, MemoryMode, State

__all__ = ["MEMORY_MODES", "Decoder", "DecoderConfig", "FamConfig", "MemoryMode", "Probe", "RopeConfig", "State"]
