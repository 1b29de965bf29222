"""The C files beside this one, compiled for this processor at their first use, and kept in the cache of the user.

Without a C compiler, and with an empty variable CC, everything is computed by torch.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from famcli.nn.kernels import measured

_SOURCES = [Path(__file__).with_name(name) for name in ("products.c", "few_rows.c", "blocks.c")]
_FILES = [*_SOURCES, Path(__file__).with_name("products.h")]
_FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast", "-fwrapv", "-w")
_WIDE_REGISTERS = "-mprefer-vector-width=512"
_SECONDS = 60
_OF_BLOCKS = ("norm_blocks", "gate_blocks", "rotate_blocks")


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
    loaded.pack.argtypes = (p, p, p, p, p, n, n, n, n, n, n)
    loaded.unpack.argtypes = (p, p, n, p, n, n)
    loaded.attend.argtypes = (p, p, p, n, n, p, n, n, n, n, n, f, n, f, n)
    loaded.rms_norm.argtypes = (p, p, p, n, n, f, f)
    loaded.rotate.argtypes = (p, p, p, p, p, n, n, n, n, n, n)
    loaded.attend_blocks.argtypes = (p, p, p, n, p, n, n, n, n, n, n, n, f, n)
    loaded.read_layers.argtypes = (p, p, n, p, f, f, f, f, p, n)
    loaded.norm_blocks.argtypes = (p, p, p, n, n, f, f, n)
    loaded.gate_blocks.argtypes = (p, p, n, p, n, n, n)
    loaded.rotate_blocks.argtypes = (p, p, p, p, p, n, n, n, n, n, n)
    for name in ("multiply", "pack", "unpack", "attend", "rms_norm", "rotate", "read_layers", *_OF_BLOCKS):
        getattr(loaded, name).restype = None
    return loaded if _computes_right(loaded) else None


def _key(compiler: str) -> str:
    """What the compiled file depends on."""
    parts = (*(source.read_text(encoding="utf-8") for source in _FILES), compiler, *_FLAGS, *measured.processor())
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
    y, matrix = torch.empty(3, 5), longs((weight.data_ptr(), 5, 16, 0, 0, 0, 0))
    loaded.multiply(x.data_ptr(), pointers(matrix), 1, y.data_ptr(), 3, 64, 5, 1)
    return torch.allclose(y, x @ weight.float().t(), atol=1e-4)


def longs(numbers: Sequence[int]) -> Any:
    """Numbers as C takes them."""
    return (ctypes.c_long * len(numbers))(*numbers)


def pointers(*arrays: Any) -> Any:
    """The addresses of what `longs` made, as C takes them."""
    return longs([ctypes.addressof(array) for array in arrays])
