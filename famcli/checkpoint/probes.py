"""Linear probes beside an adapter, `probes.safetensors`: what its middle layers know of an answer, and do not say.

A probe is a logistic regression on the rows of some layers (Alain and Bengio, "Understanding intermediate layers using
linear classifier probes", 2016). Whether a text answers a question can be read off there (Slobodkin et al., "The
Curious Case of Hallucinatory (Un)answerability", 2023), at SmolLM2's layer 20 of 30 far better than at its last one
(docs/experiments.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from famcli.checkpoint.folder import beside, inside
from famcli.checkpoint.weights import PROBES_FILE, headers, opened
from famcli.errors import CheckpointError
from famcli.nn import DecoderConfig

# Rows of the question alone, and of the question and an answer: the last token's, and the mean over all tokens.
_KINDS = {"answered": 2, "right": 4}
# Beyond these log-odds nothing is told apart any more.
_MOST = 30.0


@dataclass(frozen=True)
class Probes:
    """levels: numbers of the layers' outputs, as `Network.read` counts them, 0 what enters the first. answered
    [l, 2, d], right [l, 4, d]: the weights; biases: theirs."""

    levels: tuple[int, ...]
    answered: Tensor
    right: Tensor
    biases: tuple[float, float]

    def how_answered(self, question: Tensor) -> float:
        """The log-odds that a text answers a question, of `rows` [l, 2, d] of what asks it."""
        return _log_odds(question, self.answered, self.biases[0])

    def how_right(self, question: Tensor, answer: Tensor) -> float:
        """The log-odds that an answer is right if there is one, of `rows` [l, 2, d] of what asks and of the answer."""
        return _log_odds(torch.cat((question, answer), 1), self.right, self.biases[1])

    def picked(self, levels: Sequence[Tensor], last: int = 0) -> Tensor:
        """Of all `levels` [b, n, d] those that the probes look at [l, b, n, d] float32; of `last` tokens, 0 for all."""
        return torch.stack([levels[number][:, -last:].float().cpu() for number in self.levels])


def _log_odds(seen: Tensor, weights: Tensor, bias: float) -> float:
    return max(-_MOST, min(float((seen * weights).sum()) + bias, _MOST))


def rows(tokens: Tensor) -> Tensor:
    """What probes look at [l, 2, d] of a run of tokens [l, n, d]: the row of the last one, and the mean."""
    return torch.stack((tokens[:, -1], tokens.mean(1)), 1)


def read_probes(folder: Path, config: DecoderConfig) -> Probes | None:
    """The probes in the folder of an adapter or a checkpoint, None if it has none. Raises CheckpointError."""
    path = beside(folder, PROBES_FILE)
    if not path.exists():
        return None
    stored = {
        tensor.name: tensor.shape for tensor in headers(inside(path.parent, path), {"I64": "int64", "F32": "float32"})
    }
    if stored.keys() != {"levels", "biases", *_KINDS} or stored["biases"] != (len(_KINDS),):
        raise CheckpointError(f"{path} must hold levels, biases, {', '.join(_KINDS)}; copy it again")
    with opened(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in stored}
    levels = tuple(tensors["levels"].tolist())
    wanted = {name: (len(levels), kinds, config.hidden_size) for name, kinds in _KINDS.items()}
    if any(stored[name] != shape for name, shape in wanted.items()) or not all(
        0 <= level <= config.num_layers for level in levels
    ):
        raise CheckpointError(f"{path} is for another decoder: its probes are {stored}, this one needs {wanted}")
    first, second = tensors["biases"].tolist()
    return Probes(levels, tensors["answered"], tensors["right"], (first, second))
