"""Checkpoints are data from strangers: opening one works or is one CheckpointError, and takes little memory."""

from __future__ import annotations

import json
import os
import pickle
import resource
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from famcli.checkpoint.enable import enable
from famcli.checkpoint.families.pretrained import read_config
from famcli.checkpoint.inspect import inspect_checkpoint
from famcli.checkpoint.open import open_model
from famcli.checkpoint.sidecar import read_sidecar
from famcli.checkpoint.weights import check_visible, checked_weights
from famcli.errors import CheckpointError, FamcliError
from famcli.nn.rope_scaling import inverse_frequencies
from tests.helpers import change_json, read_json, write_json

FILES = ["config.json", "fam.json", "model.safetensors", "fam.safetensors"]
VALUES = [None, True, -1, 0, 1, 3, 2**31, 2**63, 10**400, 1e308, float("nan"), "", "x" * 10_000, [], {}, [[]], "../x"]


def _refused(folder: Path, expected: str) -> str:
    """The message with which both opening and inspecting refuse the folder."""
    with pytest.raises(CheckpointError, match=expected) as caught:
        open_model(folder, device="cpu")
    with pytest.raises(CheckpointError, match=expected):
        inspect_checkpoint(folder)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 600
    return message


def _opens_or_is_refused(folder: Path) -> None:
    message = ""
    try:
        open_model(folder, device="cpu")
    except FamcliError as error:
        message = str(error)
    assert "\n" not in message


def _rewrite(path: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}
    change(tensors)
    save_file(tensors, path)


# ------------------------------------------------------------------------------ missing, extra, shapes


def test_missing_tensors_are_named(checkpoint: Path) -> None:
    _rewrite(checkpoint / "model.safetensors", lambda tensors: tensors.pop("model.layers.1.mlp.up_proj.weight"))
    _refused(checkpoint, r"lack 'model\.layers\.1\.mlp\.up_proj\.weight', which config\.json asks for")


def test_a_head_that_is_missing_hints_at_ties(checkpoint: Path) -> None:
    _rewrite(checkpoint / "model.safetensors", lambda tensors: tensors.pop("lm_head.weight"))
    _refused(checkpoint, r"lack 'lm_head\.weight'.*tied")


def test_extra_tensors_are_named_and_counted(checkpoint: Path) -> None:
    extra = {f"model.layers.0.self_attn.{x}_proj.bias": torch.zeros(2) for x in "qkvo"}
    _rewrite(checkpoint / "model.safetensors", lambda tensors: tensors.update(extra))
    _refused(checkpoint, r"have 'model\.layers\.0\.self_attn\.\w_proj\.bias'.* and 1 more, which config\.json does not")


def test_wrong_shapes_are_named(checkpoint: Path) -> None:
    _rewrite(checkpoint / "model.safetensors", lambda tensors: tensors.update({"model.norm.weight": torch.ones(31)}))
    _refused(checkpoint, r"'model\.norm\.weight' is \[31\], the configuration asks for \[32\]")


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ({"memory_prompt": torch.zeros(5, 32)}, r"'memory_prompt' is \[5, 32\], the configuration asks for \[4, 32\]"),
        ({"prompt": torch.zeros(4, 32)}, "must hold 'memory_prompt' and nothing else, it holds 'prompt'"),
        ({"memory_prompt": torch.zeros(4, 32), "more": torch.zeros(1)}, "nothing else"),
        ({"memory_prompt": torch.zeros(4, 32, dtype=torch.int64)}, "stored as I64"),
    ],
)
def test_prompts_that_do_not_fit(checkpoint: Path, prompt: dict[str, torch.Tensor], expected: str) -> None:
    save_file(prompt, checkpoint / "fam.safetensors")
    _refused(checkpoint, expected)


def test_a_prompt_that_is_missing(checkpoint: Path) -> None:
    (checkpoint / "fam.safetensors").unlink()
    _refused(checkpoint, r"fam\.safetensors is missing: it holds the memory prompt")


def test_a_weight_type_that_is_not_known(checkpoint: Path) -> None:
    _rewrite(checkpoint / "model.safetensors", lambda t: t.update({"model.norm.weight": torch.ones(32).double()}))
    _refused(checkpoint, r"'model\.norm\.weight' is stored as F64; known are F32, BF16, F16")


# ----------------------------------------------------------------------------------- pickles and paths


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "consolidated.00.pth"])
def test_pickles_are_never_opened(checkpoint: Path, name: str, tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, ...]:
            return (os.mkdir, (str(tmp_path / "exploded"),))

    (checkpoint / "model.safetensors").unlink()
    (checkpoint / name).write_bytes(pickle.dumps(Bomb()))
    _refused(checkpoint, f"'{name}'.*never opened; get the safetensors version")
    (checkpoint / name).rename(checkpoint / "model.safetensors")
    _refused(checkpoint, "not a whole safetensors file")
    assert not (tmp_path / "exploded").exists()


def _index(checkpoint: Path, file: str) -> None:
    names = load_file(checkpoint / "model.safetensors")
    (checkpoint / "model.safetensors").rename(checkpoint.parent / "outside.safetensors")
    write_json(checkpoint / "model.safetensors.index.json", {"weight_map": dict.fromkeys(names, file)})


@pytest.mark.parametrize(
    "file",
    [
        "../outside.safetensors",
        "{parent}/outside.safetensors",
        "x/../../outside.safetensors",
        "..",
        "",
        "a\0b",
        "..\\x",
    ],
)
def test_an_index_does_not_lead_out_of_the_folder(checkpoint: Path, file: str) -> None:
    _index(checkpoint, file.format(parent=checkpoint.parent))
    _refused(checkpoint, "not a name in the folder")


def test_links_do_not_lead_out_of_the_folder(checkpoint: Path) -> None:
    _index(checkpoint, "shard.safetensors")
    (checkpoint / "shard.safetensors").symlink_to("../outside.safetensors")
    _refused(checkpoint, "leads out of the checkpoint's folder")


@pytest.mark.parametrize("name", [*FILES, "tokenizer.bytes"])
def test_no_file_may_be_a_link_out(checkpoint: Path, name: str) -> None:
    (checkpoint / name).rename(checkpoint.parent / name)
    (checkpoint / name).symlink_to(checkpoint.parent / name)
    _refused(checkpoint, "leads out of the checkpoint's folder")


def test_links_inside_the_folder_are_fine(checkpoint: Path) -> None:
    (checkpoint / "model.safetensors").rename(checkpoint / "weights")
    (checkpoint / "model.safetensors").symlink_to("weights")
    assert open_model(checkpoint, device="cpu").dtype == torch.float32


@pytest.mark.parametrize("name", FILES)
def test_files_that_are_no_files(checkpoint: Path, name: str) -> None:
    (checkpoint / name).unlink()
    os.mkfifo(checkpoint / name)  # to open it would wait for ever
    _refused(checkpoint, f"{name} is not a (regular )?file|no config.json" if name != "config.json" else "config")
    (checkpoint / name).unlink()
    (checkpoint / name).symlink_to("nowhere")
    _refused(checkpoint, "missing|no fam.json|no config.json|no folder")


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        ({"weight_map": {}}, "names no weights"),
        ({}, "names no weights"),
        ({"weight_map": ["a"]}, "'weight_map' must be an object"),
        ({"weight_map": {"a": 3}}, "must map names to strings"),
        ({"weight_map": {"a": "gone.safetensors"}}, "gone.safetensors is missing"),
    ],
)
def test_an_index_that_is_wrong(checkpoint: Path, index: object, expected: str) -> None:
    (checkpoint / "model.safetensors").unlink()
    write_json(checkpoint / "model.safetensors.index.json", index)
    _refused(checkpoint, expected)


def test_a_tensor_in_two_shards(checkpoint: Path) -> None:
    for shard in ("a.safetensors", "b.safetensors"):
        shutil.copy(checkpoint / "model.safetensors", checkpoint / shard)
    (checkpoint / "model.safetensors").unlink()
    weight_map = {"x": "a.safetensors", "y": "b.safetensors"}
    write_json(checkpoint / "model.safetensors.index.json", {"weight_map": weight_map})
    _refused(checkpoint, "has 'lm_head.weight', which a.safetensors has too")


# ---------------------------------------------------------------------------------------------- damage


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("keep", [0.0, 0.001, 0.1, 0.5, 0.999])
def test_truncated_files(checkpoint: Path, name: str, keep: float) -> None:
    content = (checkpoint / name).read_bytes()
    (checkpoint / name).write_bytes(content[: min(int(len(content) * keep), len(content) - 3)])
    _refused(checkpoint, f"{name} is not (valid JSON|a whole safetensors file)")


@pytest.mark.parametrize(
    "content",
    [b"[" * 100_000, b"{" + b'"a":{' * 100_000, b"\xff\xfe", b"[]", b"null", b'{"format": 1' + b"1" * 5000 + b"}"],
)
@pytest.mark.parametrize("name", ["config.json", "fam.json"])
def test_json_that_is_none(checkpoint: Path, name: str, content: bytes) -> None:
    (checkpoint / name).write_bytes(content)
    _refused(checkpoint, name)


def test_the_keys_and_kinds_are_those_of_the_file(checkpoint: Path) -> None:
    change_json(checkpoint / "config.json", num_key_value_heads=3)
    _refused(checkpoint, r"config\.json: 'num_attention_heads' is 4, no multiple of num_key_value_heads \(3\)")
    write_json(checkpoint / "config.json", [1])
    _refused(checkpoint, "config.json must hold one JSON object, it holds a list")


def test_json_of_gigabytes_is_not_read(checkpoint: Path) -> None:
    os.truncate(checkpoint / "config.json", 1 << 40)
    _refused(checkpoint, "more than any config.json needs")


def _header(entries: dict[str, object], data: int = 64, length: int | None = None) -> bytes:
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + bytes(data)


HEADERS = {
    "length-of-terabytes": _header({}, length=1 << 62),
    "length-beyond-the-file": _header({}, length=1000),
    "offsets-beyond-the-file": _header({"a": {"dtype": "F32", "shape": [16], "data_offsets": [0, 1 << 40]}}),
    "offsets-backwards": _header({"a": {"dtype": "F32", "shape": [16], "data_offsets": [64, 0]}}),
    "shape-larger-than-data": _header({"a": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 64]}}),
    "shape-that-overflows": _header({"a": {"dtype": "F32", "shape": [1 << 62, 1 << 62], "data_offsets": [0, 64]}}),
    "shape-negative": _header({"a": {"dtype": "F32", "shape": [-16], "data_offsets": [0, 64]}}),
    "overlap": _header(
        {name: {"dtype": "F32", "shape": [16], "data_offsets": [0, 64]} for name in ("a", "b")},
    ),
    "dtype-unknown": _header({"a": {"dtype": "F31", "shape": [16], "data_offsets": [0, 64]}}),
    "no-json": struct.pack("<Q", 8) + b"notjson!" + bytes(64),
    "no-text": struct.pack("<Q", 8) + b"\xff" * 8 + bytes(64),
}


@pytest.mark.parametrize("name", ["model.safetensors", "fam.safetensors"])
@pytest.mark.parametrize("case", HEADERS)
def test_headers_that_lie(checkpoint: Path, case: str, name: str) -> None:
    (checkpoint / name).write_bytes(HEADERS[case])
    _refused(checkpoint, f"{name} is not a whole safetensors file")


def test_messages_stay_on_one_line_whatever_names_say(checkpoint: Path) -> None:
    name = "evil\n\x1b[31m" + "x" * 10_000
    _rewrite(checkpoint / "model.safetensors", lambda tensors: tensors.update({name: torch.zeros(1)}))
    assert "\x1b" not in _refused(checkpoint, "evil")


# ------------------------------------------------------------------------------------------------ fuzz


@pytest.mark.parametrize("name", ["config.json", "fam.json"])
def test_every_key_with_every_strange_value(checkpoint: Path, name: str) -> None:
    original = read_json(checkpoint / name)
    keys = [*original, "rope_parameters", "partial_rotary_factor", "original_max_position_embeddings"]
    for key in keys:
        for value in VALUES:
            write_json(checkpoint / name, original | {key: value})
            _opens_or_is_refused(checkpoint)


def test_a_scaling_that_overflows_at_the_streams_window(checkpoint: Path) -> None:
    change_json(checkpoint / "config.json", rope_scaling={"rope_type": "dynamic", "factor": 1e300})
    change_json(checkpoint / "fam.json", memory_segments=1 << 20)
    _refused(checkpoint, "config.json: ")


def test_strange_rope_scalings(checkpoint: Path) -> None:
    fam, opened = read_sidecar(checkpoint).fam, set[tuple[bytes, float]]()
    for kind in ("linear", "dynamic", "llama3", "yarn", "default"):
        good = {"rope_type": kind, "factor": 2.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
        for key in (*good, "original_max_position_embeddings", "attention_factor", "beta_fast", "mscale", "truncate"):
            for value in VALUES:
                change_json(checkpoint / "config.json", rope_scaling=good | {key: value})
                message = ""
                try:
                    config = read_config(checkpoint)
                    checked_weights(checkpoint, config)
                    check_visible(config, fam, checkpoint)
                except FamcliError as error:
                    message = str(error)
                assert "\n" not in message
                # What passes the checks is opened as well, once for each meaning: opening takes much longer.
                if not message:
                    rope = config.decoder.rope
                    frequencies, gain = inverse_frequencies(rope, config.decoder.head_dim, rope.max_position)
                    meaning = (frequencies.tobytes(), gain)
                    if meaning not in opened:
                        open_model(checkpoint, device="cpu")
                    opened.add(meaning)
    assert len(opened) > 10


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), name=st.sampled_from(FILES))
def test_damaged_bytes(checkpoint: Path, pristine: Path, data: st.DataObject, name: str) -> None:
    content = bytearray((pristine / name).read_bytes())
    # Half of the damage goes to the first bytes, where headers are.
    place = st.integers(0, len(content) - 1) | st.integers(0, min(len(content), 600) - 1)
    for at, value in data.draw(st.lists(st.tuples(place, st.integers(0, 255)), min_size=1, max_size=4)):
        content[at] = value
    cut = data.draw(st.integers(0, len(content)) | st.just(len(content)))
    (checkpoint / name).write_bytes(content[:cut])
    try:
        _opens_or_is_refused(checkpoint)
    finally:
        shutil.copy(pristine / name, checkpoint / name)


# ---------------------------------------------------------------------------------------------- memory


@pytest.mark.skipif(sys.platform != "linux", reason="reads peak memory as Linux counts it")
def test_hostile_numbers_take_no_memory(checkpoint: Path, tmp_path: Path) -> None:
    """The largest numbers that pass for plausible, refused by a process that stays small."""
    largest = {
        "vocab_size": 1 << 23,
        "hidden_size": 1 << 17,
        "intermediate_size": 1 << 20,
        "num_hidden_layers": 512,
        "num_attention_heads": 1 << 12,
        "num_key_value_heads": 1 << 12,
        "head_dim": 1 << 12,
        "max_position_embeddings": 1 << 40,
    }
    folders = []
    for change in (*({key: value} for key, value in largest.items()), largest):
        folders.append(shutil.copytree(checkpoint, tmp_path / f"copy-{len(folders)}"))
        if set(change) != {"max_position_embeddings"}:
            change_json(folders[-1] / "config.json", **change)
    huge = {"block_size": 1 << 20, "memory_segments": 1 << 20, "fam_length": 1 << 14, "sink_tokens": 1 << 20}
    change_json(folders[7] / "fam.json", **huge)
    code = f"""
import resource, sys
from famcli.checkpoint.open import open_model
from famcli.errors import CheckpointError
open_model({str(checkpoint)!r}, device="cpu")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for folder in {[str(folder) for folder in folders]!r}:
    try:
        open_model(folder, device="cpu")
    except CheckpointError:
        continue
    sys.exit(folder + " was opened")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 64 * 1024


def test_huge_numbers_in_the_sidecar_alone_take_no_memory(checkpoint: Path) -> None:
    """A stream's blocks are as long as asked for, but memory is taken for what is read."""
    change_json(checkpoint / "fam.json", block_size=1 << 20, memory_segments=1 << 20)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    model = open_model(checkpoint, device="cpu")
    with torch.inference_mode():
        model.network.read(torch.zeros(1, 8, dtype=torch.int64), model.network.start())
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024
    with pytest.raises(CheckpointError, match="is enabled and its memory is trained"):
        enable(checkpoint)
