"""`famcli adapt`, `--adapter` and `famcli merge`: from a plain decoder to one that reads with a memory, and back."""

from __future__ import annotations

import json
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import torch

from famcli.checkpoint.open import open_model
from famcli.nn import FamConfig
from famcli.training.recipe.recipe import load_recipe
from tests.checkpoint.test_hub import FakeHub
from tests.helpers import TINY_CONFIG, make_random_checkpoint

SMALL = ("--steps", 3, "--lanes", 2, "--rank", 2, "--block-size", 16, "--memory-segments", 1, "--fam-length", 2,
         "--dtype", "float32", "--device", "cpu", "--set", "schedule.max_blocks=2")  # fmt: skip


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return make_random_checkpoint(tmp_path / "base", fam=None)


@pytest.fixture
def adapter(base: Path, story: Path, tmp_path: Path, run, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    done = run("adapt", base, "--data", story, "--out", "adapter", *SMALL)
    assert done.exit_code == 0, done.stderr
    assert done.stdout.startswith("adapter: trained 3 steps, ")
    assert " are trained)" in done.stderr
    assert f"next: famcli ppl FILE --memory-mode compare --model {base} --adapter adapter\n" in done.stderr
    return tmp_path / "adapter"


def test_an_adapter_is_made_used_shown_and_merged(base: Path, adapter: Path, story: Path, tmp_path: Path, run) -> None:
    figures: dict[str, Any] = {}
    assert run("merge", base, adapter, "merged").stdout.startswith("wrote ")
    for name, options in {"adapted": ["-m", base, "--adapter", adapter], "merged": ["-m", "merged"]}.items():
        done = run("ppl", story, *options, "--json")
        assert done.exit_code == 0, done.stderr
        figures[name] = json.loads(done.stdout)
    assert figures["adapted"]["model"] == f"{base} with {adapter}"
    totals = [figures[name]["total"][0] for name in ("adapted", "merged")]
    assert totals[0]["memory_mode"] == "on"
    bits = [total["bits_per_byte"] for total in totals]
    assert bits[0] == pytest.approx(bits[1], rel=1e-6)
    shown = json.loads(run("inspect", adapter, "--json").stdout)
    assert (shown["kind"], shown["rank"], shown["alpha"]) == ("adapter", 2, 2.0)
    assert shown["base"] == str(base)
    assert (
        shown["sidecar"]["base_weights"] == json.loads(run("inspect", base, "--json").stdout)["fingerprints"]["weights"]
    )
    assert shown["matrices"] == 7 * TINY_CONFIG.num_layers
    assert shown["sidecar"]["memory_trained"] is True
    assert shown["sidecar"]["validated_tokens"] is None  # nothing was looked at during the run
    text = run("inspect", adapter).stdout
    assert "LoRA of rank 2, alpha 2" in text
    assert "blocks of 16 tokens, 1 segment, 2 memory rows (gated)" in text
    assert run("inspect", "merged").exit_code == 0
    told = "warning: adapter was made for other weights than those of merged"
    assert told in run("ppl", story, "-m", "merged", "--adapter", "adapter").stderr
    twice = run("merge", "merged", "adapter", "twice", "--json")
    assert told in twice.stderr
    assert told.endswith(json.loads(twice.stdout)["warnings"][0].partition(",")[0])


def test_transformers_opens_what_is_merged(base: Path, adapter: Path, tmp_path: Path, run) -> None:
    transformers = pytest.importorskip("transformers")
    assert run("merge", base, adapter, tmp_path / "merged", "--json").exit_code == 0
    model = open_model(base, adapter=adapter, block_size=64, memory_segments=0, dtype="float32")
    tokens = torch.randint(0, TINY_CONFIG.vocab_size, (2, 40))
    with torch.no_grad():
        hidden, _ = model.network.read(tokens, model.network.start(2, "none"))
        ours = model.network.logits(hidden)
        merged = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32)
        torch.testing.assert_close(ours, merged(tokens).logits, atol=1e-4, rtol=1e-4)
    assert (base / "config.json").read_bytes() == (tmp_path / "merged" / "config.json").read_bytes()


def test_the_recipe_of_the_run_gives_the_same_adapter(base: Path, adapter: Path, tmp_path: Path, run) -> None:
    recipe = load_recipe(tmp_path / "runs" / "adapter" / "recipe.toml")
    assert recipe.adapt is not None
    assert recipe.adapt.model == str(base)
    done = run("train", recipe.path, "--run", tmp_path / "again", "--set", "schedule.max_blocks=2")
    assert done.exit_code == 0, done.stderr
    name = "adapter_model.safetensors"
    assert (tmp_path / "again" / "export" / name).read_bytes() == (adapter / name).read_bytes()


def test_a_memory_file_knows_its_adapter(base: Path, adapter: Path, story: Path, tmp_path: Path, run) -> None:
    make_random_checkpoint(base, fam=FamConfig(block_size=16, memory_segments=1, fam_length=2))
    assert run("read", story, "--save", "story.fam", "-m", base, "--adapter", adapter).exit_code == 0
    asked = ("ask", "Where is the map?", "--load", "story.fam", "-m", base)
    assert run(*asked, "--adapter", adapter).exit_code == 0
    other = run(*asked)
    assert other.exit_code == 1
    assert "was written with" in other.stderr


def test_distilling_and_full_fine_tuning(base: Path, story: Path, tmp_path: Path, run, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "texts").mkdir()
    shutil.copyfile(story, tmp_path / "texts" / "a.txt")
    done = run("adapt", base, "--data", "texts", "--out", "full", "--method", "full", *SMALL)
    assert done.exit_code == 0, done.stderr
    assert done.stderr.endswith("next: famcli ppl FILE --memory-mode compare --model full\n")
    assert run("ppl", story, "-m", "full").exit_code == 0
    done = run("adapt", base, "--data", "texts", "--data", story, "--out", "small", "--objective", "distill",
               "--target", "q_proj", "--target", "v_proj", *SMALL)  # fmt: skip
    assert done.exit_code == 0, done.stderr
    config = json.loads((tmp_path / "small" / "adapter_config.json").read_text())
    assert config["target_modules"] == ["q_proj", "v_proj"]


def test_tokens_are_kept_by_what_was_fitted(base: Path, story: Path, tmp_path: Path, run, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    how = ("--method", "keep", "--block-size", "16", "--fam-length", "4", "--memory-segments", "1", "--steps", "2")
    done = run("adapt", base, "--data", story, "--out", "kept", *how)
    assert done.exit_code == 0, done.stderr
    shown = run("inspect", "kept")
    assert "4 memory rows (kept)" in shown.stdout
    assert "of 0 matrices" not in shown.stdout
    assert run("read", story, "--save", "story.fam", "-m", base, "--adapter", "kept").exit_code == 0
    assert run("ppl", story, "-m", base, "--adapter", "kept", "--memory-mode", "compare").exit_code == 0
    asked = run("ask", "Where is the map?", "--load", "story.fam", "-m", base, "--adapter", "kept")
    assert asked.exit_code == 0, asked.stderr


def test_a_name_of_the_hub_is_fetched(base: Path, story: Path, tmp_path: Path, run, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    hub = FakeHub(base)
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: hub)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", hub.snapshot_download)
    command = ("adapt", "someone/tiny", "--data", story, "--out", "new", *SMALL)
    assert "is not in the hub's cache" in run(*command, "--offline").stderr
    assert hub.asked == []
    done = run(*command, "--cache", tmp_path / "elsewhere")
    assert done.exit_code == 0, done.stderr
    assert "fetching someone/tiny from the hub" in done.stderr
    assert done.stderr.endswith(f"--model someone/tiny --adapter new --cache {tmp_path / 'elsewhere'}\n")
    assert (
        json.loads((tmp_path / "new" / "adapter_config.json").read_text())["base_model_name_or_path"] == "someone/tiny"
    )
    asked = len(hub.asked)
    for command in (("quantize", "someone/tiny", "int8"), ("merge", "someone/tiny", "new", "merged")):
        assert run(*command, "--offline", "--cache", tmp_path / "elsewhere").exit_code == 0
        assert run(*command, "--offline", "--cache", tmp_path / "none").exit_code == 1
    assert len(hub.asked) == asked
    assert run("quantize", "someone/other", "other").exit_code == 0
    assert len(hub.asked) == asked + 2


def test_a_dry_run_writes_nothing(base: Path, story: Path, tmp_path: Path, run, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = set(tmp_path.iterdir())
    done = run("adapt", base, "--data", story, *SMALL, "--dry-run", "--json")
    assert done.exit_code == 0, done.stderr
    values = json.loads(done.stdout)
    assert 0 < values["estimate"]["trained"] < values["estimate"]["parameters"]
    assert values["recipe"]["adapt"]["objective"] == "task"
    assert set(tmp_path.iterdir()) == before
    shown = run("adapt", base, "--data", story, *SMALL, "--dry-run").stdout
    assert "are trained" in shown
    assert shown.splitlines()[-1] == "adapter       goes where --out says"
    named = run("adapt", base, "--data", story, *SMALL, "--dry-run", "--out", "new").stdout
    assert named.splitlines()[-1] == "adapter       goes to new"


def test_a_refused_command_leaves_the_recipe_of_the_run(
    base: Path, adapter: Path, story: Path, tmp_path: Path, run
) -> None:
    kept = (tmp_path / "runs" / "adapter" / "recipe.toml").read_bytes()
    shutil.rmtree(adapter)
    done = run("adapt", base, "--data", story, "--out", "adapter", *SMALL, "--rank", 3)
    assert done.exit_code == 1
    assert "undo the change of adapt.alpha, adapt.rank, or use another run folder" in " ".join(done.stderr.split())
    assert (tmp_path / "runs" / "adapter" / "recipe.toml").read_bytes() == kept


def test_texts_that_are_no_utf8_are_read_and_named(base: Path, tmp_path: Path, run, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("latin.txt").write_text("Ein schöner Tag, über den Fluß. " * 40, encoding="cp1252")
    done = run("adapt", base, "--data", "latin.txt", "--out", "adapter", *SMALL)
    assert done.exit_code == 0, done.stderr
    assert "latin: 1 file not in UTF-8, read as cp1252, which is a guess" in " ".join(done.stderr.split())


def test_after_ctrl_c_the_same_command_goes_on(
    base: Path, story: Path, tmp_path: Path, spawn, run, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ("adapt", base, "--data", story, "--out", "adapter", *SMALL, "--set", "schedule.steps=400")
    process = spawn(*command, "--jsonl", cwd=tmp_path)
    assert process.stdout is not None
    for line in process.stdout:
        if json.loads(line)["event"] == "StepDone":
            break
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopped and saved after" in errors
    assert not (tmp_path / "adapter").exists()
    done = run(*command, "--set", "schedule.steps=3")
    assert done.exit_code == 0, done.stderr
    assert (tmp_path / "adapter" / "adapter_model.safetensors").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--data", "story.txt"), 2, "--out is missing"),
        (("--out", "new"), 2, "there is nothing to learn from (--data PATH)"),
        (("--out", "new", "--data", "nowhere"), 1, "nowhere does not exist"),
        (("--out", "base", "--data", "story.txt"), 2, "is there already"),
        (("--out", "new", "--data", "story.txt", "--target", "q"), 2, "choose from q_proj"),
        (("--out", "new", "--data", "story.txt", "--set", "schedule.step=1"), 1, "famcli: unknown key schedule.step;"),
        (("--out", "new", "--data", "story.txt", "--minutes", "0"), 2, "--minutes"),
        (("--out", "story.txt/new", "--data", "story.txt", *SMALL), 2, "story.txt is no folder that can be written to"),
        (("--out", "new", "--data", "empty.txt", *SMALL), 1, "empty.txt: there is no text in it"),
        (("--out", "new", "--data", "binary.txt", *SMALL), 1, "binary.txt is binary data"),
        (("--out", "new", "--data", "paper.pdf", *SMALL), 1, "paper.pdf is a damaged PDF"),
        (("--out", "new", "--data", "story.txt", "--json"), 2, "--json goes with --dry-run"),
        (("--out", "new", "--data", "story.txt", "--alpha", "0"), 2, "'--alpha'"),
    ],
)
def test_what_cannot_be_adapted(
    base: Path, story: Path, tmp_path: Path, run, monkeypatch, arguments: tuple[str, ...], code: int, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.txt").write_bytes(b"")
    (tmp_path / "binary.txt").write_bytes(np.random.default_rng(0).bytes(5000))
    (tmp_path / "paper.pdf").write_bytes(b"%PDF-1.7\n" + b"x" * 100)
    done = run("adapt", base, *arguments)
    assert (done.exit_code, message in " ".join(done.stderr.split())) == (code, True), done.stderr
    assert not (tmp_path / "new").exists()


def test_adapters_that_do_not_fit(base: Path, adapter: Path, story: Path, tmp_path: Path, tiny: Path, run) -> None:
    fewer = make_random_checkpoint(tmp_path / "fewer", config=replace(TINY_CONFIG, num_layers=1))
    for command in (("ppl", story, "-m", fewer, "--adapter", adapter), ("merge", fewer, adapter, tmp_path / "m")):
        done = run(*command)
        assert done.exit_code == 1
        assert "is for another checkpoint" in " ".join(done.stderr.split())
    assert not (tmp_path / "m").exists()
    there = run("merge", base, adapter, base)
    assert (there.exit_code, "is there already" in there.stderr) == (2, True)
    assert "is not a folder" in run("ppl", story, "-m", tiny, "--adapter", tmp_path / "nowhere").stderr
