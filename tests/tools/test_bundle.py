"""Bundles: what was packed here trains there, without corpora, to the same numbers; broken ones are refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from famcli.checkpoint.inspect import inspect_checkpoint
from famcli.errors import RecipeError
from famcli.training.loop.train import train
from famcli.training.recipe.recipe import Recipe, load_recipe
from tools.bundle import pack_bundle, unpack_bundle

Make = Callable[..., Recipe]
PART_BYTES = 700
QUESTIONS = """
[[objectives]]
kind = "language_modelling"
[[objectives]]
kind = "questions"
path = "questions.jsonl"
[export]
storage = "int8"
shard_megabytes = 0.004
"""


@pytest.fixture
def full(toy: Path) -> Path:
    """The toy recipe with everything a bundle can hold: a tokenizer to train, questions, a held-out corpus."""
    folder = toy.parent
    records = [
        {
            "id": str(n),
            "context": f"The cat of house {n} is on the mat.",
            "question": "Where?",
            "answers": ["on the mat"],
        }
        for n in range(4)
    ]
    (folder / "questions.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    heldout = [{"id": str(n), "text": f"A tale that was kept, number {n}. " * 4} for n in range(2)]
    (folder / "heldout.jsonl").write_text("".join(json.dumps(record) + "\n" for record in heldout))
    text = toy.read_text().replace('path = "tokenizer"', "vocab_size = 300\ncharacters = 3000")
    toy.write_text(text + 'heldout = "heldout.jsonl"\n' + QUESTIONS)
    return toy


def _losses(run: Path) -> list[float]:
    events = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [event["loss"] for event in events if event["event"] == "StepDone"]


def test_what_was_packed_trains_where_the_corpora_are_not(full: Path, tmp_path: Path) -> None:
    parts = pack_bundle(load_recipe(full), tmp_path / "bundle", PART_BYTES)
    assert len(parts) > 2
    assert all(part.stat().st_size <= PART_BYTES for part in parts)
    train(load_recipe(full, ["data.cache=bundle/cache"]), tmp_path / "here")
    there = tmp_path / "there"
    (there / "carried").mkdir(parents=True)
    shutil.copy(full, there / "toy.toml")
    for part in parts:
        shutil.copy(part, there / "carried")
    unpack_bundle(there / "carried", there / "cache")
    ended = train(load_recipe(there / "toy.toml", ["data.cache=cache"]), there / "run")
    assert _losses(there / "run") == _losses(tmp_path / "here")
    assert ended.exported is not None
    assert inspect_checkpoint(ended.exported).storage == "int8"
    assert len(list(ended.exported.glob("model-*-of-*.safetensors"))) > 1
    assert json.loads((ended.exported / "figures.json").read_text())["documents"] == 2


def test_packing_again_leaves_no_older_parts(recipe: Make, tmp_path: Path) -> None:
    many = pack_bundle(recipe(), tmp_path / "bundle", 200)
    one = pack_bundle(recipe(), tmp_path / "bundle", 10**6)
    assert (len(many) > 2, len(one)) == (True, 1)
    assert [path.name for path in sorted((tmp_path / "bundle").iterdir())] == ["cache", one[0].name]


@pytest.mark.parametrize("damage", ["missing", "short", "other", "none"])
def test_broken_bundles_are_refused(recipe: Make, tmp_path: Path, damage: str) -> None:
    parts = pack_bundle(recipe(), tmp_path / "bundle", PART_BYTES)
    if damage == "missing":
        parts[1].unlink()
    elif damage == "short":
        parts[-1].write_bytes(parts[-1].read_bytes()[:-40])
    elif damage == "other":
        parts[1].write_bytes(bytes(PART_BYTES))
    else:
        for part in parts:
            part.unlink()
    with pytest.raises(RecipeError, match="bundle") as caught:
        unpack_bundle(tmp_path / "bundle", tmp_path / "cache")
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "cache").glob("*"))  # nothing half unpacked that a run would take for whole


def test_the_module_packs_and_unpacks(toy: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tools.bundle"]
    packed = subprocess.run(
        [*command, "pack", str(toy), str(tmp_path / "b")], capture_output=True, text=True, check=True
    )
    assert packed.stdout.startswith(f"{tmp_path / 'b' / 'tokens-00001-of-00001.part'}: 0.0 MB")
    subprocess.run([*command, "unpack", str(tmp_path / "b"), str(tmp_path / "c")], check=True)
    assert {path.name for path in (tmp_path / "c").iterdir()} == {
        path.name for path in (tmp_path / "b/cache").iterdir()
    }
    failed = subprocess.run([*command, "unpack", str(tmp_path), "x"], capture_output=True, text=True, check=False)
    assert (failed.returncode, len(failed.stderr.splitlines())) == (1, 1)
