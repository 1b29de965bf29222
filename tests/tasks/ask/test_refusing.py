"""A checkpoint that was trained to refuse is asked how likely it refuses, and believed beside what words say."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from famcli.checkpoint.model import Model
from famcli.checkpoint.open import open_model
from famcli.reading.engine import read_any, start_state
from famcli.tasks.ask import turn_writing
from famcli.tasks.ask.answers import Answer, AskConfig
from famcli.tasks.ask.ask import ask
from famcli.tasks.ask.refusing import Judged, judge, knows_to_refuse
from famcli.tasks.prompts import NOT_SAID
from famcli.tasks.written_text import TurnWriter
from tests.helpers import make_random_checkpoint
from tests.tasks.ask.test_table_cell import TABLE
from tests.tasks.support import LARGE, write

TEMPLATE = "{% for m in messages %}[{{ m.role }}]{{ m.content }}<s>{% endfor %}[bot]"
TEXT = "The key of the tower is golden. It was made by a smith in Ulm."
QUESTION = "Who made the key of the tower?"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    wording = f"Answer, or write: {NOT_SAID}\n{{text}}\n{{question}}"
    folder = tmp_path_factory.mktemp("refusing")
    make_random_checkpoint(folder, fam=LARGE, prompts={"ask": wording}, tasks={"ask": "write"})
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    return open_model(folder)


def test_the_probability_of_the_refusal_is_that_of_its_tokens(model: Model) -> None:
    ids, wanted = model.tokenizer.encode("What is it?"), model.tokenizer.encode(NOT_SAID)
    judged = judge(model, ids)
    total, before = 0.0, list(ids)
    for token in wanted:
        row, _ = read_any(model.network, before, start_state(model.network, model.default_memory_mode))
        assert row is not None
        with torch.inference_mode():
            total += float(torch.log_softmax(model.network.logits(row)[0, 0].float(), -1)[token])
        before.append(token)
    # An unlikely one is not followed to its end.
    assert judged.refusal == pytest.approx(math.exp(total), rel=1e-3) or max(judged.refusal, math.exp(total)) < 1e-6
    assert judged.other != wanted[0]
    _, state = read_any(model.network, ids[:4], start_state(model.network, model.default_memory_mode))
    split = judge(model, ids[4:], state)
    assert (split.refusal, split.other) == (pytest.approx(judged.refusal, rel=1e-3), judged.other)


@pytest.mark.parametrize("refusal", [0.0, 1.0])
def test_it_is_believed_where_it_is_likelier_than_all_else(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: float
) -> None:
    assert knows_to_refuse(model)
    monkeypatch.setattr(turn_writing, "judge", lambda *given: dataclasses.replace(judge(*given), refusal=refusal))
    monkeypatch.setattr(TurnWriter, "sentences", lambda *given, **options: iter(["A smith in Ulm."]))
    answer = ask(model, QUESTION, [write(tmp_path, TEXT)]).answers[0]
    assert answer.found is (refusal == 0)
    assert (answer.text == "A smith in Ulm.") is answer.found


def test_a_refusal_that_is_not_believed_gives_way_to_the_next_best_beginning(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Any, ...]] = []

    def sentences(pen: TurnWriter, ids: list[int], *rest: Any, begun: str = "", known: list[int]) -> Any:
        assert known
        asked.append((ids, begun))
        return iter([begun + " smith in Ulm."] if begun else [NOT_SAID])

    def judged(*given: Any) -> Judged:
        return dataclasses.replace(judge(*given), refusal=0.4, other=ord("A"))

    monkeypatch.setattr(turn_writing, "_likelihoods", lambda model, texts, judged: [-0.1 for _ in texts])

    monkeypatch.setattr(turn_writing, "judge", judged)
    monkeypatch.setattr(TurnWriter, "sentences", sentences)
    answer: Answer = ask(model, QUESTION, [write(tmp_path, TEXT)]).answers[0]
    assert asked == [([], ""), ([ord("A")], "A")]
    assert (answer.found, answer.text) == (True, "A smith in Ulm.")


def test_the_likelihood_of_an_answer_is_that_of_its_tokens(model: Model) -> None:
    ids, texts, wanted = model.tokenizer.encode("What is it?"), ["A key.", "It is", "k"], list[float]()
    for text in texts:
        tail, total = model.tokenizer.encode(text), 0.0
        for place, token in enumerate(tail):
            row, _ = read_any(model.network, ids + tail[:place], start_state(model.network, model.default_memory_mode))
            assert row is not None
            with torch.inference_mode():
                total += float(torch.log_softmax(model.network.logits(row)[0, 0].float(), -1)[token])
        wanted.append(total / len(tail))
    assert turn_writing._likelihoods(model, texts, judge(model, ids)) == pytest.approx(wanted, rel=1e-3)


LONG = f"{TEXT}\n\n{'Nobody knows how old it is. ' * 40}\n\nThe key of the tower was stolen by Anna once."


class Readings:
    """A checkpoint that says something else after each reading of the evidence; the last of `said` after the rest."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, said: list[str]) -> None:
        self.read = list[list[int]]()

        def judged(model: Model, ids: list[int]) -> Judged:
            self.read.append(ids)
            return dataclasses.replace(judge(model, ids), refusal=0.0)

        def sentences(*given: Any, known: list[int], **options: Any) -> Any:
            return iter([said[min(next(n for n, ids in enumerate(self.read) if ids is known), len(said) - 1)]])

        monkeypatch.setattr(turn_writing, "judge", judged)
        monkeypatch.setattr(TurnWriter, "sentences", sentences)


@pytest.mark.parametrize("likeliest", ["Anna", "a smith in Ulm"])
def test_the_answer_that_is_likely_after_all_readings_counts(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, likeliest: str
) -> None:
    """What is written of all passages, of the best one, and of the sentences around the best one."""
    readings = Readings(monkeypatch, ["Anna", "a smith in Ulm", "Anna"])
    monkeypatch.setattr(
        turn_writing,
        "_likelihoods",
        lambda model, texts, judged: [-0.1 if text == likeliest else -2.0 for text in texts],
    )
    answer = ask(model, QUESTION, [write(tmp_path, LONG)]).answers[0]
    lengths = list(map(len, readings.read))
    assert lengths == sorted(lengths, reverse=True)
    assert len(set(lengths)) > 1
    assert (answer.kind, answer.text) == ("written", likeliest)


def test_the_more_readings_give_an_answer_the_surer_it_is(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        turn_writing, "_likelihoods", lambda model, texts, judged: [-0.1 - texts.index(text) for text in texts]
    )
    confidence = list[float]()
    for said in (["Ulm"], ["Ulm", "Anna"]):
        Readings(monkeypatch, said)
        answer = ask(model, QUESTION, [write(tmp_path, LONG)]).answers[0]
        assert answer.text == "Ulm"
        confidence.append(answer.confidence)
    assert confidence == sorted(set(confidence), reverse=True)
    # Below the threshold it is not asserted.
    Readings(monkeypatch, ["Ulm", "Anna"])
    unsure = ask(model, QUESTION, [write(tmp_path, LONG)], AskConfig(threshold=confidence[-1] + 0.01)).answers[0]
    assert (unsure.found, unsure.draft) == (False, "Ulm")


@pytest.mark.parametrize(
    ("question", "written", "stays"),
    [
        ("When was the key made?", "4 May 1712", False),
        ("When was the key made?", "3 May 1712", True),
        ("When was the key made?", "3 May 1712 and 4 June 1713", True),
        ("When will the key be sold?", "after next year", False),
        ("How many keys are there?", "Anna Berg", False),
        ("Who made the key of the tower?", "a smith", True),
        ("How did the smith feel?", "very sad", True),
        ("How did the smith feel when Anna said his name?", "very sad", True),
        ("When did the smith live?", "1700s", True),
    ],
)
def test_a_value_stands_in_the_text_as_it_is_written(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, question: str, written: str, stays: bool
) -> None:
    """Not parts of two of them, and not another kind of thing; what is no value may be in words of its own."""
    Readings(monkeypatch, [written])
    text = (
        "The key of the tower was made by a smith on 3 May 1712, and the door on 4 June 1713. There are two keys. Anna "
        "Berg will have the key sold after the next fair. The smith lived in the 1700s."
    )
    answer = ask(model, question, [write(tmp_path, text)], AskConfig(threshold=0.0)).answers[0]
    assert (answer.kind == "written") is stays
    assert (answer.text if stays else answer.draft) == written


@pytest.mark.parametrize("written", ["No", "Yes.", "the key of the tower"])
def test_a_bare_yes_or_no_and_the_questions_own_words_give_way_to_a_quote(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: str
) -> None:
    """Nothing of it can be looked up, or nothing is said."""
    monkeypatch.setattr(turn_writing, "judge", lambda *given: dataclasses.replace(judge(*given), refusal=0.0))
    monkeypatch.setattr(TurnWriter, "sentences", lambda *given, **options: iter([written]))
    answer = ask(model, "Is the key of the tower golden?", [write(tmp_path, TEXT)]).answers[0]
    assert (answer.kind, answer.draft) == ("extracted", written)
    assert answer.text.startswith("The key of the tower is golden.")


def test_the_values_of_a_table_are_not_written(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TurnWriter, "sentences", lambda *given, **options: iter(["Osterby"]))
    table = write(tmp_path, TABLE, "countries.csv")
    answer = ask(model, "What is the capital of Arvonia?", [table]).answers[0]
    assert (answer.kind, answer.text) == ("extracted", "Name: Arvonia; Capital: Lindholm")
