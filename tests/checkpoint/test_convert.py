"""A GGUF file as a folder: for other runtimes, for merging, and to be adapted."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from famcli.checkpoint.convert import merge_gguf, save_quantized, save_unpacked
from famcli.checkpoint.open import open_model
from famcli.tokens import open_tokenizer
from tests.checkpoint.gguf_files import KINDS, write_gguf
from tests.checkpoint.test_gguf import SIZE, logits
from tests.helpers import TINY_CONFIG, make_random_checkpoint, read_json

# peft calls what transformers is about to drop.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

# A vocabulary of bytes as GPT-2 spells them, two merges, and two control tokens.
_BYTES = [chr(code) for code in (*range(33, 127), *range(161, 173), *range(174, 256), *range(256, 324))]
TOKENS = ["<|begin|>", "<|end|>", *_BYTES, "th", "the"]


def byte_level(**more: object) -> dict[str, object]:
    tokens = TOKENS + [f"<unused{number}>" for number in range(SIZE - len(TOKENS))]
    types = [3, 3, *[1] * (len(TOKENS) - 2), *[5] * (SIZE - len(TOKENS))]
    return {
        "model": "gpt2",
        "pre": "smollm",
        "tokens": tokens,
        "token_type": types,
        "merges": ["t h", "th e"],
        "bos_token_id": 0,
        "eos_token_id": 1,
        **more,
    }


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    config = replace(TINY_CONFIG, vocab_size=SIZE, intermediate_size=64)
    return make_random_checkpoint(tmp_path / "llama", config=config, fam=None)


@pytest.mark.parametrize(
    ("matrices", "dtype"), [(KINDS.F32, "float32"), (KINDS.F16, "float16"), (KINDS.Q8_0, "bfloat16")]
)
def test_a_file_becomes_a_folder_that_others_open(matrices: object, dtype: str, llama: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path = write_gguf(llama, tmp_path / "one.gguf", matrices=matrices, tokenizer=byte_level())  # type: ignore[arg-type]
    made = save_unpacked(path, tmp_path / "made")
    assert read_json(made / "config.json")["torch_dtype"] == dtype
    ours, theirs = logits(path), logits(made)
    assert (ours - theirs).abs().max() < (1e-5 if dtype == "float32" else 0.3)
    ids = torch.randint(3, 250, (1, 12), generator=torch.Generator().manual_seed(1))
    network = AutoModelForCausalLM.from_pretrained(made, dtype=torch.float32)
    with torch.inference_mode():
        assert (network(ids).logits - logits(made, ids)).abs().max() < 1e-3
    tokenizer = AutoTokenizer.from_pretrained(made)
    text = "the weather <|end|>?"
    assert tokenizer("the weather 12")["input_ids"] == open_tokenizer(made).encode("the weather 12")
    assert 1 not in open_tokenizer(made).encode(text)
    assert read_json(made / "generation_config.json")["eos_token_id"] == [1]
    assert open_model(made).end_ids == open_model(path).end_ids == {1}


@pytest.mark.parametrize("adds", [True, False])
def test_its_tokenizer_opens_with_the_library_and_begins_a_text_as_the_file_says(
    adds: bool, llama: Path, tmp_path: Path
) -> None:
    import tokenizers

    path = write_gguf(llama, tmp_path / "one.gguf", tokenizer=byte_level(add_bos_token=adds))
    made = save_quantized(path, tmp_path / "made")
    theirs = tokenizers.Tokenizer.from_file(str(made / "tokenizer.json"))
    ours = open_tokenizer(made)
    begins = [0] if adds else []
    assert ours.bos_id == open_tokenizer(path).bos_id == (0 if adds else None)
    assert theirs.encode("the 9 weathers").ids == begins + ours.encode("the 9 weathers")
    assert json.loads((made / "tokenizer_config.json").read_text())["bos_token"] == "<|begin|>"


def test_an_adapter_is_merged_into_the_folder_made_of_a_file(llama: Path, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    path = write_gguf(llama, tmp_path / "one.gguf", tokenizer=byte_level())
    base = save_unpacked(path, tmp_path / "base")
    torch.manual_seed(0)
    adapted = get_peft_model(
        AutoModelForCausalLM.from_pretrained(base), LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)
    )
    adapted.save_pretrained(tmp_path / "adapter")
    made = tmp_path / "merged"
    merge_gguf(path, tmp_path / "adapter", made, "one")
    ids = torch.randint(3, 250, (1, 12), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        assert (adapted(ids).logits - logits(made, ids)).abs().max() < 1e-3
    assert sorted(each.name for each in tmp_path.iterdir() if each.name.startswith(".")) == []
