"""Standard input, output and error, whatever a command was started with."""

from __future__ import annotations

import errno
import io
import os
import sys

from famcli.cli.render import STANDARD_OUTPUT


class _Closed(io.StringIO):
    """Standard output, where there is none."""

    def write(self, text: str) -> int:
        """Raises OSError."""
        raise OSError(errno.EBADF, "it is closed", STANDARD_OUTPUT)


def mend_streams() -> None:
    """Make the three standard streams fit for use.

    A closed one becomes the null device: else the next file that is opened would get its number, and what is printed.
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
