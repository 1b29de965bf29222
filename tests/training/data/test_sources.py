"""What a recipe names, opened: its tokenizer, trained if there is none, and the shares of its objectives."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from famcli.errors import RecipeError, TokenizerError
from famcli.training.data.corpus import PackProgress, recipe_tokenizer
from famcli.training.data.lanes import IGNORE, Lanes
from famcli.training.data.objectives import open_data
from famcli.training.recipe.recipe import Recipe, load_recipe

Make = Callable[..., Recipe]
OBJECTIVES = """
[[objectives]]
kind = "language_modelling"
weight = 2
[[objectives]]
kind = "repeat"
weight = 1
corpora = ["notes"]
segment_tokens = 3
[[objectives]]
kind = "passkey"
weight = 1
blocks = 30
"""


def with_objectives(toy: Path, text: str, *changes: str) -> Recipe:
    toy.write_text(toy.read_text() + text)
    return load_recipe(toy, changes)


def test_each_objective_gets_its_share_of_the_tokens(toy: Path, tmp_path: Path) -> None:
    recipe = with_objectives(toy, OBJECTIVES, "schedule.lanes=4", "schedule.blocks_per_step=4")
    data = open_data(recipe, tmp_path / "cache")
    assert data.objectives == ("language_modelling", "repeat", "passkey")
    assert [source.name for source in data.sources] == ["tales", "notes", "repeat", "passkey"]
    assert [source.weight for source in data.sources] == [1.5, 0.5, 1.0, 1.0]
    lanes, tokens, answers = (
        Lanes(data.sources, recipe.all_objectives, recipe.schedule, 8, 256, 3),
        Counter[str](),
        Counter[str](),
    )
    for step in range(300):
        plan = lanes.plan(step, 0.0)
        for group in plan.groups:
            for row, objective in enumerate(group.objectives):
                tokens[data.objectives[objective]] += int((group.targets[row] != IGNORE).sum())
                answers[data.objectives[objective]] += int(group.answers[row].sum())
        lanes.advance(plan, {})
    total = sum(tokens.values())
    assert tokens["language_modelling"] / total == pytest.approx(0.5, abs=0.03)
    assert tokens["repeat"] / total == pytest.approx(0.25, abs=0.03)
    assert answers["language_modelling"] == 0
    assert answers["passkey"] > 0
    assert recipe.longest_distance == 240


def test_facts_that_leave_nothing_to_ask_are_refused(toy: Path, tmp_path: Path) -> None:
    recipe = with_objectives(toy, '[[objectives]]\nkind = "facts"\ntasks = ["qa1", "qa3"]\ncount = 2\n')
    with pytest.raises(RecipeError, match="objective 'facts': 2 statements for qa3"):
        open_data(recipe, tmp_path / "cache")


def test_a_tokenizer_is_trained_once_and_only_where_there_is_none(recipe: Make, toy: Path, tmp_path: Path) -> None:
    made, seen = recipe("tokenizer.vocab_size=300", "tokenizer.characters=5000"), list[PackProgress]()
    assert recipe_tokenizer(made, tmp_path / "cache").vocab_size == 257  # the one that is there
    shutil.rmtree(toy.parent / "tokenizer")
    trained = recipe_tokenizer(made, tmp_path / "cache", seen.append)
    assert trained.vocab_size == 300
    assert trained.decode(trained.encode("Tale 3.\n once")) == "Tale 3.\n once"
    assert seen[-1].total == 5000
    (folder,) = (tmp_path / "cache").iterdir()
    before = (folder / "tokenizer.model").stat().st_mtime_ns
    for corpus in made.corpora:  # not needed any more
        shutil.rmtree(corpus.path) if corpus.path.is_dir() else corpus.path.unlink()
    assert recipe_tokenizer(made, tmp_path / "cache").fingerprint == trained.fingerprint
    assert (folder / "tokenizer.model").stat().st_mtime_ns == before
    with pytest.raises(TokenizerError, match="no tokenizer in"):
        recipe_tokenizer(recipe(), tmp_path / "cache")
