"""Continuous lanes: each row of the batch reads whole documents in order and carries its memory with it.

Within a document a lane keeps its state, detached, from step to step. A step reads as many whole blocks as it has; the
rest of a document after its last whole block is read in a step of its own, padded, and the state after that is dropped.
A new document starts at position 0 without segments, from the memory prompt or, by random state passing, from the
memory with which the last document of the lane ended (TransformerFAM, arXiv 2404.09173, section 3.3).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from famcli.errors import RecipeError
from famcli.nn import Network, State
from famcli.synthetic.streams import ANSWER
from famcli.training.data.objectives import DocumentStream, Mixture
from famcli.training.recipe.sections import ObjectiveRecipe, ScheduleRecipe

IGNORE = -100
"""Target of padding: cross-entropy leaves it out."""

# The fields of a lane that are states.
_STATES = ("state", "memory", "teacher")
_Rows = tuple[Tensor, Tensor, Tensor, Tensor]
"""What one lane reads in a step, padded to whole blocks: inputs, targets, weights and answers, as in `LaneGroup`."""


@dataclass
class Lane:
    """A row of the batch, kept across steps: its document, how many of its inputs are read, and the state after them.

    state: None before the first step of a document. memory: the memory with which an earlier document ended, as a state
    with nothing else. teacher: the state of the distillation teacher at the same place.
    """

    source: int
    number: int
    offset: int = 0
    state: State | None = None
    memory: State | None = None
    teacher: State | None = None


@dataclass(frozen=True)
class LaneGroup:
    """Lanes that are read in one call. All tensors but those of states are on the CPU.

    inputs, targets [b, k*C] int64. weights [b, k*C] float32: loss weight of each target, 0 for padding.
    answers [b, k*C] bool: targets that are answers. objectives: the objective's index of each row. starts: the state
    that each row is read from (it may hold nothing but a memory that was passed on); None for rows that begin a
    document without one, and such rows come first. teacher: the teacher's state, None where documents begin.
    """

    lanes: tuple[int, ...]
    inputs: Tensor
    targets: Tensor
    weights: Tensor
    answers: Tensor
    objectives: tuple[int, ...]
    starts: tuple[State | None, ...]
    teacher: State | None = None


@dataclass(frozen=True)
class StepPlan:
    """The work of one step, and its sums over all lanes, including those of other processes.

    without_segments: blocks see only the memory of what came before them. num_blocks: the most blocks of a lane.
    weight_sum: of all loss weights. ended: lanes whose document ends. partial: lanes that read an unfinished block.
    read: the number of targets of each lane.
    """

    groups: list[LaneGroup]
    step: int
    without_segments: bool
    num_blocks: int
    num_targets: int
    weight_sum: float
    ended: frozenset[int]
    partial: frozenset[int]
    read: dict[int, int]


class Lanes:
    """All lanes of a run. `plan` says what a step reads; `advance` moves on with the states after it.

    own: the lanes that this process reads; None for all. Every process knows where all lanes are, as that takes only
    counters. Raises RecipeError for `state_passing = "batch"` if some process does not read the first lane.
    """

    def __init__(
        self,
        sources: Sequence[DocumentStream],
        objectives: Sequence[ObjectiveRecipe],
        schedule: ScheduleRecipe,
        block_size: int,
        bos_id: int | None,
        seed: int,
        own: Collection[int] | None = None,
    ) -> None:
        self._sources, self._objectives, self._schedule = list(sources), list(objectives), schedule
        self._block_size, self._bos_id, self._seed = block_size, bos_id, seed
        self._own = frozenset(range(schedule.lanes) if own is None else own)
        if schedule.random_state_passing and schedule.state_passing == "batch" and len(self._own) < schedule.lanes:
            raise RecipeError('schedule.state_passing = "batch" works in one process only; use "lane"')
        self._mixture = Mixture([source.weight for source in sources], schedule.longest_step * block_size)
        self._lanes: list[Lane] = []
        # The memory of the first lane after the last step, for state_passing = "batch".
        self._first_memory: State | None = None
        self.abandon_documents()

    def plan(self, step: int, progress: float) -> StepPlan:
        """What step `step` (from 0) reads when `progress` (0 to 1) of the run is done. Changes nothing."""
        schedule = self._schedule
        num_blocks = schedule.blocks_of_step(self._seed, step, progress)
        rows, counts, ends = zip(*(self._take(lane, num_blocks) for lane in self._lanes), strict=True)
        # The last number keeps the draws of one step apart: 1 order, 2 passed memories, 3 segments.
        without_segments = np.random.default_rng([self._seed, step, 3]).random() < schedule.segment_dropout
        passing = np.random.default_rng([self._seed, step, 2]).random(schedule.lanes)
        batch = schedule.state_passing == "batch"
        share = schedule.random_state_passing if progress >= schedule.random_state_passing_from else 0.0
        members: dict[tuple[object, ...], list[int]] = defaultdict(list)
        starts: dict[int, State | None] = {}
        for number in sorted(self._own):
            lane = self._lanes[number]
            start = lane.state
            # By lane, whether a document that begins in this step starts from a memory that is passed on.
            if start is None and passing[0 if batch else number] < share:
                start = self._first_memory if batch else lane.memory
            if start is not None and without_segments:
                start = start.without_segments()
            starts[number] = start
            # States with the same tensors can be stacked; a lone memory stacks with the start of a document.
            kind = None if start is None or start.is_memory_alone else start.kind
            taught = None if lane.teacher is None else lane.teacher.kind
            members[len(rows[number][0]), kind, taught].append(number)
        return StepPlan(
            groups=[self._group(numbers, rows, starts) for numbers in members.values()],
            step=step,
            without_segments=bool(without_segments),
            num_blocks=num_blocks,
            num_targets=sum(counts),
            weight_sum=float(sum(weights.double().sum() for _, _, weights, _ in rows)),
            ended=frozenset(number for number, end in enumerate(ends) if end),
            partial=frozenset(n for n, (_, targets, _, _) in enumerate(rows) if bool(targets[-1] == IGNORE)),
            read=dict(enumerate(counts)),
        )

    def advance(self, plan: StepPlan, states: Mapping[int, State], teacher: Mapping[int, State] | None = None) -> None:
        """Move on after `plan`: own lanes keep their new states (by lane number), or begin another document."""
        for number, lane in enumerate(self._lanes):
            # Counted for all lanes, so that every process chooses the same next documents.
            self._mixture.count(lane.source, plan.read[number])
            before, after = lane.state, states.get(number)
            lane.offset += plan.read[number]
            lane.state = after.detach() if after is not None else None
            lane.teacher = (teacher or {}).get(number)
            # A padded block would put padding into the memory, so the memory before it is passed on.
            whole = before if number in plan.partial else lane.state
            if whole is None or not whole.has_memory:
                continue
            if number == 0 and self._schedule.state_passing == "batch":
                self._first_memory = whole.memory_alone()
            if number in plan.ended:
                lane.memory = whole.memory_alone()
        # In a new order each time: the last lane to choose gets what the others left, mostly long documents.
        order = np.random.default_rng([self._seed, plan.step, 1]).permutation(len(self._lanes)).tolist()
        self._begin([number for number in order if number in plan.ended])

    def abandon_documents(self) -> None:
        """Begin another document in every lane, without a memory: after a step whose numbers were not finite."""
        self._lanes = [Lane(-1, -1) for _ in range(self._schedule.lanes)]
        self._first_memory = None
        self._begin(range(self._schedule.lanes))

    def to_tensors(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The lanes as named tensors and plain values, for the training checkpoint; states of own lanes only."""
        tensors: dict[str, Tensor] = {}

        def keep(prefix: str, state: State) -> dict[str, Any]:
            parts, meta = state.to_tensors()
            tensors.update({f"{prefix}.{name}": tensor for name, tensor in parts.items()})
            return meta

        entries = []
        for number, lane in enumerate(self._lanes):
            states = {name: getattr(lane, name) for name in _STATES if getattr(lane, name) is not None}
            kept = {name: keep(f"{number}.{name}", state) for name, state in states.items()}
            entries.append({"source": lane.source, "number": lane.number, "offset": lane.offset, **kept})
        values = {"lanes": entries, "mixture": self._mixture.to_json()}
        if self._first_memory is not None:
            values["first_memory"] = keep("first", self._first_memory)
        return tensors, values

    def load_tensors(self, tensors: Mapping[str, Tensor], saved: Mapping[str, Any], device: torch.device) -> None:
        """Restore what `to_tensors` gave, of all processes together."""

        def restore(prefix: str, meta: Mapping[str, Any]) -> State:
            parts = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
            return State.from_tensors(parts, meta).to(device)

        self._mixture.load_json(saved["mixture"])
        for number, entry in enumerate(saved["lanes"]):
            names = [name for name in _STATES if name in entry and number in self._own]
            states = {name: restore(f"{number}.{name}.", entry[name]) for name in names}
            self._lanes[number] = Lane(entry["source"], entry["number"], entry["offset"], **states)
        self._first_memory = restore("first.", saved["first_memory"]) if "first_memory" in saved else None

    def _begin(self, numbers: Sequence[int]) -> None:
        """Give each of these lanes another document."""
        busy = [lane.source for number, lane in enumerate(self._lanes) if number not in set(numbers)]
        for number in numbers:
            source, document = self._mixture.draw(busy)
            busy.append(source)
            self._lanes[number] = Lane(source, document, memory=self._lanes[number].memory)

    def _group(self, numbers: list[int], rows: Sequence[_Rows], starts: Mapping[int, State | None]) -> LaneGroup:
        # `stack_starts` puts the fresh rows first.
        numbers = sorted(numbers, key=lambda number: starts[number] is not None)
        inputs, targets, weights, answers = map(torch.stack, zip(*(rows[number] for number in numbers), strict=True))
        objectives = tuple(self._sources[self._lanes[number].source].objective for number in numbers)
        taught = [state for number in numbers if (state := self._lanes[number].teacher) is not None]
        teacher, chosen = State.stack(taught) if taught else None, tuple(starts[number] for number in numbers)
        return LaneGroup(tuple(numbers), inputs, targets, weights, answers, objectives, chosen, teacher)

    def _take(self, lane: Lane, num_blocks: int) -> tuple[_Rows, int, bool]:
        """What a lane reads next, padded to whole blocks: rows, number of targets, and True at a document's end."""
        source = self._sources[lane.source]
        tokens, marks = source.document(lane.number, num_blocks)
        # Without BOS the first token is read but not predicted.
        shift = 1 if self._bos_id is None else 0
        remaining = max(len(tokens) - shift, 1) - lane.offset
        count = min(num_blocks * self._block_size, remaining)
        # The unfinished block is read in a step of its own.
        if count > self._block_size:
            count -= count % self._block_size
        first = lane.offset + shift
        inputs = tokens[max(first - 1, 0) : first - 1 + count]
        if first == 0:
            inputs = np.concatenate((np.array([self._bos_id]), inputs.astype(np.int64)))[:count]
        wanted, objective = tokens[first : first + count], self._objectives[source.objective]
        size = -(-len(inputs) // self._block_size) * self._block_size
        padded, targets = torch.zeros(size, dtype=torch.int64), torch.full((size,), IGNORE)
        padded[: len(inputs)] = torch.from_numpy(inputs.astype(np.int64))
        targets[: len(wanted)] = torch.from_numpy(wanted.astype(np.int64))
        weights, answers = torch.zeros(size), torch.zeros(size, dtype=torch.bool)
        weights[: len(wanted)] = objective.text_weight
        if marks is not None:
            answers[: len(wanted)] = torch.from_numpy(marks[first : first + count] == ANSWER)
            weights[answers] = objective.answer_weight
        return (padded, targets, weights, answers), len(wanted), count >= remaining


def stack_starts(network: Network, group: LaneGroup) -> State:
    """The state that a group reads from: what its lanes carry, or a document's start with gradient to the prompt."""
    carried = [start for start in group.starts if start is not None]
    fresh = len(group.starts) - len(carried)
    return State.stack([*([network.start(fresh)] if fresh else []), *carried])
