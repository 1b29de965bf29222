"""Processes to be killed, interrupted and watched: forked, so that none waits until torch is imported again."""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# All of a command that a child would have to import, imported once.
import famcli.cli.adapt
import famcli.cli.ask
import famcli.cli.chat
import famcli.cli.checkpoints
import famcli.cli.eval
import famcli.cli.inspect
import famcli.cli.ppl
import famcli.cli.read
import famcli.cli.readings
import famcli.cli.summarize
import famcli.cli.train
import famcli.tasks.ask.ask
import famcli.tasks.perplexity.perplexity
import famcli.tasks.report.page
import famcli.tasks.summarize.summarize
import famcli.training.loop.train  # noqa: F401
from famcli.__main__ import main


@dataclass
class Figures:
    """What a campaign did: how many trials, what else it counted, and each failure in a line."""

    name: str
    trials: int = 0
    counts: dict[str, Any] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def count(self, what: str, number: int = 1) -> None:
        """Add to what was counted under a name."""
        self.counts[what] = self.counts.get(what, 0) + number


class Child:
    """A forked process that runs `function`; its standard streams are files in `folder`, its input `stdin` there."""

    def __init__(self, function: Callable[[], object], folder: Path) -> None:
        self.stdout, self.stderr = folder / "stdout", folder / "stderr"
        self._stdin = folder / "stdin" if (folder / "stdin").exists() else Path(os.devnull)
        begun, ready = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            self._run(function, ready)
        os.close(ready)
        # The signals that it inherits are its own only from here on.
        os.read(begun, 1)
        os.close(begun)

    def wait(self, seconds: float = 120.0) -> int:
        """Its exit code, or minus the signal that killed it. Raises TimeoutError, once it is killed."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.002)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        raise TimeoutError(f"it did not end within {seconds:.0f} seconds")

    def send(self, signum: int) -> None:
        """Send a signal; it may have ended."""
        os.kill(self.pid, signum)

    def texts(self) -> tuple[str, str]:
        """What it wrote on standard output and standard error."""
        return tuple(path.read_text("utf-8", "backslashreplace") for path in (self.stdout, self.stderr))  # type: ignore[return-value]

    def _run(self, function: Callable[[], object], ready: int) -> None:
        code, has_begun = 99, False
        try:
            for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(signum, signal.default_int_handler if signum == signal.SIGINT else signal.SIG_DFL)
            for number, (path, flags) in enumerate(
                [(self._stdin, os.O_RDONLY), (self.stdout, os.O_WRONLY), (self.stderr, os.O_WRONLY)]
            ):
                handle = os.open(path, flags | (os.O_CREAT | os.O_TRUNC) * (number > 0), 0o600)
                os.dup2(handle, number)
                os.close(handle)
            own_streams()
            os.write(ready, b"!")
            has_begun = True
            function()
            code = 0
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 1
        except BaseException as error:
            if has_begun or not isinstance(error, KeyboardInterrupt):
                traceback.print_exc()
            else:
                code = 130  # it came before the command
        finally:
            for stream in (sys.stdout, sys.stderr):
                try:
                    stream.flush()
                except OSError:
                    code = code or 120
            os._exit(code)


def own_streams() -> None:
    """Give a forked process the standard streams of its own descriptors, whatever its parent made of them."""
    sys.stdin, sys.stdout, sys.stderr = (open(number, "w" if number else "r") for number in range(3))  # noqa: SIM115


def command(
    words: Sequence[object], environ: Mapping[str, str] | None = None, cwd: Path | None = None
) -> Callable[[], None]:
    """`famcli WORDS` as a function for a child."""

    def run() -> None:
        os.environ.update(environ or {})
        if cwd is not None:
            os.chdir(cwd)
        sys.argv = ["famcli", *map(str, words)]
        main()

    return run


def run_command(words: Sequence[object], folder: Path, **settings: Any) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of `famcli WORDS`."""
    child = Child(command(words, **settings), folder)
    code = child.wait()
    return (code, *child.texts())
