"""What `--json` prints is what docs/schemas/ says, no key more and none less."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

SCHEMAS = Path(__file__).parents[2] / "docs" / "schemas"
MAP = "Where did Ottilie hide the treasure map?"


def validator(name: str) -> jsonschema.Draft202012Validator:
    schema: dict[str, Any] = json.loads((SCHEMAS / f"{name}.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize(
    "options",
    [[], ["--extractive"], ["--write", "--answer-tokens", 4], ["--threshold", 1], ["--each"], ["--question-first"]],
)
def test_ask(options: list[object], run, tiny: Path, story: Path, tmp_path: Path) -> None:
    arguments = ["ask", MAP, "-q", "Who knows the zebra?", "-f", story, "-m", tiny, "--json", *options]
    for _ in range(2):  # read, then from the earlier reading
        validator("ask").validate(json.loads(run(*arguments).stdout))


def test_ask_of_pages_pipes_and_memory_files(run, tiny: Path, story: Path, tmp_path: Path) -> None:
    check, saved = validator("ask"), tmp_path / "story.fam"
    story.write_text(story.read_text().replace("\n\nElsa", "\n\n\f\n\nElsa"), encoding="utf-8")
    paged = json.loads(run("ask", MAP, "-f", story, "-m", tiny, "--json").stdout)
    assert paged["answers"][0]["citations"][0]["page"] > 1
    check.validate(paged)
    check.validate(json.loads(run("ask", MAP, "-m", tiny, "--json", input=story.read_bytes()).stdout))
    run("read", story, "--save", saved, "-m", tiny)
    check.validate(json.loads(run("ask", MAP, "--load", saved, "-m", tiny, "--json").stdout))


def test_what_is_missing_or_too_much_is_refused(run, tiny: Path, story: Path) -> None:
    values = json.loads(run("ask", MAP, "-f", story, "-m", tiny, "--json").stdout)
    check = validator("ask")
    assert check.is_valid(values)
    assert not check.is_valid(values | {"extra": 1})
    values["answers"][0]["citations"][0].pop("verified")
    assert not check.is_valid(values)
