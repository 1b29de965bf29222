"""What was read, kept in one safetensors file, so that reading once serves questions for days.

Kind "full" holds the whole state; kind "memory" the memory at the last closed block and the tokens after it, a few
per cent of the size and lossy: the closed blocks can no longer be seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from famcli.checkpoint.model import Model
from famcli.reading.bookmark import Bookmark, SourceRecord
from famcli.reading.reader import Reader

MemoryKind = Literal["full", "memory"]
SUFFIX = ".fam"


@dataclass(frozen=True)
class MemoryFileInfo:
    """What a memory file says of itself, read without its tensors.

    fingerprints: weights, config, tokenizer. num_bytes, num_tokens, num_blocks: read so far, over all sources.
    """

    path: Path
    format: int
    kind: MemoryKind
    model_name: str
    fingerprints: dict[str, str]
    memory_mode: str
    block_size: int
    memory_segments: int
    fam_length: int
    sink_tokens: int
    sources: tuple[SourceRecord, ...]
    num_bytes: int
    num_tokens: int
    num_blocks: int
    file_size: int
    dtype: str


def save_memory(path: Path, reader: Reader, kind: MemoryKind = "full") -> MemoryFileInfo:
    """Write what `reader` read to `path`, replacing what is there only once the new file is whole.

    Raises MemoryFileError if it cannot be written (the old file is then untouched), or in memory mode "compare".
    """


def load_memory(path: Path, model: Model) -> Bookmark:
    """Where the reading that `path` keeps can go on: `Reader(model, resume=load_memory(path, model))`.

    Raises MemoryFileError if the file is damaged, or was written with another model or other settings.
    """


def inspect_memory_file(path: Path) -> MemoryFileInfo:
    """What a memory file says of itself. Raises MemoryFileError if it is none, or is damaged."""
