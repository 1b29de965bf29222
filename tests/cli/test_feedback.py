"""A Feedback Transformer behind every command, and what has no meaning for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from famcli.checkpoint.open import open_model
from famcli.checkpoint.save import save_checkpoint
from famcli.checkpoint.sidecar import Sidecar
from famcli.nn import FamConfig
from famcli.nn.shapes import own_shapes
from famcli.tokens.tokenizer import ByteTokenizer
from tests.helpers import TINY_CONFIG, random_network

TEXT = "The keeper hid the map under a red stone. Anna went to the mill. Nobody saw her again.\n" * 4


@pytest.fixture(params=["layer", "shared"])
def feedback(request: Any, tmp_path: Path) -> Path:
    """A random checkpoint whose tokens see 64 memories."""
    fam = FamConfig(32, 1, 0, architecture="feedback", feedback_projections=request.param)
    network = random_network(TINY_CONFIG, fam, gain=4.0)
    return save_checkpoint(tmp_path / "feedback", network, ByteTokenizer(), Sidecar(fam, memory_trained=True))


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(TEXT)
    return path


def test_a_checkpoint_is_what_was_saved_and_any_decoder_s_file(feedback: Path) -> None:
    model = open_model(feedback, device="cpu")
    fam = model.network.fam
    expected = dict(random_network(TINY_CONFIG, fam, gain=4.0).named_parameters())
    found = dict(model.network.named_parameters())
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    assert load_file(feedback / "fam.safetensors").keys() == own_shapes(TINY_CONFIG, fam).keys()
    plain = load_file(feedback / "model.safetensors")
    assert {f"model.layers.{i}.self_attn.k_proj.weight" for i in range(2)} < plain.keys()
    assert model.default_memory_mode == "on"


def test_every_command_reads_with_it(run, feedback: Path, text: Path, tmp_path: Path) -> None:
    model = ("--model", feedback)
    whole = json.loads(run("ppl", text, *model, "--json").stdout)
    assert "a memory of each of the last 64 tokens, for all layers" in whole["definition"]
    half = tmp_path / "half.txt"
    half.write_text(TEXT[:101])
    assert run("read", half, *model, "--save", tmp_path / "kept.fam").exit_code == 0
    half.write_text(TEXT)
    appended = run("read", half, *model, "--save", tmp_path / "kept.fam", "--append", "--json")
    assert json.loads(appended.stdout)["total"]["tokens"] == len(TEXT)
    asked = run("ask", "Where is the map?", "--load", tmp_path / "kept.fam", *model, "--json")
    assert "red stone" in asked.stdout
    assert "red stone" in run("summarize", text, *model).stdout
    evaluated = run("eval", "ppl", text, *model, "--json")
    assert [subject["memory_mode"] for subject in json.loads(evaluated.stdout)["subjects"]] == ["on"]
    for path, words in ((feedback, "one of each token for all layers"), (tmp_path / "kept.fam", "the last 64 tokens")):
        assert words in " ".join(run("inspect", path).stdout.split())


def test_the_one_that_ships_reads_writes_and_answers(run, text: Path, tmp_path: Path) -> None:
    model = ("--model", "feedback-tiny")
    assert "feedback-tiny" in run("models").stdout
    assert "one of each token for all layers" in " ".join(run("inspect", "feedback-tiny").stdout.split())
    read = json.loads(run("ppl", text, *model, "--json").stdout)
    # It knows English: as good as drawn weights would be 12 bits a token.
    assert read["files"][0]["scores"][0]["bits_per_byte"] < 2.5
    assert run("read", text, *model, "--save", tmp_path / "kept.fam").exit_code == 0
    for form in ((), ("--write",)):
        assert "red stone" in run("ask", "Where is the map?", "--load", tmp_path / "kept.fam", *model, *form).stdout
    for mode in ("extract", "write"):
        assert run("summarize", text, *model, "--mode", mode).exit_code == 0
    # In float32, too, where single tokens are not computed by other means.
    assert run("summarize", text, *model, "--mode", "write", "--dtype", "float32").exit_code == 0
    asked = run("eval", "passkey", "--lengths", "256", "--streams", "2", *model, "--json")
    assert json.loads(asked.stdout)["cells"]


def test_it_reads_in_fewer_bits(run, feedback: Path, text: Path) -> None:
    exact = json.loads(run("ppl", text, "--model", feedback, "--json").stdout)["files"][0]["scores"][0]["perplexity"]
    for options in (("--dtype", "bfloat16"), ("--quantize", "int8")):
        result = json.loads(run("ppl", text, "--model", feedback, "--json", *options).stdout)
        assert result["files"][0]["scores"][0]["perplexity"] == pytest.approx(exact, rel=0.2)


@pytest.mark.parametrize("mode", ["frozen", "none", "compare"])
def test_memory_modes_without_meaning_say_so(run, feedback: Path, text: Path, mode: str) -> None:
    for command in (("ppl",), ("eval", "ppl"), *([] if mode == "compare" else [("read",)])):
        result = run(*command, text, "--model", feedback, "--memory-mode", mode)
        assert result.exit_code == 2
        assert f"memory mode '{mode}' has no meaning" in " ".join(result.stderr.split())


def test_a_memory_file_without_window_would_be_empty(run, feedback: Path, text: Path, tmp_path: Path) -> None:
    result = run("read", text, "--model", feedback, "--save", tmp_path / "kept.fam", "--kind", "memory")
    assert result.exit_code != 0
    assert "no memory apart from what its tokens see" in " ".join(result.stderr.split())


def test_damaged_weights_are_named(run, feedback: Path, text: Path) -> None:
    (feedback / "fam.safetensors").unlink()
    result = run("ppl", text, "--model", feedback)
    assert result.exit_code == 1
    assert "it holds the layer weights that fam.json needs" in " ".join(result.stderr.split())


def test_eval_algorithmic_scores_made_sequences(run, feedback: Path) -> None:
    options = (
        "--sequences",
        "algorithmic:3,copy:4",
        "--sequence-tokens",
        "300,400",
        "--streams",
        "3",
        "--model",
        feedback,
    )
    result = json.loads(run("eval", "algorithmic", *options, "--json").stdout)
    cells = [(cell["task"], cell["length"], cell["streams"]) for cell in result["cells"]]
    assert cells == [("algorithmic 3", 300, 3), ("algorithmic 3", 400, 3), ("copy 4", 300, 3), ("copy 4", 400, 3)]
    assert "bootstrap" in result["definition"]
    assert "algorithmic 3" in run("eval", "algorithmic", *options).stdout
    wrong = run("eval", "algorithmic", "--sequences", "copy", "--model", feedback)
    assert (wrong.exit_code, "names no size" in " ".join(wrong.stderr.split())) == (2, True)
