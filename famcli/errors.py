"""What a user can cause, as exceptions.

Each message is one line that says what went wrong, where, and what to do. Whatever is not a FamcliError is a bug.
"""

from __future__ import annotations

from collections.abc import Mapping

Remedy = Mapping[str, str]
"""Settings that would help, by their names in the library, with their values ("" for a switch). The command line turns
them into flags: `{"dtype": "float32"}` is shown as `--dtype float32`."""


_LONGEST = 1500  # characters of a message


class FamcliError(ValueError):
    """Base of all errors a user can cause; the command line prints it as one line and exits with `exit_code`.

    The message speaks in the library's words and names no flag; `remedy` names the settings that would help.
    """

    exit_code = 1

    def __init__(self, message: str = "", *, remedy: Remedy | None = None) -> None:
        if len(message) > _LONGEST:
            # What a damaged or hostile file says of itself; what to do stands at the end.
            message = f"{message[: _LONGEST // 2]} ... {message[-_LONGEST // 2 :]}"
        super().__init__(message)
        self.remedy: Remedy = remedy or {}


class UsageError(FamcliError):
    """Options that make no sense together, or have no meaning for this input."""

    exit_code = 2


class DocumentError(FamcliError):
    """A document that is missing, unreadable, or not text."""


class TokenizerError(FamcliError):
    """A tokenizer that is missing, broken, or needs a package that is not installed."""


class CheckpointError(FamcliError):
    """A checkpoint folder whose files are missing, malformed, or do not fit together."""


class MemoryFileError(FamcliError):
    """A memory file that is damaged, or belongs to another model or another text."""


class BusyError(FamcliError):
    """A file or folder that another process is writing. holder: which, in words."""

    def __init__(self, target: object, holder: str) -> None:
        super().__init__(f"{target} is being written by {holder}: wait until it is done, or name another place")
        self.holder = holder


class RecipeError(FamcliError):
    """A training recipe with an unknown key, a bad value, or data that is not there."""
