"""Training a draft: it learns, goes on where it was stopped, and is what it was when it is opened again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from famcli.checkpoint.draft import make_draft, open_draft
from famcli.checkpoint.model import Model
from famcli.checkpoint.open import open_model
from famcli.errors import CheckpointError, FamcliError, RecipeError
from famcli.nn.draft import DraftConfig
from famcli.synthetic.streams import Filler
from famcli.training.draft import DraftStep, DraftTraining, draft_loss, train_draft
from famcli.training.loop.optimizer import Optimizers
from famcli.training.recipe.sections import ScheduleRecipe
from tests.helpers import make_random_checkpoint

SHAPE = DraftConfig(1, window=8, drafted_tokens=2)
TRAINING = DraftTraining(SHAPE, steps=6, texts=2, text_tokens=32, learning_rate=3e-3)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return open_model(
        make_random_checkpoint(tmp_path_factory.mktemp("target"), gain=2.0), device="cpu", dtype="float32"
    )


def run(model: Model, folder: Path, training: DraftTraining = TRAINING, stop_after: int = 10**9) -> list[DraftStep]:
    tokens = np.tile(np.arange(3, 40, dtype=np.int32), 20)
    steps: list[DraftStep] = []
    train_draft(
        model,
        lambda rng: Filler(tokens, np.array([0, len(tokens)]), rng),
        training,
        folder / "run",
        folder / "draft",
        steps.append,
        lambda: len(steps) >= stop_after,
    )
    return steps


def test_a_run_that_was_stopped_gives_the_same_draft(model: Model, tmp_path: Path) -> None:
    whole = run(model, tmp_path / "whole")
    assert [step.step for step in whole] == [1, 2, 3, 4, 5, 6]
    assert whole[-1].loss < whole[0].loss
    first = run(model, tmp_path / "parts", stop_after=2)
    assert not (tmp_path / "parts" / "draft").exists()
    with pytest.raises(RecipeError, match="began with another learning_rate"):
        run(model, tmp_path / "parts", replace(TRAINING, learning_rate=1e-3))
    rest = run(model, tmp_path / "parts")
    assert [step.step for step in first + rest] == [1, 2, 3, 4, 5, 6]
    one, other = (open_draft(tmp_path / name / "draft", model) for name in ("whole", "parts"))
    assert one.draft == SHAPE
    for name, value in one.state_dict().items():
        torch.testing.assert_close(value, other.state_dict()[name], atol=1e-6, rtol=0)
    lines = (tmp_path / "parts" / "run" / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3, 4, 5, 6]


def test_the_matrices_of_a_draft_learn_by_muon(model: Model) -> None:
    draft = make_draft(model.network, SHAPE)
    optimizers = Optimizers(draft, ScheduleRecipe(1, muon_lr=0.02))
    draft_loss(draft, model.network, torch.arange(3, 35)[None])[0].backward()  # type: ignore[no-untyped-call]
    before = {name: value.detach().clone() for name, value in draft.named_parameters()}
    optimizers.step(1.0)
    for name, value in draft.named_parameters():
        changes = value.detach() - before[name]
        if value.ndim == 2 and name != "layer_weights":
            # The root mean square of Muon's steps is a fifth of the rate at most; the first step of AdamW is the rate.
            assert 0.001 < float(changes.square().mean().sqrt()) < 0.0045


def test_a_draft_begins_as_the_last_layer_of_its_target(model: Model, tmp_path: Path) -> None:
    run(model, tmp_path, replace(TRAINING, steps=1, learning_rate=0.0))
    draft = open_draft(tmp_path / "draft", model)
    for name, value in list(model.network.layers)[-1].state_dict().items():
        torch.testing.assert_close(draft.layers[0].state_dict()[name], value.bfloat16().float())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target": "0" * 64}, "other weights"),
        ({"num_layers": 9}, "cannot be made"),
        ({"num_layers": 2}, "lack"),
        ({"window": 0}, "window is 0"),
        ({"window": "x"}, "window"),
        ({"format": 2}, "format"),
    ],
)
def test_what_is_no_draft_for_this_checkpoint_is_refused(
    model: Model, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    run(model, tmp_path, replace(TRAINING, steps=1))
    path = tmp_path / "draft" / "draft.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(CheckpointError, match=message):
        open_draft(tmp_path / "draft", model)


def test_texts_too_short_for_the_window_and_folders_without_a_draft_are_refused(model: Model, tmp_path: Path) -> None:
    with pytest.raises(FamcliError, match="at least 12"):
        replace(TRAINING, text_tokens=11)
    with pytest.raises(CheckpointError, match=r"no draft\.json"):
        open_draft(tmp_path, model)
