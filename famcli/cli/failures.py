"""What a user sees when something goes wrong: one line on stderr and an exit code, never a traceback.

Also the signals that interrupt a command, and standard streams that are closed or cannot hold a text.

Usage errors of the parser are typer's; this file is for what happens while a command runs.
"""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn

import typer

from famcli.cli.render import STANDARD_OUTPUT, give_up, say
from famcli.errors import FamcliError, Remedy
from famcli.interrupts import interrupt
from famcli.plain import harmless

EXIT_FAILED = 1
# 13 is SIGPIPE, a name that Windows lacks.
EXIT_CLOSED_PIPE = 128 + 13
INTERRUPTS = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
"""The signals that interrupt a command (Ctrl-C, `kill`, a terminal that is closed), and what Python does with each."""
if hasattr(signal, "SIGHUP"):
    INTERRUPTS[signal.SIGHUP] = signal.SIG_DFL

_interrupted_by: int | None = None
_must_wait = False
_told_at_end = ""


@contextmanager
def guarded(debug: bool = False) -> Iterator[None]:
    """Run a command: what it raises becomes one line on stderr and `typer.Exit` with the right code.

    Flushes stdout at the end, so that a full disk or a closed pipe is noticed here and not at interpreter shutdown.
    """
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        give_up(sys.stdout)
        raise typer.Exit(EXIT_CLOSED_PIPE) from None
    except KeyboardInterrupt:
        raise typer.Exit(interrupted_code()) from None
    except FamcliError as error:
        _complain(with_flags(str(error), error.remedy), debug)
        raise typer.Exit(error.exit_code) from None
    except OSError as error:
        if error.errno == errno.ENOSPC or error.filename == STANDARD_OUTPUT:
            give_up(sys.stdout)
        _complain(_describe_os_error(error), debug)
        # With its terminal closed a command cannot print what it has, which is no failure of its own.
        was_closed = error.errno == errno.EIO and _interrupted_by is not None
        raise typer.Exit(interrupted_code() if was_closed else EXIT_FAILED) from None
    except MemoryError as error:
        _complain(f"out of memory: {error or 'no details'}; use a smaller model or --dtype bfloat16", debug)
        raise typer.Exit(EXIT_FAILED) from None
    except ModuleNotFoundError as error:
        _complain(f"the package {error.name} is not installed; reinstall famcli with the extra that brings it", debug)
        raise typer.Exit(EXIT_FAILED) from None
    except Exception as error:
        if type(error).__module__.startswith("typer."):
            # Usage errors and typer.Exit: typer shows them itself. The library that checks values puts its own words
            # first, and what was typed or is a file's name may hold anything.
            if hasattr(error, "format_message"):
                line = harmless(error.format_message().replace("Value error, ", ""))
                error.format_message = lambda: line
            raise
        _complain(f"this is a bug: {type(error).__name__}: {error}; `famcli --debug ...` shows where", debug)
        raise typer.Exit(EXIT_FAILED) from None
    except BaseException as error:
        # A panic of a library written in Rust is no Exception.
        if type(error).__name__ != "PanicException":
            raise
        _complain(f"a library that famcli uses has failed: {error}; the input file may be damaged or malicious", debug)
        raise typer.Exit(EXIT_FAILED) from None


def with_flags(message: str, remedy: Remedy) -> str:
    """The message, and the flags that set what its remedy names: `... (--dtype float32)`."""
    flags = [f"--{name.replace('_', '-')} {value}".rstrip() for name, value in remedy.items()]
    return f"{message} ({' or '.join(flags)})" if flags else message


def tell_at_end(line: str) -> None:
    """What a signal that ends the process at once says on stderr from now on; "" for nothing."""
    global _told_at_end
    _told_at_end = line


def interrupts_end_at_once() -> None:
    """Let Ctrl-C and SIGTERM end the process while it starts or ends, when nothing would be lost: silently, unless
    `tell_at_end` has something to say.

    A KeyboardInterrupt inside the C++ that runs while torch is imported would abort it with a message of its own.
    """
    for signum, usual in INTERRUPTS.items():
        # Anything else is a caller's: a shell lets its background jobs ignore Ctrl-C.
        if signal.getsignal(signum) in (usual, _raise):
            signal.signal(signum, _end)


def interrupts_raise() -> None:
    """Let Ctrl-C, and the other signals like it, raise KeyboardInterrupt, after `interrupts_end_at_once`."""
    for signum in INTERRUPTS:
        if signal.getsignal(signum) == _end:
            signal.signal(signum, _raise)


def interrupted_code() -> int:
    """The exit code of what was interrupted: 130 by Ctrl-C, 143 by SIGTERM, 129 where the terminal was closed."""
    return 128 + (_interrupted_by or signal.SIGINT)


def was_interrupted() -> bool:
    """Whether any signal came that interrupts."""
    return _interrupted_by is not None


def end_at_once(code: int) -> NoReturn:
    """End the process with this code, without what the interpreter does at its end.

    It may have noted a KeyboardInterrupt in code that was executed from a string, as `dataclasses` does it, and would
    end as if by Ctrl-C, whatever the signal was. And gloo's threads, which free tensors of Python, abort a process
    whose interpreter ends before they do.
    """
    from famcli.documents.locking import release_all

    release_all()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def was_terminated() -> bool:
    """Whether a signal came that, unlike Ctrl-C, asks for the end of what is interactive too."""
    return _interrupted_by not in (None, signal.SIGINT)


def remember_interrupt(signum: int) -> None:
    """Take note of the signal that came, for `interrupted_code`."""
    global _interrupted_by
    _interrupted_by = signum


@contextmanager
def interrupts_wait() -> Iterator[None]:
    """In the `with` no signal interrupts: for what is done because of one already, and must be done, such as saving."""
    global _must_wait
    _must_wait = True
    try:
        yield
    finally:
        _must_wait = False


def _raise(signum: int, frame: FrameType | None) -> None:
    if not _must_wait:
        remember_interrupt(signum)
        interrupt()


def _end(signum: int, frame: FrameType | None) -> None:
    with suppress(OSError):
        if os.isatty(2):
            # A progress bar may be there, and hides the cursor.
            os.write(2, b"\r\x1b[K\x1b[?25h")
        if _told_at_end:
            os.write(2, f"famcli: {_told_at_end}\n".encode())
    os._exit(128 + signum)


def _complain(message: str, debug: bool) -> None:
    if debug:
        with suppress(OSError):
            sys.stderr.write(harmless(traceback.format_exc()))
    say(message)


def _describe_os_error(error: OSError) -> str:
    reason = (error.strerror or str(error)).lower()
    where = f"{error.filename}: " if error.filename else ""
    advice = "; free some space or write elsewhere" if error.errno == errno.ENOSPC else ""
    if error.filename == STANDARD_OUTPUT:
        return f"{STANDARD_OUTPUT} cannot be written: {reason}; what was done until then stays{advice}"
    return f"{where}{reason}{advice}"


class _Closed(io.StringIO):
    """Standard output, where there is none."""

    def write(self, text: str) -> int:
        raise OSError(errno.EBADF, "it is closed", STANDARD_OUTPUT)


def mend_streams() -> None:
    """Make the three standard streams fit for use.

    A closed one becomes the null device: otherwise the next file that is opened would get its number, and
    receive what is printed.
    Printing to a closed standard output, where a result would be lost, is an error.
    What standard output cannot hold in its encoding is written as escapes, as Python does on standard error; bytes of
    standard input that are no text become U+FFFD. Documents are read from its bytes, and do not mind.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            null = open(os.open(os.devnull, os.O_RDWR), mode, encoding="utf-8", closefd=False)  # noqa: SIM115
            setattr(sys, name, _Closed() if name == "stdout" else null)
    for stream, errors in ((sys.stdin, "replace"), (sys.stdout, "backslashreplace"), (sys.stderr, "backslashreplace")):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=errors)
