"""`famcli enable`, `inspect`, `models`, `pull` and `quantize`: checkpoints on disk, without running them."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save_file

from famcli.nn import FamConfig
from tests.checkpoint.gguf_files import write_gguf
from tests.checkpoint.test_hub import FakeHub
from tests.helpers import TINY_CONFIG, change_json, make_random_checkpoint
from tools.commands_page import commands_page

WROTE = "wrote fam.safetensors and fam.json"


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """A decoder as fetched from a hub."""
    return make_random_checkpoint(tmp_path / "plain", fam=None)


def test_enable_writes_the_sidecar_and_says_what_it_chose(run, plain: Path) -> None:
    before = {path.name: path.read_bytes() for path in plain.iterdir()}
    result = run("enable", plain)
    assert result.exit_code == 0
    assert result.stdout.startswith(f"{WROTE} in {plain}\n")
    assert "block_size 64, memory_segments 3, fam_length 64, sink_tokens 4; memory not trained yet" in result.stdout
    assert result.stderr.endswith(f"famcli: next: famcli ppl FILE --model {plain}\n")
    assert "famcli: block_size 64 was chosen: the decoder was trained on 256 tokens" in result.stderr
    assert {path.name for path in plain.iterdir()} == {*before, "fam.json", "fam.safetensors"}
    assert all((plain / name).read_bytes() == content for name, content in before.items())


def test_enable_takes_numbers_and_prints_json(run, plain: Path) -> None:
    options = ["--block-size", 32, "--memory-segments", 1, "--fam-length", 8, "--sink-tokens", 2, "--json", "--quiet"]
    result = run("enable", plain, *options)
    sidecar = json.loads(result.stdout)["sidecar"]
    assert result.stderr == ""
    assert [sidecar[key] for key in ("block_size", "memory_segments", "fam_length", "sink_tokens")] == [32, 1, 8, 2]
    assert sidecar["memory_trained"] is False


def test_enabling_twice_needs_force(run, plain: Path) -> None:
    assert run("enable", plain).exit_code == 0
    again = run("enable", plain)
    assert again.exit_code == 2
    assert "--force" in again.stderr
    assert run("enable", plain, "--force", "--block-size", 16).exit_code == 0
    assert json.loads((plain / "fam.json").read_text())["block_size"] == 16


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["missing"], 1), (["."], 1), ([], 2), (["x", "--block-size", "0"], 2), (["x", "--seed", "y"], 2)],
)
def test_enable_refuses(run, arguments: list[str], code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("enable", *arguments)
    assert (result.exit_code, result.stdout) == (code, "")
    assert result.stderr


def test_an_enabled_checkpoint_reads_and_says_that_its_memory_is_off(run, plain: Path, story: Path) -> None:
    run("enable", plain, "--block-size", 32)
    result = run("ppl", story, "--model", plain, "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["total"][0]["memory_mode"] == "none"
    assert result.stderr.count("not trained") == 1
    for mode in ("on", "compare"):
        asked = run("ppl", story, "--model", plain, "--json", "--memory-mode", mode)
        assert json.loads(asked.stdout)["total"][0]["memory_mode"] == "on"
        assert "is not trained, and what it adds means nothing yet" in " ".join(asked.stderr.split())
    assert "means nothing" not in run("ppl", story, "--model", plain, "--memory-mode", "none").stderr


def test_a_checkpoint_can_be_enabled_without_memory(run, plain: Path) -> None:
    result = run("enable", plain, "--fam-length", 0)
    assert result.exit_code == 0, result.stderr
    assert "fam_length 0, sink_tokens 4; no memory" in " ".join(result.stdout.split())
    assert "memory        none\n" in run("inspect", plain).stdout


@pytest.mark.parametrize(
    ("command", "norm"),
    [
        *((command, "layers.0.input_layernorm") for command in ("ppl", "read", "ask", "eval ppl")),
        ("eval passkey", "layers.0.input_layernorm"),
        ("ppl", "norm"),
        ("summarize --mode write", "layers.0.input_layernorm"),
        ("summarize --mode write", "norm"),
    ],
)
def test_weights_that_are_no_numbers_are_noticed(run, tmp_path: Path, story: Path, command: str, norm: str) -> None:
    broken = make_random_checkpoint(tmp_path / "broken", fam=FamConfig(block_size=128, memory_segments=1, fam_length=4))
    weights = load_file(broken / "model.safetensors")
    weights[f"model.{norm}.weight"][3] = torch.nan
    save_file(weights, broken / "model.safetensors")
    arguments = {"ask": ["Who hid the map?", "--file", story], "eval passkey": ["--lengths", "600", "--streams", "1"]}
    result = run(*command.split(), *arguments.get(command, [story]), "--model", broken)
    assert (result.exit_code, result.stdout) == (1, ""), result.stderr
    assert "the network gives values that are not numbers" in " ".join(result.stderr.split())


def test_inspect_a_checkpoint(run, tiny: Path) -> None:
    text = run("inspect", tiny).stdout
    assert "blocks of 128 tokens, 1 segment, 4 memory rows (additive), 0 sinks" in text
    assert "trained" in text
    assert (text.count(str(tiny)), text.count("31,968"), "in float32" in text) == (1, 1, True)
    facts = json.loads(run("inspect", tiny, "--json").stdout)
    assert facts["kind"] == "checkpoint"
    assert facts["sidecar"]["block_size"] == 128
    assert facts["state_bytes"] > 0
    assert {len(value) for value in facts["fingerprints"].values()} == {64}


def test_inspect_a_plain_decoder_says_how_to_enable_it(run, plain: Path) -> None:
    result = run("inspect", plain)
    assert result.exit_code == 0
    assert f"famcli enable {plain}" in result.stdout


def test_inspect_what_is_neither(run, story: Path) -> None:
    for path in (story, story.parent / "missing"):
        result = run("inspect", path)
        assert (result.exit_code, result.stdout) == (1, "")
        assert len(result.stderr.splitlines()) == 1


def test_models_lists_the_cache(run, tmp_path: Path, plain: Path, story: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAMCLI_OFFLINE", "1")
    cache, commit = tmp_path / "hub", "0" * 40
    folders = {}
    for name in ("half", "odd", "small"):
        folder = cache / f"models--someone--{name}"
        (folder / "refs").mkdir(parents=True)
        (folder / "refs" / "main").write_text(commit)
        folders[name] = shutil.copytree(plain, folder / "snapshots" / commit)
    (folders["half"] / "model.safetensors").unlink()
    change_json(folders["odd"] / "config.json", model_type="gpt2")
    listed = json.loads(run("models", "--cache", cache, "--json").stdout)["models"]
    mine = [model for model in listed if model["where"] == "hub cache"]
    sizes = {name: sum(path.stat().st_size for path in folder.iterdir()) for name, folder in folders.items()}
    keys = ("name", "enabled", "family", "known", "memory", "whole", "bytes")
    assert [tuple(model[key] for key in keys) for model in mine] == [
        ("someone/half", False, "llama", True, None, False, sizes["half"]),
        ("someone/odd", False, "gpt2", False, None, True, sizes["odd"]),
        ("someone/small", False, "llama", True, None, True, sizes["small"]),
    ]
    lines = run("models", "--cache", cache).stdout.splitlines()
    for line, end in zip(
        [line for line in lines if line.startswith("someone/")],
        (
            "  not whole: famcli pull someone/half",
            "  a family that famcli does not open",
            "  no memory",
        ),
        strict=True,
    ):
        assert line.endswith(end)
    shipped = next(line for line in lines if line.startswith("fam-tiny"))
    assert shipped.endswith("memory trained")
    for command in (("ppl", story, "--model"), ("enable",), ("inspect",)):
        half, odd = (run(*command, f"someone/{name}", "--cache", cache).stderr for name in ("half", "odd"))
        assert "someone/half is not complete in the hub's cache" in half
        assert "famcli pull someone/half" in half
        assert "'model_type' is 'gpt2'" in odd
        assert "famcli enable" not in half + odd


def test_a_gguf_file_is_enabled_inspected_and_read(run, plain: Path, story: Path, tmp_path: Path) -> None:
    make_random_checkpoint(plain, config=replace(TINY_CONFIG, vocab_size=300), fam=None)
    path = write_gguf(plain, tmp_path / "one.gguf")
    before = run("ppl", story, "--model", path)
    assert before.exit_code == 0
    assert before.stderr.count("has no memory: it reads in blocks of 64 tokens") == 1
    assert run("enable", path).stdout.startswith(f"wrote one.fam.safetensors and one.fam.json in {tmp_path}\n")
    facts = json.loads(run("inspect", path, "--json").stdout)
    assert (facts["kind"], facts["where"], facts["family"]) == ("checkpoint", "GGUF file", "llama")
    found = json.loads(run("ppl", story, "--model", path, "--json", "--quantize", "int8").stdout)
    assert found["read"]["bytes"] == story.stat().st_size


def test_weights_in_fewer_bits_are_said_and_inspected(run, tiny: Path, story: Path, tmp_path: Path) -> None:
    plain, quantized = (run("ppl", story, "--model", tiny, "--json", *more) for more in ((), ("--quantize", "int8")))
    assert ", weights in int8" in quantized.stderr
    bits = [json.loads(result.stdout)["total"][0]["bits_per_byte"] for result in (plain, quantized)]
    assert bits[0] != bits[1]
    assert bits[0] == pytest.approx(bits[1], rel=0.05)
    needs = json.loads(run("inspect", tiny, "--json").stdout)["memory_bytes"]
    assert needs["float32"] > needs["bfloat16"] > needs["int8"] > needs["int4"]
    made = json.loads(run("quantize", tiny, tmp_path / "made", "--json").stdout)
    assert (made["to"], made["weights_bytes"] < 0.5 * needs["float32"]) == ("int8", True)
    smaller = json.loads(run("quantize", tiny, tmp_path / "int4", "--to", "int4", "--json").stdout)
    assert smaller["weights_bytes"] < made["weights_bytes"]
    assert "int4 is turned back" in run("inspect", tmp_path / "int4").stdout
    stored = json.loads(run("ppl", story, "--model", tmp_path / "made", "--json").stdout)
    assert stored["total"][0]["bits_per_byte"] == pytest.approx(bits[1], rel=0.01)
    again = run("quantize", tiny, tmp_path / "made")
    assert (again.exit_code, again.stdout) == (2, "")
    assert run("ppl", story, "--model", tiny, "--quantize", "int3").exit_code == 2


def test_pull_fetches_and_says_what_comes_next(
    run, plain: Path, story: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeHub(plain)
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: fake)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fake.snapshot_download)
    for name in ("notes.json", "weights.bin"):
        (plain / name).write_text("{}")
    offline = run("pull", "someone/tiny", "--offline")
    assert (offline.exit_code, offline.stdout, fake.asked) == (1, "", [])
    result = run("pull", "someone/tiny")
    assert result.exit_code == 0
    assert result.stdout.startswith("someone/tiny: ")
    assert "famcli: next: famcli summarize FILE --model someone/tiny\n" in result.stderr
    elsewhere = ("--cache", tmp_path / "elsewhere")
    assert f"--model someone/tiny --cache {elsewhere[1]}\n" in run("pull", "someone/tiny", *elsewhere).stderr
    facts = json.loads(run("pull", "someone/tiny", "--json", "--quiet").stdout)
    assert (facts["family"], facts["memory"], facts["checked"]) == ("llama", None, True)
    asked = len(fake.asked)
    again = run("pull", "someone/tiny", "--offline")
    assert (again.exit_code, again.stdout, len(fake.asked)) == (0, result.stdout, asked)
    assert "it was here already, and the hub was not asked for a newer version" in again.stderr
    assert "weights.bin" not in facts["files"]
    assert run("pull", "tiny").exit_code == 2
    assert "no folder, is not in the hub's cache" in run("ppl", story, "--model", "a/b", "--offline").stderr
    monkeypatch.setenv("FAMCLI_OFFLINE", "1")
    asked = len(fake.asked)
    assert run("ppl", story, "--model", "someone/other").exit_code == 1
    assert len(fake.asked) == asked
    monkeypatch.delenv("FAMCLI_OFFLINE")
    fetched = run("ppl", story, "--model", "someone/other")
    assert "famcli: fetching someone/other from the hub" in fetched.stderr
    assert "someone/other has no memory" in fetched.stderr
    enabled = run("enable", "someone/other", "--block-size", 32)
    assert enabled.stdout.startswith(f"{WROTE} in the hub's cache, beside someone/other\n")
    assert enabled.stderr.endswith("next: famcli ppl FILE --model someone/other\n")
    assert run("ppl", story, "--model", "someone/other").exit_code == 0


def test_the_page_of_commands_is_up_to_date() -> None:
    page = Path(__file__).parents[2] / "docs" / "commands.md"
    assert page.read_text(encoding="utf-8") == commands_page(), "run `make docs`"


def test_a_memory_file_that_is_not_there_is_called_that(run, tmp_path: Path) -> None:
    done = run("inspect", tmp_path / "no.fam")
    assert done.exit_code == 1
    assert "no such memory file; `famcli read FILE` makes one" in done.stderr
    assert "(--save " in done.stderr
