"""Lanes: every token of every document once and in order, with the state that reading it in one go would have."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from typing import Any

import numpy as np
import pytest
import torch

from famcli.errors import RecipeError
from famcli.evaluation.texts import TokenCorpus
from famcli.nn import DecoderConfig, FamConfig, Network, State
from famcli.training.data.lanes import IGNORE, Lanes, StepPlan, stack_starts
from famcli.training.data.objectives import DocumentStream, Mixture, corpus_stream, generated_stream
from famcli.training.recipe.sections import ObjectiveRecipe, ScheduleRecipe
from tests.helpers import random_network

BLOCK, BOS = 4, 99
LENGTHS = (1, 3, 4, 5, 8, 9, 23, 40)
CONFIG = DecoderConfig(100, 16, 24, 2, 2, 1, 8)
TEXT = ObjectiveRecipe(kind="language_modelling", name="text")
ASKING = ObjectiveRecipe(kind="passkey", name="asking", text_weight=0.5, answer_weight=3.0)
Places = dict[tuple[int, int], list[tuple[int, int, torch.Tensor]]]


def packed(lengths: tuple[int, ...] = LENGTHS, name: str = "texts") -> TokenCorpus:
    """Document i holds tokens that tell both i and the place."""
    tokens = np.concatenate([(np.arange(length) * 7 + index * 13) % 90 for index, length in enumerate(lengths)])
    offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
    ids = tuple(f"{name}-{index}" for index in range(len(lengths)))
    return TokenCorpus(ids, tokens.astype(np.uint16), offsets, name)


def books(lengths: tuple[int, ...] = LENGTHS) -> DocumentStream:
    return corpus_stream(packed(lengths), 0, 1.0, (0,))


def made(blocks: int | None = None, extra: int = 0) -> DocumentStream:
    """Random tokens, the last two of which are an answer."""

    def make(rng: np.random.Generator, count: int) -> Any:
        return rng.integers(0, 90, count).astype(np.int32), np.arange(count) >= count - 2

    return generated_stream(dataclasses.replace(ASKING, blocks=blocks), 1, 5, BLOCK, extra, make)


def make_lanes(
    *sources: DocumentStream, num_lanes: int = 3, bos: int | None = BOS, own: tuple[int, ...] | None = None, **keys: Any
) -> Lanes:
    schedule = ScheduleRecipe(lanes=num_lanes, **({"blocks_per_step": 2} | keys))
    return Lanes(sources or [books()], [TEXT, ASKING], schedule, BLOCK, bos, 0, own)


def network(fam_length: int = 2, segments: int = 1) -> Network:
    return random_network(CONFIG, FamConfig(BLOCK, segments, fam_length))


def read(decoder: Network, plan: StepPlan) -> tuple[dict[int, torch.Tensor], dict[int, State]]:
    """{lane: hidden rows [n, d]} and {lane: state}."""
    rows, states = {}, {}
    for group in plan.groups:
        hidden, state = decoder.read(group.inputs, stack_starts(decoder, group))
        rows.update(zip(group.lanes, hidden, strict=True))
        states.update(zip(group.lanes, state.split(), strict=True))
    return rows, states


def run(lanes: Lanes, decoder: Network, steps: int, first: int = 0) -> Places:
    """{(lane, nth document of the lane): [(input, target, hidden row)]} of the places that are no padding."""
    found: Places = defaultdict(list)
    count: dict[int, int] = defaultdict(int)
    for step in range(first, first + steps):
        plan = lanes.plan(step, 0.5)
        rows, states = read(decoder, plan)
        for group in plan.groups:
            for row, lane in enumerate(group.lanes):
                used = group.targets[row] != IGNORE
                places = zip(group.inputs[row][used], group.targets[row][used], rows[lane][used], strict=True)
                found[lane, count[lane]] += [(int(a), int(b), c) for a, b, c in places]
        for lane in plan.ended:
            count[lane] += 1
        lanes.advance(plan, states)
    return {key: places for key, places in found.items() if key[1] < count[key[0]]}


def test_a_plan_holds_each_lane_once_and_counts_what_it_says() -> None:
    lanes, decoder = make_lanes(books(), made()), network()
    with torch.no_grad():
        for step in range(12):
            plan = lanes.plan(step, 0.5)
            assert sorted(lane for group in plan.groups for lane in group.lanes) == [0, 1, 2]
            assert plan.num_targets == sum(int((group.targets != IGNORE).sum()) for group in plan.groups)
            assert plan.num_targets == sum(plan.read.values())
            assert plan.weight_sum == pytest.approx(sum(float(group.weights.sum()) for group in plan.groups))
            for group in plan.groups:
                padding = group.targets == IGNORE
                assert not group.weights[padding].any()
                assert not group.answers[padding].any()
                for row, objective in enumerate(group.objectives):
                    weights = torch.where(group.answers[row], 3.0, 0.5) if objective else torch.ones(padding.shape[1])
                    assert torch.equal(group.weights[row], torch.where(padding[row], 0.0, weights))
            lanes.advance(plan, read(decoder, plan)[1])


@pytest.mark.parametrize("bos", [BOS, None])
def test_each_document_is_read_whole_and_in_order(bos: int | None) -> None:
    with torch.no_grad():
        documents = run(make_lanes(bos=bos), network(), steps=30)
    corpus = packed()
    known = [corpus.document(index).tolist() for index in range(len(corpus))]
    shift = 0 if bos is not None else 1
    for places in documents.values():
        targets = [target for _, target, _ in places]
        assert any(targets == tokens[shift:] for tokens in known)
        inputs = [token for token, _, _ in places]
        assert inputs[1:] == targets[:-1]
        assert bos is None or inputs[0] == bos
    assert len(documents) > len(LENGTHS)


@pytest.mark.parametrize(("fam_length", "segments"), [(2, 1), (0, 1), (3, 0), (1, 2)])
def test_a_lane_sees_what_reading_in_one_go_sees(fam_length: int, segments: int) -> None:
    decoder = network(fam_length, segments)
    with torch.no_grad():
        for places in run(make_lanes(max_blocks=3, blocks_per_step=None), decoder, steps=16).values():
            inputs = torch.tensor([[token for token, _, _ in places]])
            padded = torch.nn.functional.pad(inputs, (0, -inputs.shape[1] % BLOCK))
            whole, _ = decoder.read(padded, decoder.start())
            rows = torch.stack([row for _, _, row in places])
            torch.testing.assert_close(rows, whole[0, : len(rows)], rtol=1e-4, atol=1e-4)


def test_lanes_with_different_rows_are_read_apart() -> None:
    """After steps without segments, lanes that closed as many blocks may have kept different numbers of their rows."""
    lanes = make_lanes(num_lanes=6, segment_dropout=0.5, blocks_per_step=None, max_blocks=4)
    decoder, plain = network(segments=3), network(segments=0)
    differed = 0
    with torch.no_grad():
        for step in range(60):
            plan = lanes.plan(step, 0.5)
            kept = {s.layers[0].segment_keys.shape[2] for g in plan.groups for s in g.starts if s is not None}
            differed += len(kept) > 1
            assert not plan.without_segments or kept <= {0}
            states: dict[int, State] = {}
            for group in plan.groups:
                reader = plain if plan.without_segments else decoder
                _, after = reader.read(group.inputs, stack_starts(decoder, group))
                states.update(zip(group.lanes, after.split(), strict=True))
            lanes.advance(plan, states)
    assert differed > 5


def test_lanes_that_see_nothing_but_a_memory_are_read_together() -> None:
    """Whether a document begins, goes on without segments or begins from a memory that is passed on."""
    lanes = make_lanes(books((8, 24)), num_lanes=6, segment_dropout=1.0, random_state_passing=0.5)
    decoder, mixed = network(segments=0), 0
    with torch.no_grad():
        for step in range(60):
            plan = lanes.plan(step, 0.5)
            assert len(plan.groups) == len({group.inputs.shape for group in plan.groups})
            for group in plan.groups:
                start = stack_starts(decoder, group)
                assert start.memory_is_initial.tolist() == [state is None for state in group.starts]
                mixed += len(set(start.memory_is_initial.tolist())) == len(set(start.position.tolist())) == 2
            lanes.advance(plan, read(decoder, plan)[1])
    assert mixed > 5


def test_no_gradient_reaches_the_step_before() -> None:
    lanes, decoder = make_lanes(random_state_passing=1.0), network()
    for step in range(6):
        plan = lanes.plan(step, 0.5)
        for group in plan.groups:
            for state in group.starts:
                assert state is None or not any(t.requires_grad for t in state.to_tensors()[0].values())
        states = read(decoder, plan)[1]
        assert all(state.layers[0].memory.requires_grad for state in states.values())
        lanes.advance(plan, states)


@pytest.mark.parametrize("blocks", [2, 5])
def test_made_documents_begin_with_a_step_and_end_with_their_answer(blocks: int) -> None:
    lanes, decoder = make_lanes(made(blocks), blocks_per_step=2), network()
    with torch.no_grad():
        for step in range(2 * -(-blocks // 2)):
            plan = lanes.plan(step, 0.5)
            assert len(plan.ended) in (0, 3)
            for group in plan.groups:
                assert (group.targets != IGNORE).all()
                assert group.answers.sum() == (6 if plan.ended else 0)
                assert not plan.ended or group.answers[:, -2:].all()
            lanes.advance(plan, read(decoder, plan)[1])


def test_made_documents_are_as_long_as_their_step_and_no_two_alike() -> None:
    lanes, seen = make_lanes(made(), max_blocks=4, blocks_per_step=None), []
    for step in range(20):
        plan = lanes.plan(step, 1.0)
        assert plan.ended == {0, 1, 2}
        assert all(group.inputs.shape[1] == plan.num_blocks * BLOCK for group in plan.groups)
        seen += [tuple(row.tolist()) for group in plan.groups for row in group.targets]
        lanes.advance(plan, {})
    assert len({len(row) for row in seen}) == 4
    assert len(set(seen)) == len(seen)


def test_without_bos_made_documents_have_a_token_more_and_no_padding() -> None:
    plan = make_lanes(made(extra=1), bos=None).plan(0, 0.5)
    assert all((group.targets != IGNORE).all() and group.targets.shape[1] == 8 for group in plan.groups)


def memories(lanes: Lanes, decoder: Network, steps: int) -> list[tuple[dict[int, bool], dict[int, State]]]:
    """Of each step: by lane whose document begins, whether a memory was passed on; and the states after it."""
    told = []
    for step in range(steps):
        plan = lanes.plan(step, 0.5)
        states = read(decoder, plan)[1]
        starts = {lane: start for g in plan.groups for lane, start in zip(g.lanes, g.starts, strict=True)}
        begins = {
            lane: start is not None for lane, start in sorted(starts.items()) if start is None or start.is_memory_alone
        }
        told.append((begins, states))
        lanes.advance(plan, states)
    return told


def test_a_document_starts_from_the_memory_with_which_the_last_one_ended() -> None:
    lanes, decoder = make_lanes(books((8, 16)), num_lanes=1, random_state_passing=1.0), network()
    last = decoder.start()
    with torch.no_grad():
        for step in range(8):
            plan = lanes.plan(step, 0.5)
            (group,) = plan.groups
            state = stack_starts(decoder, group)
            if state.is_memory_alone and step:
                assert not state.memory_is_initial
                assert state.kind == last.memory_alone().kind
                assert state.position.tolist() == [0]
                assert state.layers[0].segment_keys.shape[2] == 0
                for old, new in zip(last.memories, state.memories, strict=True):
                    assert torch.equal(old, new)
            else:
                assert bool(state.memory_is_initial) == (step == 0)
            states = read(decoder, plan)[1]
            last = states[0]
            lanes.advance(plan, states)


def test_the_memory_passed_on_has_seen_no_padding() -> None:
    """Of a document of 9 tokens the memory holds two blocks; one shorter than a block leaves the older memory."""
    lanes, decoder = make_lanes(books((9,)), num_lanes=1, random_state_passing=1.0), network()
    with torch.no_grad():
        first = read(decoder, lanes.plan(0, 0.5))[1]
        memories(lanes, decoder, 2)
        (passed,) = lanes.plan(2, 0.5).groups[0].starts
        assert passed is not None
        assert torch.equal(passed.layers[1].memory, first[0].layers[1].memory)
        lanes = make_lanes(books((3,)), num_lanes=1, random_state_passing=1.0)
        assert all(not any(begins.values()) for begins, _ in memories(lanes, decoder, 4))


def test_memories_are_passed_on_with_the_probability_given_and_not_before_its_time() -> None:
    decoder = network()
    with torch.no_grad():
        told = memories(make_lanes(books((8,)), num_lanes=4, random_state_passing=0.3), decoder, 120)
        shares = [passed for begins, _ in told[1:] for passed in begins.values()]
        assert len(shares) == 4 * 119
        assert sum(shares) / len(shares) == pytest.approx(0.3, abs=0.08)
        assert len({tuple(begins.values()) for begins, _ in told}) > 4  # each lane for itself
        late = make_lanes(books((8,)), random_state_passing=1.0, random_state_passing_from=0.6)
        assert not any(passed for begins, _ in memories(late, decoder, 5) for passed in begins.values())
        assert all(start is not None for group in late.plan(5, 0.6).groups for start in group.starts)


def test_the_papers_form_passes_the_first_lanes_memory_to_all_lanes() -> None:
    lanes = make_lanes(books((8,)), num_lanes=4, random_state_passing=0.5, state_passing="batch")
    decoder, last, drawn = network(), None, []
    with torch.no_grad():
        for step in range(30):
            plan = lanes.plan(step, 0.5)
            (group,) = plan.groups  # one draw for the step
            assert len({start is None for start in group.starts}) == 1
            drawn.append(group.starts[0] is not None)
            if drawn[-1]:
                assert last is not None
                passed = stack_starts(decoder, group).layers[0].memory
                assert torch.equal(passed, last.layers[0].memory.expand(4, -1, -1))
            states = read(decoder, plan)[1]
            last = states[0]
            lanes.advance(plan, states)
    assert 5 < sum(drawn) < 25
    with pytest.raises(RecipeError, match="one process"):
        make_lanes(random_state_passing=0.5, state_passing="batch", own=(1, 2))


def test_without_memory_rows_nothing_is_passed_on() -> None:
    with torch.no_grad():
        told = memories(make_lanes(books((8,)), random_state_passing=1.0), network(fam_length=0), 4)
    assert not any(passed for begins, _ in told for passed in begins.values())


@pytest.mark.parametrize("state_passing", ["lane", "batch"])
def test_lanes_go_on_from_their_saved_form(state_passing: str) -> None:
    decoder = network()
    keys = {"max_blocks": 3, "blocks_per_step": None, "random_state_passing": 0.7, "state_passing": state_passing}
    with torch.no_grad():
        lanes = make_lanes(books(), made(5), **keys)
        run(lanes, decoder, steps=7)
        tensors, values = lanes.to_tensors()
        other = make_lanes(books(), made(5), **keys)
        other.load_tensors(tensors, values, torch.device("cpu"))
        expected, found = run(lanes, decoder, 9, first=7), run(other, decoder, 9, first=7)
    assert expected.keys() == found.keys()
    for key, places in expected.items():
        assert [place[:2] for place in places] == [place[:2] for place in found[key]]
        assert all(torch.equal(a[2], b[2]) for a, b in zip(places, found[key], strict=True))


def test_processes_with_lanes_of_their_own_read_what_one_process_reads() -> None:
    decoder = network()
    keys = {"num_lanes": 4, "random_state_passing": 0.7}
    with torch.no_grad():
        whole = make_lanes(books(), made(), **keys)
        parts = [make_lanes(books(), made(), own=own, **keys) for own in ((0, 1), (2, 3))]
        for step in range(15):
            plan, plans = whole.plan(step, 0.5), [part.plan(step, 0.5) for part in parts]
            for name in ("num_targets", "weight_sum", "num_blocks", "ended", "partial", "read"):
                assert all(getattr(plan, name) == getattr(own, name) for own in plans)
            rows, states = read(decoder, plan)
            for own, part in zip(plans, parts, strict=True):
                some, theirs = read(decoder, own)
                for lane in some:
                    torch.testing.assert_close(some[lane], rows[lane], rtol=1e-5, atol=1e-5)
                part.advance(own, theirs)
            assert set(plans[0].groups[0].lanes) <= {0, 1}
            whole.advance(plan, states)


def test_abandoned_documents_are_not_gone_on_with() -> None:
    lanes, decoder = make_lanes(random_state_passing=1.0), network()
    with torch.no_grad():
        run(lanes, decoder, steps=6)
    lanes.abandon_documents()
    assert all(start is None for group in lanes.plan(6, 0.5).groups for start in group.starts)
    assert all(int(row[0]) == BOS for group in lanes.plan(6, 0.5).groups for row in group.inputs)


def test_lanes_spread_over_the_sources_and_pass_from_one_to_the_other() -> None:
    lanes, decoder = make_lanes(books((64,)), made(), num_lanes=4), network()
    read_of: dict[int, set[int]] = defaultdict(set)
    tokens = [0, 0]
    with torch.no_grad():
        for step in range(60):
            plan = lanes.plan(step, 0.5)
            for group in plan.groups:
                for lane, objective in zip(group.lanes, group.objectives, strict=True):
                    read_of[lane].add(objective)
                    tokens[objective] += plan.read[lane]
            if step == 0:
                assert sorted(objective for group in plan.groups for objective in group.objectives) == [0, 0, 1, 1]
            lanes.advance(plan, read(decoder, plan)[1])
    assert all(objectives == {0, 1} for objectives in read_of.values())
    assert tokens[0] / sum(tokens) == pytest.approx(0.5, abs=0.05)


def test_sources_are_mixed_by_the_tokens_read() -> None:
    def draw(mixture: Mixture, count: int) -> list[tuple[int, int]]:
        drawn = []
        for _ in range(count):
            drawn.append(mixture.draw([]))
            mixture.count(drawn[-1][0], lengths[drawn[-1][0]])
        return drawn

    lengths, mixture, again = (400, 25, 10), Mixture([1.0, 3.0, 0.0], ahead=50), Mixture([1.0, 3.0, 0.0], ahead=50)
    drawn = draw(mixture, 1000)
    tokens = [lengths[source] for source, _ in drawn]
    assert {source for source, _ in drawn} == {0, 1}
    assert sum(count for count in tokens if count == 25) / sum(tokens) == pytest.approx(0.75, abs=0.02)
    assert [number for source, number in drawn if source == 0] == list(range(tokens.count(400)))
    again.load_json(mixture.to_json())
    assert draw(again, 50) == draw(mixture, 50)


def test_each_epoch_of_a_corpus_holds_each_document_once() -> None:
    source = books((10, 20, 30, 40))
    lengths = [len(source.document(number, 1)[0]) for number in range(40)]
    epochs = [lengths[start : start + 4] for start in range(0, 40, 4)]
    assert all(sorted(epoch) == [10, 20, 30, 40] for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1
