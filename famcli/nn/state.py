"""What a decoder carries from one call to the next, as a value.

A state is never changed by reading from it: reading returns another one. Two states may share storage, so keeping one
(a fork) costs nothing until both go on. Its size depends on the network, not on how much was read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from famcli.nn.shapes import MEMORY_MODES, MemoryMode, state_shapes

__all__ = ["MEMORY_MODES", "LayerState", "MemoryMode", "OpenRows", "State", "state_shapes"]

_FIRST_CAPACITY = 64


class OpenRows:
    """Keys and values [b, hk, n, e] of the open block, grown by appending.

    The storage has room to spare. The first successor of a value writes there in place; any other one copies first:
    `_written` is shared by all values over one storage and says how far it is taken. lead: how many rows lie in the
    storage before those of the block (see `behind`).
    """

    def __init__(
        self, keys: Tensor, values: Tensor, num_rows: int | None = None, written: list[int] | None = None, lead: int = 0
    ) -> None:
        self._keys, self._values, self.lead = keys, values, lead
        self.num_rows = keys.shape[2] - lead if num_rows is None else num_rows
        self._written = [keys.shape[2]] if written is None else written

    @property
    def keys(self) -> Tensor:
        return self._keys.narrow(2, self.lead, self.num_rows)

    @property
    def values(self) -> Tensor:
        return self._values.narrow(2, self.lead, self.num_rows)

    @property
    def with_lead(self) -> tuple[Tensor, Tensor]:
        """Keys and values [b, hk, lead + n, e]."""
        rows = self.lead + self.num_rows
        return self._keys.narrow(2, 0, rows), self._values.narrow(2, 0, rows)

    def behind(self, parts: Sequence[tuple[Tensor, Tensor]]) -> OpenRows:
        """The same rows with a copy of the keys and values of `parts` before them, where appending leaves it: what a
        single token sees is one tensor then, and nothing is joined token by token."""
        keys, values = (torch.cat(each, dim=2) for each in zip(*parts, (self.keys, self.values), strict=True))
        return OpenRows(keys, values, lead=keys.shape[2] - self.num_rows)

    def append(self, keys: Tensor, values: Tensor) -> OpenRows:
        """These rows followed by `keys` and `values` [b, hk, k, e]. With gradients, a concatenation."""
        if not self.num_rows and torch.is_grad_enabled():
            return OpenRows(keys, values)
        first, added = self.lead + self.num_rows, keys.shape[2]
        total = first + added
        if torch.is_grad_enabled():
            return OpenRows(torch.cat((self.keys, keys), 2), torch.cat((self.values, values), 2))
        storage, written = (self._keys, self._values), self._written
        if written[0] != first or storage[0].shape[2] < total or storage[0].dtype != keys.dtype:
            rows = self.lead + max(_FIRST_CAPACITY, 2 * (total - self.lead))
            old = self.with_lead
            storage, written = (_with_room(old[0], keys, rows), _with_room(old[1], values, rows)), [total]
        written[0] = total
        storage[0].narrow(2, first, added).copy_(keys)
        storage[1].narrow(2, first, added).copy_(values)
        return OpenRows(*storage, total - self.lead, written, self.lead)


def _with_room(old: Tensor, new: Tensor, rows: int) -> Tensor:
    room = new.new_empty(*old.shape[:2], rows, old.shape[3])
    room[:, :, : old.shape[2]] = old
    return room


@dataclass(frozen=True)
class LayerState:
    """One layer's share of a state.

    memory: F [b, f, d], float32 always. segment_keys (rotated), segment_values: [b, hk, s*C, e], the closed blocks
    still visible. open: the open block's rows; behind a copy of `past` while single tokens are read. sink_keys (not
    rotated), sink_values: [b, hk, <= sink_tokens, e].
    memory_rows: keys (rotated) and values [b, hk, f, e] made from the memory. past: keys and values of all that tokens
    of the open block see before it, in parts. Both are derived, and kept while the block is open.
    """

    memory: Tensor
    segment_keys: Tensor
    segment_values: Tensor
    open: OpenRows
    sink_keys: Tensor
    sink_values: Tensor
    memory_rows: tuple[Tensor, Tensor] | None = None
    past: tuple[tuple[Tensor, Tensor], ...] = ()

    def tensors(self) -> dict[str, Tensor]:
        """Everything that is not derived, by name."""
        named = {name: getattr(self, name) for name in _PLAIN}
        return named | {"open_keys": self.open.keys, "open_values": self.open.values}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> LayerState:
        memory, *rows = (tensors[name] for name in _PLAIN[:3])
        opened = OpenRows(tensors["open_keys"], tensors["open_values"])
        return cls(memory, rows[0], rows[1], opened, tensors["sink_keys"], tensors["sink_values"])


_PLAIN = ("memory", "segment_keys", "segment_values", "sink_keys", "sink_values")
_NAMES = (*_PLAIN, "open_keys", "open_values")


@dataclass(frozen=True)
class State:
    """Everything a decoder knows of what it read. The batch's rows share all but position and memory_is_initial.

    position: [b] int64 on the CPU, the next token's. fill: tokens in the open block, 0 to C - 1. num_closed: blocks
    closed so far, counted no further than memory_segments + 1. memory_is_initial: [b] bool on the CPU, of each row
    whether no update was made yet.
    """

    layers: tuple[LayerState, ...]
    position: Tensor
    fill: int
    num_closed: int
    memory_is_initial: Tensor
    memory_mode: MemoryMode

    @property
    def batch(self) -> int:
        return len(self.position)

    @property
    def num_bytes(self) -> int:
        """Bytes of all tensors in it (spare room for the open block not counted)."""
        return sum(tensor.nbytes for tensor in self.to_tensors()[0].values())

    def fork(self) -> State:
        """A state to read on from while this one stays: states are values, so it is this one."""
        return self

    def detach(self) -> State:
        """The same numbers without their gradients, and without what is derived from weights."""
        return self._map(Tensor.detach)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> State:
        """Moved, and with keys and values in `dtype`. The memory stays float32."""

        def move(tensor: Tensor) -> Tensor:
            return tensor.to(device=device, dtype=dtype)

        return self._map(move, lambda memory: memory.to(device=device))

    def without_segments(self) -> State:
        """The same memory and open block, with no closed block in sight."""

        def layer(old: LayerState) -> LayerState:
            none = old.segment_keys[:, :, :0]
            opened = OpenRows(old.open.keys, old.open.values)
            return replace(old, segment_keys=none, segment_values=none, open=opened, past=())

        return replace(self, layers=tuple(layer(old) for old in self.layers))

    @staticmethod
    def stack(states: Sequence[State]) -> State:
        """One state whose batch holds the rows of all. Raises ValueError where their `kind` differs."""
        first = states[0]
        if any(state.kind != first.kind for state in states):
            raise ValueError(f"states of different kinds cannot be stacked: {sorted({str(s.kind) for s in states})}")
        layers = []
        for parts in zip(*(state.layers for state in states), strict=True):
            tensors = [part.tensors() for part in parts]
            layers.append(LayerState.from_tensors({name: torch.cat([t[name] for t in tensors]) for name in _NAMES}))
        return replace(
            first,
            layers=tuple(layers),
            position=torch.cat([state.position for state in states]),
            memory_is_initial=torch.cat([state.memory_is_initial for state in states]),
        )

    @property
    def kind(self) -> tuple[object, ...]:
        """What states must share to be stacked: fill, memory mode, what rows each layer keeps of closed blocks (after
        training steps without segments, fewer than were closed), and where there are sinks, how many blocks closed.
        """
        rows = tuple(layer.segment_keys.shape[2] for layer in self.layers)
        sinks = tuple(layer.sink_keys.shape[2] for layer in self.layers)
        return (self.fill, self.memory_mode, rows, sinks, self.num_closed if any(sinks) else 0)

    @property
    def is_memory_alone(self) -> bool:
        """Whether it holds nothing of what was read but its memory: so documents begin."""
        rows = (part for layer in self.layers for part in (layer.segment_keys, layer.sink_keys))
        return not self.fill and not any(part.shape[2] for part in rows)

    def split(self) -> list[State]:
        """One state for each row of the batch."""
        return [self._row(row) for row in range(self.batch)]

    def _row(self, row: int) -> State:
        rows = slice(row, row + 1)
        alone = self._map(lambda tensor: tensor[rows])
        return replace(alone, position=self.position[rows], memory_is_initial=self.memory_is_initial[rows])

    def _map(self, change: Callable[[Tensor], Tensor], memory: Callable[[Tensor], Tensor] | None = None) -> State:
        def layer(old: LayerState) -> LayerState:
            tensors = old.tensors()
            new = {name: change(tensor) for name, tensor in tensors.items()}
            return LayerState.from_tensors(new | {"memory": (memory or change)(tensors["memory"])})

        return replace(self, layers=tuple(layer(old) for old in self.layers))

    def to_tensors(self) -> tuple[dict[str, Tensor], dict[str, int | str | list[bool]]]:
        """Named tensors, and what is needed beside them to make the state again, as plain values."""
        tensors = {"position": self.position}
        for index, layer in enumerate(self.layers):
            tensors |= {f"layers.{index}.{name}": tensor for name, tensor in layer.tensors().items()}
        meta: dict[str, int | str | list[bool]] = {
            "fill": self.fill,
            "num_closed": self.num_closed,
            "memory_is_initial": self.memory_is_initial.tolist(),
            "memory_mode": self.memory_mode,
        }
        return tensors, meta

    @staticmethod
    def from_tensors(tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> State:
        """The state that `to_tensors` took apart. KeyError for what is missing; check shapes with `state_shapes`."""
        num_layers = sum(name.endswith(".memory") for name in tensors)
        layers = (
            LayerState.from_tensors({name: tensors[f"layers.{index}.{name}"] for name in _NAMES})
            for index in range(num_layers)
        )
        mode = next((known for known in MEMORY_MODES if known == meta["memory_mode"]), None)
        if mode is None:
            raise ValueError(f"memory_mode is {meta['memory_mode']!r}, it must be one of {', '.join(MEMORY_MODES)}")
        initial = torch.tensor(meta["memory_is_initial"])  # a single value in what older training runs saved
        return State(
            layers=tuple(layers),
            position=tensors["position"],
            fill=int(meta["fill"]),
            num_closed=int(meta["num_closed"]),
            memory_is_initial=initial.expand(len(tensors["position"])),
            memory_mode=mode,
        )
