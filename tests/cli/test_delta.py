"""A memory of associations behind the commands: its checkpoint, its memory file, and a run that trains it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from famcli.checkpoint.open import open_model
from famcli.checkpoint.save import save_checkpoint
from famcli.checkpoint.sidecar import Sidecar
from famcli.nn import FamConfig
from famcli.nn.shapes import memory_shape, own_shapes
from famcli.tokens.tokenizer import ByteTokenizer
from tests.helpers import TINY_CONFIG, random_network

FAM = FamConfig(32, 1, 4, memory_update="delta")
TEXT = "The keeper hid the map under a red stone. Anna went to the mill. Nobody saw her again.\n" * 4


@pytest.fixture
def delta(tmp_path: Path) -> Path:
    network = random_network(TINY_CONFIG, FAM, gain=4.0)
    return save_checkpoint(tmp_path / "delta", network, ByteTokenizer(), Sidecar(FAM, memory_trained=True))


def test_a_checkpoint_is_what_was_saved(run, delta: Path) -> None:
    network = open_model(delta, device="cpu").network
    expected = dict(random_network(TINY_CONFIG, FAM, gain=4.0).named_parameters())
    found = dict(network.named_parameters())
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    assert network.fam == FAM
    assert load_file(delta / "fam.safetensors").keys() == own_shapes(TINY_CONFIG, FAM).keys()
    assert "4 memory rows (delta)" in run("inspect", delta).stdout


@pytest.mark.parametrize("kind", ["full", "memory"])
def test_a_memory_file_goes_on_where_the_text_ended(run, delta: Path, tmp_path: Path, kind: str) -> None:
    text, kept, model = tmp_path / "text.txt", tmp_path / "kept.fam", ("--model", delta)
    text.write_text(TEXT[:101])
    assert run("read", text, *model, "--save", kept, "--kind", kind).exit_code == 0
    text.write_text(TEXT)
    assert run("read", text, *model, "--save", kept, "--append").exit_code == 0
    whole = tmp_path / "whole.fam"
    assert run("read", text, *model, "--save", whole, "--kind", kind).exit_code == 0
    files = [load_file(path) for path in (kept, whole)]
    names = [name for name in files[0] if name.endswith("memory")]
    assert sum(files[0][name].numel() for name in names) == torch.Size(memory_shape(TINY_CONFIG, FAM)).numel()
    # A file of kind memory has no segments: its next block is read without them.
    for name in names if kind == "full" else ():
        torch.testing.assert_close(files[0][name], files[1][name], rtol=1e-4, atol=1e-4)
    read = json.loads(run("inspect", kept, "--json").stdout)
    assert read["memory_update"] == "delta"
