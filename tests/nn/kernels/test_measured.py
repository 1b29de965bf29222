"""The way of computing that is fastest on this processor: measured once, and kept."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from famcli.nn.kernels import attention, measured

_clock = SimpleNamespace(now=0.0)


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that only what is timed moves: the machine's own depends on who else uses it."""
    monkeypatch.setattr(measured, "time", SimpleNamespace(perf_counter=lambda: _clock.now))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "famcli" / "kernels"


def _ways(milliseconds: dict[str, float], calls: Counter[str]) -> dict[str, Callable[[], object]]:
    def of(name: str) -> Callable[[], object]:
        def compute() -> None:
            calls[name] += 1
            _clock.now += milliseconds[name] / 1000

        return compute

    return {name: of(name) for name in milliseconds}


def test_what_is_clearly_faster_is_chosen_and_kept(cache: Path) -> None:
    calls = Counter[str]()
    ways = _ways({"slow": 30, "fast": 2}, calls)
    assert measured.fastest("sums", ways, "slow") == "fast"
    assert calls["slow"] == calls["fast"] > 1
    (file,) = cache.iterdir()
    assert json.loads(file.read_text())["milliseconds"]["slow"] == pytest.approx(30)
    before = calls.copy()
    assert measured.fastest("sums", ways, "slow") == "fast"
    assert calls == before, "measured again"
    assert measured.fastest("products", ways, "slow") == "fast"
    assert calls["slow"] > before["slow"], "another question has an answer of its own"


def test_what_is_expected_stays_unless_another_is_clearly_faster() -> None:
    assert measured.fastest("sums", _ways({"first": 20, "second": 19}, Counter()), "first") == "first"


@pytest.mark.parametrize("content", ["", "[]", '{"fastest": 3}', '{"fastest": "gone"}', '{"fastest": "slow"'])
def test_a_file_of_other_content_is_measured_anew(cache: Path, content: str) -> None:
    ways = _ways({"slow": 10, "fast": 1}, Counter())
    measured.fastest("sums", ways, "slow")
    (file,) = cache.iterdir()
    file.write_text(content)
    assert measured.fastest("sums", ways, "slow") == "fast"
    assert json.loads(file.read_text())["fastest"] == "fast"


def test_without_a_cache_it_is_measured_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "a file"))
    assert measured.fastest("sums", _ways({"slow": 10, "fast": 1}, Counter()), "slow") == "fast"


def test_attention_of_large_problems_is_measured(cache: Path) -> None:
    attention._fastest_way.cache_clear()
    tensors = [torch.randn(1, heads, n, 64) for heads, n in ((4, 300), (2, 900), (2, 900))]
    with torch.inference_mode():
        attention.attend(tensors[0], [(tensors[1], tensors[2])], causal=True)
    (file,) = cache.glob("attention-float32-*.json")
    assert set(json.loads(file.read_text())["milliseconds"]) == {"tiles", "torch"}
    attention._fastest_way.cache_clear()
