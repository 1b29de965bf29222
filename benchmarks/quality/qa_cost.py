"""What asking costs: the time of one reading alone, and of the same reading with one question and with several."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from famcli.checkpoint.model import Model
from famcli.documents.opening import open_source
from famcli.nn import MemoryMode
from famcli.reading.reader import Reader
from famcli.tasks.ask.ask import Ask, AskConfig
from famcli.tasks.ask.reading_cache import ReadingCache


@dataclass(frozen=True)
class Cost:
    """Median seconds of `rounds` runs, of processor time and by the clock, and how many times those of reading alone.

    questions: 0 for reading alone. again: the reading came from the cache.
    """

    questions: int
    again: bool
    processor: float
    clock: float
    processor_ratio: float
    clock_ratio: float
    rounds: int


def measure_cost(
    model: Model,
    path: Path,
    questions: Sequence[str],
    mode: MemoryMode,
    cache: ReadingCache,
    *,
    rounds: int = 3,
    on_run: Callable[[], None] = lambda: None,
) -> list[Cost]:
    """Read the file at `path` alone, with the first question, with all of them, and ask the first one of a kept
    reading: by turns, so that whatever else the machine does falls on all of them."""
    kinds: list[tuple[int, bool]] = [(0, False), (1, False), (len(questions), False), (1, True)]
    times: dict[tuple[int, bool], list[tuple[float, float]]] = {kind: [] for kind in kinds}
    for _ in _consume(Ask(model, questions[:1], AskConfig(memory_mode=mode), cache), path):
        pass  # for the kept reading, and to warm up
    for _ in range(rounds):
        for kind in kinds:
            count, again = kind
            processor, clock = time.process_time(), time.perf_counter()
            if not count:
                for _ in Reader(model, memory_mode=mode).read([open_source(path)]):
                    pass
            else:
                task = Ask(model, questions[:count], AskConfig(memory_mode=mode), cache if again else None)
                for _ in _consume(task, path):
                    pass
            times[kind].append((time.process_time() - processor, time.perf_counter() - clock))
            on_run()
    alone = [statistics.median(column) for column in zip(*times[0, False], strict=True)]
    found = []
    for (count, again), measured in times.items():
        processor, clock = (statistics.median(column) for column in zip(*measured, strict=True))
        found.append(Cost(count, again, processor, clock, processor / alone[0], clock / alone[1], rounds))
    return found


def _consume(task: Ask, path: Path) -> Iterator[object]:
    try:
        yield from task.events([path])
    finally:
        task.close()
