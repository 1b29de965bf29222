"""`enable`: a sidecar and a prompt appear, nothing else changes, and the folder opens."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from famcli.checkpoint.choose import choose_fam
from famcli.checkpoint.enable import enable
from famcli.checkpoint.open import open_model
from famcli.checkpoint.sidecar import read_sidecar
from famcli.errors import CheckpointError, FamcliError, UsageError
from famcli.nn import DecoderConfig, FamConfig
from famcli.nn.config import RopeConfig
from tests.helpers import change_json


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_plain_decoder_becomes_one_that_opens(plain: Path) -> None:
    before = _contents(plain)
    as_it_is = open_model(plain, device="cpu")
    assert as_it_is.network.fam == FamConfig(block_size=64, memory_segments=3, fam_length=0, sink_tokens=4)
    assert (as_it_is.default_memory_mode, as_it_is.sidecar.tasks, _contents(plain)) == ("none", {}, before)
    [note] = as_it_is.notes
    assert "blocks of 64 tokens and sees the last 256 and the first 4; famcli enable" in note
    made = enable(plain, fam_length=8)
    after = _contents(plain)
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == {"fam.json", "fam.safetensors"} == {path.name for path in made.files}
    assert read_sidecar(plain) == made.sidecar
    model = open_model(plain, device="cpu")
    assert model.network.fam == FamConfig(block_size=64, memory_segments=3, fam_length=8, sink_tokens=4)
    assert model.default_memory_mode == "none"
    assert (model.sidecar.memory_trained, model.notes) == (False, ())


def test_the_prompt_has_the_embeddings_statistics(plain: Path) -> None:
    tensors = load_file(plain / "model.safetensors")
    embedding = tensors["model.embed_tokens.weight"]
    embedding.mul_(torch.linspace(0.1, 3, embedding.shape[1])).add_(torch.linspace(-5, 5, embedding.shape[1]))
    save_file(tensors, plain / "model.safetensors")
    change_json(plain / "config.json", max_position_embeddings=16384)
    enable(plain, fam_length=1000, block_size=4096)
    prompt = load_file(plain / "fam.safetensors")["memory_prompt"]
    mean, deviation = embedding.mean(0), embedding.std(0)
    assert prompt.shape == (1000, 32)
    assert prompt.dtype == torch.float32
    assert ((prompt.mean(0) - mean).abs() / deviation).max() < 5 / 1000**0.5
    assert (prompt.std(0) / deviation - 1).abs().max() < 5 / 2000**0.5


def test_the_seed_decides_the_prompt(plain: Path) -> None:
    prompts = []
    for seed in (1, 1, 2):
        enable(plain, seed=seed, force=True)
        prompts.append(load_file(plain / "fam.safetensors")["memory_prompt"])
    assert torch.equal(prompts[0], prompts[1])
    assert not torch.equal(prompts[0], prompts[2])


def test_what_a_killed_run_left_is_replaced(plain: Path) -> None:
    enable(plain, block_size=32)
    whole = _contents(plain)
    (plain / "fam.json").unlink()
    (plain / "fam.safetensors").write_bytes(b"half")
    enable(plain, block_size=32)
    assert _contents(plain) == whole


def test_enabling_twice_needs_force(plain: Path) -> None:
    enable(plain, block_size=32)
    before = _contents(plain)
    with pytest.raises(UsageError, match="enabled before; force") as caught:
        enable(plain, block_size=16)
    assert caught.value.remedy == {"force": ""}
    assert _contents(plain) == before
    enable(plain, block_size=16, fam_length=0, force=True)
    assert read_sidecar(plain).fam.block_size == 16
    assert not (plain / "fam.safetensors").exists()


def test_a_trained_memory_is_not_replaced(plain: Path) -> None:
    enable(plain)
    change_json(plain / "fam.json", memory_trained=True)
    before = _contents(plain)
    for force in (False, True):
        with pytest.raises(CheckpointError, match="its memory is trained: nothing is to be done"):
            enable(plain, force=force)
    assert _contents(plain) == before


@pytest.mark.parametrize(
    ("positions", "given", "expected"),
    [
        (4096, {}, FamConfig(1024, 3, 64, 4)),
        (131072, {}, FamConfig(1024, 3, 64, 4)),
        (2048, {}, FamConfig(512, 3, 64, 4)),
        (128, {}, FamConfig(32, 3, 32, 4)),
        (2048, {"block_size": 1024}, FamConfig(1024, 1, 64, 4)),
        (2048, {"block_size": 4096}, FamConfig(4096, 0, 64, 4)),
        (2048, {"memory_segments": 0}, FamConfig(1024, 0, 64, 4)),
        (2048, {"block_size": 16, "memory_segments": 1, "fam_length": 3, "sink_tokens": 0}, FamConfig(16, 1, 3, 0)),
        (1, {}, FamConfig(1, 0, 1, 1)),
    ],
)
def test_numbers_are_chosen_to_fit_what_was_trained(positions: int, given: dict[str, int], expected: FamConfig) -> None:
    fam, notes = choose_fam(_decoder(positions), **given)
    assert fam == expected
    chosen = {"block_size", "memory_segments", "sink_tokens"}
    assert {note.split()[0] for note in notes if "was chosen" in note} == chosen - set(given)
    window = (fam.memory_segments + 1) * fam.block_size
    assert any("more than" in note for note in notes) == (window > positions)


def _decoder(
    positions: int = 32768,
    width: int | None = None,
    local: tuple[int, ...] = (),
    scaling: dict[str, object] | None = None,
) -> DecoderConfig:
    rope = RopeConfig(scaling=scaling, max_position=positions)
    return DecoderConfig(10, 16, 20, 4, 4, 4, 4, rope=rope, sliding_window=width, local_layers=local)


@pytest.mark.parametrize(
    ("positions", "width", "local", "given", "expected", "told"),
    [
        # Gemma 2 and 3, Mistral 7B, one block less than there could be, a window too wide, and what is asked for.
        (8192, 4096, (0, 2), {}, FamConfig(1024, 4, 64, 4), "those layers get no memory: .* local_memory"),
        (32768, 512, (0, 1, 2), {}, FamConfig(1024, 3, 64, 4), "3 of 4 layers keep their sliding window of 512"),
        (32768, 4096, (0, 1, 2, 3), {}, FamConfig(1024, 4, 64, 0, local_memory=True), "local_memory was chosen"),
        (4096, 3500, (0, 1), {}, FamConfig(1024, 3, 64, 4), "cut short by 427 tokens"),
        (32768, 20000, (1,), {}, FamConfig(1024, 8, 64, 4), "cut short by 11,807 tokens"),
        (8192, 99, (0,), {"local_memory": True}, FamConfig(1024, 3, 64, 4, local_memory=True), "1 of 4 layers keep"),
        (8192, 99, (0, 1, 2, 3), {"fam_length": 0}, FamConfig(99, 1, 0, 0), "4 of 4 layers keep"),
        (8192, 99, (0, 1, 2, 3), {"local_memory": False}, FamConfig(99, 1, 64, 0), "no layer has a memory"),
        (8192, 99, (0, 1, 2, 3), {"sink_tokens": 2}, FamConfig(99, 1, 64, 2, local_memory=True), "sink_tokens has no"),
        # Blocks within a narrow window, and one that is asked for and is not.
        (2048, 256, (0, 1, 2, 3), {}, FamConfig(256, 1, 64, 0, local_memory=True), "no layer sees further than 256"),
        (2048, 256, (0, 1, 2, 3), {}, FamConfig(256, 1, 64, 0, local_memory=True), "as many as hold the s"),
        (
            *(2048, 256, (0, 1, 2, 3)),
            {"block_size": 512},
            FamConfig(512, 1, 64, 0, local_memory=True),
            "a block of 512 tokens is longer than the window",
        ),
        (8192, None, (), {"local_memory": True}, FamConfig(1024, 3, 64, 4, local_memory=True), "local_memory has no"),
    ],
)
def test_layers_with_a_window_decide_too(
    positions: int, width: int | None, local: tuple[int, ...], given: dict[str, int], expected: FamConfig, told: str
) -> None:
    fam, notes = choose_fam(_decoder(positions, width, local), **given)  # type: ignore[arg-type]
    assert fam == expected
    assert re.search(told, "\n".join(notes))
    assert not any("visible" in note for note in notes) or len(local) < 4


@pytest.mark.parametrize(
    ("scaling", "told"),
    [
        (
            {"rope_type": "longrope", "original_max_position_embeddings": 4096},
            "4,096 visible tokens, within their 4,096",
        ),
        ({"rope_type": "longrope", "original_max_position_embeddings": 4000}, "4,096 visible tokens, past their 4,000"),
        ({"rope_type": "dynamic", "factor": 2.0}, "4,096 visible tokens, within their 32,768"),
        ({"rope_type": "llama3"}, None),
        (None, None),
    ],
)
def test_it_says_on_which_side_positions_are_fixed(scaling: dict[str, object] | None, told: str | None) -> None:
    _, notes = choose_fam(_decoder(scaling=scaling))
    assert [note.split("for the ")[1] for note in notes if "rotary" in note] == ([told] if told else [])


def test_a_checkpoint_with_a_chat_template_writes_summaries_and_answers(plain: Path) -> None:
    assert enable(plain).sidecar.tasks == {}
    (plain / "chat_template.jinja").write_text("{{ messages[0]['content'] }}")
    made = enable(plain, force=True)
    assert read_sidecar(plain).tasks == {"summarize": "write", "ask": "write"}
    assert any("chat template" in note for note in made.notes)


@pytest.mark.parametrize(
    "given",
    [
        {"block_size": 0},
        {"block_size": -3},
        {"block_size": 1 << 50},
        {"memory_segments": -1},
        {"memory_segments": 1 << 50},
        {"fam_length": 65},
        {"sink_tokens": -1},
    ],
)
def test_numbers_that_cannot_be(plain: Path, given: dict[str, int]) -> None:
    before = _contents(plain)
    with pytest.raises(UsageError):
        enable(plain, **given)  # type: ignore[arg-type]
    assert _contents(plain) == before


@pytest.mark.parametrize("broken", ["config.json", "model.safetensors", "tokenizer.bytes"])
def test_a_folder_that_cannot_be_opened_is_not_enabled(plain: Path, broken: str) -> None:
    (plain / broken).unlink()
    before = _contents(plain)
    with pytest.raises(FamcliError) as refused:
        enable(plain)
    assert _contents(plain) == before
    with pytest.raises(FamcliError) as unopened:  # and not for being a plain decoder, to which there is a remedy
        open_model(plain, device="cpu")
    assert "famcli enable" not in str(unopened.value)
    assert broken == "config.json" or str(unopened.value) == str(refused.value)


def test_embeddings_that_are_no_numbers(plain: Path) -> None:
    tensors = load_file(plain / "model.safetensors")
    tensors["model.embed_tokens.weight"][3, 3] = float("nan")
    save_file(tensors, plain / "model.safetensors")
    with pytest.raises(CheckpointError, match="not finite"):
        enable(plain)
