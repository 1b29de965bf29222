"""Standard input, output and error, whatever a command was started with."""

from __future__ import annotations

import io
import os
import sys


def mend_streams() -> None:
    """Make the three standard streams fit for use.

    A closed one becomes the null device: else the next file that is opened would get its number, and what is printed.
    What standard output cannot hold in its encoding is written as escapes, as Python does on standard error; bytes of
    standard input that are no text become U+FFFD. Documents are read from its bytes, and do not mind.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
    for stream, errors in ((sys.stdin, "replace"), (sys.stdout, "backslashreplace"), (sys.stderr, "backslashreplace")):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=errors)
