"""The compiled kernels for a few rows against torch, and what happens without a compiler."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from famcli.nn.kernels import compiled, native
from famcli.nn.rope import rotate_halves
from tests.nn.reference import attend_reference

needs_compiler = pytest.mark.skipif(native.library() is None, reason="needs a C compiler")
GENERATOR = torch.Generator().manual_seed(5)


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=GENERATOR)


@needs_compiler
@pytest.mark.parametrize("k", [32, 96, 576])
def test_products_are_right_and_each_row_is_the_same_whatever_is_beside_it(k: int) -> None:
    weights = [normal(rows, k).bfloat16() for rows in (70, 1, 33)]
    for num_rows in range(1, native.MOST_ROWS + 1):
        x = normal(num_rows, k)
        made = native.multiply(x, weights)
        expected = x.double() @ torch.cat(weights).double().t()
        assert (made - expected).abs().max() < 1e-5 * expected.abs().max()
        assert torch.equal(made, torch.cat([native.multiply(row[None], weights) for row in x]))


@needs_compiler
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    ("b", "hk", "group", "n", "e", "lengths", "window", "softcap"),
    [
        pytest.param(1, 3, 3, 1, 64, [4, 700, 9], None, None, id="decoding"),
        pytest.param(1, 1, 1, 1, 32, [1], None, None, id="the very first token"),
        pytest.param(2, 2, 4, 5, 64, [300, 1024, 9], None, None, id="a batch with guesses"),
        pytest.param(1, 2, 3, 3, 96, [5, 600], None, 3.0, id="softcap"),
        pytest.param(2, 1, 5, 4, 32, [270], 7, None, id="window"),
        pytest.param(1, 1, 1, 2, 128, [3, 300], 280, 2.0, id="window and softcap"),
    ],
)
def test_attention_is_right_and_each_query_sees_only_its_keys(
    b: int, hk: int, group: int, n: int, e: int, lengths: list[int], window: int | None, softcap: float | None,
    threads: int,
) -> None:  # fmt: skip
    queries = normal(b, n, hk * group, e).transpose(1, 2)
    parts = [(normal(b, hk, k, e).bfloat16(), normal(b, hk, k, e).bfloat16()) for k in lengths]
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        made = native.attend(queries, parts, 0.2, window, softcap)
        for i in range(n):
            # The query alone, over the keys up to its own.
            seen = [*parts[:-1], tuple(rows[:, :, : lengths[-1] - n + i + 1] for rows in parts[-1])]
            alone = native.attend(queries[:, :, i : i + 1], seen, 0.2, window, softcap)  # type: ignore[arg-type]
            assert torch.equal(made[:, :, i : i + 1], alone)
    finally:
        torch.set_num_threads(before)
    wide = [(keys.double(), values.double()) for keys, values in parts]
    expected = attend_reference(queries.double(), wide, causal=True, scale=0.2, window=window, softcap=softcap)
    assert (made - expected).abs().max() < 1e-5


@needs_compiler
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    ("b", "hk", "group", "n", "e", "lengths", "causal", "window"),
    [
        pytest.param(1, 3, 3, 200, 64, [4, 600, 200], True, None, id="reading"),
        pytest.param(2, 2, 2, 37, 32, [37], True, None, id="a batch"),
        pytest.param(1, 1, 4, 70, 128, [5, 300], True, 90, id="window"),
        pytest.param(1, 1, 2, 130, 256, [5, 300], True, 1, id="itself alone"),
        pytest.param(1, 2, 1, 300, 64, [900], True, 280, id="wide window"),
        pytest.param(2, 1, 2, 50, 96, [70, 1, 5], False, None, id="nothing hidden"),
        pytest.param(1, 1, 1, 1, 64, [513], True, None, id="one query"),
    ],
)
def test_attention_of_blocks_is_right(
    b: int, hk: int, group: int, n: int, e: int, lengths: list[int], causal: bool, window: int | None, threads: int,
) -> None:  # fmt: skip
    queries = 3 * normal(b, n, hk * group, e).transpose(1, 2)
    # Values as a joined projection leaves them, keys behind others in a longer tensor.
    parts = [(normal(b, hk, k + 3, e)[:, :, 3:], normal(b, k, 2 * hk, e)[:, :, hk:].transpose(1, 2)) for k in lengths]
    rounded = [(keys.bfloat16(), values.bfloat16()) for keys, values in parts]
    if not native.attends_blocks(queries.bfloat16(), rounded):
        pytest.skip("needs a processor that multiplies bfloat16")
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        made = native.attend_blocks(queries.bfloat16(), rounded, 0.2, lengths[-1] if causal else 0, window)
    finally:
        torch.set_num_threads(before)
    wide = [(keys.double(), values.double()) for keys, values in rounded]
    options = {"window": window} if causal else {}
    expected = attend_reference(queries.bfloat16().double(), wide, causal=causal, scale=0.2, **options)
    assert (made - expected).abs().max() < 2e-2
    # What is hidden does not count, however large it is.
    if causal and n > 1:
        rounded[-1][0][:, :, -1] = rounded[-1][1][:, :, -1] = 1e4
        again = native.attend_blocks(queries.bfloat16(), rounded, 0.2, lengths[-1], window)
        assert torch.equal(again[:, :, :-1], made[:, :, :-1])


@needs_compiler
@torch.inference_mode()
def test_norm_gate_and_rotation_of_blocks_are_torchs() -> None:
    def near(made: Tensor, expected: Tensor) -> bool:
        return bool(torch.all((made.double() - expected).abs() <= expected.abs() / 200 + 1e-6))

    x, weight = 3 * normal(2, 160, 192).bfloat16(), normal(192).bfloat16()
    if not native.takes_blocks(x, weight):
        pytest.skip("needs a processor that multiplies bfloat16")
    normed = x.double() * torch.rsqrt(x.double().square().mean(-1, keepdim=True) + 1e-5)
    assert near(native.norm_blocks(x, weight, 1e-5, False), normed * weight.double())
    assert near(native.norm_blocks(x, weight, 1e-5, True), normed * (1 + weight.double()))
    gate, up = (20 * x).split_with_sizes([96, 96], dim=-1)
    expected = torch.nn.functional.silu(gate.double()) * up.double()
    assert near(native.gate_blocks(gate, up), expected)
    heads = x.view(2, 160, 3, 64).transpose(1, 2)
    for rows in (1, 2):
        cos, sin = normal(rows, 1, 160, 32).bfloat16(), normal(rows, 1, 160, 32).bfloat16()
        expected = rotate_halves(heads.double(), cos.double(), sin.double())
        assert (native.rotate_blocks(heads, cos, sin) - expected).abs().max() < 0.02 * expected.abs().max()
    with torch.enable_grad():
        assert not native.takes_blocks(x, weight)
    assert not native.takes_blocks(x[:, :4], weight)
    assert not native.takes_blocks(x.float(), weight)


@needs_compiler
def test_blocks_it_does_not_take() -> None:
    def takes(e: int, dtype: torch.dtype = torch.bfloat16) -> bool:
        return native.attends_blocks(normal(1, 1, 2, e).to(dtype), [(normal(1, 1, 2, e).to(dtype),) * 2])

    assert not takes(16)
    assert not takes(288)
    assert not takes(64, torch.float32)


@needs_compiler
def test_norm_and_rotation_are_torchs() -> None:
    x, weight = normal(3, 77), normal(77).bfloat16()
    expected = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-5)
    torch.testing.assert_close(native.rms_norm(x, weight, 1e-5, False), expected * weight.float())
    torch.testing.assert_close(native.rms_norm(x, weight, 1e-5, True), expected * (1 + weight.float()))
    x = normal(2, 5, 4, 64).transpose(1, 2)
    for rows, planes in ((1, 32), (2, 32), (2, 20)):
        cos, sin = normal(rows, 1, 5, planes), normal(rows, 1, 5, planes)
        torch.testing.assert_close(native.rotate(x, cos, sin), rotate_halves(x, cos, sin))


@pytest.fixture
def unknown_library() -> Iterator[None]:
    native.library.cache_clear()
    yield
    native.library.cache_clear()


@pytest.mark.usefixtures("unknown_library")
@pytest.mark.parametrize("compiler", ["", "no-such-compiler", "false"])
def test_without_a_compiler_there_is_no_library(compiler: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("CC", compiler)
    assert native.library() is None
    with torch.inference_mode():
        assert not native.computes(1, torch.zeros(1, dtype=torch.bfloat16))
    assert not list(tmp_path.rglob("*.so"))


@needs_compiler
@pytest.mark.usefixtures("unknown_library")
def test_a_damaged_library_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(compiled, "_compile", lambda _, path: path.write_bytes(b"no program"))
    assert native.library() is None


@needs_compiler
def test_what_others_may_write_is_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    native.library.cache_clear()
    try:
        assert native.library() is not None
        (made,) = (tmp_path / "famcli" / "kernels").iterdir()
        for path in (made, made.parent):
            mode = path.stat().st_mode
            path.chmod(mode | 0o022)
            native.library.cache_clear()
            assert native.library() is None
            path.chmod(mode)
    finally:
        native.library.cache_clear()


def test_threads_that_wait_for_each_other_are_given_up_and_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, calls, busy = 0.0, list[int](), True

    def compute(threads: int) -> None:
        nonlocal clock
        calls.append(threads)
        clock += 1.0 if threads == 1 else 10.0 if busy else 0.5

    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(native.time, "perf_counter", lambda: clock)
    threads = native._Threads()
    for _ in range(500):
        threads.run(compute)
    assert calls.count(2) < 10
    busy = False
    for _ in range(5000):
        threads.run(compute)
    assert calls[-200:].count(1) < 10
