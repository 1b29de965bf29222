"""Weights in 8 and 4 bits: near enough, small enough, and the same numbers whichever way they come."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from famcli.checkpoint.convert import save_quantized
from famcli.checkpoint.inspect import inspect_checkpoint
from famcli.checkpoint.open import open_model
from famcli.checkpoint.quantize import to_int4, to_int8
from famcli.errors import CheckpointError, UsageError
from famcli.nn.kernels import native
from famcli.nn.kernels import quantized as quantized_module
from famcli.nn.kernels.linear import linear
from famcli.nn.kernels.quantized import Int4Matrix, Int8Matrix, QuantizedMatrix, unpack
from tests.checkpoint.gguf_files import write_gguf
from tests.checkpoint.test_gguf import random_family
from tests.helpers import TINY_CONFIG, make_random_checkpoint

SHAPE = replace(TINY_CONFIG, vocab_size=320, hidden_size=64, intermediate_size=128, head_dim=16)
NAMED = "model.layers.0.self_attn.o_proj.weight"
TOKENS = torch.randint(0, 256, (1, 48), generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_random_checkpoint(tmp_path_factory.mktemp("wide") / "wide", config=SHAPE, gain=5.0)


def logits(path: Path, quantize: str = "none", dtype: str = "float32", step: int = 16) -> torch.Tensor:
    network = open_model(path, dtype=dtype, quantize=quantize).network
    rows = []
    with torch.inference_mode():
        state = network.start()
        for start in range(0, TOKENS.shape[1], step):
            hidden, state = network.read(TOKENS[:, start : start + step], state)
            rows.append(network.logits(hidden))
    return torch.cat(rows, dim=1).float()


@pytest.mark.parametrize("step", [16, 4, 1])
@pytest.mark.parametrize(
    ("quantize", "dtype", "error"), [("int8", "float32", 0.05), ("int8", "bfloat16", 0.06), ("int4", "bfloat16", 0.5)]
)
def test_what_it_says_changes_little(folder: Path, quantize: str, dtype: str, error: float, step: int) -> None:
    """In whole blocks, in a few tokens and token by token, which are computed in different ways."""
    expected = logits(folder)
    assert (logits(folder, quantize, dtype, step) - expected).norm() < error * expected.norm()


@pytest.mark.parametrize("to", ["int8", "int4"])
def test_a_quantized_folder_gives_the_numbers_that_quantizing_gives(folder: Path, tmp_path: Path, to: str) -> None:
    made = save_quantized(folder, tmp_path / to, to)
    torch.testing.assert_close(logits(made, to), logits(folder, to), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(logits(made), logits(folder, to), rtol=0.05, atol=0.05)
    info = inspect_checkpoint(made)
    assert info.storage == to
    assert 0.9 * info.memory_bytes[to] < info.weights_bytes < 1.1 * info.memory_bytes[to]
    with pytest.raises(CheckpointError, match=f"is in {to} already"):
        save_quantized(made, tmp_path / "again", to)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda tensors: tensors.pop(NAMED + "_scale"), "int4 and has no scale"),
        (lambda tensors: tensors.update({NAMED + "_scale": torch.zeros(64, 2, dtype=torch.bfloat16)}), "two bfloat16"),
        (lambda tensors: tensors.update({NAMED: torch.zeros(64, 16, dtype=torch.uint8)}), "two bfloat16"),
        (lambda tensors: tensors[NAMED + "_scale"].fill_(torch.nan), "no scale can be"),
    ],
)
def test_broken_int4_folders_are_refused(folder: Path, tmp_path: Path, change: Any, words: str) -> None:
    made = save_quantized(folder, tmp_path / "made", "int4")
    tensors = load_file(made / "model.safetensors")
    change(tensors)
    save_file(tensors, made / "model.safetensors")
    with pytest.raises(CheckpointError, match=words):
        open_model(made)


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("rows", [1, 3, 4, 9, 40])
def test_products_are_those_of_the_whole_matrix(rows: int, compiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not compiled:
        monkeypatch.setattr(quantized_module, "library", lambda: None)
    generator = torch.Generator().manual_seed(rows)
    matrix, x = torch.randn(64, 96, generator=generator), torch.randn(2, rows, 96, generator=generator)
    (values, row_scale), (nibbles, scale, zero) = to_int8(matrix), to_int4(matrix)
    numbers = (unpack(nibbles).float().view(64, -1, 32) - 8) * scale.float()[..., None] + zero.float()[..., None]
    made: list[tuple[QuantizedMatrix, torch.Tensor]] = [
        (Int8Matrix(values, row_scale, torch.float32), values * row_scale[:, None]),
        (Int4Matrix(nibbles, scale, zero, torch.float32), numbers.view(64, 96)),
    ]
    for quantized, expected_whole in made:
        assert (quantized.few is not None) == (compiled and native.library() is not None)
        whole = quantized.whole(torch.float32)
        torch.testing.assert_close(whole, expected_whole)
        with torch.inference_mode():
            expected = x @ whole.T
            found = linear(x, quantized)
            assert found.shape == (2, rows, 64)
            assert (found - expected).norm() < 1e-5 * expected.norm()
            assert torch.isnan(linear(x * torch.nan, quantized)).all()
            assert bool((linear(torch.zeros_like(x), quantized) == 0).all())
        indices = torch.tensor([[3, 0], [63, 3]])
        torch.testing.assert_close(quantized.rows(indices), whole[indices])


@pytest.mark.parametrize("quantize", ["int8", "int4"])
def test_joined_matrices_keep_their_biases(quantize: str, tmp_path: Path) -> None:
    from famcli.checkpoint.enable import enable

    folder = random_family(tmp_path / "qwen2", "qwen2", hidden_size=64, head_dim=16)
    enable(folder)
    expected = logits(folder, quantize, step=16)
    found = logits(folder, quantize, step=1)
    assert (found - expected).norm() < 0.05 * expected.norm()


@pytest.mark.skipif(native.library() is None, reason="needs a C compiler")
@pytest.mark.parametrize("quantize", ["int8", "int4"])
@torch.inference_mode()
def test_a_few_rows_are_written_by_the_bits(quantize: str, tmp_path: Path) -> None:
    """All layers in one call of the kernels: the numbers of float32, a row the same whatever is beside it."""
    shape = replace(SHAPE, num_heads=2, num_key_value_heads=1, head_dim=32, tie_embeddings=True)
    folder = make_random_checkpoint(tmp_path / "plain", config=shape, fam=None)
    wide, narrow = (open_model(folder, dtype=dtype, quantize=quantize).network for dtype in ("float32", "bfloat16"))
    assert narrow.writes_ahead
    tokens = torch.randint(0, 256, (1, 12), generator=torch.Generator().manual_seed(2))
    hidden, _ = wide.read(tokens, wide.start())
    expected, found = wide.logits(hidden), list[torch.Tensor]()
    for size in (1, 3):
        state, made = narrow.start(), list[torch.Tensor]()
        for part in tokens.split(size, dim=1):
            hidden, state = narrow.write(part, state)
            made.append(narrow.logits(hidden))
        found.append(torch.cat(made, dim=1))
    assert torch.equal(*found)
    assert (found[0] - expected).norm() < 0.02 * expected.norm()


def test_int4_is_within_half_a_step() -> None:
    matrix = torch.randn(7, 64, generator=torch.Generator().manual_seed(0))
    nibbles, scale, zero = to_int4(matrix)
    numbers = unpack(nibbles).float().view(7, 2, 32)
    back = (numbers - 8) * scale.float()[..., None] + zero.float()[..., None]
    slack = 0.5 * scale.float() + 0.02 * matrix.view(7, 2, 32).abs().amax(2)  # scale and zero are rounded themselves
    assert bool(((back - matrix.view(7, 2, 32)).abs() <= slack[..., None]).all())
    assert len(numbers.unique()) == 16
    constant = torch.full((2, 32), 0.25)
    nibbles, scale, zero = to_int4(constant)
    assert bool((((unpack(nibbles).float() - 8) * scale.float() + zero.float()) == 0.25).all())


def test_inspect_tells_what_memory_each_choice_needs(folder: Path) -> None:
    needs = inspect_checkpoint(folder).memory_bytes
    network = open_model(folder, dtype="float32").network
    assert needs["float32"] == sum(parameter.nbytes for parameter in network.parameters())
    assert needs["bfloat16"] == needs["float32"] // 2
    for quantize in ("int8", "int4"):
        quantized = open_model(folder, dtype="bfloat16", quantize=quantize).network
        kept = sum(each.num_bytes for each in quantized.modules() if isinstance(each, QuantizedMatrix))
        kept += sum(parameter.nbytes for parameter in quantized.parameters())
        kept -= quantized.memory_prompt.nbytes // 2  # always float32
        assert needs[quantize] == kept
        assert needs[quantize] < 0.6 * needs["bfloat16"]


@pytest.mark.parametrize(
    ("model_type", "config"), [("phi3", {}), ("gpt_neox", {}), ("mixtral", {"num_local_experts": 2})]
)
def test_an_int8_folder_of_another_family(model_type: str, config: dict[str, int], tmp_path: Path) -> None:
    from famcli.checkpoint.enable import enable

    source = random_family(tmp_path / "source", model_type, **config)
    enable(source)
    made = save_quantized(source, tmp_path / "made", shard_bytes=20_000)
    assert len(list(made.glob("model-*.safetensors"))) > 1
    expected = logits(source)
    assert (logits(made) - expected).norm() < 0.05 * expected.norm()
    assert inspect_checkpoint(made).storage == "int8"


def test_a_gguf_file_becomes_an_int8_folder(folder: Path, tmp_path: Path) -> None:
    plain = make_random_checkpoint(tmp_path / "plain", config=SHAPE, fam=None)
    path = write_gguf(plain, tmp_path / "one.gguf")
    made = save_quantized(path, tmp_path / "made")
    found, expected = load_file(made / "model.safetensors"), load_file(plain / "model.safetensors")
    name = "model.layers.0.self_attn.q_proj.weight"
    back = found[name].float() * found[name + "_scale"][:, None]
    assert (back - expected[name]).norm() < 0.01 * expected[name].norm()
    assert inspect_checkpoint(made).storage == "int8"


def test_refusals(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="int3"):
        open_model(folder, quantize="int3")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    with pytest.raises(UsageError, match="is there already"):
        save_quantized(folder, tmp_path / "full")
    made = save_quantized(folder, tmp_path / "made")
    with pytest.raises(CheckpointError, match="in int8 already"):
        save_quantized(made, tmp_path / "again")
    broken = make_random_checkpoint(tmp_path / "broken", config=SHAPE)
    tensors = load_file(broken / "model.safetensors")
    tensors["model.layers.0.mlp.up_proj.weight"][3, 3] = torch.inf
    save_file(tensors, broken / "model.safetensors")
    for quantize in ("int8", "int4"):
        with pytest.raises(CheckpointError, match=r"up_proj.*not finite"):
            open_model(broken, quantize=quantize)
    with pytest.raises(CheckpointError, match="not finite"):
        save_quantized(broken, tmp_path / "never")
    assert not list((tmp_path / "never").glob("*"))
