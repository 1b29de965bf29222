"""How well rare lines of a log are found: `python -m benchmarks.rare_lines [LOG] [--lines N]`.

A log of N lines (made, or the lines of a real one over and over with other numbers) has 20 lines planted into it, each
of a template that it has nowhere else, after the first tenth. Ways to score a line are compared by the share of planted
lines found where at most 1 in 1,000 other lines is a false alarm: the bits per byte of a checkpoint, also in deviations
above the median of the lines before, and how few lines so far have the line's template. Then the alarms of fixed rules,
that of `famcli ppl --alert` among them.
"""

from __future__ import annotations

import argparse
import random
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from famcli import open_model
from famcli.tasks.perplexity.perplexity import Perplexity, PerplexityConfig
from famcli.tasks.perplexity.units import MIN_DEVIATION, MIN_LINES, WINDOW, AlertRule, UnitScore
from famcli.text.log_lines import Templates, log_line

FALSE_ALARMS = 1 / 1000
COMMON = (
    "INFO http.Server: GET /items/{n} 200 in {n} ms from {ip}",
    "INFO http.Server: POST /orders 201 in {n} ms from {ip}",
    "DEBUG cache.Store: hit for key user:{n}",
    "DEBUG cache.Store: miss for key user:{n}",
    "INFO auth.Session: user {word} logged in from {ip}",
    "INFO auth.Session: user {word} logged out after {n} s",
    "WARN db.Pool: connection {n} was idle for {n} s",
    "INFO db.Pool: opened connection {n} to {ip}:{n}",
    "INFO jobs.Runner: job {word}-{n} finished in {n} ms",
    "ERROR jobs.Runner: job {word}-{n} failed: timeout after {n} s",
)
RARE = (
    "INFO auth.Session: password of user {word} changed by administrator",
    "INFO auth.Session: new device approved for user {word}",
    "ERROR db.Pool: replica {ip} is out of sync by {n} transactions",
    "WARN disk.Watch: volume /var is {n} % full",
    "ERROR disk.Watch: bad sector {n} remapped",
    "INFO config.Loader: read settings again after a signal",
    "FATAL main.Process: out of memory, stopping",
    "INFO main.Process: started with {n} threads",
    "WARN clock.Sync: time was set back by {n} ms",
    "ERROR tls.Store: certificate of gateway expires in {n} hours",
    "INFO http.Server: listening on port {n}",
    "WARN http.Server: request from {ip} refused, blocked by rule {n}",
    "ERROR http.Server: handler crashed on null pointer",
    "INFO cache.Store: emptied by hand",
    "WARN mail.Sender: message {n} bounced",
    "INFO backup.Task: snapshot {n} written",
    "ERROR backup.Task: checksum of snapshot {n} does not match",
    "INFO auth.Session: account {word} deleted",
    "WARN jobs.Runner: queue is longer than {n}",
    "ERROR license.Check: key is not valid on this host",
)
_NUMBER = re.compile(r"\d")


def main() -> None:
    """Make a log, score its lines in each way, and print what each finds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("log", nargs="?", type=Path, help="a real log to plant lines in; default: a made one")
    parser.add_argument("--lines", type=int, default=10_000)
    parser.add_argument("--model", default=None)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    lines, planted = planted_log(options.log, options.lines, random.Random(options.seed))
    ways = {"template rarity": rarities(lines)}
    bits = bits_per_byte(lines, options.model)
    ways |= {"bits per byte": bits, "bits per byte, in deviations": deviations(bits)}
    ways["rarity and deviations, mean of ranks"] = ranks(ways["template rarity"]) + ranks(deviations(bits))
    print(
        f"{len(lines):,} lines, {len(planted)} planted; recall at 1 false alarm in 1,000, and alarms of the fixed rules"
    )
    for name, scores in ways.items():
        print(f"{name:45} recall {recall(scores, planted):.2f}")
    rule = AlertRule(4)
    fixed = {"ppl --alert 4": np.array([rule.judge(*one) is not None for one in zip(bits, lines, strict=True)])}
    fixed |= {f"more than {k} deviations": deviations(bits) > k for k in (2, 4, 6, 8)}
    fixed |= {f"one of the first {k} of its template": rarities(lines) >= 1 / k for k in (1, 2, 3)}
    for name, alarms in fixed.items():
        alarms[: len(lines) // 10] = False  # what is usual has to be learned
        right = int(alarms[planted].sum())
        print(f"{name:45} recall {right / len(planted):.2f}, false alarms {int(alarms.sum()) - right}")


def planted_log(path: Path | None, count: int, rng: random.Random) -> tuple[list[str], list[int]]:
    """Lines, and the numbers of those that are like no other."""
    if path is None:
        weights = [1 / (rank + 1) for rank in range(len(COMMON))]
        lines = [_made(rng.choices(COMMON, weights)[0], number, rng) for number in range(count)]
    else:
        real = path.read_text(encoding="utf-8", errors="replace").splitlines()
        lines = [_NUMBER.sub(lambda _: str(rng.randrange(10)), real[number % len(real)]) for number in range(count)]
        lines[: len(real)] = real[:count]
    planted = sorted(rng.sample(range(max(count // 10, 1), count), len(RARE)))
    for number, form in zip(planted, rng.sample(RARE, len(RARE)), strict=True):
        made = _made(form, number, rng)
        found = None if path is None else log_line(lines[number])
        # In a real log the line keeps its own head: the time, the host and the process.
        lines[number] = made if found is None else lines[number].removesuffix(found.message) + made.split(": ", 1)[1]
    return lines, planted


def _made(form: str, number: int, rng: random.Random) -> str:
    while "{" in form:
        form = form.replace("{n}", str(rng.randrange(10 ** rng.randint(1, 5))), 1)
        form = form.replace("{ip}", ".".join(str(rng.randrange(256)) for _ in range(4)), 1)
        form = form.replace("{word}", rng.choice(("anna", "bert", "carl", "dora", "emil", "fritz", "gina")), 1)
    time = f"2024-01-{1 + number // 86400:02} {number // 3600 % 24:02}:{number // 60 % 60:02}:{number % 60:02}"
    return f"{time} {form}"


def rarities(lines: Sequence[str]) -> NDArray[np.float64]:
    """1 for the first line of a template, 1/2 for the second one, and so on."""
    templates = Templates()
    parsed = ((line, log_line(line)) for line in lines)
    return np.array([1 / templates.add(line if found is None else found.message).count for line, found in parsed])


def bits_per_byte(lines: Sequence[str], model: str | None) -> NDArray[np.float64]:
    """Of each line, by a checkpoint that reads them in order."""
    found = np.zeros(len(lines))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        task = Perplexity(open_model(model), PerplexityConfig(per="line"))
        for event in task.events([path]):
            if isinstance(event, UnitScore) and event.line is not None:
                found[event.line - 1] = event.scores[0].bits_per_byte or 0.0
    return found


def deviations(bits: NDArray[np.float64]) -> NDArray[np.float64]:
    """How many deviations each line is above the median of those before, as the alert rule counts them."""
    found = np.zeros(len(bits))
    for number in range(MIN_LINES, len(bits)):
        recent = bits[max(0, number - WINDOW) : number]
        median = np.median(recent)
        deviation = max(1.4826 * float(np.median(np.abs(recent - median))), 1.4826 * MIN_DEVIATION)
        found[number] = (bits[number] - median) / deviation
    return found


def ranks(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """The place of each score among all, 0 to 1."""
    order = np.argsort(scores, kind="stable")
    found = np.empty(len(scores))
    found[order] = np.arange(len(scores)) / len(scores)
    return found


def recall(scores: NDArray[np.float64], planted: Sequence[int]) -> float:
    """The share of planted lines above the threshold that lets 1 in 1,000 other lines of the last nine tenths pass."""
    is_planted = np.zeros(len(scores), bool)
    is_planted[planted] = True
    others = np.sort(scores[len(scores) // 10 :][~is_planted[len(scores) // 10 :]])[::-1]
    limit = others[int(FALSE_ALARMS * len(others))]
    return float((scores[is_planted] > limit).mean())


if __name__ == "__main__":
    main()
