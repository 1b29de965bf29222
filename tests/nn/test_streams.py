"""Every family reads a stream as it reads one text, however the stream is cut, with a memory and without one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from famcli.checkpoint.families.table import FAMILIES
from famcli.nn import MEMORY_MODES, FamConfig, MemoryMode
from tests.nn.families import CASES, ours, tokens_of
from tests.nn.test_decoder import assert_same_state, read

FAMS = {
    "without memory": FamConfig(block_size=8, memory_segments=2, fam_length=0, sink_tokens=2),
    "with memory": FamConfig(block_size=8, memory_segments=2, fam_length=3, sink_tokens=2),
    "gated, everywhere": FamConfig(
        block_size=8, memory_segments=1, fam_length=3, memory_update="gated", local_memory=True
    ),
    "kept": FamConfig(block_size=8, memory_segments=1, fam_length=5, sink_tokens=2, memory_update="kept"),
    "delta": FamConfig(block_size=8, memory_segments=1, fam_length=3, sink_tokens=2, memory_update="delta"),
}
STREAMED = [
    "llama-all",
    "mistral-window",
    "qwen2-window-tied",
    "qwen3-all",
    "gemma2-caps",
    "gemma3-scaled",
    "phi3-partial-window",
    "phi3-long",
    "smollm3-all",
    "gpt-neox",
    "gpt-neox-serial",
    "gemma-all",
    "olmo2-bias",
    "granite",
    "mixtral-window",
    "qwen3-moe-all",
]
LENGTH = 37


def test_every_family_of_the_table_is_here() -> None:
    assert {CASES[case].config().model_type for case in STREAMED} | {"gemma3"} == set(FAMILIES)


@pytest.mark.parametrize("fam", FAMS)
@pytest.mark.parametrize("case", STREAMED)
@torch.no_grad()
def test_a_stream_is_the_same_however_it_is_cut(case: str, fam: str, tmp_path: Path) -> None:
    """One shot, block by block, token by token, and cut anywhere: the logits and the state agree in every mode."""
    CASES[case].oracle().save_pretrained(tmp_path)
    network, tokens = ours(tmp_path, FAMS[fam]), tokens_of(2, LENGTH)
    modes: tuple[MemoryMode, ...] = MEMORY_MODES if FAMS[fam].fam_length else ("on",)
    for mode in modes:
        one, state = read(network, tokens, network.start(2, mode), [])
        for cuts in ([8] * 5, [1] * LENGTH, [3, 1, 4, 16, 5]):
            hidden, end = read(network, tokens, network.start(2, mode), cuts)
            torch.testing.assert_close(network.logits(hidden), network.logits(one), rtol=2e-4, atol=2e-4)
            assert_same_state(end, state)
