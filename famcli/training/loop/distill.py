"""Self-distillation: the unadapted network with full attention reads the same documents, and says what comes next.

No labels are needed, so any text will do (arXiv 1503.02531 for the divergence as a loss). The teacher carries a state
of its own from step to step and reads a few blocks at a time, so that what it needs does not grow with a step.
"""

from __future__ import annotations

import torch

from famcli.nn import Network, State
from famcli.training.data.lanes import LaneGroup
from famcli.training.loop.objective import Lesson

_TOKENS_AT_ONCE = 4096  # of all lanes of a group


@torch.no_grad()
def teach(teacher: Network, group: LaneGroup) -> tuple[Lesson, State]:
    """What the teacher makes of a group's inputs, and its state after them."""
    state = group.teacher if group.teacher is not None else teacher.start(len(group.lanes))
    tokens, size = group.inputs.to(teacher.device), teacher.fam.block_size
    at_once = size * max(1, _TOKENS_AT_ONCE // (size * len(tokens)))
    rows = []
    for first in range(0, tokens.shape[1], at_once):
        hidden, state = teacher.read(tokens[:, first : first + at_once], state)
        rows.append(hidden)
    return Lesson(teacher, torch.cat(rows, dim=1)), state
