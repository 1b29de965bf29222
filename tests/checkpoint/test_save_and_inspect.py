"""Saving: what comes back is what was saved, for famcli and for other runtimes. Inspecting: facts from headers."""

from __future__ import annotations

import errno
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from famcli.checkpoint import save as save_module
from famcli.checkpoint.inspect import inspect_checkpoint, state_bytes
from famcli.checkpoint.open import open_model
from famcli.checkpoint.save import save_checkpoint
from famcli.errors import CheckpointError
from famcli.nn import FamConfig, RopeConfig
from tests.helpers import TINY_CONFIG, make_random_checkpoint, random_network

LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("tied", [True, False])
def test_a_saved_model_opens_as_it_was(dtype: torch.dtype, tied: bool, tmp_path: Path) -> None:
    config = replace(TINY_CONFIG, tie_embeddings=tied)
    first = open_model(make_random_checkpoint(tmp_path / "a", config=config, dtype=dtype), device="cpu")
    folder = save_checkpoint(tmp_path / "b", first.network, first.tokenizer, first.sidecar, dtype)
    second = open_model(folder, device="cpu")
    assert second.fingerprints == first.fingerprints
    assert second.sidecar == first.sidecar
    assert second.network.config == first.network.config
    for name, parameter in first.network.named_parameters():
        assert torch.equal(second.network.get_parameter(name), parameter), name
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.json",
        "fam.json",
        "fam.safetensors",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.bytes",
    ]


@pytest.mark.parametrize("scaling", [None, LLAMA3], ids=["plain", "llama3"])
@torch.inference_mode()
def test_transformers_opens_what_is_saved_as_a_plain_decoder(scaling: dict[str, object] | None, tmp_path: Path) -> None:
    config = replace(TINY_CONFIG, rope=RopeConfig(5e5, scaling, 256), tie_embeddings=True, attention_bias=True)
    fam = FamConfig(block_size=16, memory_segments=3, fam_length=4)
    opened = open_model(make_random_checkpoint(tmp_path / "a", config=config, fam=fam), device="cpu")
    save_checkpoint(tmp_path / "b", opened.network, opened.tokenizer, opened.sidecar)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "b").eval()
    tokens = torch.arange(64)[None]
    hidden, _ = opened.network.read(tokens, opened.network.start(memory_mode="none"))
    torch.testing.assert_close(opened.network.logits(hidden), theirs(tokens).logits, atol=1e-4, rtol=0)


def test_saving_over_a_checkpoint_keeps_what_else_is_there(checkpoint: Path) -> None:
    (checkpoint / "README.md").write_text("a card")
    model = open_model(checkpoint, device="cpu")
    network = random_network(TINY_CONFIG, FamConfig(16, 2, 0), seed=5)
    sidecar = replace(model.sidecar, fam=network.fam)
    save_checkpoint(checkpoint, network, model.tokenizer, sidecar)
    assert (checkpoint / "README.md").read_text() == "a card"
    assert not (checkpoint / "fam.safetensors").exists()
    assert open_model(checkpoint, device="cpu").fingerprints.weights != model.fingerprints.weights


def test_a_full_disk_leaves_the_old_checkpoint(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = open_model(checkpoint, device="cpu")
    before = {path.name: path.read_bytes() for path in checkpoint.iterdir()}

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(save_module, "write_json", full)
    with pytest.raises(CheckpointError, match="No space left"):
        save_checkpoint(checkpoint, random_network(TINY_CONFIG, model.network.fam), model.tokenizer, model.sidecar)
    assert {path.name: path.read_bytes() for path in checkpoint.iterdir()} == before


def test_inspect_tells_sizes(pristine: Path) -> None:
    info = inspect_checkpoint(pristine)
    opened = open_model(pristine, device="cpu")
    assert info.num_parameters == sum(p.numel() for n, p in opened.network.named_parameters() if n != "memory_prompt")
    assert info.memory_parameters == 4 * 32
    assert info.weights_bytes == 4 * info.num_parameters
    assert info.dtypes == {"float32": info.num_parameters}
    assert dict(info.files)["fam.json"] == (pristine / "fam.json").stat().st_size
    assert info.fingerprints == opened.fingerprints
    assert (info.family, info.max_positions, info.decoder) == ("llama", 256, TINY_CONFIG)


@torch.no_grad()
def test_state_bytes_are_those_of_a_real_state_at_its_largest() -> None:
    fam = FamConfig(block_size=16, memory_segments=2, fam_length=4, sink_tokens=3)
    network = random_network(TINY_CONFIG, fam).to(torch.bfloat16)
    network.memory_prompt.data = network.memory_prompt.data.float()
    state = network.start()
    largest = 0
    for _ in range(8 * 16):
        _, state = network.read(torch.zeros(1, 1, dtype=torch.int64), state)
        largest = max(largest, sum(tensor.nbytes for tensor in state.to_tensors()[0].values()))
    assert state_bytes(TINY_CONFIG, fam, "bfloat16") == largest


def test_inspecting_a_plain_decoder(plain: Path) -> None:
    info = inspect_checkpoint(plain)
    assert info.sidecar is None
    assert info.state_bytes is None
    assert info.memory_parameters == 0


def test_weights_are_as_readable_as_the_other_files(checkpoint: Path, tmp_path: Path) -> None:
    model = open_model(checkpoint)
    folder = save_checkpoint(tmp_path / "saved", model.network, model.tokenizer, model.sidecar)
    assert {path.stat().st_mode for path in folder.iterdir()} == {(folder / "config.json").stat().st_mode}
