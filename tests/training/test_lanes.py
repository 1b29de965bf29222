"""Lanes: every token of every document once and in order, with the state that reading it in one go would have."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch

from famcli.nn import Decoder, DecoderConfig, FamConfig
from famcli.training.corpus import PackedCorpus
from famcli.training.lanes import IGNORE, Lanes, start_state
from famcli.training.sampler import DocumentSampler
from tests.helpers import random_network

BLOCK, BOS = 4, 99
LENGTHS = (1, 3, 4, 5, 8, 9, 23, 40)
CONFIG = DecoderConfig(100, 16, 24, 2, 2, 1, 8)


def packed(lengths: tuple[int, ...] = LENGTHS, name: str = "texts") -> PackedCorpus:
    """Document i holds tokens that tell both i and the place."""
    tokens = np.concatenate([(np.arange(length) * 7 + index * 13) % 90 for index, length in enumerate(lengths)])
    offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
    ids = [f"{name}-{index}" for index in range(len(lengths))]
    return PackedCorpus(name, tokens.astype(np.uint16), offsets, np.array(lengths), ids)


def make_lanes(num_lanes: int = 3, blocks: int = 2, bos: int | None = BOS) -> Lanes:
    corpus = packed()
    return Lanes([corpus], DocumentSampler([corpus], [1.0], 0), num_lanes, BLOCK, blocks, bos)


def network(fam_length: int = 2, segments: int = 1) -> Decoder:
    return random_network(CONFIG, FamConfig(BLOCK, segments, fam_length))


def run(lanes: Lanes, decoder: Decoder, steps: int) -> dict[tuple[int, int], list[tuple[int, int, torch.Tensor]]]:
    """{(lane, nth document of the lane): [(input, target, hidden row)]} of the places that are no padding."""
    read: dict[tuple[int, int], list[tuple[int, int, torch.Tensor]]] = defaultdict(list)
    count = [0] * 3
    for _ in range(steps):
        plan, states = lanes.plan(), {}
        assert sorted(lane for group in plan.groups for lane in group.lanes) == [0, 1, 2]
        for group in plan.groups:
            hidden, state = decoder.read(group.inputs, start_state(decoder, group))
            states.update(zip(group.lanes, state.split(), strict=True))
            for row, lane in enumerate(group.lanes):
                used = group.targets[row] != IGNORE
                places = zip(group.inputs[row][used], group.targets[row][used], hidden[row][used], strict=True)
                read[lane, count[lane]] += [(int(a), int(b), c) for a, b, c in places]
        assert plan.num_targets == sum(int((group.targets != IGNORE).sum()) for group in plan.groups)
        for lane in plan.ended:
            count[lane] += 1
        lanes.advance(plan, states)
    return {key: places for key, places in read.items() if key[1] < count[key[0]]}


@pytest.mark.parametrize("bos", [BOS, None])
def test_each_document_is_read_whole_and_in_order(bos: int | None) -> None:
    with torch.no_grad():
        documents = run(make_lanes(bos=bos), network(), steps=25)
    corpus = packed()
    known = [corpus.document(index).tokens.tolist() for index in range(len(corpus))]
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
        for places in run(make_lanes(), decoder, steps=16).values():
            inputs = torch.tensor([[token for token, _, _ in places]])
            padded = torch.nn.functional.pad(inputs, (0, -inputs.shape[1] % BLOCK))
            whole, _ = decoder.read(padded, decoder.start())
            rows = torch.stack([row for _, _, row in places])
            torch.testing.assert_close(rows, whole[0, : len(rows)], rtol=1e-4, atol=1e-4)


def test_no_gradient_reaches_the_step_before() -> None:
    lanes, decoder = make_lanes(), network()
    for _ in range(3):
        plan, states = lanes.plan(), {}
        for group in plan.groups:
            assert group.state is None or not any(t.requires_grad for t in group.state.to_tensors()[0].values())
            _, state = decoder.read(group.inputs, start_state(decoder, group))
            assert state.layers[0].memory.requires_grad
            states.update(zip(group.lanes, state.split(), strict=True))
        lanes.advance(plan, states)


def test_lanes_go_on_from_their_saved_form() -> None:
    decoder = network()
    with torch.no_grad():
        lanes = make_lanes()
        run(lanes, decoder, steps=5)
        tensors, values = lanes.to_tensors()
        other = make_lanes()
        other.load_tensors(tensors, values, torch.device("cpu"))
        expected, found = run(lanes, decoder, steps=6), run(other, decoder, steps=6)
    assert expected.keys() == found.keys()
    for key, places in expected.items():
        assert [place[:2] for place in places] == [place[:2] for place in found[key]]
        assert all(torch.equal(a[2], b[2]) for a, b in zip(places, found[key], strict=True))


def test_abandoned_documents_are_not_gone_on_with() -> None:
    lanes, decoder = make_lanes(), network()
    with torch.no_grad():
        run(lanes, decoder, steps=2)
    lanes.abandon_documents()
    assert all(group.state is None for group in lanes.plan().groups)
    assert all(int(row[0]) == BOS for group in lanes.plan().groups for row in group.inputs)


def test_corpora_are_mixed_by_tokens_and_each_epoch_holds_each_document_once(tmp_path: Path) -> None:
    long, short = packed((400, 300, 500), "long"), packed((10, 20, 30, 40), "short")
    sampler = DocumentSampler([long, short], [1.0, 3.0], seed=5)
    drawn = [sampler.draw() for _ in range(1000)]
    tokens = [sum(len(c.document(d).tokens) for k, d in drawn if k == n) for n, c in enumerate((long, short))]
    assert tokens[1] / sum(tokens) == pytest.approx(0.75, abs=0.02)
    order = [document for corpus, document in drawn if corpus == 1]
    epochs = [order[start : start + 4] for start in range(0, 40, 4)]
    assert all(sorted(epoch) == [0, 1, 2, 3] for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1


def test_a_sampler_goes_on_from_its_counters() -> None:
    corpora = [packed(), packed((5, 6), "more")]
    first = DocumentSampler(corpora, [2.0, 1.0], seed=1)
    for _ in range(7):
        first.draw()
    second = DocumentSampler(corpora, [2.0, 1.0], seed=1)
    second.load_json(first.to_json())
    assert [first.draw() for _ in range(30)] == [second.draw() for _ in range(30)]


def test_a_corpus_of_weight_zero_is_never_drawn() -> None:
    sampler = DocumentSampler([packed(), packed((5, 6), "more")], [1.0, 0.0], seed=1)
    assert {sampler.draw()[0] for _ in range(50)} == {0}
