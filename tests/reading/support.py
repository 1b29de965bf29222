"""A tiny model of random weights that reads bytes, and the ways these tests read with it."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch

from famcli.checkpoint.fingerprints import Fingerprints, config_fingerprint
from famcli.checkpoint.model import Model
from famcli.checkpoint.sidecar import Sidecar
from famcli.documents.opening import open_source
from famcli.documents.source import Source
from famcli.nn import DecoderConfig, FamConfig
from famcli.reading.events import BlockEvent, Event, TextEvent
from famcli.reading.reader import Reader
from famcli.tokens.tokenizer import Tokenizer
from tests.helpers import random_network
from tests.reading.words import WordTokenizer

SHAPE = {"hidden_size": 16, "intermediate_size": 24, "num_layers": 2, "num_heads": 2, "num_key_value_heads": 1}


def tiny_model(
    tokenizer: Tokenizer | None = None, *, fam: FamConfig | None = None, seed: int = 0, validated: int | None = None
) -> Model:
    """Two layers of width 16, blocks of 8 tokens, one segment, three memory rows, unless `fam` says otherwise."""
    tokenizer = tokenizer or WordTokenizer()
    fam = fam or FamConfig(block_size=8, memory_segments=1, fam_length=3)
    config = DecoderConfig(vocab_size=tokenizer.vocab_size, head_dim=8, **SHAPE)
    network = random_network(config, fam, seed=seed)
    prints = Fingerprints(f"weights-of-{seed}", config_fingerprint(config, fam), tokenizer.fingerprint)
    sidecar = Sidecar(fam=fam, memory_trained=True, validated_tokens=validated)
    ends = frozenset() if tokenizer.eos_id is None else frozenset({tokenizer.eos_id})
    return Model(network, tokenizer, sidecar, Path("tiny"), f"tiny-{seed}", prints, end_ids=ends)


def pipe(data: bytes, *, sizes: list[int] | None = None, encoding: str | None = "utf-8") -> Source:
    """A document that arrives through a pipe, in reads of at most `sizes` bytes (the last size repeats)."""
    return open_source("-", encoding=encoding, stdin=SlowPipe(data, sizes or [1 << 16]))  # type: ignore[arg-type]


class SlowPipe(io.RawIOBase):
    """Gives so many bytes at each read, whatever is asked for."""

    def __init__(self, data: bytes, sizes: list[int]) -> None:
        self._data, self._sizes, self._turn = data, sizes, 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        wanted = self._sizes[min(self._turn, len(self._sizes) - 1)]
        self._turn += 1
        part, self._data = self._data[:wanted], self._data[wanted:]
        return part


def blocks(events: list[Event]) -> list[BlockEvent]:
    return [event for event in events if isinstance(event, BlockEvent)]


def tokens_of(events: list[Event]) -> list[int]:
    return [int(token) for event in blocks(events) for token in event.tokens]


def text_of(events: list[Event]) -> str:
    return "".join(event.piece.text for event in events if isinstance(event, TextEvent))


def nll_of(events: list[Event]) -> torch.Tensor:
    parts = [event.nll for event in blocks(events) if event.nll is not None]
    return torch.cat(parts) if parts else torch.empty(0)


def same_reading(one: Reader, other: Reader) -> None:
    """Both stand at the same place: position, fill, memory and every key and value agree to rounding."""
    first, meta = one.state.to_tensors()
    second, other_meta = other.state.to_tensors()
    assert meta == other_meta
    for name, tensor in first.items():
        torch.testing.assert_close(tensor, second[name], rtol=2e-3, atol=2e-4, msg=name)
    hidden, other_hidden = one.last_hidden, other.last_hidden
    assert (hidden is None) == (other_hidden is None)
    if hidden is not None and other_hidden is not None:
        logits = [reader.model.network.logits(row) for reader, row in ((one, hidden), (other, other_hidden))]
        torch.testing.assert_close(logits[0], logits[1], rtol=2e-3, atol=2e-3)


def spans_cover(events: list[Event], num_bytes: int) -> None:
    """The tokens' spans follow one another from the first byte to the last."""
    starts = np.concatenate([event.token_starts for event in blocks(events)] or [np.empty(0, np.int64)])
    ends = np.concatenate([event.token_ends for event in blocks(events)] or [np.empty(0, np.int64)])
    assert not len(starts) or (starts[0] == 0 and ends[-1] == num_bytes)
    inside = (starts[1:] == starts[:-1]) & (ends[1:] == ends[:-1])  # bytes of one character
    assert ((starts[1:] == ends[:-1]) | inside).all()
