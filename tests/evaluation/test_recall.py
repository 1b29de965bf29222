"""Streams read side by side and asked on forks: the same as each alone, in one go, by plain greedy decoding."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from famcli.errors import UsageError
from famcli.evaluation import recall as benchmarks
from famcli.evaluation.intervals import wilson
from famcli.evaluation.positions import Subject
from famcli.evaluation.recall import (
    CellScore,
    RecallAnswer,
    Trial,
    babi_trials,
    needle_trials,
    passkey_trials,
    run_trials,
    score_trials,
    trial_tokens,
)
from famcli.evaluation.texts import TokenCorpus
from famcli.nn import MemoryMode
from famcli.plain import to_json
from famcli.synthetic.episodes import RecallQuestion, statements_of
from famcli.synthetic.streams import layout
from famcli.tokens.tokenizer import ByteTokenizer
from tests.helpers import TINY_CONFIG, TINY_FAM, random_network

TOKENIZER = ByteTokenizer()
NETWORK = random_network(TINY_CONFIG, TINY_FAM, gain=6.0)  # blocks of 16
TOKENS = np.frombuffer(b"It rained. The boat was late! Who knew why? Nobody came.\n" * 40, dtype=np.uint8)
TEXTS = TokenCorpus(("story",), TOKENS.astype(np.uint16), np.array([0, len(TOKENS)]))


def answers(trials: list[Trial], mode: MemoryMode = "on", batch: int = 16) -> list[RecallAnswer]:
    subject = Subject("m", NETWORK, mode)
    found = [a for g in run_trials(subject, TOKENIZER, TEXTS, trials, batch=batch) for a in g]
    return sorted(found, key=lambda answer: (answer.trial, answer.stop, answer.question))


def greedy(trial: Trial, question: str, count: int, mode: MemoryMode = "on") -> str:
    """What the network writes after the trial's stream and `question`, token by token, plainly."""
    rng = np.random.default_rng(trial.seed)
    stream = layout(trial.episode, TOKENIZER, TEXTS.filler(rng), trial.stops[-1] - 1, rng, trial.depths)
    ids = [256, *np.concatenate(list(stream)).tolist(), *TOKENIZER.encode(" " + question)]
    written = []
    with torch.no_grad():
        state = NETWORK.start(1, mode)
        for token in ids:
            hidden, state = NETWORK.read(torch.tensor([[token]]), state)
        while len(written) < count:
            written.append(int(NETWORK.logits(hidden)[0, -1].argmax()))
            hidden, state = NETWORK.read(torch.tensor([[written[-1]]]), state)
    return bytes(written).decode("latin-1")


@pytest.mark.parametrize("mode", ["on", "frozen", "none"])
def test_right_means_that_greedy_decoding_writes_the_answer(mode: MemoryMode) -> None:
    told = Trial("t", ("The key is 12.", RecallQuestion("Key? It is", "")), (77,), (0,))
    for seed in range(20):  # bytes alone are seldom UTF-8: take a stream after which they are
        told = replace(told, seed=(seed,))
        written = greedy(told, "Key? It is", 5, mode)
        if written.isascii():
            break
    wrong = written[:-1] + chr((ord(written[-1]) + 1) % 128)
    episode = (told.episode[0], RecallQuestion("Key? It is", written), RecallQuestion("Key? It is", wrong))
    first, second = answers([replace(told, episode=episode)], mode)
    assert (first.right, first.num_right, first.num_tokens, first.written) == (True, 5, 5, written)
    assert (second.right, second.num_right, second.num_tokens, second.written) == (False, 4, 5, written)
    assert second.nats > first.nats > 0
    assert (first.stop, first.num_read) == (77, 77)


def test_streams_side_by_side_are_each_alone() -> None:
    trials = babi_trials(["qa1", "counting"], [300], streams=4)
    together, alone = answers(trials, batch=8), answers(trials, batch=1)
    assert len(together) == sum(len(trial.questions) for trial in trials) > len(trials)
    for a, b in zip(together, alone, strict=True):
        assert replace(a, nats=0.0) == replace(b, nats=0.0)
        assert a.nats == pytest.approx(b.nats, abs=1e-3)


def test_one_reading_serves_all_lengths_when_the_key_is_first() -> None:
    trials = passkey_trials([100, 173, 256], streams=2, depth=0)
    assert [trial.stops for trial in trials] == [(100, 173, 256)] * 2
    assert trial_tokens(trials, TOKENIZER) == 512
    found = answers(trials)
    assert [(a.trial, a.stop) for a in found] == [(t, stop) for t in range(2) for stop in (100, 173, 256)]
    for stop in (100, 173):
        alone = answers([replace(trial, stops=(stop,)) for trial in trials])
        same = [answer for answer in found if answer.stop == stop]
        assert [a.nats for a in alone] == [pytest.approx(b.nats, abs=1e-3) for b in same]


def test_memory_modes_answer_differently() -> None:
    trials = passkey_trials([160], streams=2)
    nats = [round(answers(trials, mode)[0].nats, 3) for mode in ("on", "frozen", "none")]
    assert len(set(nats)) == 3


def test_without_filler_there_are_only_the_statements() -> None:
    trials = babi_trials(["qa1"], [0], streams=3)
    for answer in answers(trials):
        episode = trials[answer.trial].episode
        statements = "".join(" " + statement for statement in statements_of(episode))
        assert (answer.stop, answer.num_read) == (0, len(statements) + 1)


def test_a_length_without_room_is_named() -> None:
    with pytest.raises(UsageError, match="length of 59 tokens has no room"):
        answers(passkey_trials([59], streams=1))


def test_progress_counts_what_is_read() -> None:
    counts: list[int] = []
    trials = passkey_trials([64, 100], streams=3)
    for _ in run_trials(Subject("m", NETWORK, "on"), TOKENIZER, TEXTS, trials, batch=2, on_tokens=counts.append):
        pass
    assert sum(counts) == trial_tokens(trials, TOKENIZER) == 3 * 164


def test_seeds_draw_other_streams_and_lengths_do_too() -> None:
    drawn = {trial.episode for seed in (0, 1) for trial in passkey_trials([100, 200], streams=10, seed=seed)}
    assert len(drawn) == 40
    assert passkey_trials([100], streams=2) == passkey_trials([100], streams=3)[:2]


def test_needles_take_turns_at_the_depths() -> None:
    depths = [0.0, 0.5, 1.0]
    single = needle_trials([200], depths, streams=6)
    assert [trial.question_depths for trial in single] == [(0.0,), (0.5,), (1.0,)] * 2
    for trial in needle_trials([400], depths, streams=2, count=3):
        statements = statements_of(trial.episode)
        assert trial.depths is not None
        assert trial.question_depths is not None
        for question, depth in zip(trial.questions, trial.question_depths, strict=True):
            (place,) = (
                i for i, text in enumerate(statements) if question.text.split("? ")[1] + question.answer in text
            )
            assert trial.depths[place] == depth
    with pytest.raises(UsageError, match="2 values cannot stand at 3 depths"):
        needle_trials([200], depths, streams=2)
    with pytest.raises(UsageError, match="from 0 to 1"):
        needle_trials([200], [1.5], streams=2)


def test_what_makes_no_benchmark_is_refused() -> None:
    for call, words in (
        (lambda: passkey_trials([], streams=1), "at least one length"),
        (lambda: passkey_trials([100], streams=0), "at least 1"),
        (lambda: babi_trials(["qa9"], [100], streams=1), "unknown tasks: qa9"),
        (lambda: babi_trials(["qa3"], [100], streams=1, count=1), "1 statements for qa3"),
    ):
        with pytest.raises(UsageError, match=words):
            call()


def test_cells_count_their_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    trials = babi_trials(["qa1", "qa2"], [4096], streams=2)

    def given(*_: object, **__: object) -> object:
        for number, trial in enumerate(trials):
            right = [question < number for question in range(len(trial.questions))]
            yield [RecallAnswer(number, q, 4096, 4096, hit, 2 * hit, 2, 1.0, "") for q, hit in enumerate(right)]

    monkeypatch.setattr(benchmarks, "run_trials", given)
    steps = list(score_trials(trials, Subject("m", NETWORK, "frozen"), TOKENIZER, TEXTS))
    assert [[cell.task for cell in cells] for cells in steps] == [["qa1"], ["qa1"], ["qa1", "qa2"], ["qa1", "qa2"]]
    first: CellScore = steps[-1][0]
    totals = [len(trial.questions) for trial in trials]
    assert (first.right, first.total, first.streams) == (1, totals[0] + totals[1], 2)
    assert (first.model, first.memory_mode, first.length, first.depth, first.blocks) == ("m", "frozen", 4096, None, 256)
    assert first.interval == wilson(1, first.total)
    assert first.stream_interval is not None
    assert first.token_accuracy == first.share == 1 / first.total
    assert first.nats_per_token == 0.5
    assert to_json(first)["share"] == first.share


def test_streams_that_all_agree_count_as_one_trial_each(monkeypatch: pytest.MonkeyPatch) -> None:
    trials = babi_trials(["qa1"], [4096], streams=5)

    def given(*_: object, **__: object) -> object:
        yield [
            RecallAnswer(number, q, 4096, 4096, True, 2, 2, 0.0, "")
            for number, trial in enumerate(trials)
            for q in range(len(trial.questions))
        ]

    monkeypatch.setattr(benchmarks, "run_trials", given)
    ((cell,),) = score_trials(trials, Subject("m", NETWORK, "on"), TOKENIZER, TEXTS)
    assert cell.interval == wilson(cell.total, cell.total)
    assert cell.stream_interval == wilson(5, 5)
