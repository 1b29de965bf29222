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
from famcli.checkpoint.probes import Probes
from famcli.reading.engine import read_any, start_state
from famcli.tasks.ask import turn_writing
from famcli.tasks.ask.answers import Answer, AskConfig
from famcli.tasks.ask.ask import ask
from famcli.tasks.ask.refusing import Judged, judge, knows_to_refuse
from famcli.tasks.ask.turn_writing import Score, Written
from famcli.tasks.prompts import NOT_SAID
from famcli.tasks.written_text import TurnWriter
from tests.helpers import make_random_checkpoint
from tests.tasks.ask.test_table_cell import TABLE
from tests.tasks.support import LARGE, write

TEMPLATE = "{% for m in messages %}[{{ m.role }}]{{ m.content }}<s>{% endfor %}[bot]"
TEXT = "The key of the tower is golden. It was made by a smith in Ulm."
QUESTION = "Who made the key of the tower?"


def _judging(**changes: Any) -> Any:
    """`judge`, and then what it found changed."""
    return lambda *given, **options: dataclasses.replace(judge(*given, **options), **changes)


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
    monkeypatch.setattr(turn_writing, "judge", _judging(refusal=refusal))
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

    monkeypatch.setattr(turn_writing, "score", lambda model, texts, judged: [Score(-0.1) for _ in texts])
    monkeypatch.setattr(turn_writing, "judge", _judging(refusal=0.4, other=ord("A")))
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
    scores = turn_writing.score(model, texts, judge(model, ids))
    assert [one.likelihood for one in scores] == pytest.approx(wanted, rel=1e-3)


LONG = f"{TEXT}\n\n{'Nobody knows how old it is. ' * 40}\n\nThe key of the tower was stolen by Anna once."


class Readings:
    """A checkpoint that says something else after each reading of the evidence; the last of `said` after the rest."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, said: list[str]) -> None:
        self.read = list[list[int]]()

        def judged(model: Model, ids: list[int], num_asking: int) -> Judged:
            self.read.append(ids)
            return dataclasses.replace(judge(model, ids, num_asking=num_asking), refusal=0.0)

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
        "score",
        lambda model, texts, judged: [Score(-0.1 if text == likeliest else -2.0) for text in texts],
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
        turn_writing, "score", lambda model, texts, judged: [Score(-0.1 - texts.index(text)) for text in texts]
    )
    confidence = list[float]()
    for said in (["Ulm"], ["Ulm", "Anna"]):
        Readings(monkeypatch, said)
        answer = ask(model, QUESTION, [write(tmp_path, LONG)]).answers[0]
        assert answer.text == "Ulm"
        confidence.append(answer.confidence)
    assert confidence == sorted(set(confidence), reverse=True)


def _probes(model: Model, answered: float = 5.0) -> Probes:
    """Of two levels, which look at nothing: each text answers at these log-odds."""
    width = model.network.config.hidden_size
    return Probes((0, 1), torch.zeros(2, 2, width), torch.zeros(2, 4, width), (answered, 0.0))


def test_probes_look_at_the_last_token_and_at_the_mean(model: Model) -> None:
    """Of what asks, in one call or in several, and of an answer, however many are read side by side."""
    width = model.network.config.hidden_size
    drawn = torch.Generator().manual_seed(3)
    answered, right = (0.1 * torch.randn(2, rows, width, generator=drawn) for rows in (2, 4))
    probes = dataclasses.replace(_probes(model), answered=answered, right=right)
    probed, network = dataclasses.replace(model, probes=probes), model.network
    ids = model.tokenizer.encode("What is it? " * (network.fam.block_size // 6))
    assert len(ids) > network.fam.block_size

    def seen(tokens: list[int], before: list[int]) -> torch.Tensor:
        found = list[torch.Tensor]()
        start = start_state(network, model.default_memory_mode)
        read_any(network, before + tokens, start, lambda levels: found.append(torch.stack([*levels[:2]])[:, 0]))
        rows = torch.cat(found, 1)[:, len(before) :]
        return torch.stack((rows[:, -1], rows.mean(1)), 1)

    judged, asking = judge(probed, ids, num_asking=len(ids) - 5), seen(ids[5:], ids[:5])
    assert judged.asked is not None
    torch.testing.assert_close(judged.asked, asking)
    assert probes.how_answered(asking) == pytest.approx(float((probes.answered * asking).sum()) + 5.0, rel=1e-3)
    for text, one in zip(["A key.", "It"], turn_writing.score(probed, ["A key.", "It"], judged), strict=True):
        both = torch.cat((asking, seen(model.tokenizer.encode(text), ids)), 1)
        assert one.right == pytest.approx(float((probes.right * both).sum()), rel=1e-3, abs=1e-3)
    # Without probes, and where nobody says which tokens ask, nothing is looked at.
    assert judge(model, ids, num_asking=3).asked is None
    assert judge(probed, ids).asked is None


@pytest.mark.parametrize("answered", [-9.0, 9.0])
def test_what_a_probe_holds_to_be_unanswered_is_refused(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answered: float
) -> None:
    """Not what the checkpoint would write."""
    monkeypatch.setattr(turn_writing, "judge", _judging(refusal=0.9 if answered > 0 else 0.1))
    monkeypatch.setattr(TurnWriter, "sentences", lambda *given, **options: iter(["A smith in Ulm."]))
    probed = dataclasses.replace(model, probes=_probes(model, answered))
    answer = ask(probed, QUESTION, [write(tmp_path, TEXT)]).answers[0]
    assert (answer.found, answer.draft) == ((True, None) if answered > 0 else (False, "A smith in Ulm."))
    assert ask(probed, QUESTION, [write(tmp_path, TEXT)], AskConfig(threshold=0.0)).answers[0].found


def test_the_likelier_a_probe_holds_an_answer_to_be_right_the_surer_it_is(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    probed, confidence = dataclasses.replace(model, probes=_probes(model)), list[float]()
    for right in (-2.0, 0.0, 2.0):
        Readings(monkeypatch, ["Anna"])
        scores = [Score(-1.0, None, right)]
        monkeypatch.setattr(turn_writing, "score", lambda model, texts, judged, scores=scores: scores)
        confidence.append(ask(probed, QUESTION, [write(tmp_path, LONG)]).answers[0].confidence)
    assert confidence == sorted(set(confidence))


def test_the_odds_of_words_and_probe_multiply() -> None:
    assert Written(("a",)).answers(0.4) == 0.4
    assert Written(("a",), answered=0.0).answers(0.4) == pytest.approx(0.4)
    more = [Written(("a",), answered=odds).answers(0.5) for odds in (-2.0, 0.0, 2.0)]
    assert more == sorted(more)


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
    monkeypatch.setattr(turn_writing, "judge", _judging(refusal=0.0))
    monkeypatch.setattr(TurnWriter, "sentences", lambda *given, **options: iter([written]))
    answer = ask(model, "Is the key of the tower golden?", [write(tmp_path, TEXT)]).answers[0]
    assert (answer.kind, answer.draft) == ("extracted", written)
    assert answer.text.startswith("The key of the tower is golden.")


def test_the_values_of_a_table_are_not_written(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TurnWriter, "sentences", lambda *given, **options: iter(["Osterby"]))
    table = write(tmp_path, TABLE, "countries.csv")
    answer = ask(model, "What is the capital of Arvonia?", [table]).answers[0]
    assert (answer.kind, answer.text) == ("extracted", "Name: Arvonia; Capital: Lindholm")
