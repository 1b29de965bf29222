"""Cross-entropy in slices, and what a continuation costs after a state."""

from __future__ import annotations

import pytest
import torch

from benchmarks.networks import score_continuation
from famcli.reading.engine import read_any, start_state
from famcli.reading.scoring import SLICE, cross_entropy
from famcli.tokens.tokenizer import ByteTokenizer
from tests.reading.support import tiny_model

NETWORK = tiny_model(ByteTokenizer()).network


def test_slices_are_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    hidden, targets = torch.randn(2, 2 * SLICE + 3, 16), torch.randint(0, 257, (2, 2 * SLICE + 3))
    with torch.no_grad():
        logits = NETWORK.logits(hidden)
    sizes, real = [], type(NETWORK).logits
    monkeypatch.setattr(
        type(NETWORK), "logits", lambda self, rows: sizes.append(rows.shape[:2].numel()) or real(self, rows)
    )
    nll, correct = cross_entropy(NETWORK, hidden, targets)
    assert max(sizes) <= SLICE
    torch.testing.assert_close(nll, -logits.log_softmax(-1).gather(2, targets[..., None])[..., 0])
    assert torch.equal(correct, logits.argmax(-1) == targets)


@pytest.mark.parametrize("read", [0, 1, 5, 7, 8, 20])
@pytest.mark.parametrize("length", [1, 2, 3, 8, 9, 30])
def test_a_continuation_is_scored_as_if_read_at_once(read: int, length: int) -> None:
    ids = [256, *range(65, 65 + read + length)]
    _, state = read_any(NETWORK, ids[: 1 + read], start_state(NETWORK))
    last_hidden, _ = read_any(NETWORK, ids[: 1 + read], start_state(NETWORK))
    expected = score_continuation(NETWORK, start_state(NETWORK), ids)[1 + read :]
    found = score_continuation(NETWORK, state, ids[1 + read :], last_hidden)
    torch.testing.assert_close(found, expected, rtol=2e-3, atol=2e-3)
    unknown = score_continuation(NETWORK, state, ids[1 + read :])
    assert unknown[0].isnan()
    torch.testing.assert_close(unknown[1:], expected[1:], rtol=2e-3, atol=2e-3)


def test_nothing_to_score() -> None:
    assert score_continuation(NETWORK, start_state(NETWORK), []).shape == (0,)
    assert read_any(NETWORK, [], start_state(NETWORK))[0] is None
