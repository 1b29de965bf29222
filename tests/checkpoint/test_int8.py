"""int8 storage in shards: what comes back is what was saved to half a step, and damaged storage is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from famcli.checkpoint.enable import enable
from famcli.checkpoint.inspect import inspect_checkpoint
from famcli.checkpoint.open import open_model
from famcli.checkpoint.quantize import from_int8, to_int8
from famcli.checkpoint.save import save_checkpoint
from famcli.errors import CheckpointError
from tests.helpers import change_json, read_json, write_json

SHARD_BYTES = 12_000
UP = "model.layers.1.mlp.up_proj.weight"


@pytest.fixture
def int8(checkpoint: Path, tmp_path: Path) -> Path:
    """The tiny checkpoint in int8 and several shards."""
    model = open_model(checkpoint, device="cpu")
    target = tmp_path / "int8"
    return save_checkpoint(
        target, model.network, model.tokenizer, model.sidecar, torch.bfloat16, storage="int8", shard_bytes=SHARD_BYTES
    )


def _refused(folder: Path, expected: str) -> None:
    with pytest.raises(CheckpointError, match=expected) as caught:
        open_model(folder, device="cpu")
    assert "\n" not in str(caught.value)


def _shard_of(folder: Path, name: str) -> Path:
    return folder / read_json(folder / "model.safetensors.index.json")["weight_map"][name]


def _rewrite(path: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}
    change(tensors)
    save_file(tensors, path)


def test_numbers_come_back_within_half_a_step() -> None:
    matrix = torch.randn(7, 50, generator=torch.Generator().manual_seed(0)) * torch.logspace(-3, 3, 7)[:, None]
    matrix[3] = 0
    values, scale = to_int8(matrix)
    assert values.dtype == torch.int8
    assert torch.equal(scale, matrix.abs().amax(1) / 127)
    assert bool(((from_int8(values, scale) - matrix).abs() <= 0.501 * scale[:, None]).all())
    assert torch.equal(to_int8(from_int8(values, scale))[0], values)


def test_what_is_not_finite_is_not_made_int8() -> None:
    with pytest.raises(ValueError, match="not finite"):
        to_int8(torch.tensor([[1.0, torch.inf]]))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_int8_weights_are_turned_back_on_loading(checkpoint: Path, int8: Path, dtype: str) -> None:
    first, second = (open_model(folder, device="cpu", dtype=dtype).network for folder in (checkpoint, int8))
    for name, parameter in first.named_parameters():
        found = second.get_parameter(name)
        assert found.dtype == parameter.dtype
        if parameter.dim() == 2 and name != "memory_prompt":
            kept = from_int8(*to_int8(open_model(checkpoint, device="cpu").network.get_parameter(name)))
            assert torch.equal(found, kept.to(parameter.dtype)), name
        else:
            assert torch.equal(found, parameter.bfloat16().to(parameter.dtype) if "norm" in name else parameter), name


def test_shards_are_no_larger_than_asked_for(int8: Path) -> None:
    shards = sorted(int8.glob("*.safetensors"))
    assert len(shards) > 3
    assert all(path.stat().st_size <= SHARD_BYTES for path in shards)
    index = read_json(int8 / "model.safetensors.index.json")
    assert set(index["weight_map"].values()) == {path.name for path in shards} - {"fam.safetensors"}
    assert not (int8 / "model.safetensors").exists()


def test_inspect_says_how_weights_are_stored(checkpoint: Path, int8: Path) -> None:
    plain, info = inspect_checkpoint(checkpoint), inspect_checkpoint(int8)
    assert (plain.storage, info.storage) == ("float", "int8")
    assert info.num_parameters == plain.num_parameters
    assert set(info.dtypes) == {"int8", "bfloat16"}
    assert info.weights_bytes < 0.4 * plain.weights_bytes
    assert info.fingerprints == open_model(int8, device="cpu").fingerprints


def test_a_changed_scale_changes_the_fingerprint(int8: Path) -> None:
    before = inspect_checkpoint(int8).fingerprints.weights
    _rewrite(_shard_of(int8, UP), lambda tensors: tensors[UP + "_scale"].mul_(2))
    assert inspect_checkpoint(int8).fingerprints.weights != before


def test_saving_in_another_storage_leaves_no_old_weights(int8: Path) -> None:
    model = open_model(int8, device="cpu", dtype="float32")
    save_checkpoint(int8, model.network, model.tokenizer, model.sidecar)
    assert [path.name for path in sorted(int8.glob("model*"))] == ["model.safetensors"]
    again = open_model(int8, device="cpu").network
    assert all(torch.equal(again.get_parameter(name), each) for name, each in model.network.named_parameters())
    save_checkpoint(int8, model.network, model.tokenizer, model.sidecar, storage="int8", shard_bytes=SHARD_BYTES)
    assert not (int8 / "model.safetensors").exists()


def test_an_int8_checkpoint_can_be_enabled_again(int8: Path) -> None:
    change_json(int8 / "fam.json", memory_trained=False)
    enable(int8, fam_length=4, block_size=16, memory_segments=1, force=True)
    prompt = load_file(int8 / "fam.safetensors")["memory_prompt"]
    rows = open_model(int8, device="cpu", dtype="float32").network.model.embed_tokens.weight.detach()
    assert 0.5 < float(prompt.std() / rows.std()) < 2


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda tensors: tensors.pop(UP + "_scale"), "is int8 and has no scale beside it"),
        (lambda tensors: tensors.pop(UP), "lack 'model.layers.1.mlp.up_proj.weight'"),
        (lambda tensors: tensors.update({UP + "_scale": torch.ones(5)}), r"is \[5\] in float32, an int8 matrix"),
        (lambda tensors: tensors.update({UP + "_scale": torch.ones(48).half()}), "in float16, an int8 matrix"),
        (lambda tensors: tensors.update({UP: torch.ones(3, 3, dtype=torch.int8)}), "an int8 matrix of"),
        (lambda tensors: tensors[UP + "_scale"].fill_(torch.nan), "holds numbers no scale can be"),
        (lambda tensors: tensors[UP + "_scale"].neg_(), "holds numbers no scale can be"),
        (lambda tensors: tensors.update({UP: torch.ones(48, 32, dtype=torch.int16)}), "is stored as I16; known are"),
        (lambda tensors: tensors.update({"extra.weight_scale": torch.ones(3)}), "have 'extra.weight_scale'"),
    ],
)
def test_damaged_storage_is_refused(
    int8: Path, change: Callable[[dict[str, torch.Tensor]], object], expected: str
) -> None:
    _rewrite(_shard_of(int8, UP), change)
    _refused(int8, expected)


def test_int8_weights_that_config_does_not_announce_are_refused(int8: Path) -> None:
    change_json(int8 / "config.json", quantization_config=...)
    _refused(int8, "is stored as I8; known are F32, BF16, F16")


@pytest.mark.parametrize("changes", [{"format": 2}, {"quant_method": "gptq"}, {"bits": 4}])
def test_a_storage_that_is_not_known_is_refused(int8: Path, changes: dict[str, object]) -> None:
    config = read_json(int8 / "config.json")
    write_json(int8 / "config.json", config | {"quantization_config": config["quantization_config"] | changes})
    _refused(int8, "quantized in a way this famcli does not know")


def test_a_shard_that_is_missing_or_cut_short_is_refused(int8: Path) -> None:
    shard = _shard_of(int8, UP)
    content = shard.read_bytes()
    shard.write_bytes(content[:-7])
    _refused(int8, "not a whole safetensors file")
    shard.unlink()
    _refused(int8, "is missing")
