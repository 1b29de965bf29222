"""few_rows.c and blocks.c, compiled for this processor at their first use, and kept in the cache of the user.

torch has no product of a few rows that reads bfloat16 as fast as memory gives it, and its attention is slow on
processors without matrix tiles (docs/decisions.md has the measurements). Without a C compiler, and with an empty
variable CC, everything is computed by torch as before.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from famcli.nn.kernels import measured

MOST_ROWS = 8
"""Rows that `multiply` takes at once."""
STEP = 32
"""Columns are computed in steps of so many."""

_SOURCES = [Path(__file__).with_name(name) for name in ("few_rows.c", "blocks.c")]
# The widest head of blocks.c.
_MOST_WIDE = 256
_FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast", "-fwrapv", "-w")
_WIDE_REGISTERS = "-mprefer-vector-width=512"
_SECONDS = 60
# Numbers from which on blocks.c computes what torch would.
_LARGE = 1 << 15


@lru_cache(maxsize=1)
def library() -> Any:
    """The compiled kernels; None where there is no compiler or it fails."""
    compiler = os.environ.get("CC", "cc")
    # Addresses are handed over as `long`, which holds none on Windows.
    if os.name == "nt" or not compiler or shutil.which(compiler) is None:
        return None
    try:
        path = measured.folder() / f"kernels-{_key(compiler)}.so"
        if not path.exists():
            _compile(compiler, path)
        measured.check_owner(path)
        loaded = ctypes.CDLL(str(path))
    except (OSError, subprocess.SubprocessError):
        return None
    p, n, f = ctypes.c_void_p, ctypes.c_long, ctypes.c_float
    loaded.multiply.argtypes = (p, p, n, p, n, n, n, n)
    loaded.attend.argtypes = (p, p, p, n, n, p, n, n, n, n, n, f, n, f, n)
    loaded.rms_norm.argtypes = (p, p, p, n, n, f, f)
    loaded.rotate.argtypes = (p, p, p, p, p, n, n, n, n, n, n)
    loaded.attend_blocks.argtypes = (p, p, p, n, p, n, n, n, n, n, n, n, f, n)
    loaded.read_layer.argtypes = (p, p, p, n, n, f, f, f, n, f, n)
    loaded.norm_blocks.argtypes = (p, p, p, n, n, f, f, n)
    loaded.gate_blocks.argtypes = (p, p, n, p, n, n, n)
    loaded.rotate_blocks.argtypes = (p, p, p, p, p, n, n, n, n, n, n)
    nothing = ("multiply", "attend", "rms_norm", "rotate", "read_layer", "norm_blocks", "gate_blocks", "rotate_blocks")
    for name in nothing:
        getattr(loaded, name).restype = None
    return loaded if _computes_right(loaded) else None


def computes(num_rows: int, like: Tensor) -> bool:
    """True if so many rows may be computed here, by weights of the type and the device of `like`."""
    if num_rows > MOST_ROWS or like.dtype != torch.bfloat16 or like.device.type != "cpu":
        return False
    if torch.is_grad_enabled() or torch.is_autocast_enabled("cpu"):
        return False
    return library() is not None


def _key(compiler: str) -> str:
    """What the compiled file depends on."""
    parts = (*(source.read_text(encoding="utf-8") for source in _SOURCES), compiler, *_FLAGS, *measured.processor())
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _compile(compiler: str, path: Path) -> None:
    """Compile to `path`, which is there whole or not at all. Raises SubprocessError or OSError."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        made = Path(folder) / path.name
        common = [compiler, *_FLAGS, "-shared", "-fPIC", *map(str, _SOURCES), "-lm", "-o", str(made)]
        # The first that the compiler knows; Apple's has no OpenMP, and then one thread computes.
        for more in ([_WIDE_REGISTERS, "-fopenmp"], ["-fopenmp"], []):
            ran = subprocess.run([*common, *more], capture_output=True, timeout=_SECONDS, check=False)
            if ran.returncode == 0:
                break
        ran.check_returncode()
        made.chmod(0o700)
        made.replace(path)


def _computes_right(loaded: Any) -> bool:
    x, weight = torch.linspace(-1, 1, 192).view(3, 64), torch.linspace(-2, 3, 320).view(5, 64).bfloat16()
    y = torch.empty(3, 5)
    matrix = _longs((weight.data_ptr(), 5))
    loaded.multiply(x.data_ptr(), matrix, 1, y.data_ptr(), 3, 64, 5, 1)
    return torch.allclose(y, x @ weight.float().t(), atol=1e-4)


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


def multiply(x: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """x float32 [..., k] of at most MOST_ROWS rows times `weights` [o_i, k] transposed: float32 [..., sum of o_i].

    Weights are contiguous and in bfloat16; k is a multiple of STEP.
    """
    k, width = x.shape[-1], sum(len(weight) for weight in weights)
    matrices = _longs([number for weight in weights for number in (weight.data_ptr(), len(weight))])
    x = x.contiguous()
    y = x.new_empty(*x.shape[:-1], width)
    rows = x.numel() // k
    _threads[rows, k, width].run(
        partial(library().multiply, x.data_ptr(), matrices, len(weights), y.data_ptr(), rows, k, width)
    )
    return y


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
    hk, (runs, _kept) = parts[0][0].shape[1], _runs(parts)
    out = queries.new_empty(b, n, h, e)
    steps = queries.stride()
    library().attend(
        queries.data_ptr(), _longs(steps[:3]), _longs(runs), len(runs) // 5, num_windowed, out.data_ptr(),
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
        x.data_ptr(), _longs(x.stride()[:3]), cos.data_ptr(), sin.data_ptr(), y.data_ptr(), b, h, n, planes,
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
        queries.data_ptr(), _longs(queries.stride()[:3]), _longs(runs), len(parts), out.data_ptr(),
        b, hk, h // hk, n, e, own, window or 1 << 40, scale, torch.get_num_threads(),
    )  # fmt: skip
    if not made:
        raise MemoryError
    return out.transpose(1, 2)


def _runs(parts: Sequence[tuple[Tensor, Tensor]]) -> tuple[list[int], list[Tensor]]:
    """Keys and values as few_rows.c takes them, and the copies among them, to be kept until it returns."""
    runs, kept = list[int](), list[Tensor]()
    for keys, values in parts:
        if not keys.shape[2]:
            continue
        steps = keys.stride()
        if steps[2:] != (keys.shape[3], 1) or values.stride() != steps:
            keys, values = keys.contiguous(), values.contiguous()
            kept += (keys, values)
            steps = keys.stride()
        runs += (keys.data_ptr(), values.data_ptr(), keys.shape[2], steps[0], steps[1])
    return runs, kept


class LayerWeights(NamedTuple):
    """What `read_layer` multiplies by, in bfloat16; None for what a layer does not have."""

    input_norm: Tensor
    q: Tensor
    k: Tensor
    v: Tensor
    o: Tensor
    mlp_norm: Tensor
    gate: Tensor
    up: Tensor
    down: Tensor
    q_norm: Tensor | None
    k_norm: Tensor | None
    q_bias: Tensor | None
    k_bias: Tensor | None
    v_bias: Tensor | None


def read_layer(
    x: Tensor,
    weights: LayerWeights,
    angles: tuple[Tensor, Tensor] | None,
    room: tuple[Tensor, Tensor],
    parts: Sequence[tuple[Tensor, Tensor]],
    num_windowed: int,
    projected: Tensor | None,
    *,
    eps: float,
    plus_one: bool,
    scale: float | None,
    window: int | None,
    softcap: float | None,
) -> None:
    """Replace float32 rows x [b, n, d], at most MOST_ROWS, by what a layer makes of them.

    angles: cos and sin [b or 1, 1, n, planes]; None rotates nothing. room: where keys and values of the rows go,
    [b, hk, n, e]; it is the end of the last of `parts`, which are seen as in `attend`. projected: [b, n, o], gets the
    queries, keys and values side by side, none rotated.
    """
    (b, n, d), (keys, values), e = x.shape, room, room[0].shape[3]
    hk, heads = keys.shape[1], len(weights.q) // e
    cos, sin = (None, None) if angles is None else angles
    planes = 0 if cos is None else cos.shape[-1]
    runs, _kept = _runs(parts)
    numbers = [0 if each is None else each.data_ptr() for each in (*weights, cos, sin, keys, values, projected)]
    numbers += (*keys.stride()[:2], b, n, d, hk, heads // hk, e, len(weights.gate), planes)
    numbers.append(0 if cos is None or len(cos) == 1 else n * planes)
    compute = partial(
        library().read_layer,
        x.data_ptr(), _longs(numbers), _longs(runs), len(runs) // 5, num_windowed, eps, float(plus_one),
        e**-0.5 if scale is None else scale, window or 1 << 40, softcap or 0.0,
    )  # fmt: skip
    _threads[b * n, d, len(weights.gate)].run(compute)


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
        x.data_ptr(), _longs(x.stride()[:3]), cos.data_ptr(), sin.data_ptr(), y.data_ptr(), b, h, n, e, planes, step
    )
    return y


def _longs(numbers: Sequence[int]) -> Any:
    return (ctypes.c_long * len(numbers))(*numbers)
