"""Render a chat template: a stranger's program, run in jinja2's sandbox and in a process of its own.

The sandbox keeps it from reaching anything else; the limits that this process sets on itself keep it from running for
ever and from filling memory or disk. The parent (chat_template.py) writes one JSON object to stdin and
reads one from stdout.
Nothing of famcli is imported here.
"""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from datetime import datetime
from typing import Any, NoReturn

from jinja2 import Environment, TemplateError, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

_MAX_REASON = 1000


class Generation(Extension):
    """`{% generation %}` marks what the assistant wrote, for training: here only its content counts."""

    tags = {"generation"}  # noqa: RUF012  (jinja2's own declaration)

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line)


def sandbox() -> Environment:
    """The sandbox, with the functions that transformers gives templates (its `apply_chat_template`)."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, "jinja2.ext.loopcontrols"]
    )
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = _now
    environment.filters["tojson"] = _to_json
    return environment


def _refuse(message: str) -> NoReturn:
    raise TemplateError(message)


def _now(form: str) -> str:
    return datetime.now().strftime(form)


def _to_json(value: object, **options: Any) -> str:
    return json.dumps(value, **({"ensure_ascii": False} | options))


def _limit(seconds: int, num_bytes: int) -> None:
    """Limit this process, where the system can: processor time, memory, and no files at all."""
    try:
        import resource
    except ImportError:
        # Windows has no such limits: there the parent's clock ends an endless template.
        return
    limits = {"RLIMIT_CPU": seconds, "RLIMIT_AS": num_bytes, "RLIMIT_FSIZE": 0, "RLIMIT_CORE": 0}
    for name, limit in limits.items():
        # A lower limit may be set already.
        with suppress(OSError, ValueError):
            resource.setrlimit(getattr(resource, name), (limit, limit))


def main() -> None:
    """Answer the request on stdin with {"text": ...} or {"error": ...}."""
    order = json.load(sys.stdin)
    _limit(order["seconds"], order["bytes"])
    try:
        text = sandbox().from_string(order["source"]).render(order["values"])
        answer = {"text": text} if len(text) <= order["chars"] else {"error": f"it writes {len(text):,} characters"}
    except MemoryError:
        answer = {"error": f"it takes more than {order['bytes'] >> 20} MiB of memory"}
    except Exception as error:
        # A stranger's program can raise anything.
        answer = {"error": str(error)[:_MAX_REASON] or type(error).__name__}
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
