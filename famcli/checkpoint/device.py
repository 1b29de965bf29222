"""The device and the number format that a network runs with.

`auto` is what this machine does well; a device or type that is asked for by name is used or refused, never replaced.
"""

from __future__ import annotations

import contextlib
import ctypes

import torch

from famcli.errors import UsageError

DEVICES = ("auto", "cpu", "cuda", "mps")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def select_device(name: str = "auto") -> torch.device:
    """The device called `name`: auto (CUDA where there is one, else the CPU), cpu, cuda or mps.

    Raises UsageError for a device that is not known, or that torch does not see on this machine.
    """
    # `auto` never picks mps: without float64 there, the positions of long streams are slower to get right.
    if name not in DEVICES:
        raise UsageError(f"device '{name}' is not known; choose one of {', '.join(DEVICES)}")
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("device cuda was asked for, but torch sees no CUDA device here", remedy={"device": "cpu"})
    if name == "mps" and not torch.backends.mps.is_available():
        raise UsageError("device mps was asked for, but torch sees no Apple GPU here", remedy={"device": "cpu"})
    return torch.device(name)


def select_dtype(name: str, device: torch.device, stored: torch.dtype) -> torch.dtype:
    """The compute type: float32, bfloat16 or float16, or `auto` for weights that are `stored` in a type.

    `auto` keeps the stored type where the device gains from it; else float32, which holds every stored value exactly.
    float16 is refused on a CPU. Raises UsageError.
    """
    # A CPU gains from bfloat16 only with instructions for it, and never from float16.
    if name == "auto":
        if device.type != "cpu" or stored == torch.float32:
            return stored
        return stored if stored == torch.bfloat16 and cpu_gains_from_bfloat16() else torch.float32
    if name not in DTYPES:
        raise UsageError(f"dtype '{name}' is not known; choose one of auto, {', '.join(DTYPES)}")
    if name == "float16" and device.type == "cpu":
        raise UsageError("dtype float16 does not run well on a CPU", remedy={"dtype": "float32"})
    return DTYPES[name]


def cpu_gains_from_bfloat16() -> bool:
    """True if this CPU has instructions for bfloat16 products (AVX-512 BF16 or AMX on x86, BF16 on Arm)."""
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    if not capabilities:
        # torch before 2.9 lists none; oneDNN tells whether bfloat16 runs at all, which needs at least AVX-512.
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return any(bool(capabilities.get(name)) for name in ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16"))


def set_threads(num_threads: int | None) -> None:
    """Let torch compute with `num_threads` threads; None leaves its choice. Raises UsageError below 1."""
    if num_threads is not None and num_threads < 1:
        raise UsageError(f"threads is {num_threads}, it must be at least 1")
    if num_threads is not None:
        torch.set_num_threads(num_threads)


def keep_freed_memory() -> None:
    """Let the C library keep up to 256 MiB of freed tensors for the next block.

    A process-wide setting, for programs whose main work is reading; only glibc has it, elsewhere nothing happens.
    """
    # Otherwise every block returns its tensors to the system, and the next one faults the same pages in again.
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        # M_MMAP_THRESHOLD and M_TRIM_THRESHOLD: setting either turns off the adaptive threshold, so both are set.
        libc.mallopt(-3, 32 << 20)
        libc.mallopt(-1, 256 << 20)
