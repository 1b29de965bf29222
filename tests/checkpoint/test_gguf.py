"""GGUF files open as the folders they were made of, tokenizer included, whatever they are stored in."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt
import pytest
import torch

from famcli.checkpoint.enable import enable
from famcli.checkpoint.gguf import GGUF_TYPES, GgufTensors, config_values
from famcli.checkpoint.inspect import inspect_checkpoint
from famcli.checkpoint.open import open_model
from famcli.errors import CheckpointError, FamcliError
from famcli.nn.kernels import native
from famcli.nn.kernels.few_bits import Grouped
from famcli.tokens import encode_text, open_tokenizer
from famcli.tokens.gguf_file import read_gguf
from tests.checkpoint.gguf_files import KINDS, byte_tokenizer, scalar_q4_k, scalar_q6_k, split_gguf, write_gguf
from tests.helpers import TINY_CONFIG, make_random_checkpoint

SIZE = 300
TOKENS = torch.randint(3, 259, (1, 16), generator=torch.Generator().manual_seed(1))


def logits(path: Path, tokens: torch.Tensor = TOKENS) -> torch.Tensor:
    """Of the network in a folder or a file, without memory, block by block."""
    network = open_model(path, dtype="float32").network
    with torch.inference_mode():
        hidden, _ = network.read(tokens, network.start(memory_mode="none"))
        return network.logits(hidden)


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    return make_random_checkpoint(
        tmp_path / "llama", config=replace(TINY_CONFIG, vocab_size=SIZE, intermediate_size=64), fam=None
    )


def random_family(folder: Path, model_type: str, **config: Any) -> Path:
    """A random checkpoint of a family, by transformers; its weights are large enough to say something."""
    from transformers import AutoConfig, AutoModelForCausalLM

    sizes = {
        "vocab_size": SIZE,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 256,
        "pad_token_id": None,
    }
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **(sizes | config)))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape) * 0.2)
    model.save_pretrained(folder)
    from famcli.tokens.tokenizer import ByteTokenizer

    ByteTokenizer().save(folder)
    return folder


@pytest.mark.parametrize(
    ("matrices", "error"),
    [
        (KINDS.F32, 1e-5),
        (KINDS.BF16, 0.03),
        (KINDS.F16, 0.01),
        (KINDS.Q8_0, 0.05),
        (KINDS.Q5_1, 0.3),
        (KINDS.Q4_0, 0.6),
    ],
)
def test_a_file_gives_the_logits_of_its_folder(
    llama: Path, tmp_path: Path, matrices: gguf.GGMLQuantizationType, error: float
) -> None:
    path = write_gguf(llama, tmp_path / "llama.gguf", matrices=matrices)
    enable(llama)
    enable(path)
    expected, found = logits(llama), logits(path)
    assert (found - expected).norm() <= error * expected.norm()
    assert (tmp_path / "llama.fam.json").exists()
    assert (tmp_path / "llama.fam.safetensors").exists()


FAMILIES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "qwen2": ("qwen2", {}, {}),
    "qwen3": ("qwen3", {}, {}),
    "olmo2": ("olmo2", {}, {}),
    "gemma": ("gemma", {}, {}),
    "phi3": ("phi3", {}, {"rope.dimension_count": 8}),
    "gemma2": (
        "gemma2",
        {"query_pre_attn_scalar": 8, "sliding_window": 8},
        {"attention.sliding_window": 8, "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0},
    ),
    "gemma3": ("gemma3_text", {"query_pre_attn_scalar": 8, "sliding_window": 8}, {"attention.sliding_window": 8}),
    "granite": (
        "granite",
        {"embedding_multiplier": 2.0, "residual_multiplier": 0.5, "attention_multiplier": 0.3, "logits_scaling": 2.0},
        {"embedding_scale": 2.0, "residual_scale": 0.5, "attention.scale": 0.3, "logit_scale": 2.0},
    ),
}


@pytest.mark.parametrize("architecture", FAMILIES)
def test_families(architecture: str, tmp_path: Path) -> None:
    model_type, config, values = FAMILIES[architecture]
    folder = random_family(tmp_path / "folder", model_type, **config)
    path = write_gguf(folder, tmp_path / "one.gguf", architecture, values=values)
    enable(folder)
    enable(path)
    expected, found = logits(folder), logits(path)
    assert (found - expected).norm() <= 1e-5 * expected.norm()


def test_llama_3_scaling_comes_from_its_factors(llama: Path, tmp_path: Path) -> None:
    config = json.loads((llama / "config.json").read_text())
    config["rope_scaling"] = {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 16,
    }
    (llama / "config.json").write_text(json.dumps(config))
    from famcli.checkpoint.families.pretrained import read_config
    from famcli.nn.rope_scaling import inverse_frequencies

    rope = read_config(llama).decoder.rope
    plain = inverse_frequencies(replace(rope, scaling=None), 8, 32)[0]
    factors = plain / inverse_frequencies(rope, 8, 32)[0]
    assert factors.max() > 2
    from safetensors.torch import load_file

    weights = load_file(llama / "model.safetensors") | {"rope_freqs.weight": torch.tensor(factors)}
    path = write_gguf(llama, tmp_path / "llama.gguf", weights=weights)
    enable(llama)
    enable(path)
    torch.testing.assert_close(logits(path), logits(llama), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("kind", "scalar"), [(KINDS.Q4_K, scalar_q4_k), (KINDS.Q6_K, scalar_q6_k)])
def test_k_quants(kind: gguf.GGMLQuantizationType, scalar: Any, tmp_path: Path) -> None:
    size = gguf.GGML_QUANT_SIZES[kind][1]
    blocks = np.random.default_rng(0).integers(0, 256, (2, size), dtype=np.uint8)
    halves = slice(0, 4) if kind is KINDS.Q4_K else slice(208, 210)
    blocks[:, halves] = np.array([[0.5] * (2 if kind is KINDS.Q4_K else 1)] * 2, dtype="<f2").view(np.uint8)
    writer = gguf.GGUFWriter(tmp_path / "k.gguf", "qwen2")
    writer.add_tensor("token_embd.weight", blocks, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    found = GgufTensors(tmp_path / "k.gguf").get_tensor("model.embed_tokens.weight")
    assert found.shape == (2, 256)
    for row, block in zip(found.tolist(), blocks, strict=True):
        assert row == pytest.approx(scalar(block.tobytes()))


BLOCKS = {number: kind for number, kind in GGUF_TYPES.items() if kind[2] > 1}


@pytest.mark.parametrize("number", BLOCKS, ids=[name for name, _, _ in BLOCKS.values()])
def test_every_kind_of_block_is_read_as_the_package_does(number: int, tmp_path: Path) -> None:
    name, size, count = BLOCKS[number]
    kind = KINDS(number)
    assert (kind.name, gguf.GGML_QUANT_SIZES[kind]) == (name, (count, size))
    rows = np.random.default_rng(number).integers(0, 256, (3, 256 // count * size), dtype=np.uint8)
    writer = gguf.GGUFWriter(tmp_path / "one.gguf", "qwen2")
    writer.add_tensor("token_embd.weight", rows, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    tensors = GgufTensors(tmp_path / "one.gguf")
    with np.errstate(all="ignore"):
        expected = gguf.dequantize(rows, kind)
        np.testing.assert_array_equal(tensors.get_tensor("model.embed_tokens.weight"), expected)
        np.testing.assert_array_equal(tensors.get_rows("model.embed_tokens.weight", slice(1, 3)), expected[1:3])
        make = tensors.few_bits("model.embed_tokens.weight")
        assert (make is not None) == (name in ("Q4_0", "Q4_1", "Q4_K", "Q5_0", "Q5_1", "Q5_K", "Q6_K", "Q8_0"))
        if make is not None:
            np.testing.assert_array_equal(value_of(make())[np.isfinite(expected)], expected[np.isfinite(expected)])


def value_of(matrix: Grouped) -> npt.NDArray[np.float32]:
    groups = matrix.numbers.view(*matrix.scale.shape, -1).float()
    if matrix.smallest is None:
        values = (groups - 128) * matrix.scale[..., None]
    else:
        values = groups * matrix.scale[..., None] + matrix.smallest[..., None]
    return values.flatten(1).numpy()


@pytest.mark.skipif(native.library() is None, reason="needs a C compiler")
@pytest.mark.parametrize(("kind", "architecture"), [(KINDS.Q4_0, "llama"), (KINDS.Q5_1, "qwen2"), (KINDS.Q8_0, "phi3")])
def test_a_file_writes_by_its_own_bits(kind: gguf.GGMLQuantizationType, architecture: str, tmp_path: Path) -> None:
    """In bfloat16 a network reads by rounded weights, and writes by those of the file."""
    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 2, "head_dim": 32}
    folder = random_family(tmp_path / "folder", architecture, **sizes)
    path = write_gguf(folder, tmp_path / "file.gguf", architecture, matrices=kind)
    exact, network, wide = logits(path), open_model(path, dtype="bfloat16").network, open_model(path, dtype="float32")
    numbers = dict(wide.network.named_parameters())
    with torch.inference_mode():
        for name, weight in network.named_parameters():
            if weight.dim() == 2:
                x = torch.randn(2, weight.shape[1])
                expected = x @ numbers[name].t()
                assert (native.multiply(x, [weight]) - expected).abs().max() < 1e-5 * expected.abs().max()
        written, state = list[torch.Tensor](), network.start(memory_mode="none")
        for token in TOKENS[0]:
            hidden, state = network.write(token.view(1, 1), state)
            written.append(network.logits(hidden))
        hidden, _ = network.read(TOKENS, network.start(memory_mode="none"))
        read = network.logits(hidden).float()
    # What is left are keys, values and the embedding's rows.
    error = [float((made - exact).norm() / exact.norm()) for made in (torch.cat(written, dim=1), read)]
    assert error[0] < 0.006
    assert error[0] < error[1]


def test_inspect_tells_what_a_file_holds(llama: Path, tmp_path: Path) -> None:
    path = write_gguf(llama, tmp_path / "llama.gguf", matrices=KINDS.Q8_0)
    info = inspect_checkpoint(path)
    assert info.family == "llama"
    assert set(info.dtypes) == {"Q8_0", "float32"}
    assert info.files == (("llama.gguf", path.stat().st_size),)
    assert info.weights_bytes < path.stat().st_size


def test_a_sentencepiece_vocabulary_reads_as_its_model(tmp_path: Path, llama: Path) -> None:
    shipped = Path(__file__).parents[2] / "models" / "fam-tiny"
    original = open_tokenizer(shipped)
    import sentencepiece

    model = sentencepiece.SentencePieceProcessor(model_file=str(shipped / "tokenizer.model"))
    kinds = [
        (2 if model.is_unknown(i) else 3 if model.is_control(i) else 6 if model.is_byte(i) else 1)
        for i in range(len(model))
    ]
    for symbol in ("\n", "\t"):
        kinds[model.piece_to_id(symbol)] = 4
    tokenizer = {
        "model": "llama",
        "tokens": [model.id_to_piece(i) for i in range(len(model))],
        "scores": [model.get_score(i) for i in range(len(model))],
        "token_type": kinds,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "add_space_prefix": False,
    }
    found = open_tokenizer(write_gguf(llama, tmp_path / "one.gguf", tokenizer=tokenizer))
    text = "Call me Ishmael.\n\tSome  years ago \u2014 na\u00efve \u65e5\u672c <s>\u2581."
    assert found.encode(text) == original.encode(text)
    assert (found.bos_id, found.eos_id, found.vocab_size) == (original.bos_id, original.eos_id, original.vocab_size)
    assert list(encode_text(found, text).ids) == list(encode_text(original, text).ids)


@pytest.mark.parametrize("way", ["gpt-2", "llama-bpe", "qwen2", "smollm"])
def test_a_byte_level_vocabulary_reads_as_its_json(way: str, tmp_path: Path, llama: Path) -> None:
    import tokenizers as hf

    from famcli.tokens.gguf_file import _SPLITTERS
    from famcli.tokens.huggingface import GPT2

    trained = hf.Tokenizer(hf.models.BPE())
    trained.pre_tokenizer = hf.pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = hf.trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|begin|>", "<|end|>"],
        initial_alphabet=hf.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    words = "It was the best of times, it was the worst of times; she said: wasn't it 1984 or 12345?"
    trained.train_from_iterator([words] * 3, trainer)
    data = json.loads(trained.to_str())
    tokens = sorted(data["model"]["vocab"], key=data["model"]["vocab"].__getitem__)
    tokenizer = {
        "model": "gpt2",
        "pre": way,
        "tokens": tokens,
        "token_type": [3 if token.startswith("<|") else 1 for token in tokens],
        "merges": [" ".join(pair) for pair in data["model"]["merges"]],
        "bos_token_id": 0,
        "eos_token_id": 1,
        "add_bos_token": way != "qwen2",
    }
    found = open_tokenizer(write_gguf(llama, tmp_path / "one.gguf", tokenizer=tokenizer))
    text = "She said: it wasn't 1984!\n\n  The best\ttimes, na\u00efve \u65e5\u672c <|end|>"
    if way == "gpt-2":
        trained.encode_special_tokens = True
        assert found.encode(text) == trained.encode(text).ids
    assert found.decode(found.encode(text)) == text
    assert list(encode_text(found, text).ids) == found.encode(text)
    assert found.eos_id == 1
    assert found.bos_id == (None if way == "qwen2" else 0)
    assert _SPLITTERS["gpt-2"][0]["pattern"]["Regex"] == GPT2
    saved = tmp_path / "saved"
    saved.mkdir()
    found.save(saved)
    assert open_tokenizer(saved).encode(text) == found.encode(text)


@pytest.mark.parametrize(
    ("tokenizer", "words"),
    [
        ({"model": "t5", "tokens": ["a"]}, "kind 't5'"),
        ({"model": "gpt2", "pre": "unheard-of", "tokens": ["a"]}, "unheard-of"),
        ({"model": "llama"}, "no whole tokenizer"),
        ({"model": "llama", "tokens": ["a", "b"]}, "without scores"),
    ],
)
def test_tokenizers_that_cannot_be_read(tokenizer: dict[str, Any], words: str, llama: Path, tmp_path: Path) -> None:
    path = write_gguf(llama, tmp_path / "one.gguf", tokenizer=tokenizer)
    with pytest.raises(FamcliError, match=words):
        open_tokenizer(path)


def test_unknown_kinds_are_named(llama: Path, tmp_path: Path) -> None:
    path = write_gguf(llama, tmp_path / "one.gguf", matrices=KINDS.F16, lie=KINDS.I16)
    with pytest.raises(CheckpointError, match=r"'output\.weight' is stored as ggml's type 25; known are .*Q6_K"):
        inspect_checkpoint(path)
    writer = gguf.GGUFWriter(tmp_path / "two.gguf", "mamba")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with pytest.raises(CheckpointError, match=r"holds 'mamba'.*known: llama"):
        inspect_checkpoint(tmp_path / "two.gguf")


def test_broken_files_are_one_error(llama: Path, tmp_path: Path) -> None:
    """Cut anywhere and bent anywhere in its header, a file is opened or refused, and never anything else."""
    path = write_gguf(llama, tmp_path / "one.gguf")
    content, rng = path.read_bytes(), np.random.default_rng(0)
    header = read_gguf(path).tensors["token_embd.weight"].start
    broken = tmp_path / "broken.gguf"
    for trial in range(150):
        bent = bytearray(content[: rng.integers(0, header)] if trial % 3 == 0 else content)
        for _ in range(rng.integers(1, 4)) if bent else ():
            bent[rng.integers(0, min(header, len(bent)))] = rng.integers(0, 256)
        broken.write_bytes(bent)
        with contextlib.suppress(FamcliError):
            inspect_checkpoint(broken)
    broken.write_bytes(content[:-100])
    with contextlib.suppress(CheckpointError):
        enable(broken)
    with pytest.raises(CheckpointError):
        open_model(broken)


def test_a_tensor_that_no_family_has_is_named(llama: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    weights = load_file(llama / "model.safetensors") | {"blk.0.attn_sinks.weight": torch.zeros(4)}
    path = write_gguf(llama, tmp_path / "one.gguf", weights=weights)
    with pytest.raises(
        CheckpointError, match=r"have 'blk\.0\.attn_sinks\.weight', which the metadata does not ask for"
    ):
        inspect_checkpoint(path)


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("model.layers.1.mlp.up_proj.weight", "blk.1.ffn_up.weight"),
        ("model.layers.0.post_attention_layernorm.weight", "blk.0.ffn_norm.weight"),
        ("model.norm.weight", "output_norm.weight"),
    ],
)
def test_what_is_missing_or_misshapen_is_named_as_the_file_does(
    name: str, own: str, llama: Path, tmp_path: Path
) -> None:
    from safetensors.torch import load_file

    weights = load_file(llama / "model.safetensors")
    wrong = write_gguf(llama, tmp_path / "wrong.gguf", weights=weights | {name: weights[name][:16]})
    with pytest.raises(CheckpointError, match=f"'{own}' is \\[16.*, the configuration asks for"):
        inspect_checkpoint(wrong)
    del weights[name]
    path = write_gguf(llama, tmp_path / "one.gguf", weights=weights)
    for look in (inspect_checkpoint, open_model):
        with pytest.raises(CheckpointError, match=f"one.gguf: the weights lack '{own}', which the metadata asks for"):
            look(path)


def test_the_names_of_bytes_are_bytes(llama: Path, tmp_path: Path) -> None:
    tokenizer = open_tokenizer(write_gguf(llama, tmp_path / "one.gguf", tokenizer=byte_tokenizer(SIZE)))
    ids = tokenizer.encode("h\u00e9")
    assert [tokenizer.token_bytes(token) for token in ids] == [b"h", b"\xc3", b"\xa9"]


def test_a_file_is_known_by_its_content_and_in_parts(llama: Path, tmp_path: Path) -> None:
    path = write_gguf(llama, tmp_path / "one.gguf")
    expected = logits(path)
    for name in ("two.GGUF", "without-a-suffix"):
        (tmp_path / name).write_bytes(path.read_bytes())
        assert torch.equal(logits(tmp_path / name), expected)
    parts = split_gguf(path, tmp_path / "big")
    for part in parts:
        assert torch.equal(logits(part), expected)
    assert inspect_checkpoint(parts[1]).num_parameters == inspect_checkpoint(path).num_parameters
    parts[1].unlink()
    with pytest.raises(CheckpointError, match=r"big-00002-of-00002[.]gguf is missing beside it"):
        read_gguf(parts[0])


@pytest.mark.parametrize(
    ("values", "factor"),
    [
        ({"rope.scale_linear": 2.0}, 2.0),
        ({"rope.scaling.factor": 4.0}, 4.0),
        ({"rope.scaling.factor": 4.0, "rope.scaling.type": "none"}, None),
        ({"rope.scale_linear": 1.0}, None),
    ],
)
def test_a_scaling_without_a_type_is_linear(
    values: dict[str, Any], factor: float | None, llama: Path, tmp_path: Path
) -> None:
    scaling = config_values(write_gguf(llama, tmp_path / "one.gguf", values=values)).get("rope_scaling")
    assert scaling == (None if factor is None else {"rope_type": "linear", "factor": factor})
