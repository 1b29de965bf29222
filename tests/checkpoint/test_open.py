"""A folder becomes a model: types, ties, shards, overrides, fingerprints."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from famcli.checkpoint.device import cpu_gains_from_bfloat16, select_device, select_dtype, set_threads
from famcli.checkpoint.model import Model
from famcli.checkpoint.open import open_model
from famcli.errors import CheckpointError, UsageError
from famcli.nn import FamConfig
from tests.helpers import TINY_CONFIG, change_json, make_random_checkpoint, random_network, write_json

CPU = torch.device("cpu")
TOKENS = torch.arange(40)[None] % 250


def _open(folder: Path, **options: object) -> Model:
    return open_model(folder, **({"device": "cpu"} | options))  # type: ignore[arg-type]


def _logits(model: Model) -> torch.Tensor:
    network = model.network
    with torch.inference_mode():
        state = network.start()
        hidden, state = network.read(TOKENS[:, :32], state)
        tail, _ = network.read(TOKENS[:, 32:], state)
        return network.logits(torch.cat((hidden, tail), 1)).float()


def _shard(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    names = sorted(tensors)
    shards = {"model-1.safetensors": names[::2], "model-2.safetensors": names[1::2]}
    for file, held in shards.items():
        save_file({name: tensors[name].clone() for name in held}, folder / file)
    (folder / "model.safetensors").unlink()
    weight_map = {name: file for file, held in shards.items() for name in held}
    write_json(folder / "model.safetensors.index.json", {"metadata": {}, "weight_map": weight_map})


def test_the_network_is_the_one_that_was_stored(pristine: Path) -> None:
    model = _open(pristine)
    expected = random_network(TINY_CONFIG, FamConfig(block_size=16, memory_segments=2, fam_length=4))
    for name, parameter in expected.named_parameters():
        assert torch.equal(model.network.get_parameter(name), parameter), name
    assert not model.network.training
    assert (model.path, model.chosen_by) == (pristine, "model")
    assert model.tokenizer.vocab_size <= TINY_CONFIG.vocab_size
    torch.testing.assert_close(_logits(model), _logits(replace(model, network=expected)), atol=1e-5, rtol=0)


def test_shards_are_the_same_model(pristine: Path, checkpoint: Path) -> None:
    _shard(checkpoint)
    whole, sharded = _open(pristine), _open(checkpoint)
    assert torch.equal(_logits(whole), _logits(sharded))
    assert whole.fingerprints == sharded.fingerprints


def test_a_tied_head_may_be_stored_or_not(tmp_path: Path) -> None:
    folder = make_random_checkpoint(tmp_path / "tied", config=replace(TINY_CONFIG, tie_embeddings=True))
    without = _open(folder)
    tensors = load_file(folder / "model.safetensors")
    assert "lm_head.weight" not in tensors
    save_file(tensors | {"lm_head.weight": tensors["model.embed_tokens.weight"].clone()}, folder / "model.safetensors")
    stored = _open(folder)
    assert torch.equal(_logits(without), _logits(stored))
    assert without.fingerprints == stored.fingerprints


def test_old_rotary_buffers_are_passed_over(checkpoint: Path) -> None:
    tensors = load_file(checkpoint / "model.safetensors")
    buffer = {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}
    save_file(tensors | buffer, checkpoint / "model.safetensors")
    assert _open(checkpoint).dtype == torch.float32


@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("compute", ["float32", "bfloat16"])
def test_every_stored_type_opens_in_every_compute_type(stored: torch.dtype, compute: str, tmp_path: Path) -> None:
    folder = make_random_checkpoint(tmp_path / "tiny", dtype=stored, gain=3.0)
    model = _open(folder, dtype=compute)
    assert str(model.dtype) == f"torch.{compute}"
    assert {p.dtype for n, p in model.network.named_parameters() if n != "memory_prompt"} == {model.dtype}
    assert model.network.memory_prompt.dtype == torch.float32
    reference = random_network(TINY_CONFIG, model.sidecar.fam, gain=3.0)
    error = (_logits(model) - _logits(replace(model, network=reference))).abs().max()
    assert error < (1e-4 if stored == torch.float32 and compute == "float32" else 0.3)


def test_auto_keeps_what_the_cpu_gains_from(monkeypatch: pytest.MonkeyPatch) -> None:
    for gains in (True, False):
        monkeypatch.setattr("famcli.checkpoint.device.cpu_gains_from_bfloat16", lambda gains=gains: gains)
        assert select_dtype("auto", CPU, torch.bfloat16) == (torch.bfloat16 if gains else torch.float32)
        assert select_dtype("auto", CPU, torch.float32) == torch.float32
        assert select_dtype("auto", CPU, torch.float16) == torch.float32
    assert select_dtype("auto", torch.device("cuda"), torch.float16) == torch.float16


def test_cpu_capabilities_are_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    for capabilities, gains in (({"avx512_bf16": True}, True), ({"avx2": True}, False), ({"bf16": True}, True)):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda found=capabilities: found, raising=False)
        assert cpu_gains_from_bfloat16() is gains
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert isinstance(cpu_gains_from_bfloat16(), bool)


@pytest.mark.parametrize(("name", "expected"), [("float64", "not known"), ("float16", "does not run well on a CPU")])
def test_types_that_cannot_be_are_refused(name: str, expected: str) -> None:
    with pytest.raises(UsageError, match=expected):
        select_dtype(name, CPU, torch.float32)


def test_devices_that_are_not_there_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert select_device("auto") == CPU
    for name, expected in (("cuda", "no CUDA device"), ("mps", "no Apple GPU"), ("tpu", "not known; choose one of")):
        with pytest.raises(UsageError, match=expected):
            select_device(name)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert select_device("auto") == torch.device("cuda")


def test_threads() -> None:
    before = torch.get_num_threads()
    set_threads(None)
    assert torch.get_num_threads() == before
    set_threads(before)
    with pytest.raises(UsageError, match="at least 1"):
        set_threads(0)


def test_weights_stay_mapped_and_training_leaves_the_file_alone(checkpoint: Path) -> None:
    path = checkpoint / "model.safetensors"
    before = path.read_bytes()
    model = _open(checkpoint, dtype="float32")
    maps = Path("/proc/self/maps")
    assert not maps.exists() or str(path) in maps.read_text()
    with torch.no_grad():
        for parameter in model.network.parameters():
            parameter.add_(1.0)
    assert path.read_bytes() == before
    assert not torch.equal(_open(checkpoint).network.lm_head.weight, model.network.lm_head.weight)


def test_overrides_replace_the_sidecars_numbers(pristine: Path) -> None:
    model = _open(pristine, block_size=8, memory_segments=5, sink_tokens=2)
    assert model.network.fam == model.sidecar.fam == FamConfig(8, 5, 4, 2)
    assert model.fingerprints.config != _open(pristine).fingerprints.config
    assert model.fingerprints.weights == _open(pristine).fingerprints.weights
    for options in ({"block_size": 0}, {"block_size": 3}, {"memory_segments": -1}, {"memory_segments": 1 << 40}):
        with pytest.raises(UsageError):
            _open(pristine, **options)


def test_an_untrained_memory_is_not_used_unless_asked_for(tmp_path: Path, pristine: Path) -> None:
    assert _open(pristine).default_memory_mode == "on"
    untrained = make_random_checkpoint(tmp_path / "untrained", memory_trained=False)
    assert _open(untrained).default_memory_mode == "none"
    without = make_random_checkpoint(tmp_path / "bswa", fam=FamConfig(16, 2, 0))
    assert _open(without).default_memory_mode == "none"


def test_fingerprints_tell_models_apart(pristine: Path, tmp_path: Path) -> None:
    first = _open(pristine).fingerprints
    assert first == _open(pristine).fingerprints
    other = _open(make_random_checkpoint(tmp_path / "other", seed=1)).fingerprints
    assert (other.weights != first.weights, other.config, other.tokenizer) == (True, first.config, first.tokenizer)
    assert all(len(text) == 64 for text in (first.weights, first.config, first.tokenizer))


def test_fingerprint_of_large_weights_samples_each_tensor(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = _open(checkpoint).fingerprints.weights
    monkeypatch.setattr("famcli.checkpoint.fingerprints._WHOLE_HASH_BYTES", 1000)
    monkeypatch.setattr("famcli.checkpoint.fingerprints._SAMPLE_BYTES", 64)
    sampled = _open(checkpoint).fingerprints.weights
    assert sampled != whole
    tensors = load_file(checkpoint / "model.safetensors")
    tensors["model.layers.1.mlp.up_proj.weight"][-1, -1] += 1
    save_file(tensors, checkpoint / "model.safetensors")
    assert _open(checkpoint).fingerprints.weights != sampled


def test_the_prompt_is_part_of_the_weights_fingerprint(checkpoint: Path) -> None:
    before = _open(checkpoint).fingerprints
    save_file({"memory_prompt": torch.zeros(4, 32)}, checkpoint / "fam.safetensors")
    after = _open(checkpoint).fingerprints
    assert after.weights != before.weights
    assert after.config == before.config


def test_an_adapter_is_not_passed_over_in_silence(checkpoint: Path) -> None:
    (checkpoint / "adapter_config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="LoRA adapter"):
        _open(checkpoint)


def test_a_tokenizer_with_more_tokens_than_the_network_is_refused(tmp_path: Path) -> None:
    folder = make_random_checkpoint(tmp_path / "small", config=replace(TINY_CONFIG, vocab_size=100))
    with pytest.raises(CheckpointError, match="vocab_size is 100"):
        _open(folder)


def test_a_changed_config_is_caught_by_the_shapes(checkpoint: Path) -> None:
    change_json(checkpoint / "config.json", intermediate_size=64)
    with pytest.raises(CheckpointError, match=r"mlp\.\w+_proj\.weight' is .*, the configuration asks for"):
        _open(checkpoint)
