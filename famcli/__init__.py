"""Read documents of any length in constant memory.

The Python API: `open_model`, `Reader`, `summarize`, `ask`, `perplexity`. Names resolve when they are first used, so
that importing famcli loads neither torch nor anything else that is slow.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from famcli.checkpoint.open import open_model
    from famcli.reading.reader import Reader
    from famcli.tasks.ask.ask import ask
    from famcli.tasks.perplexity.perplexity import perplexity
    from famcli.tasks.summarize.summarize import summarize

_MODULES = {
    "open_model": "famcli.checkpoint.open",
    "Reader": "famcli.reading.reader",
    "summarize": "famcli.tasks.summarize.summarize",
    "ask": "famcli.tasks.ask.ask",
    "perplexity": "famcli.tasks.perplexity.perplexity",
}

__all__ = ["Reader", "ask", "open_model", "perplexity", "summarize"]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'famcli' has no attribute '{name}'")
    value = globals()[name] = getattr(import_module(_MODULES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
