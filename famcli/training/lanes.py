"""Continuous lanes: each row of the batch reads whole documents in order and carries its memory with it.

Inside a document a lane keeps its state, detached, from step to step; a new document starts afresh. In a step a lane
reads up to `blocks_per_step` whole blocks. A document's unfinished last block is padded, its padding takes no part in
the loss, and the state after it is dropped.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from famcli.nn.decoder import Decoder
from famcli.nn.state import State
from famcli.training.corpus import PackedCorpus
from famcli.training.sampler import DocumentSampler

IGNORE = -100
"""Target of a place that is padding: cross-entropy leaves it out."""


@dataclass
class Lane:
    """Where one lane is: its document, how many of its inputs are read, and the state after them (None: none yet)."""

    corpus: int
    document: int
    offset: int = 0
    state: State | None = None


@dataclass(frozen=True)
class LaneGroup:
    """Lanes that are read in one call: inputs and targets [b, k*C]; `state` is None where documents begin."""

    lanes: tuple[int, ...]
    inputs: Tensor
    targets: Tensor
    state: State | None


@dataclass(frozen=True)
class StepPlan:
    """One step's work: groups that together hold each lane once, and what they count."""

    groups: list[LaneGroup]
    num_targets: int
    ended: frozenset[int] = field(default_factory=frozenset)
    read: dict[int, int] = field(default_factory=dict)


class Lanes:
    """All lanes of a run. `plan` says what the next step reads; `advance` moves on with the states it left."""

    def __init__(
        self,
        corpora: Sequence[PackedCorpus],
        sampler: DocumentSampler,
        num_lanes: int,
        block_size: int,
        blocks_per_step: int,
        bos_id: int | None,
    ) -> None:
        self._corpora, self._sampler = list(corpora), sampler
        self._block_size, self._blocks = block_size, blocks_per_step
        self._bos_id = bos_id
        self._lanes = [Lane(*sampler.draw()) for _ in range(num_lanes)]

    def plan(self) -> StepPlan:
        """Inputs and targets of the next step, grouped by what can be read in one call. Changes nothing."""
        groups: dict[tuple[object, ...], list[tuple[int, Tensor, Tensor]]] = defaultdict(list)
        ended: set[int] = set()
        read: dict[int, int] = {}
        for number, lane in enumerate(self._lanes):
            inputs, targets, ends = self._take(lane)
            read[number] = int((targets != IGNORE).sum())
            if ends:
                ended.add(number)
            groups[len(inputs), lane.state.kind if lane.state else None].append((number, inputs, targets))
        planned = []
        for members in groups.values():
            states = [self._lanes[number].state for number, _, _ in members]
            known = [state for state in states if state is not None]
            planned.append(
                LaneGroup(
                    lanes=tuple(number for number, _, _ in members),
                    inputs=torch.stack([inputs for _, inputs, _ in members]),
                    targets=torch.stack([targets for _, _, targets in members]),
                    state=State.stack(known) if known else None,
                )
            )
        return StepPlan(planned, sum(read.values()), frozenset(ended), read)

    def advance(self, plan: StepPlan, states: Mapping[int, State]) -> None:
        """Go on after `plan`: lanes keep their new state (by lane number), or begin another document."""
        for number, lane in enumerate(self._lanes):
            if number in plan.ended:
                self._lanes[number] = Lane(*self._sampler.draw())
            else:
                lane.offset += plan.read[number]
                lane.state = states[number].detach()

    def abandon_documents(self) -> None:
        """Begin another document in every lane: after a step whose numbers were not finite."""
        self._lanes = [Lane(*self._sampler.draw()) for _ in self._lanes]

    def _take(self, lane: Lane) -> tuple[Tensor, Tensor, bool]:
        """The lane's next inputs and targets, padded to whole blocks, and whether its document ends with them."""
        tokens = self._corpora[lane.corpus].document(lane.document).tokens
        shift = 1 if self._bos_id is None else 0  # without BOS the first token is read but not predicted
        length = max(len(tokens) - shift, 1)
        count = min(self._blocks * self._block_size, length - lane.offset)
        padded = -(-count // self._block_size) * self._block_size
        first = lane.offset + shift
        targets = torch.full((padded,), IGNORE)
        wanted = tokens[first : first + count].astype(np.int64)
        targets[: len(wanted)] = torch.from_numpy(wanted)
        inputs = torch.zeros(padded, dtype=torch.int64)
        before = tokens[max(first - 1, 0) : first - 1 + count].astype(np.int64)
        if first == 0 and self._bos_id is not None:
            before = np.concatenate((np.array([self._bos_id]), before))[:count]
        inputs[: len(before)] = torch.from_numpy(before)
        return inputs, targets, lane.offset + count >= length

    def to_tensors(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The lanes as named tensors and plain values, for the training checkpoint."""
        tensors: dict[str, Tensor] = {}
        entries = []
        for number, lane in enumerate(self._lanes):
            entry: dict[str, Any] = {"corpus": lane.corpus, "document": lane.document, "offset": lane.offset}
            if lane.state is not None:
                parts, meta = lane.state.to_tensors()
                tensors |= {f"{number}.{name}": tensor for name, tensor in parts.items()}
                entry["state"] = meta
            entries.append(entry)
        return tensors, {"lanes": entries, "sampler": self._sampler.to_json()}

    def load_tensors(self, tensors: Mapping[str, Tensor], saved: Mapping[str, Any], device: torch.device) -> None:
        """Put back what `to_tensors` gave."""
        self._sampler.load_json(saved["sampler"])
        for number, entry in enumerate(saved["lanes"]):
            state = None
            if "state" in entry:
                prefix = f"{number}."
                parts = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
                state = State.from_tensors(parts, entry["state"]).to(device)
            self._lanes[number] = Lane(entry["corpus"], entry["document"], entry["offset"], state)


def start_state(network: Decoder, group: LaneGroup) -> State:
    """The state a group reads from: the one its lanes carry, or a fresh start (with gradient to the memory prompt)."""
    return group.state if group.state is not None else network.start(len(group.lanes))
