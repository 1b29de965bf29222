"""The attention kernel against its plain reference, in every regime it is used in."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor

from famcli.nn.kernels import attention
from famcli.nn.kernels.attention import attend, attention_received
from tests.nn.reference import attend_reference

Part = tuple[Tensor, Tensor]
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-2}


def _draw(b: int, h: int, hk: int, n: int, lengths: list[int], e: int, dtype: torch.dtype) -> tuple[Tensor, list[Part]]:
    generator = torch.Generator().manual_seed(7)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(dtype)

    return normal(b, h, n, e), [(normal(b, hk, k, e), normal(b, hk, k, e)) for k in lengths]


def _as_float64(queries: Tensor, parts: list[Part]) -> tuple[Tensor, list[Part]]:
    return queries.double(), [(key.double(), value.double()) for key, value in parts]


REGIMES = [
    pytest.param(1, 12, 4, 200, [3 * 200, 16, 200], True, id="reading"),
    pytest.param(1, 12, 4, 300, [300], True, id="first block, no memory"),
    pytest.param(2, 4, 2, 64, [16, 64], False, id="memory rows"),
    pytest.param(2, 4, 4, 24, [3, 40, 8, 24], True, id="sinks, every head its own keys"),
    pytest.param(1, 6, 1, 50, [20, 90], True, id="one key head, more own keys than queries"),
    pytest.param(3, 4, 2, 1, [70, 5, 33], True, id="decoding a batch"),
    pytest.param(1, 12, 4, 1, [1], True, id="the very first token"),
    pytest.param(1, 4, 2, 5, [0, 30, 0, 5], True, id="empty parts"),
]


# What a layer may ask for beside: a sliding window over the last part (wider and narrower than a tile), capped scores.
MASKS = [
    pytest.param({}, id="plain"),
    pytest.param({"window": 7}, id="narrow window"),
    pytest.param({"window": 90, "softcap": 2.0}, id="wide window, capped"),
    pytest.param({"window": 1}, id="itself alone"),
]


def _choose(kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a CPU of any kind read in one of the ways between which it chooses by what it has."""

    def way(_dtype: torch.dtype, compiled: bool) -> str:
        return "tiles" if kernel == "compiled" and not compiled else kernel

    monkeypatch.setattr(attention, "_fastest_way", way)
    monkeypatch.setattr(attention, "_FEW_PRODUCTS", 0)


@pytest.mark.parametrize("kernel", ["torch", "tiles", "compiled"])
@pytest.mark.parametrize("options", MASKS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize(("b", "h", "hk", "n", "lengths", "causal"), REGIMES)
def test_equals_the_reference(
    b: int,
    h: int,
    hk: int,
    n: int,
    lengths: list[int],
    causal: bool,
    dtype: torch.dtype,
    options: dict[str, float],
    kernel: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _choose(kernel, monkeypatch)
    queries, parts = _draw(b, h, hk, n, lengths, 32, dtype)
    expected = attend_reference(queries.float(), parts, causal=causal, **options)  # type: ignore[arg-type]
    result = attend(queries, parts, causal=causal, **options)  # type: ignore[arg-type]
    assert result.dtype == dtype
    assert result.shape == queries.shape
    assert (result - expected).abs().max() < TOLERANCE.get(dtype, 1e-5)


@pytest.mark.parametrize("options", MASKS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("b", "h", "hk", "n", "lengths", "causal"), REGIMES)
def test_gradients_equal_the_reference(
    b: int,
    h: int,
    hk: int,
    n: int,
    lengths: list[int],
    causal: bool,
    dtype: torch.dtype,
    options: dict[str, float],
) -> None:
    queries, parts = _draw(b, h, hk, n, lengths, 16, dtype)
    leaves = [queries, *(x for part in parts for x in part)]
    upstream = torch.randn(queries.shape, generator=torch.Generator().manual_seed(1)).to(dtype)

    def gradients(function: object, convert: torch.dtype) -> list[Tensor]:
        fresh = [x.detach().to(convert).requires_grad_() for x in leaves]
        out = function(fresh[0], list(zip(fresh[1::2], fresh[2::2], strict=True)), causal=causal)  # type: ignore[operator]
        return list(torch.autograd.grad(out, fresh, upstream.to(convert), allow_unused=True))

    ours, plain = (partial(function, **options) for function in (attend, attend_reference))  # type: ignore[arg-type]
    for got, expected in zip(gradients(ours, dtype), gradients(plain, torch.float32), strict=True):
        if expected is None or expected.numel() == 0:
            assert got is None or got.numel() == 0
            continue
        scale = max(1.0, float(expected.abs().max()))
        assert (got.float() - expected).abs().max() / scale < TOLERANCE[dtype]


def test_tiles_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    _choose("tiles", monkeypatch)
    queries, parts = _draw(1, 6, 2, 37, [50, 11, 45], 16, torch.float32)
    for window, softcap in ((None, None), (5, None), (20, 3.0), (44, None)):
        options = {"causal": True, "window": window, "softcap": softcap}
        whole = attend_reference(queries, parts, **options)  # type: ignore[arg-type]
        for rows in (1, 7, 12, 30, 512):
            monkeypatch.setattr(attention, "_TILE_ROWS", rows)
            for leaf in (queries, queries.clone().requires_grad_()):
                got = attend(leaf, parts, **options)  # type: ignore[arg-type]
                torch.testing.assert_close(got, whole, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("kernel", ["torch", "tiles", "compiled"])
def test_views_of_a_longer_buffer_serve_as_keys(kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _choose(kernel, monkeypatch)
    for n in (1, 9):
        queries, [(keys, values)] = _draw(2, 4, 2, n, [100], 16, torch.bfloat16)
        views = [(keys[:, :, 3:40], values[:, :, 3:40]), (keys[:, :, 60:80], values[:, :, 60:80])]
        copies = [(key.clone(), value.clone()) for key, value in views]
        assert torch.equal(attend(queries, views, causal=True), attend(queries, copies, causal=True))


def test_the_last_part_is_causal_from_its_lower_right_corner() -> None:
    queries, parts = _draw(1, 2, 1, 4, [6, 9], 8, torch.float32)
    before = attend(queries, parts, causal=True)
    key, value = (x.clone() for x in parts[1])
    key[:, :, 7:], value[:, :, 7:] = 50.0, -50.0  # the keys after the second query's own
    after = attend(queries, [parts[0], (key, value)], causal=True)
    assert torch.equal(before[:, :, :2], after[:, :, :2])
    assert not torch.allclose(before[:, :, 2:], after[:, :, 2:])


def test_scale_multiplies_the_scores() -> None:
    queries, parts = _draw(1, 4, 2, 8, [8, 8], 16, torch.float32)
    expected = attend(queries * 2, parts, causal=True)
    torch.testing.assert_close(attend(queries, parts, causal=True, scale=0.5), expected)
    torch.testing.assert_close(attend_reference(queries, parts, causal=True, scale=0.5), expected)
    one = queries[:, :, :1]
    torch.testing.assert_close(attend(one, parts, causal=False, scale=0.5), attend(one * 2, parts, causal=False))


@pytest.mark.parametrize("kernel", ["torch", "tiles", "compiled"])
def test_large_scores_stay_finite(kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _choose(kernel, monkeypatch)
    queries, parts = _draw(1, 4, 2, 40, [40], 16, torch.bfloat16)
    assert attend(queries * 100, [(parts[0][0] * 100, parts[0][1])], causal=True).isfinite().all()


def test_received_attention_is_what_the_weights_say() -> None:
    queries, parts = _draw(2, 4, 2, 3, [3, 10], 8, torch.float32)
    received = attention_received(queries, parts)
    # values that are indicator rows of the last part turn attention's output into its weights
    b, hk, k, _ = parts[1][0].shape
    indicator = torch.eye(k).expand(b, hk, k, k)
    padded = [(key, torch.zeros(b, hk, 3, k)) for key, _ in parts[:1]] + [(parts[1][0], indicator)]
    scores_scale = 1 / queries.shape[-1] ** 0.5
    weights = attend_reference(queries, padded, causal=False, scale=scores_scale)
    torch.testing.assert_close(received, weights.mean(dim=(1, 2)))
    assert received.shape == (2, 10)
    assert (received.sum(dim=1) < 1).all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize(("b", "h", "hk", "n", "lengths", "causal"), REGIMES)
def test_fused_call_equals_the_reference(b: int, h: int, hk: int, n: int, lengths: list[int], causal: bool) -> None:
    queries, parts = _draw(b, h, hk, n, lengths, 16, torch.float32)
    on_gpu = [(key.cuda(), value.cuda()) for key, value in parts]
    result = attend(queries.cuda(), on_gpu, causal=causal).cpu()
    assert (result - attend_reference(queries, parts, causal=causal)).abs().max() < 1e-4


@pytest.mark.parametrize("options", MASKS)
@pytest.mark.parametrize(("b", "h", "hk", "n", "lengths", "causal"), REGIMES)
def test_fused_path_computes_the_same(
    b: int,
    h: int,
    hk: int,
    n: int,
    lengths: list[int],
    causal: bool,
    options: dict[str, float],
) -> None:
    """A CPU has the accelerators' call too."""
    queries, parts = _draw(b, h, hk, n, lengths, 16, torch.float32)
    expected = attend_reference(queries, parts, causal=causal, **options)  # type: ignore[arg-type]
    window, softcap = options.get("window"), options.get("softcap")
    seen = attention._visible(queries, parts, causal, window, 16**-0.5, softcap)  # type: ignore[arg-type]
    result = attention._attend_fused(queries, *seen)
    assert (result - expected).abs().max() < 1e-5


def test_a_window_hides_what_lies_before_it_and_no_other_part() -> None:
    queries, parts = _draw(1, 2, 1, 4, [6, 9], 8, torch.float32)
    before = attend(queries, parts, causal=True, window=3)
    key, value = (x.clone() for x in parts[1])
    key[:, :, :4], value[:, :, :4] = 50.0, -50.0  # the first query's own key is 5, so it sees 3, 4 and 5
    after = attend(queries, [parts[0], (key, value)], causal=True, window=3)
    assert torch.equal(before[:, :, 1:], after[:, :, 1:])
    assert not torch.allclose(before[:, :, 0], after[:, :, 0])
    other = attend(queries, [(parts[0][0], parts[0][1] + 1), parts[1]], causal=True, window=3)
    assert not torch.isclose(before, other).any()
