"""What the C files beside this one compute, called with tensors (compiled.py).

torch has no product of a few rows that reads bfloat16 as fast as memory gives it, and its attention is slow on
processors without matrix tiles (docs/decisions.md has the measurements).
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from operator import attrgetter, is_
from typing import Any, Self

import torch
from torch import Tensor

from famcli.nn.kernels import few_bits
from famcli.nn.kernels.compiled import library, longs, pointers

MOST_ROWS = 8
"""Rows that `multiply` takes at once."""
STEP = 32
"""Columns are computed in steps of so many."""

_VERSION = attrgetter("_version")
# The widest head of blocks.c.
_MOST_WIDE = 256
# Numbers from which on blocks.c computes what torch would.
_LARGE = 1 << 15


def computes(num_rows: int, like: Tensor) -> bool:
    """True if so many rows may be computed here, by weights of the type and the device of `like`."""
    if num_rows > MOST_ROWS or like.dtype != torch.bfloat16 or like.device.type != "cpu":
        return False
    if torch.is_grad_enabled() or torch.is_autocast_enabled("cpu"):
        return False
    return library() is not None


class _Threads:
    """All threads or one, whichever was faster lately at calls of one size. On a machine that others use too, a call
    waits for the thread that is not running, which may take ten times as long as computing alone. What is computed is
    the same, bit by bit."""

    # How often the slower way is tried again, and how fast what is known of either follows what is new.
    _AGAIN, _RATE = 100, 0.1

    def __init__(self) -> None:
        self._seconds, self._num_calls = {True: 0.0, False: 0.0}, 0

    def run(self, compute: Callable[[int], object]) -> None:
        most, seconds = torch.get_num_threads(), self._seconds
        if most == 1:
            compute(1)
            return
        self._num_calls += 1
        alone = seconds[True] < seconds[False]
        if self._num_calls % self._AGAIN == 0:
            alone = not alone
        began = time.perf_counter()
        compute(1 if alone else most)
        taken = time.perf_counter() - began
        seconds[alone] += (taken - seconds[alone]) * (self._RATE if seconds[alone] else 1)


# By what a call computes: the rows, and the widths.
_threads: defaultdict[tuple[int, ...], _Threads] = defaultdict(_Threads)


def multiply(x: Tensor, weights: Sequence[Any]) -> Tensor:
    """x float32 [..., k] of at most MOST_ROWS rows times `weights` [o_i, k] transposed: float32 [..., sum of o_i].

    Weights are contiguous and in bfloat16; k is a multiple of STEP.
    """
    k, width = x.shape[-1], sum(len(weight) for weight in weights)
    described = [few_bits.described(weight) for weight in weights]
    x = x.contiguous()
    y = x.new_empty(*x.shape[:-1], width)
    rows = x.numel() // k
    _threads[rows, k, width].run(
        partial(library().multiply, x.data_ptr(), pointers(*described), len(weights), y.data_ptr(), rows, k, width)
    )
    return y


Run = tuple[int, int, int, int, int]
"""Keys and values [b, hk, k, e]: their addresses, k, and the numbers from one batch row and one head to the next."""


class Seen(tuple[tuple[Tensor, Tensor], ...]):
    """Keys and values in parts, each dense but for the steps from head to head, with the numbers of their runs."""

    runs: list[Run]

    @classmethod
    def of(cls, parts: Sequence[tuple[Tensor, Tensor]]) -> Self:
        made = cls(dense(*part) for part in parts)
        made.runs = [run_of(part) for part in made if part[0].shape[2]]
        return made


def dense(keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Keys and values [b, hk, k, e] whose rows of a head lie one after the other, in both alike."""
    steps = keys.stride()
    if steps[2:] == (keys.shape[3], 1) and values.stride() == steps:
        return keys, values
    return keys.contiguous(), values.contiguous()


def run_of(part: tuple[Tensor, Tensor]) -> Run:
    """The run of dense keys and values."""
    keys, values = part
    steps = keys.stride()
    return keys.data_ptr(), values.data_ptr(), keys.shape[2], steps[0], steps[1]


def attend(
    queries: Tensor,
    parts: Sequence[tuple[Tensor, Tensor]],
    scale: float,
    window: int | None = None,
    softcap: float | None = None,
    num_windowed: int = 1,
) -> Tensor:
    """Queries float32 [b, h, n, e] over `parts`, keys and values [b, hk, k_i, e] in bfloat16: float32 [b, h, n, e].

    It lies as [b, n, h, e]. e is a multiple of STEP.

    The last part is causal. window: of the last `num_windowed` parts (1 or 2), which follow one another, a query sees
    so many keys up to its own.
    """
    b, h, n, e = queries.shape
    hk, seen = parts[0][0].shape[1], Seen.of(parts)
    runs = [number for run in seen.runs for number in run]
    out = queries.new_empty(b, n, h, e)
    steps = queries.stride()
    library().attend(
        queries.data_ptr(), longs(steps[:3]), longs(runs), len(runs) // 5, num_windowed, out.data_ptr(),
        b, hk, h // hk, n, e, scale, window or 1 << 40, softcap or 0.0, torch.get_num_threads(),
    )  # fmt: skip
    return out.transpose(1, 2)


def takes_blocks(*tensors: Tensor) -> bool:
    """True if blocks.c computes with `tensors` here: in bfloat16 on a CPU, of dense rows a multiple of 16 wide, the
    first of them large, and no gradient is asked for."""
    if tensors[0].numel() < _LARGE or torch.is_grad_enabled() or tensors[0].device.type != "cpu":
        return False
    if torch.compiler.is_compiling():
        return False
    if any(each.dtype != torch.bfloat16 or each.stride(-1) != 1 or each.shape[-1] % 16 for each in tensors):
        return False
    return library() is not None and bool(library().has_blocks())


def norm_blocks(x: Tensor, weight: Tensor, eps: float, plus_one: bool) -> Tensor:
    """The norm of rows [..., d] by `weight` [d]."""
    x, d = x.contiguous(), x.shape[-1]
    y = torch.empty_like(x)
    library().norm_blocks(
        x.data_ptr(), weight.data_ptr(), y.data_ptr(), x.numel() // d, d, eps, float(plus_one), torch.get_num_threads()
    )
    return y


def gate_blocks(gate: Tensor, up: Tensor) -> Tensor:
    """silu(gate) * up of [b, n, d], which lie alike."""
    y = torch.empty(gate.shape, dtype=gate.dtype)
    d, step = gate.shape[-1], gate.stride(-2)
    library().gate_blocks(
        gate.data_ptr(), up.data_ptr(), step, y.data_ptr(), y.numel() // d, d, torch.get_num_threads()
    )
    return y


def rotate_blocks(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """`rotate_halves` of x [b, h, n, e] by angles [b or 1, 1, n, e / 2]."""
    b, h, n, e = x.shape
    y, planes = x.new_empty(b, h, n, e), e // 2
    library().rotate_blocks(
        x.data_ptr(), longs(x.stride()[:3]), cos.data_ptr(), sin.data_ptr(), y.data_ptr(), b, h, n, planes,
        n * planes if len(cos) > 1 else 0, torch.get_num_threads(),
    )  # fmt: skip
    return y


def attends_blocks(queries: Tensor, parts: Sequence[tuple[Tensor, Tensor]]) -> bool:
    """True if `attend_blocks` takes queries [b, h, n, e] over `parts` here."""
    e, tensors = queries.shape[-1], (queries, *(each for part in parts for each in part))
    if e % STEP or e > _MOST_WIDE or any(each.dtype != torch.bfloat16 or each.stride(-1) != 1 for each in tensors):
        return False
    return library() is not None and bool(library().has_blocks())


def attend_blocks(
    queries: Tensor, parts: Sequence[tuple[Tensor, Tensor]], scale: float, own: int, window: int | None = None
) -> Tensor:
    """Queries [b, h, n, e] over `parts`, keys and values [b, hk, k_i, e], all in bfloat16: [b, h, n, e].

    It lies as [b, n, h, e]. own: keys of the last part, which is causal; 0 if none is. window: of the last part a query
    sees so many keys up to its own.
    """
    b, h, n, e = queries.shape
    hk, runs = parts[0][0].shape[1], list[int]()
    for keys, values in parts:
        runs += (keys.data_ptr(), values.data_ptr(), keys.shape[2], *keys.stride()[:3], *values.stride()[:3])
    out = queries.new_empty(b, n, h, e)
    made = library().attend_blocks(
        queries.data_ptr(), longs(queries.stride()[:3]), longs(runs), len(parts), out.data_ptr(),
        b, hk, h // hk, n, e, own, window or 1 << 40, scale, torch.get_num_threads(),
    )  # fmt: skip
    if not made:
        raise MemoryError
    return out.transpose(1, 2)


class LayerWeights:
    """What a layer multiplies by, in bfloat16 or in what is attached to it (few_bits.py), with all addresses.

    matrices: of queries, keys, values, output, gate, up and down. others: the two norms, the norms of queries and keys,
    and the biases of queries, keys and values. Each is a module's dictionary and a name in it, None for what the layer
    does not have. modules: where the modules of these stand in their owners.
    """

    def __init__(
        self,
        matrices: Sequence[tuple[dict[str, Any], str]],
        others: Sequence[tuple[dict[str, Any], str] | None],
        modules: Sequence[tuple[dict[str, Any], str]],
    ) -> None:
        weights = [place[name] for place, name in matrices]
        tensors: list[Tensor | None] = [None if each is None else each[0][each[1]] for each in others]
        self._described = [few_bits.described(weight) for weight in weights]
        self.addresses = (*pointers(*self._described), *(0 if each is None else each.data_ptr() for each in tensors))
        self.num_queries, self.num_keys, _, _, self.inner, _, _ = map(len, weights)
        places = [*modules, *matrices, *(each for each in others if each is not None)]
        self._dicts, self._names = [place for place, _ in places], [name for _, name in places]
        self._values = [place[name] for place, name in places]
        self._tensors = [each for each in self._values if isinstance(each, Tensor)]
        self._addresses = [tensor.data_ptr() for tensor in self._tensors]
        self._changing = [weight for weight in weights if few_bits.is_attached(weight)]
        self._versions = [weight._version for weight in self._changing]

    def are_current(self) -> bool:
        """False if a module or a tensor was replaced, or a tensor changed that something is attached to."""
        # Asked for each layer of each token, so without loops in Python.
        return (
            all(map(is_, map(dict.get, self._dicts, self._names), self._values))
            and list(map(Tensor.data_ptr, self._tensors)) == self._addresses
            and list(map(_VERSION, self._changing)) == self._versions
        )

    def __reduce__(self) -> tuple[Any, ...]:
        # A copy of a layer makes its own.
        return type(None), ()


class LayersCall:
    """A call of layers for rows x [b, n, d] in float32, at most MOST_ROWS, which become what the last one makes.

    shape: (hk, e). Each layer is added in its turn. All numbers are addresses or counts: a token waits for Python.
    """

    def __init__(self, x: Tensor, shape: tuple[int, int]) -> None:
        self._x, self._shape = x, shape
        self._layers, self._runs, self._kept, self._inner = list[int](), list[int](), list[Any](), 0

    def add(
        self,
        weights: LayerWeights,
        angles: tuple[int, int, int, int],
        seen: Sequence[Run],
        own: Run,
        *,
        window: int | None = None,
        num_windowed: int = 1,
        projected: Tensor | None = None,
        room: Run | None = None,
    ) -> None:
        """angles: of `angle_numbers`. seen: runs that are seen before the run `own`, as the parts of `attend`. The
        rows' keys and values go to the end of `room`, which is `own` if not given. projected: [b, n, o], gets the
        queries, keys and values side by side, none rotated."""
        (b, n, d), (hk, e) = self._x.shape, self._shape
        keys, values, num_rows, of_batch, of_head = own if room is None else room
        first, offset = len(self._runs) // 5, 2 * e * (num_rows - n)
        for run in (*seen, own):
            self._runs += run
        self._kept.append(weights)
        cos, sin, planes, step = angles
        self._layers += (
            *weights.addresses, cos, sin, keys + offset, values + offset,
            0 if projected is None else projected.data_ptr(), of_batch, of_head,
            b, n, d, hk, weights.num_queries // e // hk, e, weights.inner, planes, step,
            first, len(seen) + 1, num_windowed, window or 1 << 40,
        )  # fmt: skip
        self._inner = weights.inner

    def run(
        self, *, eps: float, plus_one: bool, scale: float | None, softcap: float | None, levels: Tensor | None = None
    ) -> None:
        """levels: [l, b, n, d], gets what each layer makes."""
        x, num_layers = self._x, len(self._kept)
        compute = partial(
            library().read_layers,
            x.data_ptr(), longs(self._layers), num_layers, longs(self._runs), eps, float(plus_one),
            self._shape[1] ** -0.5 if scale is None else scale, softcap or 0.0,
            None if levels is None else levels.data_ptr(),
        )  # fmt: skip
        _threads[x.numel(), self._inner, num_layers].run(compute)


def angle_numbers(angles: tuple[Tensor, Tensor] | None) -> tuple[int, int, int, int]:
    """cos and sin [b or 1, 1, n, planes] for `LayersCall.add`; None rotates nothing."""
    if angles is None:
        return 0, 0, 0, 0
    cos, sin = angles
    return cos.data_ptr(), sin.data_ptr(), cos.shape[-1], 0 if len(cos) == 1 else cos.shape[2] * cos.shape[3]


def rms_norm(x: Tensor, weight: Tensor, eps: float, plus_one: bool) -> Tensor:
    """The norm of float32 rows [..., d] by `weight` [d] in bfloat16."""
    x, d = x.contiguous(), x.shape[-1]
    y = torch.empty_like(x)
    library().rms_norm(x.data_ptr(), weight.data_ptr(), y.data_ptr(), x.numel() // d, d, eps, float(plus_one))
    return y


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """`rotate_halves` of float32 x [b, h, n, e] by float32 angles [b or 1, 1, n, planes]."""
    b, h, n, e = x.shape
    y, planes = x.new_empty(b, h, n, e), cos.shape[-1]
    step = n * planes if len(cos) > 1 else 0
    library().rotate(
        x.data_ptr(), longs(x.stride()[:3]), cos.data_ptr(), sin.data_ptr(), y.data_ptr(), b, h, n, e, planes, step
    )
    return y
