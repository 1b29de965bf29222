"""What `generation_config.json` says of writing."""

from __future__ import annotations

from pathlib import Path

import pytest

from famcli.checkpoint.model import GenerationDefaults, read_generation
from famcli.checkpoint.open import open_model
from famcli.errors import CheckpointError
from famcli.reading.generating import GenerationConfig, GenerationEnd, default_config, generate
from famcli.tokens.tokenizer import ByteTokenizer
from tests.helpers import write_json


def test_sampling_is_taken_only_where_it_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "generation_config.json"
    assert read_generation(tmp_path, ByteTokenizer()) == GenerationDefaults()
    settings = {"temperature": 0.7, "top_p": 0.8, "top_k": 20, "eos_token_id": [3, 5], "repetition_penalty": 1.1}
    write_json(path, settings)
    found = read_generation(tmp_path, ByteTokenizer())
    assert found == GenerationDefaults(end_ids=(3, 5), repetition_penalty=1.1)
    write_json(path, settings | {"do_sample": True})
    found = read_generation(tmp_path, ByteTokenizer())
    assert found == GenerationDefaults((3, 5), 0.7, 20, 0.8, 0.0, 1.1)


@pytest.mark.parametrize("value", ["</s>", [True], -1, [1.5], {"a": 1}])
def test_ends_must_be_ids(value: object, tmp_path: Path) -> None:
    write_json(tmp_path / "generation_config.json", {"eos_token_id": value})
    with pytest.raises(CheckpointError, match="eos_token_id"):
        read_generation(tmp_path, ByteTokenizer())


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
    assert default_config(model, 5) == GenerationConfig(max_tokens=5)
