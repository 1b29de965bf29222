"""`fam.json`: what it says comes back, and whatever is wrong is named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from famcli.checkpoint.fingerprints import config_fingerprint
from famcli.checkpoint.sidecar import Sidecar, parse_sidecar, read_sidecar
from famcli.errors import CheckpointError
from famcli.nn import DecoderConfig, FamConfig
from tests.helpers import change_json, write_json

FULL = Sidecar(
    fam=FamConfig(128, 2, 8, 4, memory_update="gated", gate_threshold=0.65, local_memory=True),
    memory_trained=True,
    validated_tokens=100_000,
    tasks={"summarize": "extract"},
    prompts={"ask": "Frage: {question}\nAntwort:"},
)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    write_json(tmp_path / "fam.json", FULL.to_json())
    assert read_sidecar(tmp_path) == FULL


def test_only_the_numbers_are_required() -> None:
    values = {"format": 1, "architecture": "fam", "block_size": 8, "memory_segments": 0, "fam_length": 0}
    sidecar = parse_sidecar(Path("fam.json"), values | {"memory_trained": False})
    assert sidecar == Sidecar(fam=FamConfig(8, 0, 0, 0), memory_trained=False)


def test_a_folder_without_sidecar_names_the_way_to_get_one(plain: Path) -> None:
    with pytest.raises(CheckpointError, match="famcli enable"):
        read_sidecar(plain)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"format": 2}, "'format' is 2.*newer famcli"),
        ({"format": "1"}, "'format' must be a whole number"),
        ({"format": True}, "'format' must be a whole number"),
        ({"architecture": "mamba"}, "'architecture' is 'mamba'"),
        ({"block_size": ...}, "'block_size' is missing; add it to fam.json"),
        ({"block_size": 0}, "'block_size' must be between 1 and"),
        ({"block_size": 16.0}, "'block_size' must be a whole number, it is 16.0"),
        ({"block_size": 10**12}, "'block_size' must be between 1 and"),
        ({"memory_segments": -1}, "'memory_segments' must be between 0"),
        ({"memory_segments": 10**400}, "'memory_segments' must be between 0"),
        ({"fam_length": 17}, "'fam_length' must be between 0 and 16, it is 17"),
        ({"sink_tokens": 99}, "'sink_tokens' must be between 0 and 16"),
        ({"gate_threshold": 1}, "'gate_threshold' must be between 0 and 0.999, it is 1"),
        ({"memory_trained": "yes"}, "'memory_trained' must be true or false, it is \"yes\""),
        ({"validated_tokens": -5}, "'validated_tokens' must be between 0"),
        ({"tasks": ["summarize"]}, "'tasks' must be an object"),
        ({"tasks": {"summarize": 1}}, "'tasks' must map names to strings, 'summarize' is 1"),
        ({"prompts": {"ask": None}}, "'prompts' must map names to strings"),
        ({"memory_segment": 3}, "'memory_segment' is not a key.*did you mean 'memory_segments'"),
        ({"colour": "red"}, "'colour' is not a key.*newer famcli"),
    ],
)
def test_what_is_wrong_is_named(checkpoint: Path, changes: dict[str, object], expected: str) -> None:
    change_json(checkpoint / "fam.json", **changes)
    with pytest.raises(CheckpointError, match=expected) as caught:
        read_sidecar(checkpoint)
    assert "fam.json" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_fingerprints_of_older_versions_still_hold() -> None:
    """Memory files keep them: a setting that comes or goes must not change what a configuration's fingerprint is."""
    decoder = DecoderConfig(61, 32, 48, 3, 4, 2, 8)
    plain, gated = FamConfig(8, 2, 3), FamConfig(8, 2, 3, 1, memory_update="gated", gate_threshold=0.65)
    assert config_fingerprint(decoder, plain).startswith("f2341fddc636d3b4")
    assert config_fingerprint(decoder, replace(gated, local_memory=True)).startswith("54b54683d148510d")
