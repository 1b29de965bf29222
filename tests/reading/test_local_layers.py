"""A decoder some of whose layers have a sliding window: read, kept and read on as any other."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from famcli.checkpoint.enable import enable
from famcli.checkpoint.open import open_model
from famcli.errors import MemoryFileError
from famcli.reading.memory_file import inspect_memory_file, load_memory, save_memory
from famcli.reading.reader import Reader
from tests.helpers import change_json, make_random_checkpoint
from tests.reading.support import pipe

TEXT = b"It was a dark and stormy night, and no one was out in it. " * 4


@pytest.fixture(scope="module", params=[False, True], ids=["no memory there", "local memory"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SmolLM3 whose second layer has no positions and a window of 11 tokens."""
    path = make_random_checkpoint(tmp_path_factory.mktemp("local") / "smollm", fam=None)
    local = {"use_sliding_window": True, "sliding_window": 11, "no_rope_layers": [1, 0]}
    change_json(path / "config.json", model_type="smollm3", **local)
    enable(path, block_size=8, memory_segments=2, fam_length=3, local_memory=request.param)
    return path


@pytest.mark.parametrize("kind", ["full", "memory"])
def test_what_was_read_is_kept_and_read_on(folder: Path, kind: str, tmp_path: Path) -> None:
    model = open_model(folder, device="cpu", dtype="float32")
    reader = Reader(model, memory_mode="on")
    list(reader.read([pipe(TEXT)]))
    saved = tmp_path / "x.fam"
    save_memory(saved, reader, kind)  # type: ignore[arg-type]
    assert inspect_memory_file(saved).fam.local_memory == model.network.fam.local_memory
    state = load_memory(saved, model).state
    for one, other in zip(state.layers, reader.state.layers, strict=True):
        torch.testing.assert_close(one.memory, other.memory)
    remembering = [layer.memory.shape[1] for layer in state.layers]
    assert remembering == ([3, 3] if model.network.fam.local_memory else [3, 0])
    if kind == "full":
        assert [layer.segment_keys.shape[2] for layer in state.layers] == [16, 10]
        assert [layer.sink_keys.shape[2] for layer in state.layers] == [4, 0]


def test_a_file_of_the_other_setting_is_refused(folder: Path, tmp_path: Path) -> None:
    model = open_model(folder, device="cpu", dtype="float32")
    reader = Reader(model, memory_mode="on")
    list(reader.read([pipe(TEXT)]))
    save_memory(tmp_path / "x.fam", reader)
    other = not model.network.fam.local_memory
    enable(folder, block_size=8, memory_segments=2, fam_length=3, local_memory=other, force=True)
    with pytest.raises(MemoryFileError, match=f"local_memory {not other}.*local_memory {other}"):
        load_memory(tmp_path / "x.fam", open_model(folder, device="cpu", dtype="float32"))
    enable(folder, block_size=8, memory_segments=2, fam_length=3, local_memory=not other, force=True)
