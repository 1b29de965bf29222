"""What a `Decoder` or a `FeedbackDecoder` carries from one call to the next, in storage that grows by appending."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from famcli.nn.kernels.attention import KeysValues
from famcli.nn.kernels.native import Run
from famcli.nn.network import State

# Rows of the first storage that tokens are appended to; every further one has twice the room of what it holds.
_FIRST_CAPACITY = 64


class OpenRows:
    """Keys and values [b, hk, n, e] of the open block, or of the last memories, grown by appending.

    lead: how many rows lie in the storage before those of the block (see `behind`).
    """

    # The storage has room to spare. The first value that is made from another by appending writes there in place; any
    # other one copies first. `_written` is shared by all values over one storage and says how much of it is taken: so
    # a state can be kept while another goes on from it.

    def __init__(
        self, keys: Tensor, values: Tensor, num_rows: int | None = None, written: list[int] | None = None, lead: int = 0
    ) -> None:
        self._keys, self._values, self.lead = keys, values, lead
        # Of keys and values: their addresses, and the steps from one batch row and one head to the next.
        self._place: tuple[int, int, int, int] | None = None
        self.num_rows = keys.shape[2] - lead if num_rows is None else num_rows
        self._written = [keys.shape[2]] if written is None else written

    @property
    def keys(self) -> Tensor:
        return self._keys.narrow(2, self.lead, self.num_rows)

    @property
    def values(self) -> Tensor:
        return self._values.narrow(2, self.lead, self.num_rows)

    @property
    def dtype(self) -> torch.dtype:
        return self._keys.dtype

    @property
    def keys_values(self) -> KeysValues:
        # In training always whole: the gradient of a part would fill a tensor as large as the whole.
        is_whole = self.num_rows == self._keys.shape[2]
        return (self._keys, self._values) if is_whole else (self.keys, self.values)

    @property
    def with_lead(self) -> tuple[Tensor, Tensor]:
        """Keys and values [b, hk, lead + n, e]."""
        rows = self.lead + self.num_rows
        return self._keys.narrow(2, 0, rows), self._values.narrow(2, 0, rows)

    def behind(self, parts: Sequence[tuple[Tensor, Tensor]]) -> OpenRows:
        """The same rows with a copy of the keys and values of `parts` before them in the storage.

        Appending keeps that copy, so all that a single token sees is one tensor and nothing is joined token by token.
        """
        keys, values = (torch.cat(each, dim=2) for each in zip(*parts, (self.keys, self.values), strict=True))
        return OpenRows(keys, values, lead=keys.shape[2] - self.num_rows)

    def append(self, keys: Tensor, values: Tensor) -> OpenRows:
        """These rows followed by `keys` and `values` [b, hk, k, e]. With gradients, a concatenation."""
        if torch.is_grad_enabled():
            return OpenRows(torch.cat((self.keys, keys), 2), torch.cat((self.values, values), 2))
        rows = self.extended(keys.shape[2], keys.dtype)
        room = rows.last(keys.shape[2])
        room.keys.copy_(keys)
        room.values.copy_(values)
        return rows

    def append_within(self, keys: Tensor, values: Tensor, limit: int) -> OpenRows:
        """These rows followed by `keys` and `values`, and of both the last `limit`."""
        if torch.is_grad_enabled() or keys.shape[2] >= limit:
            old = self.last(min(self.num_rows, max(0, limit - keys.shape[2]))).keys_values
            new = (keys, values) if keys.shape[2] <= limit else (keys[:, :, -limit:], values[:, :, -limit:])
            return OpenRows(torch.cat((old[0], new[0]), dim=2), torch.cat((old[1], new[1]), dim=2))
        rows = self.append(keys, values)
        rows = rows.last(min(rows.num_rows, limit))
        # Rows that were left behind are freed by the next append, once there are `limit` of them.
        return rows if rows.lead < limit else OpenRows(rows.keys, rows.values)

    def last(self, count: int) -> OpenRows:
        """The last `count` rows alone."""
        return OpenRows(self._keys, self._values, count, self._written, self.lead + self.num_rows - count)

    def extended(self, count: int, dtype: torch.dtype) -> OpenRows:
        """These rows followed by `count` more in `dtype`, which are to be filled."""
        first = self.lead + self.num_rows
        total = first + count
        storage, written, place = (self._keys, self._values), self._written, self._place
        if written[0] != first or storage[0].shape[2] < total or storage[0].dtype != dtype:
            num_rows = self.lead + max(_FIRST_CAPACITY, 2 * (total - self.lead))
            old, written, place = self.with_lead, [total], None
            storage = (_with_room(old[0], num_rows, dtype), _with_room(old[1], num_rows, dtype))
        written[0] = total
        rows = OpenRows(*storage, total - self.lead, written, self.lead)
        rows._place = place
        return rows

    @property
    def run(self) -> Run:
        """The rows of a value that `extended` made, for native.py."""
        if self._place is None:
            assert self._keys.stride() == self._values.stride()
            of_batch, of_head, *_ = self._keys.stride()
            self._place = (self._keys.data_ptr(), self._values.data_ptr(), of_batch, of_head)
        keys, values, of_batch, of_head = self._place
        offset = self.lead * self._keys.shape[3] * self._keys.itemsize if self.lead else 0
        return keys + offset, values + offset, self.num_rows, of_batch, of_head

    def rewound(self, count: int) -> OpenRows:
        """Without the last `count` rows, whose place is free for others: this value is not to be used any more."""
        num_rows, self._written[0] = self.num_rows - count, -1
        return OpenRows(self._keys, self._values, num_rows, [self.lead + num_rows], self.lead)


def _with_room(old: Tensor, num_rows: int, dtype: torch.dtype) -> Tensor:
    room = old.new_empty(*old.shape[:2], num_rows, old.shape[3], dtype=dtype)
    room[:, :, : old.shape[2]] = old
    return room


@dataclass(frozen=True)
class LayerState:
    """One layer's share of a state.

    memory: F [b, f, w], float32 always. segment_keys (rotated), segment_values: [b, hk, <= m*c, e], the closed blocks
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

    def changed(self, **changes: Tensor) -> LayerState:
        """With other tensors, and without what was derived from the old ones."""
        # The open block's storage may begin with a copy of what stood before it: see `OpenRows.behind`.
        opened = OpenRows(self.open.keys, self.open.values)
        return replace(self, open=opened, memory_rows=None, past=(), **changes)

    def tensors(self) -> dict[str, Tensor]:
        """Everything that is not derived, by name."""
        named = {name: getattr(self, name) for name in _PLAIN}
        return named | {"open_keys": self.open.keys, "open_values": self.open.values}


_PLAIN = ("memory", "segment_keys", "segment_values", "sink_keys", "sink_values")


@dataclass(frozen=True)
class DecoderState(State):
    """The state of a `Decoder`: of each layer its memory, closed blocks, open block and sinks."""

    layers: tuple[LayerState, ...]

    architecture = "fam"

    def tensors(self) -> dict[str, Tensor]:
        return {
            f"layers.{index}.{name}": tensor
            for index, layer in enumerate(self.layers)
            for name, tensor in layer.tensors().items()
        }

    @classmethod
    def parts(cls, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
        layers = []
        for index in range(sum(name.endswith(".memory") for name in tensors)):
            opened = OpenRows(tensors[f"layers.{index}.open_keys"], tensors[f"layers.{index}.open_values"])
            own: dict[str, Any] = {name: tensors[f"layers.{index}.{name}"] for name in _PLAIN}
            layers.append(LayerState(open=opened, **own))
        return {"layers": tuple(layers)}

    @property
    def kind(self) -> tuple[object, ...]:
        """Fill, memory mode, the rows that each layer keeps of closed blocks (after training steps without segments
        fewer than were closed), and where there are sinks, how many blocks were closed."""
        rows = tuple(layer.segment_keys.shape[2] for layer in self.layers)
        sinks = tuple(layer.sink_keys.shape[2] for layer in self.layers)
        return (self.fill, self.memory_mode, rows, sinks, self.num_closed if any(sinks) else 0)

    def rewound(self, count: int) -> DecoderState:
        assert count <= self.fill
        fill, layers = self.fill - count, []
        for layer in self.layers:
            sinks = (layer.sink_keys, layer.sink_values)
            if not self.num_closed:
                # They are gathered from the first block, which is this one.
                sinks = (sinks[0][:, :, :fill], sinks[1][:, :, :fill])
            opened = layer.open.rewound(count)
            layers.append(replace(layer, open=opened, sink_keys=sinks[0], sink_values=sinks[1]))
        return replace(self, layers=tuple(layers), position=self.position - count, fill=fill)

    @property
    def memories(self) -> tuple[Tensor, ...]:
        return tuple(layer.memory for layer in self.layers if layer.memory.shape[1])

    def memory_squares(self) -> Tensor:
        none = torch.zeros(self.batch, device=self.layers[0].memory.device)
        squares = (layer.memory.square().mean((1, 2)) if layer.memory.shape[1] else none for layer in self.layers)
        return torch.stack(tuple(squares))

    def with_memories(self, memories: Sequence[Tensor]) -> DecoderState:
        left = iter(memories)
        layers = (layer.changed(memory=next(left)) if layer.memory.shape[1] else layer for layer in self.layers)
        return replace(self, layers=tuple(layers))

    def without_segments(self) -> DecoderState:
        none = [layer.segment_keys[:, :, :0] for layer in self.layers]
        changed = (layer.changed(segment_keys=x, segment_values=x) for layer, x in zip(self.layers, none, strict=True))
        return replace(self, layers=tuple(changed))

    def memory_alone(self) -> DecoderState:
        layers = []
        for old in self.layers:
            # New and empty, not a view: a view would keep the storage of all closed blocks.
            none = torch.empty_like(old.segment_keys[:, :, :0])
            layers.append(LayerState(old.memory.detach().clone(), none, none, OpenRows(none, none), none, none))
        return replace(
            self,
            layers=tuple(layers),
            position=torch.zeros_like(self.position),
            fill=0,
            num_closed=0,
            memory_is_initial=torch.zeros_like(self.memory_is_initial),
        )

    @property
    def is_memory_alone(self) -> bool:
        rows = (part for layer in self.layers for part in (layer.segment_keys, layer.sink_keys))
        return not self.fill and not any(part.shape[2] for part in rows)


@dataclass(frozen=True)
class FeedbackState(State):
    """The state of a `FeedbackDecoder`: keys and values of the last tau memories, of each layer or one that all share.

    Nothing else is carried, so `memories` is empty and `memory_is_initial` stays True.
    """

    windows: tuple[OpenRows, ...]

    architecture = "feedback"

    def tensors(self) -> dict[str, Tensor]:
        named = {}
        for index, window in enumerate(self.windows):
            named[f"windows.{index}.keys"], named[f"windows.{index}.values"] = window.keys_values
        return named

    @classmethod
    def parts(cls, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
        count = sum(name.startswith("windows.") for name in tensors) // 2
        names = (f"windows.{index}" for index in range(count))
        return {"windows": tuple(OpenRows(tensors[f"{name}.keys"], tensors[f"{name}.values"]) for name in names)}

    @property
    def kind(self) -> tuple[object, ...]:
        """Fill, memory mode, and the rows of the windows."""
        return (self.fill, self.memory_mode, tuple(window.num_rows for window in self.windows))

    @property
    def memories(self) -> tuple[Tensor, ...]:
        return ()

    def memory_squares(self) -> Tensor:
        return torch.zeros(len(self.windows), self.batch)

    def with_memories(self, memories: Sequence[Tensor]) -> FeedbackState:
        assert not memories, "a Feedback Transformer has no memory besides its window"
        return self

    def without_segments(self) -> FeedbackState:
        return replace(self, num_closed=0, windows=tuple(window.last(self.fill) for window in self.windows))

    def memory_alone(self) -> FeedbackState:
        # New and empty, not a view: a view would keep the storage of the whole window.
        none = torch.empty_like(self.windows[0].keys_values[0][:, :, :0])
        windows = tuple(OpenRows(none, none) for _ in self.windows)
        return replace(self, windows=windows, position=torch.zeros_like(self.position), fill=0, num_closed=0)

    @property
    def is_memory_alone(self) -> bool:
        return not self.fill and not self.windows[0].num_rows
