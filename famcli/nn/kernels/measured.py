"""What is kept of this processor in the cache of the user: compiled kernels, and which way of computing was fastest."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from hashlib import sha256
from pathlib import Path

import torch

# How much less time another way than the expected one must take to be chosen, and how often each is timed.
_CLEARLY, _ROUNDS = 0.8, 4


def folder() -> Path:
    """The folder, made at first use. Raises OSError, and PermissionError if it is not this user's alone to write."""
    from platformdirs import user_cache_path

    path = user_cache_path("famcli") / "kernels"
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    check_owner(path)
    return path


def check_owner(path: Path) -> None:
    """Raise PermissionError unless `path` is this user's and nobody else may write to it: it is run as code."""
    info = path.stat()
    if hasattr(os, "getuid") and (info.st_uid != os.getuid() or info.st_mode & 0o022):
        raise PermissionError(f"{path} is another user's, or others may write to it")


@lru_cache(maxsize=1)
def processor() -> tuple[str, ...]:
    """What tells this processor from others: a home may be shared by machines of several kinds."""
    named = [platform.machine(), platform.processor()]
    about = Path("/proc/cpuinfo")
    if about.exists():
        lines = about.read_text(errors="replace").splitlines()
        named += sorted({line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part"))})
    return tuple(named)


def fastest(question: str, ways: Mapping[str, Callable[[], object]], expected: str) -> str:
    """The name of the way that takes the least time here; `expected` unless another one takes clearly less.

    Measured once for a processor, a version of torch and a number of threads, and kept.

    Args:
        question: names what is chosen; a change of `ways` needs a new one.
        ways: each computes the same thing.
    """
    asked = "\n".join((*processor(), torch.__version__, str(torch.get_num_threads()), question, *ways))
    name = f"{question.replace(' ', '-')}-{sha256(asked.encode()).hexdigest()[:16]}.json"
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        chosen = json.loads((folder() / name).read_text(encoding="utf-8"))["fastest"]
        if chosen in ways:
            return str(chosen)
    seconds = _timed(ways)
    best = min(seconds, key=seconds.__getitem__)
    best = best if seconds[best] < _CLEARLY * seconds[expected] else expected
    # Without a cache that can be written to, every process measures.
    with contextlib.suppress(OSError), tempfile.TemporaryDirectory(dir=folder()) as made:
        text = json.dumps({"fastest": best, "milliseconds": {way: 1000 * taken for way, taken in seconds.items()}})
        (Path(made) / name).write_text(text, encoding="utf-8")
        (Path(made) / name).replace(folder() / name)
    return best


def _timed(ways: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """Seconds of each, turn about; the least of several, for others may use the machine too."""
    seconds = dict.fromkeys(ways, float("inf"))
    # The first round warms up.
    for turn in range(_ROUNDS + 1):
        for way, compute in ways.items():
            began = time.perf_counter()
            compute()
            if turn:
                seconds[way] = min(seconds[way], time.perf_counter() - began)
    return seconds
