"""Products of a few rows with matrices in 8 and 4 bits, and when they take the place of bfloat16."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from famcli.nn.kernels import few_bits, measured, native
from famcli.nn.kernels.few_bits import FewBits, Grouped

pytestmark = pytest.mark.skipif(native.library() is None, reason="needs a C compiler")
GENERATOR = torch.Generator().manual_seed(8)
# (bits, columns that share a scale, whether they share a smallest number)
FORMS = [(4, 32, True), (8, 32, True), (8, 32, False), (8, 16, True), (8, 16, False)]


@pytest.fixture(autouse=True)
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(few_bits, "_are_faster", lambda: True)


def drawn(num_rows: int, width: int, form: tuple[int, int, bool]) -> tuple[Grouped, Tensor]:
    """A random matrix, and its numbers in double precision."""
    bits, group, has_smallest = form
    numbers = torch.randint(0, 1 << bits, (num_rows, width), generator=GENERATOR, dtype=torch.uint8)
    scale, smallest = torch.randn(2, num_rows, width // group, generator=GENERATOR)
    made = Grouped(numbers, scale, smallest if has_smallest else None, bits)
    groups = numbers.double().view(num_rows, -1, group)
    if has_smallest:
        return made, (groups * scale[..., None] + smallest[..., None]).view(num_rows, width)
    return made, ((groups - 128) * scale[..., None]).view(num_rows, width)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("width", [32, 96, 576])
@pytest.mark.parametrize("threads", [1, 2])
def test_products_are_right_and_each_row_is_the_same_whatever_is_beside_it(
    form: tuple[int, int, bool], width: int, threads: int
) -> None:
    # One in bfloat16 among them, and updates of different ranks, one of which has none.
    weights, exact = list[Tensor](), list[Tensor]()
    for num_rows, rank in ((70, 3), (1, 0), (32, 0), (33, 16)):
        weight = torch.randn(num_rows, width, generator=GENERATOR).bfloat16()
        numbers = weight.double()
        if num_rows != 32:
            grouped, numbers = drawn(num_rows, width, form)
            update = [torch.randn(*size, generator=GENERATOR).bfloat16() for size in ((num_rows, rank), (rank, width))]
            made = FewBits(grouped, (update[0], update[1]) if rank else None)
            few_bits.attach(weight, lambda made=made: made)  # type: ignore[misc]
            numbers = numbers + update[0].double() @ update[1].double()
        weights.append(weight)
        exact.append(numbers)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for num_rows in range(1, native.MOST_ROWS + 1):
            x = torch.randn(num_rows, width, generator=GENERATOR)
            made = native.multiply(x, weights)
            expected = x.double() @ torch.cat(exact).t()
            assert (made - expected).abs().max() < 1e-5 * expected.abs().max()
            assert torch.equal(made, torch.cat([native.multiply(row[None], weights) for row in x]))
    finally:
        torch.set_num_threads(before)


def attached(form: tuple[int, int, bool] = FORMS[0]) -> tuple[nn.Parameter, Tensor]:
    """A weight of ones, which something else is attached to, and that."""
    weight = nn.Parameter(torch.ones(64, 32, dtype=torch.bfloat16))
    grouped, exact = drawn(64, 32, form)
    few_bits.attach(weight, lambda: FewBits(grouped))
    return weight, exact


@torch.no_grad()
def test_a_weight_that_changed_is_multiplied_itself() -> None:
    x = torch.randn(1, 32, generator=GENERATOR)
    ones = x.sum().expand(1, 64)
    weight, exact = attached()
    torch.testing.assert_close(native.multiply(x, [weight]), (x.double() @ exact.t()).float(), rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(native.multiply(x, [deepcopy(weight)]), ones)
    weight.add_(1)
    torch.testing.assert_close(native.multiply(x, [weight]), 2 * ones)
    weight, _ = attached()
    weight.data = torch.full_like(weight, 3)
    torch.testing.assert_close(native.multiply(x, [weight]), 3 * ones)


def test_it_is_made_when_it_is_first_used_and_goes_with_its_weight() -> None:
    calls, weight = list[int](), torch.ones(32, 32, dtype=torch.bfloat16)
    before = len(few_bits._attached)

    def make() -> FewBits | None:
        calls.append(1)
        return None

    few_bits.attach(weight, make)
    assert not calls
    for _ in range(2):
        # What cannot be made is the weight as it is.
        assert native.multiply(torch.ones(1, 32), [weight]).tolist() == [[32.0] * 32]
    assert len(calls) == 1
    assert len(few_bits._attached) == before + 1
    del weight
    gc.collect()
    assert len(few_bits._attached) == before


def test_where_bfloat16_is_faster_it_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(few_bits, "_are_faster", lambda: False)
    weight, _ = attached()
    with torch.no_grad():
        assert native.multiply(torch.ones(1, 32), [weight]).tolist() == [[32.0] * 64]


def test_the_two_ways_are_timed_on_this_processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(few_bits, "_TIMED", (64, 32))
    asked = list[tuple[str, str]]()

    def fastest(question: str, ways: Mapping[str, Callable[[], object]], expected: str) -> str:
        for compute in ways.values():
            compute()
        asked.append((question, expected))
        return "bfloat16"

    monkeypatch.setattr(measured, "fastest", fastest)
    few_bits._are_faster.cache_clear()
    try:
        assert not few_bits._are_faster()
        assert not few_bits._are_faster()
        assert asked == [("few rows", "4 bits")]
    finally:
        few_bits._are_faster.cache_clear()


def test_where_there_is_no_compiler_bfloat16_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "library", lambda: None)
    weight, _ = attached()
    with torch.inference_mode():
        assert not native.computes(1, weight)
