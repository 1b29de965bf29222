"""What `generation_config.json` says of writing."""

from __future__ import annotations

from pathlib import Path

import pytest

from famcli.checkpoint.model import read_end_ids
from famcli.checkpoint.open import open_model
from famcli.errors import CheckpointError
from famcli.reading.generating import GenerationConfig, GenerationEnd, generate
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
