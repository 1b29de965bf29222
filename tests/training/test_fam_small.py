"""fam-small's recipe: its size, what it keeps out, and a rehearsal of the whole way at a toy's width."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from famcli.checkpoint.open import open_model
from famcli.training.loop.networks import build_network
from famcli.training.loop.train import train
from famcli.training.recipe.recipe import Recipe, load_recipe
from tools.bundle import pack_bundle, unpack_bundle

RECIPE = Path(__file__).parents[2] / "models" / "fam-small" / "recipe.toml"
TOY_WIDTH = [
    "network.hidden_size=16",
    "network.num_layers=2",
    "network.num_heads=2",
    "network.num_key_value_heads=1",
    "network.head_dim=8",
    "network.intermediate_size=24",
    "network.block_size=128",
    "network.fam_length=4",
    "tokenizer.vocab_size=320",
    "tokenizer.characters=20000",
    "schedule.lanes=10",
    "schedule.max_blocks=4",
    "schedule.steps=12",
    "hardware.device=cpu",
    "hardware.threads=1",
    "checks.every_steps=6",
    "checks.documents=1",
    "checks.tokens=256",
    "checks.passkey_every_steps=12",
    "checks.passkey_streams=2",
    "checks.passkey_distances=[1]",
    "corpora.wikipedia.validation_hash_below=100",  # of sixteen articles
    "export.shard_megabytes=0.01",
]


@pytest.fixture(scope="module")
def shipped() -> Recipe:
    return load_recipe(RECIPE)


def test_its_size_is_what_a_package_can_carry(shipped: Recipe) -> None:
    assert shipped.tokenizer.vocab_size is not None
    network = build_network(shipped, shipped.tokenizer.vocab_size)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    assert 40e6 < parameters < 50e6
    scales = sum(4 * parameter.shape[0] for parameter in network.parameters() if parameter.dim() == 2)
    assert parameters + scales + 1e6 < 50e6  # 1 MB for the tokenizer and all else
    assert shipped.export.storage == "int8"
    assert shipped.export.shard_megabytes is not None
    assert shipped.export.shard_megabytes <= 15


def test_what_is_held_out_stays_out(shipped: Recipe) -> None:
    wikipedia = next(corpus for corpus in shipped.corpora if corpus.name == "wikipedia")
    assert len(wikipedia.exclude_ids) == 6
    assert wikipedia.validation_hash_below == 5
    splits = {"fairytale_stories": "train", "qa_fairytaleqa": "train", "qa_mctest": "train"}
    sources = [source for source in (*shipped.corpora, *shipped.objectives) if source.path]
    for source in sources:
        assert source.path is not None
        name = source.path.name.split(".")[0]
        assert name not in {"books_heldout", "qa_covidqa", "qa_pubmedqa"}
        assert source.license
        if name in splits:
            assert source.where == {"split": splits[name]}
        if name == "qa_squad_dev":
            assert (source.hash_field, source.hash_below, source.hash_from) == ("title", 205, 0)


def _write_records(path: Path, make: Callable[[int], dict[str, Any]], count: int) -> None:
    with path.open("w") as file:
        for number in range(count):
            file.write(json.dumps({"id": f"{path.name}-{number}", "split": "train"} | make(number)) + "\n")


def _story(number: int) -> dict[str, Any]:
    return {"text": f"Chapter {number}. " + "The rain fell on the hills, and nobody came to the old house. " * 40}


def _question(number: int) -> dict[str, Any]:
    context = f"House {number} stands on the hill. It is old."
    return {"context": context, "question": "Where does it stand?", "answers": ["on the hill"], "title": f"t{number}"}


@pytest.mark.filterwarnings("ignore:.*sentencepiece.*")
def test_a_rehearsal_from_corpora_to_a_checkpoint(shipped: Recipe, tmp_path: Path) -> None:
    for corpus in shipped.corpora:
        _write_records(tmp_path / corpus.path.name.removesuffix(".zst"), _story, 16)
    for objective in shipped.objectives:
        if objective.path:
            _write_records(tmp_path / objective.path.name.removesuffix(".zst"), _question, 12)
    _write_records(tmp_path / "heldout.jsonl", _story, 2)
    names = [f"corpora.{corpus.name}" for corpus in shipped.corpora]
    names += [f"objectives.{objective.name}" for objective in shipped.objectives if objective.path]
    paths = [source.path for source in (*shipped.corpora, *shipped.objectives) if source.path]
    settings = [
        *TOY_WIDTH,
        f"data.folder={tmp_path}",
        "checks.heldout=heldout.jsonl",
        *(f"{name}.path={path.name.removesuffix('.zst')}" for name, path in zip(names, paths, strict=True)),
    ]
    pack_bundle(load_recipe(RECIPE, settings), tmp_path / "bundle", 10_000)
    unpack_bundle(tmp_path / "bundle", tmp_path / "cache")
    elsewhere = [*settings, f"data.cache={tmp_path / 'cache'}", f"data.folder={tmp_path / 'absent'}"]
    ended = train(load_recipe(RECIPE, elsewhere), tmp_path / "run")
    assert ended.exported is not None
    assert open_model(ended.exported, device="cpu").sidecar.memory_trained
    events = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    steps = [event for event in events if event["event"] == "StepDone"]
    read = {name for step in steps for name, part in step["by_objective"].items() if part["num_answers"]}
    assert read >= {objective.name for objective in shipped.objectives if objective.weight >= 0.05} - {
        "language_modelling"
    }
    assert {event["event"] for event in events} >= {"CheckDone", "PasskeyDone", "RunEnded"}
