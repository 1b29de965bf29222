"""`probes.safetensors` beside an adapter: read with it, and refused where it does not fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from famcli.checkpoint.convert import save_quantized
from famcli.checkpoint.open import open_model
from famcli.checkpoint.probes import read_probes, rows
from famcli.checkpoint.save import merge, save_tensors
from famcli.checkpoint.sidecar import Sidecar
from famcli.checkpoint.weights import PROBES_FILE
from famcli.errors import CheckpointError
from famcli.nn import DecoderConfig
from famcli.nn.lora import LoraConfig
from tests.checkpoint.test_adapter import write_ours
from tests.helpers import TINY_CONFIG, TINY_FAM, make_random_checkpoint

CONFIG = DecoderConfig(16, 4, 8, 3, 2, 1, 2)


def _tensors(**changes: torch.Tensor | None) -> dict[str, torch.Tensor]:
    tensors: dict[str, torch.Tensor | None] = {
        "levels": torch.tensor([1, 3]),
        "answered": torch.arange(16.0).view(2, 2, 4),
        "right": torch.arange(32.0).view(2, 4, 4),
        "biases": torch.tensor([0.5, -0.5]),
        **changes,
    }
    return {name: tensor for name, tensor in tensors.items() if tensor is not None}


def test_probes_are_read_from_their_file(tmp_path: Path) -> None:
    assert read_probes(tmp_path, CONFIG) is None
    save_tensors(tmp_path / PROBES_FILE, _tensors())
    probes = read_probes(tmp_path, CONFIG)
    assert probes is not None
    assert probes.levels == (1, 3)
    question, answer = torch.full((2, 2, 4), 1 / 16), torch.zeros(2, 2, 4)
    assert probes.how_answered(question) == sum(range(16)) / 16 + 0.5
    # The rows of the question come first.
    assert probes.how_right(question, answer) == sum((*range(8), *range(16, 24))) / 16 - 0.5
    # What is far from all that they were fitted on does not overflow.
    assert (probes.how_answered(1e6 * question), probes.how_answered(-1e6 * question)) == (30.0, -30.0)


def test_they_look_at_the_last_tokens_of_their_levels(tmp_path: Path) -> None:
    save_tensors(tmp_path / PROBES_FILE, _tensors())
    probes = read_probes(tmp_path, CONFIG)
    assert probes is not None
    levels = [torch.full((1, 5, 4), float(number)) + torch.arange(5.0)[None, :, None] for number in range(4)]
    picked = probes.picked(levels, last=2)
    assert picked.shape == (2, 1, 2, 4)
    assert picked[:, 0, :, 0].tolist() == [[4.0, 5.0], [6.0, 7.0]]
    assert rows(picked[:, 0])[:, :, 0].tolist() == [[5.0, 4.5], [7.0, 6.5]]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"right": None}, "must hold"),
        ({"biases": torch.zeros(3)}, "must hold"),
        ({"levels": torch.tensor([1, 4])}, "another decoder"),
        ({"levels": torch.tensor([1])}, "another decoder"),
        ({"answered": torch.zeros(2, 2, 5)}, "another decoder"),
        ({"answered": torch.zeros(2, 2, 4, dtype=torch.int8)}, "int8|I8"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, changes: dict[str, torch.Tensor | None], said: str) -> None:
    save_tensors(tmp_path / PROBES_FILE, _tensors(**changes))
    with pytest.raises(CheckpointError, match=said):
        read_probes(tmp_path, CONFIG)


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / PROBES_FILE).write_bytes(b"nothing")
    with pytest.raises(CheckpointError):
        read_probes(tmp_path, CONFIG)


def test_they_go_with_the_checkpoint_that_is_made_of_the_adapter(tmp_path: Path) -> None:
    """Merged, and in fewer bits; an adapter that is saved over another has none."""
    width, base = TINY_CONFIG.hidden_size, make_random_checkpoint(tmp_path / "base", fam=None)
    fam = replace(TINY_FAM, fam_length=0)
    adapter = write_ours(tmp_path / "adapter", base, LoraConfig(rank=2), Sidecar(fam=fam), None)
    tensors = {"levels": torch.tensor([1]), "answered": torch.ones(1, 2, width), "right": torch.ones(1, 4, width)}
    save_tensors(adapter / PROBES_FILE, _tensors(**tensors))
    assert open_model(base, adapter=adapter).probes is not None
    merge(base, adapter, tmp_path / "merged")
    save_quantized(tmp_path / "merged", tmp_path / "int8")
    assert all(open_model(tmp_path / name).probes is not None for name in ("merged", "int8"))
    write_ours(adapter, base, LoraConfig(rank=2), Sidecar(fam=fam), None)
    assert open_model(base, adapter=adapter).probes is None
