"""docs/output.md names every key that is printed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "output.md").read_text(encoding="utf-8")


def keys_of(value: Any) -> set[str]:
    if isinstance(value, dict):
        return set(value).union(*(keys_of(item) for item in value.values()))
    if isinstance(value, list):
        return set().union(*(keys_of(item) for item in value))
    return set()


@pytest.mark.parametrize(
    "arguments",
    [
        ["summarize", "--each", "--json"],
        ["summarize", "--jsonl"],
        ["ask", "Where did Ottilie hide the treasure map?", "--json"],
        ["ask", "Where did Ottilie hide the treasure map?", "--jsonl"],
        ["ppl", "--memory-mode", "compare", "--json"],
        ["ppl", "--alert", "1", "--jsonl"],
        ["read", "--save", "story.fam", "--json"],
        ["read", "--save", "story.fam", "--jsonl"],
    ],
    ids=lambda arguments: arguments[0] + arguments[-1],
)
def test_every_key_is_documented(
    run, tiny: Path, story: Path, tmp_path: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source = ["--file", story] if arguments[0] == "ask" else [story]
    result = run(*arguments, *source, "--model", tiny, "--progress", "json")
    assert result.exit_code == 0, result.stderr
    keys = set().union(*(keys_of(json.loads(line)) for line in result.stdout.splitlines()))
    keys |= set().union(*(keys_of(json.loads(line)) for line in result.stderr.splitlines() if line.startswith("{")))
    assert {key for key in keys if f"`{key}`" not in PAGE and f'"{key}"' not in PAGE} == set()
