"""Linear maps: as torch computes them, whatever library and layout is used, and never with a stale weight."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from famcli.nn.kernels.linear import JointLinear, Linear, PackedWeight, linear

TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float64: 1e-12}


def _pair(dtype: torch.dtype, bias: bool = True) -> tuple[Linear, nn.Linear]:
    torch.manual_seed(3)
    ours, theirs = Linear(48, 80, bias=bias).to(dtype), nn.Linear(48, 80, bias=bias).to(dtype)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


@pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(48,), (1, 48), (2, 1, 48), (1, 64, 48), (3, 5, 48)], ids=str)
def test_equals_torch(shape: tuple[int, ...], bias: bool, dtype: torch.dtype) -> None:
    ours, theirs = _pair(dtype, bias)
    x = torch.randn(shape).to(dtype)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), atol=TOLERANCE[dtype], rtol=TOLERANCE[dtype])
    torch.testing.assert_close(ours(x), theirs(x), atol=TOLERANCE[dtype], rtol=TOLERANCE[dtype])


def test_gradients_flow() -> None:
    ours, theirs = _pair(torch.float32)
    x = torch.randn(4, 48)
    ours(x).square().sum().backward()
    theirs(x).square().sum().backward()
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_changed_weight_is_used_at_once(dtype: torch.dtype) -> None:
    ours, _ = _pair(dtype, bias=False)
    x = torch.randn(2, 48).to(dtype)
    with torch.no_grad():
        before = ours(x)
        ours.weight.mul_(2)  # as an optimizer does
        torch.testing.assert_close(ours(x), before * 2)
        ours.weight = nn.Parameter(torch.zeros_like(ours.weight))  # as assigning a checkpoint does
        assert not ours(x).any()
        ours.weight.data = torch.ones_like(ours.weight)
        torch.testing.assert_close(ours(x)[:, 0], x.sum(1), atol=0.1, rtol=0.02)
        assert ours.to(torch.float64)(x.double()).dtype == torch.float64


def test_copies_share_nothing() -> None:
    ours, _ = _pair(torch.float32, bias=False)
    x = torch.randn(2, 48)
    with torch.no_grad():
        before = ours(x)
        other = copy.deepcopy(ours)
        other.weight.zero_()
        assert not other(x).any()
        assert torch.equal(ours(x), before)


def test_a_weight_without_a_module_packs_too() -> None:
    weight, packed = torch.randn(80, 48), PackedWeight()
    x = torch.randn(2, 48)
    with torch.inference_mode():
        for _ in range(2):
            torch.testing.assert_close(linear(x, weight, packed=packed), x @ weight.t(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("bias", [True, False])
def test_joint_maps_equal_each_alone(bias: bool, dtype: torch.dtype) -> None:
    torch.manual_seed(3)
    maps, joint = [Linear(48, outputs, bias=bias).to(dtype) for outputs in (80, 16, 16)], JointLinear()
    x = torch.randn(2, 5, 48).to(dtype)
    with torch.no_grad():
        for _ in range(2):
            for got, each in zip(joint(x, *maps), maps, strict=True):
                tolerance = TOLERANCE[dtype]
                torch.testing.assert_close(got, each(x), atol=tolerance, rtol=tolerance)
            maps[1].weight.mul_(3)
    out = joint(x, *maps)
    assert all(part.requires_grad for part in out)
