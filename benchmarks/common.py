"""What the benchmarks share: random checkpoints, texts of any size, children whose memory is watched, fair timing.

Nothing here imports torch at the top: a child's peak memory on Linux begins at its parent's, so a parent that
measures children must stay small. Run as a script, this module writes a random checkpoint and exits.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "examples" / "the-man-who-was-thursday.txt"
FAM_TINY = ROOT / "models" / "fam-tiny"

# The shape called 100M: 12 layers, grouped keys, 32k vocabulary.
SHAPE_100M: dict[str, Any] = {
    "vocab_size": 32000,
    "hidden_size": 768,
    "intermediate_size": 2048,
    "num_layers": 12,
    "num_heads": 12,
    "num_key_value_heads": 4,
    "head_dim": 64,
}
FAM_100M = {"block_size": 1024, "memory_segments": 3, "fam_length": 64}


# ------------------------------------------------------------------------------------------------ tables


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table on stdout: rich on a terminal, and as wide as it needs to be elsewhere."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else "right")
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    console = Console()
    (console if console.is_terminal else Console(width=160)).print(table)


def gap(ones: Sequence[float], others: Sequence[float], digits: int = 3) -> str:
    """The mean of the paired differences, and its standard error; nothing for fewer than two pairs."""
    gaps = [one - other for one, other in zip(ones, others, strict=True)]
    if len(gaps) < 2:
        return ""
    return f"{statistics.mean(gaps):+.{digits}f} \u00b1 {statistics.stdev(gaps) / len(gaps) ** 0.5:.{digits}f}"


def verdict(value: float, bar: float, *, at_least: bool = False) -> str:
    """Whether a ratio meets its bar."""
    return "ok" if (value >= bar if at_least else value <= bar) else "MISSED"


# ------------------------------------------------------------------------------------------------ logs


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The objects of a file of JSON lines; none if there is no such file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def add_rows(path: Path, *rows: Mapping[str, Any]) -> None:
    """Add a line to such a file for each object."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Such a file anew, each line as soon as it is there."""
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            file.flush()


def complete_log(
    log: Path, key: str, names: Iterable[str], seeds: Iterable[int], run: Callable[[str, int], dict[str, Any]]
) -> None:
    """Run what the log lacks, seed by seed: a line of it is {key: name, "seed": seed} and what `run` gives."""
    names = list(names)
    for seed in seeds:
        for name in names:
            if not any(entry[key] == name and entry["seed"] == seed for entry in read_rows(log)):
                entry = {key: name, "seed": seed} | run(name, seed)
                add_rows(log, entry)
                print(json.dumps(entry), flush=True)


# ------------------------------------------------------------------------------------------------ timing


def seconds_of(call: Callable[[], object]) -> float:
    """Wall time of one call."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def interleaved(
    calls: Mapping[str, Callable[[], object]],
    repeats: int,
    *,
    warm: bool = True,
    measure: Callable[..., float] | None = None,
) -> dict[str, list[float]]:
    """Every call timed `repeats` times, one after the other in turn, so that a busy minute falls on all of them."""
    measure = measure or seconds_of
    if warm:
        for call in calls.values():
            call()
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            taken[name].append(measure(call))
    return taken


def pairwise(first: Sequence[float], second: Sequence[float]) -> float:
    """Median of the ratios first / second of runs that were made next to one another."""
    return statistics.median(a / b for a, b in zip(first, second, strict=True))


# ------------------------------------------------------------------------------------------------ texts


def make_text(path: Path, num_bytes: int, source: Path = EXAMPLE) -> Path:
    """Write about `num_bytes` of text: the example's paragraphs again and again, shuffled and numbered anew."""
    paragraphs = source.read_text(encoding="utf-8").split("\n\n")
    draw, written, repetition = random.Random(0), 0, 0
    with path.open("wb") as file:
        while written < num_bytes:
            repetition += 1
            if repetition > 1:
                draw.shuffle(paragraphs)
            for number, paragraph in enumerate(paragraphs):
                mark = f"[{repetition}.{number}] " if draw.random() < 0.1 else ""
                line = f"{mark}{paragraph}\n\n".encode()[: num_bytes - written]
                written += file.write(line)
                if written >= num_bytes:
                    break
    return path


# ------------------------------------------------------------------------------------------------ checkpoints


def make_small_checkpoint(folder: Path) -> Path:
    """Write a checkpoint with one random layer of width 64, which reads 100 MB in minutes, in a process of its own.

    Block size, segments, memory length and tokenizer are those of the checkpoint that ships.
    """
    subprocess.run([sys.executable, __file__, str(folder)], check=True)
    return folder


def _write_small_checkpoint(folder: str) -> None:
    from famcli.checkpoint.save import save_checkpoint
    from famcli.checkpoint.sidecar import Sidecar, read_sidecar
    from famcli.nn import DecoderConfig, FamConfig, make_network
    from famcli.tokens import open_tokenizer

    shipped, tokenizer = read_sidecar(FAM_TINY).fam, open_tokenizer(FAM_TINY)
    fam = FamConfig(shipped.block_size, shipped.memory_segments, shipped.fam_length)
    network = make_network(DecoderConfig(tokenizer.vocab_size, 64, 128, 1, 4, 2, 16), fam)
    network.reset_parameters(0)
    save_checkpoint(folder, network, tokenizer, Sidecar(fam=fam, memory_trained=True))


# ------------------------------------------------------------------------------------------------ children


@dataclass(frozen=True)
class Child:
    """A process that has ended. seconds: wall; cpu_seconds: user and system; peak_bytes: resident memory at most."""

    seconds: float
    cpu_seconds: float
    peak_bytes: int
    stdout: str
    stderr: str


def run_famcli(arguments: Sequence[str], stdin: Path | None = None) -> Child:
    """Run the command line as a user would, with `stdin` piped in (not the file itself) if it is given."""
    return run_child([sys.executable, "-m", "famcli", *arguments], stdin)


def run_child(command: Sequence[str], stdin: Path | None = None) -> Child:
    """Run a command to its end and report what it took. Raises RuntimeError if it fails."""
    began = time.perf_counter()
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    collected = {"stdout": bytearray(), "stderr": bytearray()}
    threads = [
        threading.Thread(target=lambda: collected["stdout"].extend(process.stdout.read())),  # type: ignore[union-attr]
        threading.Thread(target=lambda: collected["stderr"].extend(process.stderr.read())),  # type: ignore[union-attr]
    ]
    if stdin is not None:
        threads.append(threading.Thread(target=_pour, args=(stdin, process.stdin)))
    for thread in threads:
        thread.start()
    _, status, usage = os.wait4(process.pid, 0)
    for thread in threads:
        thread.join()
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stdout.close()
    process.stderr.close()
    child = Child(
        seconds=time.perf_counter() - began,
        cpu_seconds=usage.ru_utime + usage.ru_stime,
        peak_bytes=usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
        stdout=collected["stdout"].decode(),
        stderr=collected["stderr"].decode(),
    )
    if process.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} exited with {process.returncode}: {child.stderr[-2000:]}")
    return child


def _pour(path: Path, pipe: Any) -> None:
    try:
        with path.open("rb") as file:
            while chunk := file.read(1 << 16):
                pipe.write(chunk)
        pipe.close()
    except BrokenPipeError:
        pass  # the child's exit code tells


if __name__ == "__main__":
    _write_small_checkpoint(sys.argv[1])
