"""What `generation_config.json` says of writing."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch

from famcli.checkpoint.model import read_end_ids
from famcli.checkpoint.open import open_model
from famcli.errors import CheckpointError, UsageError
from famcli.reading import generating
from famcli.reading.generating import (
    GenerationConfig,
    GenerationEnd,
    draw,
    generate,
    generate_together,
    is_looping,
    with_sampling,
)
from famcli.tokens.tokenizer import ByteTokenizer
from tests.helpers import write_json


class EndingTokenizer(ByteTokenizer):
    """Byte 7 ends a text."""

    eos_id: int | None = 7


def test_ends_are_the_tokenizers_and_those_that_are_named(tmp_path: Path) -> None:
    assert read_end_ids(tmp_path, ByteTokenizer()) == frozenset()
    assert read_end_ids(tmp_path, EndingTokenizer()) == {7}
    for named in (3, [3, 5]):
        write_json(tmp_path / "generation_config.json", {"eos_token_id": named, "temperature": "not used"})
        assert read_end_ids(tmp_path, ByteTokenizer()) == {3, 5} - ({5} if named == 3 else set())
    assert read_end_ids(tmp_path, EndingTokenizer()) == {3, 5, 7}


@pytest.mark.parametrize("value", ["</s>", [True], -1, [1.5], {"a": 1}])
def test_ends_must_be_ids(value: object, tmp_path: Path) -> None:
    write_json(tmp_path / "generation_config.json", {"eos_token_id": value})
    with pytest.raises(CheckpointError, match="eos_token_id"):
        read_end_ids(tmp_path, ByteTokenizer())


def test_writing_ends_at_any_of_the_ends(checkpoint: Path) -> None:
    model = open_model(checkpoint)
    prompt, settings = model.tokenizer.encode("abc"), GenerationConfig(max_tokens=8)
    *_, end = generate(model, model.network.start(), prompt, settings)
    assert isinstance(end, GenerationEnd)
    assert end.reason == "length"
    write_json(checkpoint / "generation_config.json", {"eos_token_id": [250, end.tokens[2]]})
    model = open_model(checkpoint)
    *_, ended = generate(model, model.network.start(), prompt, settings)
    assert isinstance(ended, GenerationEnd)
    assert (ended.reason, ended.tokens) == ("end", end.tokens[:2])


def test_the_configuration_names_ends_too(tmp_path: Path) -> None:
    write_json(tmp_path / "config.json", {"eos_token_id": 9})
    write_json(tmp_path / "generation_config.json", {"eos_token_id": 3})
    assert read_end_ids(tmp_path, EndingTokenizer()) == {3, 7, 9}


def test_a_loop_ends_what_is_written(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not is_looping(list(range(60)))
    assert not is_looping([*range(40), *range(11), *range(11)])  # 22 tokens said twice may be a refrain
    assert is_looping([*range(40), *range(12), *range(12)])
    assert is_looping([7, *[1, 2] * 12])
    model = open_model(checkpoint)
    said = itertools.cycle(b"so it was. ")
    monkeypatch.setattr(generating, "_next_token", lambda *arguments: next(said))
    prompt = model.tokenizer.encode("abc")
    *_, end = generate(model, model.network.start(), prompt, GenerationConfig(max_tokens=60))
    assert isinstance(end, GenerationEnd)
    assert (end.reason, len(end.tokens)) == ("loop", 24)


def test_what_is_written_side_by_side_is_what_is_written_alone(checkpoint: Path) -> None:
    model = open_model(checkpoint, dtype="float32")
    states = []
    for text in ("a" * 16, "some text here, "):  # a block each
        ids = torch.tensor([model.tokenizer.encode(text)])
        with torch.inference_mode():
            states.append(model.network.read(ids, model.network.start())[1])
    prompt, config = model.tokenizer.encode("Q:"), GenerationConfig(max_tokens=40)
    for state, found in zip(states, generate_together(model, states, prompt, config), strict=True):
        *_, alone = generate(model, state, prompt, config)
        assert isinstance(alone, GenerationEnd)
        assert found == (alone.text, alone.tokens, alone.reason)


def test_tokens_are_drawn_as_it_is_asked(checkpoint: Path) -> None:
    write_json(checkpoint / "generation_config.json", {"temperature": 0.6, "top_k": 20, "top_p": 0.95})
    model = open_model(checkpoint)
    assert with_sampling(model, GenerationConfig(), {}) == GenerationConfig()
    config = with_sampling(model, GenerationConfig(), {"temperature": 1.0, "top_k": 5})
    assert (config.temperature, config.top_k, config.top_p) == (1.0, 5, 0.95)
    with pytest.raises(UsageError, match="seed needs a temperature above 0"):
        with_sampling(model, GenerationConfig(), {"seed": 1})
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
    for settings, expected in (
        ({}, {0, 1, 2, 3}),
        ({"top_k": 2}, {0, 1}),
        ({"top_p": 0.79}, {0, 1}),
        ({"top_p": 0.81}, {0, 1, 2}),
        ({"min_p": 0.5}, {0, 1}),
    ):
        drawing, generator = GenerationConfig(temperature=1.0, **settings), torch.Generator().manual_seed(0)  # type: ignore[arg-type]
        assert {draw(logits, drawing, generator) for _ in range(400)} == expected
