"""A decoder that follows instructions, just enabled and never adapted, on a text far longer than what it can see."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import Result

from tests.cli.conftest import Run
from tests.helpers import change_json, make_random_checkpoint, read_json

TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
VISIBLE = 512


@pytest.fixture
def instruct(tmp_path: Path) -> Path:
    """A SmolLM3 with a chat template, one layer of which has a sliding window: as fetched, without fam.json."""
    folder = make_random_checkpoint(tmp_path / "instruct", fam=None)
    local = {"use_sliding_window": True, "sliding_window": 100, "no_rope_layers": [1, 0]}
    change_json(folder / "config.json", model_type="smollm3", max_position_embeddings=VISIBLE, **local)
    (folder / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
    return folder


def _succeeded(result: Result) -> Result:
    assert result.exit_code == 0, result.stderr
    return result


def test_enable_says_what_it_chose_and_why(instruct: Path, run: Run) -> None:
    lines = _succeeded(run("enable", instruct)).stderr.splitlines()
    for expected in (
        "block_size 128 was chosen: the decoder was trained on 512 tokens",
        "memory_segments 3 was chosen: with the block that is read 512 tokens are visible",
        "sink_tokens 4 was chosen: a decoder that was never adapted must see the first tokens",
        "1 of 2 layers keep their sliding window of 100 tokens, without sinks",
        "summaries will be written: the checkpoint has a chat template",
    ):
        assert any(expected in line for line in lines), expected
    chosen = read_json(instruct / "fam.json")
    assert (chosen["memory_trained"], chosen["tasks"]) == (False, {"summarize": "write", "ask": "write"})


def test_it_summarizes_and_answers_on_the_whole_text(instruct: Path, story: Path, run: Run) -> None:
    _succeeded(run("enable", instruct))
    size = story.stat().st_size
    assert size > 8 * VISIBLE  # of bytes, which are this checkpoint's tokens

    result = _succeeded(run("summarize", story, "--model", instruct, "--length", "20w", "--json"))
    summary = json.loads(result.stdout)
    # A random network writes nothing that the text bears out.
    assert (summary["mode"], summary["memory_mode"], summary["partial"]) == ("extract", "none", False)
    assert summary["read"]["bytes"] == size
    assert any("is borne out by the text, so sentences of it are quoted instead" in one for one in summary["warnings"])

    question = "Where did the keeper Ottilie hide the treasure map?"
    result = _succeeded(run("ask", question, "--file", story, "--model", instruct, "--json"))
    answers = json.loads(result.stdout)
    assert answers["read"]["bytes"] == size
    [answer] = answers["answers"]
    source = story.read_bytes()
    quotes = [source[slice(*citation["span"])].decode() for citation in answer["citations"]]
    assert any("Ottilie hid the treasure map under a red stone" in quote for quote in quotes)
