"""Answers in turns: questions read side by side give what each gives alone, and a run ends in an adapter."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional

from famcli.checkpoint.chat_template import Message, open_chat_template
from famcli.checkpoint.open import open_model
from famcli.checkpoint.sidecar import read_sidecar
from famcli.errors import FamcliError, RecipeError
from famcli.nn.lora import lora_updates
from famcli.tasks.prompts import NOT_SAID
from famcli.tasks.written_text import TurnWriter
from famcli.training.data.turns import AskedTurn, TextTurns, TurnsQueue
from famcli.training.loop.processes import Processes
from famcli.training.loop.run_folder import StepDone, TrainEvent, TurnsChecked
from famcli.training.loop.train import Trainer, train
from famcli.training.loop.turns_step import TurnsGradients, _alike
from famcli.training.recipe.recipe import Recipe, load_recipe
from tests.helpers import make_random_checkpoint
from tools.bundle import pack_bundle, unpack_bundle

HEAD = """
name = "turns"
[network]
block_size = 256
memory_segments = 1
fam_length = 0
[adapt]
model = "base"
rank = 3
alpha = 6
storage = "bfloat16"
prompts = { ask = "From the text.\\n{text}\\nQ: {question}" }
[data]
folder = "."
[schedule]
lanes = 2
blocks_per_step = 1
steps = 30
warmup_steps = 1
muon_lr = 0
adamw_lr = 0.02
[hardware]
dtype = "float32"
threads = 1
[checks]
every_steps = 15
documents = 2
turns = "texts.jsonl"
[[objectives]]
name = "questions"
kind = "turns"
path = "texts.jsonl"
weight = 3
[[objectives]]
name = "notes"
kind = "turns"
path = "notes.jsonl"
answer_weight = 0.5
"""
TEMPLATE = (
    "{% for m in messages %}[{{ m.role }}]{{ m.content }}<s>{% endfor %}{% if add_generation_prompt %}[bot]{% endif %}"
)
Make = Callable[..., Recipe]


def _lines(path: Path, records: Sequence[Mapping[str, object]]) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


@pytest.fixture
def made(tmp_path: Path) -> Make:
    base = make_random_checkpoint(tmp_path / "base", fam=None, gain=3.0)
    (base / "chat_template.jinja").write_text(TEMPLATE)
    texts = [
        {
            "turn": "ask",
            "text": f"The {colour} door.",
            "asked": [["Which?", colour], ["Who?", NOT_SAID], ["What?", "door"]],
        }
        for colour in ("red", "blue", "green")
    ]
    _lines(tmp_path / "texts.jsonl", texts)
    _lines(tmp_path / "notes.jsonl", [{"turn": "{text}", "text": "Say hello.", "asked": [["", "Hello."]]}])
    (tmp_path / "recipe.toml").write_text(HEAD)
    return lambda *changes: load_recipe(tmp_path / "recipe.toml", changes)


def _trainer(recipe: Recipe, run: Path) -> Trainer:
    return Trainer(recipe, run, Processes.join("cpu"), lambda event: None)


def test_the_ids_are_those_that_ask_reads(made: Make, tmp_path: Path) -> None:
    trainer = _trainer(made(), tmp_path / "run")
    model = open_model(tmp_path / "base")
    chat = open_chat_template(model.path, model.tokenizer)
    assert chat is not None
    assert isinstance(trainer._gradients, TurnsGradients)
    text = next(text for text in trainer.lanes._files[0] if any(one.answer == "red" for one in text.asked))
    asked = next(one for one in text.asked if one.answer == "red")
    said = "From the text.\nThe red door.\nQ: Which?"
    ids = chat.encode([Message("user", said)])
    # Byte tokens: the parts cannot be encoded otherwise than the whole.
    assert text.opening + asked.ids[: -asked.answered] == ids
    assert asked.ids[-1] in chat.end_ids
    assert model.tokenizer.decode(asked.ids[-asked.answered : -1]) == "red"


@pytest.mark.parametrize("changes", [(), ("adapt.round_tokens=16", "schedule.lanes=7")])
def test_questions_after_one_text_have_the_gradient_of_each_alone(
    made: Make, tmp_path: Path, changes: tuple[str, ...]
) -> None:
    trainer = _trainer(made(*changes), tmp_path / "run")
    gradients, plan = trainer._gradients, trainer.lanes.plan(0, 0.0)
    assert (max(map(len, _alike(plan.texts.values()))) > 3) == bool(changes)
    network = gradients.compute
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("lora_b"):
                parameter.normal_(std=0.1, generator=torch.Generator().manual_seed(len(name)))
    sums, _, _ = gradients.read(plan)
    found = {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}
    loss = torch.zeros(())
    for text in plan.texts.values():
        weight = trainer.lanes.weight(text)
        for one in text.asked:
            ids = torch.tensor([text.opening + one.ids])
            hidden, _ = network.read(ids[:, :-1], network.start(1))
            nats = functional.cross_entropy(network.logits(hidden)[0], ids[0, 1:], reduction="none")
            loss = loss + weight * nats[-one.answered :].sum()
    assert sums.weighted == pytest.approx(loss.item(), rel=1e-5)
    for parameter in network.parameters():
        parameter.grad = None
    (loss / plan.weight_sum).backward()
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None
            torch.testing.assert_close(found[name], parameter.grad, rtol=1e-3, atol=1e-6, msg=name)


def test_a_run_learns_is_checked_and_ends_in_an_adapter_with_its_wording(made: Make, tmp_path: Path) -> None:
    events: list[TrainEvent] = []
    ended = train(made(), tmp_path / "run", events.append)
    losses = [event.loss for event in events if isinstance(event, StepDone)]
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])
    checks = [event for event in events if isinstance(event, TurnsChecked)]
    assert [check.step for check in checks] == [15, 30]
    assert all(check.questions == 6 and 0 <= check.f1 <= 1 for check in checks)
    assert ended.exported is not None
    model = open_model(tmp_path / "base", adapter=ended.exported)
    assert model.sidecar.prompts["ask"].startswith("From the text.")
    assert model.sidecar.tasks == {"summarize": "write", "ask": "write"}
    assert not model.sidecar.memory_trained
    assert model.sidecar.fam.sink_tokens == open_model(tmp_path / "base").sidecar.fam.sink_tokens
    before, after = TurnWriter(model).around("ask", {"question": "Which?"})
    assert "Q: Which?" in model.tokenizer.decode(after)
    assert "From the text." in model.tokenizer.decode(before)


def test_a_run_goes_on_as_an_unbroken_one(made: Make, tmp_path: Path) -> None:
    whole: list[TrainEvent] = []
    train(made("schedule.steps=6"), tmp_path / "whole", whole.append)
    parts: list[TrainEvent] = []
    counted = iter(range(100))
    train(made("schedule.steps=6"), tmp_path / "parts", parts.append, lambda: next(counted) == 2)
    train(made("schedule.steps=6"), tmp_path / "parts", parts.append)
    losses = [[event.loss for event in each if isinstance(event, StepDone)] for each in (whole, parts)]
    assert losses[0] == losses[1]


def test_files_get_their_shares_of_the_tokens() -> None:
    def text(length: int, objective: int) -> TextTurns:
        return TextTurns([1] * length, (AskedTurn([2, 3], 1),), objective)

    files = [[text(30, 0), text(50, 0)], [text(10, 1)]]
    queue, read = TurnsQueue(files, [3.0, 1.0], [1.0, 1.0], 4, seed=0), [0, 0]
    for step in range(200):
        plan = queue.plan(step, 0.0)
        for one in plan.texts.values():
            read[one.objective] += one.num_tokens
        queue.advance(plan)
    assert read[0] / sum(read) == pytest.approx(0.75, abs=0.02)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("objectives.notes.kind=language_modelling", "no meaning for language_modelling"),
        ('corpora=[{name="a",path="a",weight=1}]', "a does not exist"),
        (
            'network={block_size=256,memory_segments=1,fam_length=4,memory_update="kept"}',
            "an adapter with scores as adapt.start",
        ),
        ("adapt.method=keep", "no objective of kind turns"),
        ("objectives.notes.segments=0", "no meaning for turns"),
        ("checks.turns=none.jsonl", "none.jsonl"),
        ("network.block_size=8", "shorter than 16 tokens"),
        ("adapt.model=fam-tiny", "no chat template"),
    ],
)
def test_what_cannot_be_learned_is_refused(made: Make, tmp_path: Path, change: str, said: str) -> None:
    with pytest.raises(FamcliError, match=said):
        train(made(change, "checks.every_steps=1"), tmp_path / "run")


WITH_DOCUMENTS = """
[[corpora]]
name = "tales"
path = "tales.jsonl"
weight = 1
[[objectives]]
kind = "passkey"
digits = 2
weight = 2
text_weight = 0
segments = 0
[[objectives]]
kind = "language_modelling"
text_weight = 0.5
"""


@pytest.fixture
def beside(made: Make, tmp_path: Path) -> Make:
    """The recipe with documents beside turns, and a memory that keeps tokens by the scores of an adapter."""
    tale = "The baker of the north was never late, and his bread was never warm. " * 8
    _lines(tmp_path / "tales.jsonl", [{"id": str(number), "text": tale[number:]} for number in range(4)])
    window = 'block_size = 64\nmemory_segments = 1\nfam_length = 20\nmemory_update = "kept"'
    head = HEAD.replace("block_size = 256\nmemory_segments = 1\nfam_length = 0", window)
    (tmp_path / "recipe.toml").write_text(head.replace("blocks_per_step = 1", "blocks_per_step = 3") + WITH_DOCUMENTS)
    keep = head[: head.index("[[objectives]]")].replace("rank = 3", 'rank = 3\nmethod = "keep"')
    keep = keep.replace("blocks_per_step = 1", "blocks_per_step = 3").replace("steps = 30", "steps = 2")
    (tmp_path / "keep.toml").write_text(
        keep.replace('turns = "texts.jsonl"', "") + WITH_DOCUMENTS.replace("segments = 0", "")
    )
    start = train(load_recipe(tmp_path / "keep.toml"), tmp_path / "keep").exported
    return lambda *changes: load_recipe(tmp_path / "recipe.toml", (f"adapt.start={start}", *changes))


def test_documents_beside_turns_teach_through_what_is_kept(beside: Make, tmp_path: Path) -> None:
    """Their loss and gradient are those of the document read in one go; a pass key is seen through the memory alone."""
    trainer = _trainer(beside("schedule.lanes=12"), tmp_path / "run")
    plan, network = trainer.lanes.plan(0, 0.0), trainer._gradients.compute
    texts = list(plan.texts.values())
    documents = [text for text in texts if text.weights is not None]
    assert {text.objective for text in texts} == {0, 1, 2, 3}
    assert {(text.objective, text.segments) for text in documents} == {(2, 0), (3, None)}
    assert all(len(text.opening) in (192, 193) for text in documents)
    assert network.memory_scores.abs().sum() > 0
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("lora_b"):
                parameter.normal_(std=0.1, generator=torch.Generator().manual_seed(len(name)))
    key = next(text for text in documents if text.objective == 2)
    assert key.weights is not None
    assert key.answers is not None
    assert torch.equal(key.weights > 0, key.answers)
    assert key.answers.sum() == 4
    sums, _, _ = trainer._gradients.read(replace(plan, texts={0: key}))
    found = {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}
    assert sums.tally[2][-2] == 1
    fam = network.fam
    network.fam, ids = replace(fam, memory_segments=0), torch.tensor([key.opening])
    state, rows = network.start(1), []
    for part in ids[:, :-1].split(64, dim=1):
        hidden, state = network.read(part, state)
        rows.append(hidden)
    network.fam = fam
    nats = functional.cross_entropy(network.logits(torch.cat(rows, 1))[0], ids[0, 1:], reduction="none")
    loss = (nats * key.weights).sum()
    assert sums.weighted == pytest.approx(loss.item(), rel=1e-4)
    for parameter in network.parameters():
        parameter.grad = None
    (loss / plan.weight_sum).backward()
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None
            torch.testing.assert_close(found[name], parameter.grad, rtol=1e-3, atol=1e-5, msg=name)


def test_a_run_with_documents_ends_in_an_adapter_with_the_scores_it_started_from(beside: Make, tmp_path: Path) -> None:
    recipe = beside("schedule.steps=3", "schedule.lanes=8")
    ended = train(recipe, tmp_path / "run")
    assert ended.exported is not None
    assert recipe.adapt is not None
    own, given = (load_file(f"{folder}/fam.safetensors") for folder in (ended.exported, recipe.adapt.start))
    assert torch.equal(own["memory_scores"], given["memory_scores"])
    assert read_sidecar(Path(ended.exported)).fam == replace(recipe.network.fam, sink_tokens=4)


def test_a_run_starts_from_an_adapter(made: Make, tmp_path: Path) -> None:
    first = train(made("schedule.steps=4", "adapt.storage=float32"), tmp_path / "first").exported
    trainer = _trainer(made(f"adapt.start={first}"), tmp_path / "second")
    updates = lora_updates(trainer.network)
    saved = load_file(f"{first}/adapter_model.safetensors")
    name = "model.layers.0.self_attn.q_proj"
    torch.testing.assert_close(updates[f"{name}.weight"].b, saved[f"base_model.model.{name}.lora_B.weight"])
    assert updates[f"{name}.weight"].b.abs().sum() > 0
    with pytest.raises(RecipeError, match="make rank"):
        _trainer(made(f"adapt.start={first}", "adapt.rank=2"), tmp_path / "third")


def test_a_bundle_carries_all_that_an_adapter_is_trained_from(made: Make, tmp_path: Path) -> None:
    parts = pack_bundle(made(), tmp_path / "bundle", 50_000)
    there = tmp_path / "there"
    (there / "carried").mkdir(parents=True)
    for part in parts:
        part.rename(there / "carried" / part.name)
    (tmp_path / "recipe.toml").rename(there / "recipe.toml")
    for name in ("base", "texts.jsonl", "notes.jsonl"):
        (tmp_path / name).rename(tmp_path / f"gone-{name}")
    settings = [part for one in ("schedule.steps=2", "checks.every_steps=0") for part in ("--set", one)]
    command = [sys.executable, "-m", "tools.bundle", "train", there / "carried", there / "recipe.toml", there / "run"]
    subprocess.run([*map(str, command), *settings], check=True, capture_output=True)
    unpack_bundle(there / "run" / "results", tmp_path / "carried-back")
    exported = load_file(tmp_path / "carried-back" / "export" / "adapter_model.safetensors")
    assert exported.keys() == load_file(there / "run" / "run" / "export" / "adapter_model.safetensors").keys()
