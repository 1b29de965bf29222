"""Recipes: what is accepted, what is refused and how, and what a resumed run may change."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from famcli.errors import RecipeError
from famcli.training.recipe.recipe import Recipe, load_recipe
from tools.recipe_keys import describe_keys, with_table

SHIPPED = Path(__file__).parents[3] / "models" / "fam-tiny" / "recipe.toml"


def test_paths_are_relative_to_the_recipe_and_the_data_folder(toy: Path) -> None:
    recipe = load_recipe(toy)
    assert recipe.tokenizer.path == toy.parent / "tokenizer"
    assert [corpus.path.name for corpus in recipe.corpora] == ["tales.jsonl", "notes"]
    assert all(corpus.path.exists() for corpus in recipe.corpora)
    assert recipe.corpora[0].weight == 3.0


def test_the_recipe_that_ships_is_valid_and_keeps_out_what_must_be_kept_out() -> None:
    recipe = load_recipe(SHIPPED)
    wikipedia = next(corpus for corpus in recipe.corpora if corpus.name == "wikipedia")
    assert len(wikipedia.exclude_ids) == 6
    assert wikipedia.validation_hash_below == 5
    assert next(corpus for corpus in recipe.corpora if corpus.name == "fairytales").where == {"split": "train"}
    assert not any("heldout" in corpus.path.name or corpus.path.name.startswith("qa_") for corpus in recipe.corpora)
    assert all(corpus.license for corpus in recipe.corpora)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("lanes = 3", "lanes = 0", "schedule.lanes must be at least 1"),
        ("lanes = 3", "lanes = true", "schedule.lanes must be of type integer"),
        ("lanes = 3", "lane = 3", "unknown key schedule.lane"),
        ("lanes = 3", "", "schedule.lanes is missing"),
        ("[schedule]", "[export]", "schedule is missing; add the section [schedule]"),
        ("steps = 6", "", "schedule needs steps or max_minutes"),
        ("weight = 3", "weight = 'much'", "corpora[0].weight must be of type number"),
        ('name = "notes"', 'name = "tales"', "different names"),
        ("fam_length = 2", "fam_length = 9", "'fam_length' must be between 0 and 8, it is 9"),
        ("num_key_value_heads = 1", "num_key_value_heads = 3", "must divide num_heads"),
        ('dtype = "float32"', 'dtype = "int8"', "hardware.dtype must be one of float32, bfloat16"),
        ("seed = 3", "seed = -1", "data.seed must be at least 0"),
        ("[network]", "[network", "not TOML"),
        ("validation_documents = 2", "where = { split = 1 }", "must be a table of strings"),
        ("fam_length = 2", 'fam_length = 2\nmemory_update = "odd"', "network.memory_update must be one of"),
        ('path = "tokenizer"', "", "tokenizer needs path or vocab_size"),
        ("blocks_per_step = 2", "", "either blocks_per_step or max_blocks"),
        ("blocks_per_step = 2", "blocks_per_step = 2\nmax_blocks = 3", "either blocks_per_step or max_blocks"),
        ("blocks_per_step = 2", "max_blocks = 2\nmin_blocks = 3", "at least min_blocks"),
        ("lanes = 3", "lanes = 3\nrandom_state_passing = 1.5", "schedule.random_state_passing must be from 0.0 to 1.0"),
        ("lanes = 3", 'lanes = 3\nstate_passing = "all"', "schedule.state_passing must be one of lane, batch"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(toy: Path, old: str, new: str, said: str) -> None:
    toy.write_text(toy.read_text().replace(old, new, 1))
    with pytest.raises(RecipeError) as caught:
        load_recipe(toy)
    assert said in str(caught.value)
    assert str(toy) in str(caught.value)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ('kind = "poems"', "objectives[0].kind must be one of"),
        ('kind = "passkey"\nqueries = 2', "objectives[0].queries has no meaning for passkey"),
        ('kind = "language_modelling"\nanswer_weight = 2', "answer_weight has no meaning for language_modelling"),
        ('kind = "passkey"\ncorpora = ["poems"]', "objectives[0].corpora names 'poems', which is no corpus"),
        ('kind = "needles"\ncount = 2\nqueries = 3', "objectives[0].queries is 3, more than its count of 2"),
        ('kind = "facts"\ntasks = ["qa1", "qa9"]', "objectives[0].tasks[1] must be one of"),
        ('kind = "questions"', "objectives[0].path is missing"),
        ('kind = "passkey"\ntext_weight = 0\nanswer_weight = 0', "objectives[0] learns nothing"),
        ('kind = "passkey"\n[[objectives]]\nkind = "passkey"', "objectives need different names"),
        ('kind = "passkey"\nweight = 0', "objectives need a positive weight"),
    ],
)
def test_objectives_that_do_not_fit_are_refused_by_name(toy: Path, lines: str, said: str) -> None:
    toy.write_text(f"{toy.read_text()}\n[[objectives]]\n{lines}\n")
    with pytest.raises(RecipeError) as caught:
        load_recipe(toy)
    assert said in str(caught.value)


def test_objectives_have_names_to_override_them_by(toy: Path) -> None:
    toy.write_text(
        toy.read_text() + '\n[[objectives]]\nkind = "language_modelling"\n[[objectives]]\nkind = "passkey"\n'
    )
    recipe = load_recipe(toy, ["objectives.passkey.blocks=7", "objectives.passkey.answer_weight=3"])
    assert [objective.name for objective in recipe.objectives] == ["language_modelling", "passkey"]
    assert recipe.objectives[1].answer_weight == 3.0
    assert recipe.longest_distance == 7 * 8
    assert load_recipe(toy).longest_distance == 2 * 8


def test_without_objectives_language_is_modelled_and_nothing_is_asked(toy: Path) -> None:
    recipe = load_recipe(toy)
    assert [objective.kind for objective in recipe.all_objectives] == ["language_modelling"]
    assert recipe.longest_distance == 0


def test_blocks_of_a_step_are_drawn_under_a_growing_bound(toy: Path) -> None:
    toy.write_text(
        toy.read_text().replace("blocks_per_step = 2", "max_blocks = 9\nmin_blocks = 2\ncurriculum_share = 0.5")
    )
    schedule = load_recipe(toy).schedule
    assert schedule.longest_step == 9
    assert {schedule.blocks_of_step(1, step, 0.0) for step in range(50)} == {2}
    assert {schedule.blocks_of_step(1, step, 0.25) for step in range(200)} == set(range(2, 7))  # half way, rounded
    late = [schedule.blocks_of_step(1, step, 0.7) for step in range(400)]
    assert set(late) == set(range(2, 10))
    assert late == [schedule.blocks_of_step(1, step, 0.9) for step in range(400)]  # of (seed, step) and bound alone
    assert late != [schedule.blocks_of_step(2, step, 0.7) for step in range(400)]


def test_a_checkpoint_to_start_from_is_a_folder_beside_the_recipe_or_a_name(toy: Path) -> None:
    (toy.parent / "old").mkdir()
    assert load_recipe(toy, ["schedule.init=old"]).schedule.init == str(toy.parent.resolve() / "old")
    assert load_recipe(toy, ["schedule.init=fam-tiny"]).schedule.init == "fam-tiny"


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="cannot be read"):
        load_recipe(tmp_path / "none.toml")


def test_keys_can_be_overridden_corpora_by_name(toy: Path) -> None:
    recipe = load_recipe(toy, ["schedule.lanes=5", "corpora.notes.weight=0.25", "hardware.dtype=bfloat16"])
    assert (recipe.schedule.lanes, recipe.corpora[1].weight, recipe.hardware.dtype) == (5, 0.25, "bfloat16")


@pytest.mark.parametrize("override", ["schedule.lanes", "=3", "corpora.none.weight=1", "corpora=1", "name.x=1"])
def test_an_override_that_fits_nothing_is_refused(toy: Path, override: str) -> None:
    with pytest.raises(RecipeError):
        load_recipe(toy, [override])


def test_every_key_is_documented() -> None:
    described = {key for key, *_ in describe_keys()}
    sections = {item.name for item in dataclasses.fields(Recipe)} - {"path", "name"}
    assert {key.split(".")[0].removesuffix("[]") for key in described} == sections | {"name"}
    assert all(meaning for *_, meaning in describe_keys())


def test_only_what_shapes_the_numbers_is_among_the_learning_keys(toy: Path) -> None:
    plain = load_recipe(toy).learning_keys()
    same = load_recipe(
        toy,
        [
            "schedule.steps=99",
            "hardware.threads=2",
            "checks.tokens=8",
            "corpora.notes.license=x",
            "schedule.accumulate=3",
        ],
    )
    assert same.learning_keys() == plain
    for change in (
        "schedule.lanes=4",
        "network.rope_theta=5e4",
        "corpora.notes.weight=2",
        "data.seed=4",
        "schedule.random_state_passing=0.5",
    ):
        assert load_recipe(toy, [change]).learning_keys() != plain


def test_the_documentation_lists_the_keys_as_they_are() -> None:
    page = (SHIPPED.parents[2] / "docs" / "training.md").read_text(encoding="utf-8")
    assert with_table(page) == page, "run: python -m tools.recipe_keys docs/training.md"
