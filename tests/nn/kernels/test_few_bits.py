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
# (bits, columns that share a scale, 0 for all; what else they share)
Form = tuple[int, int, str]
FORMS: list[Form] = [
    (4, 32, "smallest"), (4, 32, "zero"), (8, 32, "smallest"), (8, 16, "smallest"), (8, 32, ""), (8, 16, ""), (8, 0, "")
]  # fmt: skip


@pytest.fixture(autouse=True)
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(few_bits, "_are_faster", lambda: True)


def drawn(num_rows: int, width: int, form: Form) -> tuple[Grouped, Tensor]:
    """A random matrix, and its numbers in double precision."""
    bits, group, shared = form
    group = group or width
    numbers = torch.randint(0, 1 << bits, (num_rows, width), generator=GENERATOR, dtype=torch.uint8)
    scale, other = torch.randn(2, num_rows, width // group, generator=GENERATOR)
    groups = numbers.double().view(num_rows, -1, group)
    if shared == "zero":
        scale, other = scale.bfloat16(), other.bfloat16()
        exact = (groups - 8) * scale.double()[..., None] + other.double()[..., None]
        return Grouped(numbers, scale, None, bits, other), exact.view(num_rows, width)
    if shared == "smallest":
        exact = groups * scale[..., None] + other[..., None]
        return Grouped(numbers, scale, other, bits), exact.view(num_rows, width)
    return Grouped(numbers, scale, None, bits), ((groups - 128) * scale[..., None]).view(num_rows, width)


@pytest.mark.parametrize("form", FORMS)
def test_rows_come_back(form: Form) -> None:
    matrix, exact = drawn(70, 96, form)
    indices = torch.tensor([[69, 0, 33], [1, 31, 32]])
    torch.testing.assert_close(FewBits(matrix).rows(indices), exact[indices].float())


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("width", [32, 96, 576])
@pytest.mark.parametrize("threads", [1, 2])
def test_products_are_right_and_each_row_is_the_same_whatever_is_beside_it(
    form: Form, width: int, threads: int
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


def attached(form: Form = FORMS[0]) -> tuple[nn.Parameter, Tensor]:
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
