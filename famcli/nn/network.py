"""The contract of the networks: what the rest of famcli may ask of a network and of the state it carries.

A `Network` reads tokens after a `State` and returns the next `State`; logits are computed only where they are asked
for. Nothing outside `famcli.nn` knows the class behind either: `FamConfig.architecture` chooses it (`make_network`).

Shapes in this package: b batch, n tokens, c block size (C in `FamConfig`), f memory rows, m segments, l layers (of a
memory: those that have one), h query heads, hk key heads, e width of a head, d width of the network, w width of a
memory row (d; where tokens are kept, their keys and values, 2 hk e), v vocabulary.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from operator import itemgetter
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from famcli.nn.config import ARCHITECTURES, MEMORY_MODES, DecoderConfig, FamConfig, MemoryMode


@dataclass(frozen=True)
class State(ABC):
    """Everything a network knows of what it read, as a value: reading returns another one and never changes it.

    Keeping a state is a fork: two states may share storage, and its size depends on the network alone, not on how much
    was read. The rows of a batch share `fill`, `num_closed` and `memory_mode`: they are read in the same calls.

    position: [b] int64 on the CPU, of the next token. fill: tokens in the open block, 0 to c - 1. num_closed: blocks
    closed so far, counted no further than memory_segments + 1. memory_is_initial: [b] bool on the CPU, True in rows
    whose memory was never updated.
    """

    position: Tensor
    fill: int
    num_closed: int
    memory_is_initial: Tensor
    memory_mode: MemoryMode

    architecture: ClassVar[str]

    # ------------------------------------------------------------------------------- what each network defines

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """All but `position` and `memory_is_initial`, by name, each [b, ...]. What can be derived from weights is left
        out."""

    @classmethod
    @abstractmethod
    def parts(cls, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
        """The fields of this class (those of `State` left out) that hold `tensors`, named as in `tensors()`."""

    @property
    @abstractmethod
    def kind(self) -> tuple[object, ...]:
        """What states must have in common to be stacked."""

    @property
    @abstractmethod
    def memories(self) -> tuple[Tensor, ...]:
        """The memories [b, f, w] in float32 of the layers that have one, first layer first."""

    @abstractmethod
    def memory_squares(self) -> Tensor:
        """The mean square [l, b] of each layer's memory in each row, for logs; 0 in layers that have none."""

    @abstractmethod
    def with_memories(self, memories: Sequence[Tensor]) -> Self:
        """The same state with other memories, as many as `memories` has."""

    @abstractmethod
    def without_segments(self) -> Self:
        """The same memory and open block, but no closed block is visible any more."""

    @abstractmethod
    def memory_alone(self) -> Self:
        """The memories of this state at the start of a new text: position 0, nothing else visible, detached and copied.

        This is random state passing (TransformerFAM, arXiv 2404.09173, section 3.3). The memories do not count as
        initial: their next update keeps its residual.
        """

    @property
    @abstractmethod
    def is_memory_alone(self) -> bool:
        """True if nothing of what was read is visible but the memory, as at the start of a text."""

    def rewound(self, count: int) -> Self:
        """The state before the last `count` tokens of the open block. This state must not be used any more: what is
        read after the other one takes the place of those tokens. For networks with `writes_ahead`."""
        raise NotImplementedError

    # ------------------------------------------------------------------------------- what follows from that

    @property
    def batch(self) -> int:
        return len(self.position)

    @property
    def has_memory(self) -> bool:
        """True if any layer has memory rows."""
        return bool(self.memories)

    def detach(self) -> Self:
        """The same numbers without gradients, and without what is derived from weights."""
        return self._map(Tensor.detach)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Self:
        """Moved, with keys and values in `dtype`. Memories stay float32: they are small, and they accumulate."""
        moved = {
            name: tensor.to(device=device, dtype=None if name.endswith("memory") else dtype)
            for name, tensor in self.tensors().items()
        }
        return replace(self, **self.parts(moved))

    def split(self) -> list[Self]:
        """One state for each row of the batch."""
        rows = []
        for part in (slice(row, row + 1) for row in range(self.batch)):
            own = self._map(itemgetter(part))
            rows.append(replace(own, position=self.position[part], memory_is_initial=self.memory_is_initial[part]))
        return rows

    def rows(self, numbers: Tensor) -> Self:
        """The state whose batch holds the rows `numbers` [k] (int64, on the CPU), each as often as it is named."""
        own = self._map(lambda tensor: tensor.index_select(0, numbers.to(tensor.device)))
        return replace(own, position=self.position[numbers], memory_is_initial=self.memory_is_initial[numbers])

    @classmethod
    def stack(cls, states: Sequence[Self]) -> Self:
        """One state whose batch holds the rows of all `states`. Raises ValueError if their `kind` differs."""
        first = states[0]
        if any(state.kind != first.kind for state in states):
            raise ValueError(f"states of different kinds cannot be stacked: {sorted({str(s.kind) for s in states})}")
        tensors = [state.tensors() for state in states]
        return replace(
            first,
            **first.parts({name: torch.cat([each[name] for each in tensors]) for name in tensors[0]}),
            position=torch.cat([state.position for state in states]),
            memory_is_initial=torch.cat([state.memory_is_initial for state in states]),
        )

    def to_tensors(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Named tensors and plain values from which `from_tensors` makes the state again."""
        meta = {
            "architecture": self.architecture,
            "fill": self.fill,
            "num_closed": self.num_closed,
            "memory_is_initial": self.memory_is_initial.tolist(),
            "memory_mode": self.memory_mode,
        }
        return {"position": self.position, **self.tensors()}, meta

    @staticmethod
    def from_tensors(tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> State:
        """The state that `to_tensors` took apart. Raises KeyError for what is missing; `state_shapes` checks shapes."""
        # Older files name no architecture: there was one.
        kind: Any = _network_class(str(meta.get("architecture", "fam"))).state_class
        mode = next((known for known in MEMORY_MODES if known == meta["memory_mode"]), None)
        if mode is None:
            raise ValueError(f"memory_mode is {meta['memory_mode']!r}, it must be one of {', '.join(MEMORY_MODES)}")
        initial = torch.tensor(meta["memory_is_initial"])  # a single value in what older training runs saved
        return kind(  # type: ignore[no-any-return]
            **kind.parts(tensors),
            position=tensors["position"],
            fill=int(meta["fill"]),
            num_closed=int(meta["num_closed"]),
            memory_is_initial=initial.expand(len(tensors["position"])),
            memory_mode=mode,
        )

    def _map(self, change: Callable[[Tensor], Tensor]) -> Self:
        return replace(self, **self.parts({name: change(tensor) for name, tensor in self.tensors().items()}))


class Network(nn.Module, ABC):
    """A network that reads a stream. It holds weights only: what was read is in the state.

    config, fam: the pretrained decoder's shape (`vocab_size`, `hidden_size`, `num_layers`) and how it streams
    (`block_size`). memory_prompt: [f, d] float32, a parameter that is there if `fam.fam_length` is not 0;
    memory_scores: [l, w] in its place if `fam.keeps_tokens`; memory_maps: beside it if `fam.associates` (delta.py).
    checkpoint_gradients: in training, keep only the layers' inputs and compute the rest again in the backward pass.
    """

    config: DecoderConfig
    fam: FamConfig
    memory_prompt: nn.Parameter
    memory_scores: nn.Parameter
    memory_maps: nn.Parameter
    checkpoint_gradients: bool = False
    state_class: ClassVar[type[State]]

    @abstractmethod
    def start(self, batch: int = 1, memory_mode: MemoryMode = "on") -> State:
        """The state before the first token. The memories are made from the memory prompt, in training with gradient."""

    @abstractmethod
    def read(
        self,
        tokens: Tensor,
        state: State,
        received: list[Tensor] | None = None,
        levels: list[Tensor] | None = None,
    ) -> tuple[Tensor, State]:
        """Read `tokens` [b, n] after `state`: their hidden rows [b, n, d] before the final norm, and the next state.

        A call either stays inside the open block (fill + n <= block_size; it closes the block if it fills it) or
        begins at fill 0 and holds whole blocks. Raises ValueError for any other n, and for a batch that differs.

        received: a list that gets, if the memory takes in blocks in this call, how much of its attention each token of
        those blocks received: [b, k] float32, a mean over layers, heads and memory rows.

        levels: a list that gets what enters the first layer, and what each layer makes of it, [b, n, d] each; nothing
        from a network that never `writes_ahead`, which has no use for drafts.
        """

    def write(self, tokens: Tensor, state: State, levels: list[Tensor] | None = None) -> tuple[Tensor, State]:
        """`read` for the few tokens [b, n] of a text that is being written, at most what is left of the open block.

        The fastest way for them: the same to rounding, and hidden rows and `levels` may come in float32.
        """
        return self.read(tokens, state, levels=levels)

    @property
    def writes_ahead(self) -> bool:
        """True if the numbers of a row that is written do not depend, bit by bit, on how many rows are written at once,
        and its states can be rewound: then tokens can be written on trial."""
        return False

    @abstractmethod
    def embed(self, tokens: Tensor) -> Tensor:
        """What enters the first layer: tokens [b, n] to [b, n, d]."""

    @abstractmethod
    def logits(self, hidden: Tensor) -> Tensor:
        """Final norm and head: [b, k, d] to [b, k, v]. Ask only for the rows that are wanted."""

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where the weights are."""

    @property
    @abstractmethod
    def dtype(self) -> torch.dtype:
        """The compute type: that of the weights."""

    @property
    @abstractmethod
    def layers(self) -> Sequence[nn.Module]:
        """The layers as modules: what sharding divides."""

    @abstractmethod
    def reset_parameters(self, seed: int) -> None:
        """Draw all weights anew from `seed`."""

    @abstractmethod
    def compile_parts(self, compiled: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
        """Replace the functions that are worth compiling by what `compiled` makes of them."""


def holds_whole_blocks(tokens: Tensor, state: State, block_size: int) -> bool:
    """True for whole blocks, False for tokens [b, n] of the open block. Raises ValueError for what `read` refuses."""
    n = tokens.shape[1]
    if len(tokens) != state.batch:
        raise ValueError(f"{len(tokens)} rows of tokens were given to a state of {state.batch}")
    whole = n > 0 and state.fill == 0 and n % block_size == 0
    if not whole and not 0 < n <= block_size - state.fill:
        raise ValueError(
            f"{n} tokens do not fit a block of {block_size} with {state.fill} read: give at most what is left "
            "of the block, or whole blocks at its start"
        )
    return whole


def make_network(config: DecoderConfig, fam: FamConfig) -> Network:
    """A network of `fam.architecture` without weights of its own yet: `reset_parameters` draws them."""
    return _network_class(fam.architecture)(config, fam)  # type: ignore[no-any-return]


def _network_class(architecture: str) -> Any:
    """The class behind the contract. Loaded when it is first asked for, so that the contract imports none of them."""
    module, _, name = ARCHITECTURES[architecture].partition(":")
    return getattr(import_module(module), name)
