"""Opening a checkpoint and using every weight takes no more memory than the weights, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from famcli.checkpoint.save import save_checkpoint
from famcli.checkpoint.sidecar import Sidecar
from famcli.nn import make_network
from famcli.tokens.tokenizer import ByteTokenizer
from tests.helpers import TINY_CONFIG, TINY_FAM, make_random_checkpoint, read_json, write_json

CONFIG = replace(TINY_CONFIG, hidden_size=1024, intermediate_size=3072, num_layers=4, num_heads=16, head_dim=64)
NUM_SHARDS = 4
MEASURE = """
import sys
from pathlib import Path
from famcli.checkpoint.open import open_model

def memory(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))

small, large, dtype = sys.argv[1:]
open_model(small, device="cpu", dtype=dtype)  # whatever is loaded once is loaded now
Path("/proc/self/clear_refs").write_text("5")  # the peak is what there is now
before = memory("VmRSS")
model = open_model(large, device="cpu", dtype=dtype)
for parameter in model.network.parameters():
    parameter.detach().view(-1)[::1024].sum()  # mapped pages are there when they are used
print(memory("VmHWM") - before)
"""


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_random_checkpoint(tmp_path_factory.mktemp("small") / "tiny", dtype=torch.bfloat16)


@pytest.fixture(scope="module")
def sharded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """About 100 MB of bfloat16 in four files."""
    with torch.device("meta"):
        network = make_network(CONFIG, TINY_FAM)
    network = network.to_empty(device="cpu")
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(0.01)
    folder = tmp_path_factory.mktemp("large") / "large"
    size = sum(parameter.numel() for parameter in network.parameters()) * 2
    tokenizer, sidecar = ByteTokenizer(), Sidecar(fam=TINY_FAM)
    return save_checkpoint(
        folder, network, tokenizer, sidecar, torch.bfloat16, shard_bytes=size // NUM_SHARDS + (1 << 20)
    )


@pytest.fixture(scope="module")
def fused(sharded: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same shape as a GPT-NeoX, whose queries, keys and values lie between one another: they must be copied."""
    folder = tmp_path_factory.mktemp("fused")
    width, inner = CONFIG.hidden_size, CONFIG.intermediate_size
    values = {
        "model_type": "gpt_neox",
        "vocab_size": CONFIG.vocab_size,
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": 4,
        "num_attention_heads": 16,
        "attention_bias": False,
        "max_position_embeddings": 256,
    }
    write_json(folder / "config.json", values)
    tensors = {
        "gpt_neox.embed_in.weight": torch.zeros(CONFIG.vocab_size, width),
        "embed_out.weight": torch.zeros(CONFIG.vocab_size, width),
    }
    tensors |= {f"gpt_neox.final_layer_norm.{part}": torch.zeros(width) for part in ("weight", "bias")}
    for index in range(4):
        layer = f"gpt_neox.layers.{index}."
        for norm in ("input_layernorm", "post_attention_layernorm"):
            tensors |= {f"{layer}{norm}.{part}": torch.zeros(width) for part in ("weight", "bias")}
        for name, rows, columns in (("dense_h_to_4h", inner, width), ("dense_4h_to_h", width, inner)):
            tensors[f"{layer}mlp.{name}.weight"] = torch.zeros(rows, columns)
            tensors[f"{layer}mlp.{name}.bias"] = torch.zeros(rows)
        tensors[f"{layer}attention.query_key_value.weight"] = torch.zeros(3 * width, width)
        tensors[f"{layer}attention.dense.weight"] = torch.zeros(width, width)
    save_file({name: tensor.to(torch.bfloat16) for name, tensor in tensors.items()}, folder / "model.safetensors")
    ByteTokenizer().save(folder)
    write_json(folder / "fam.json", Sidecar(fam=replace(TINY_FAM, fam_length=0)).to_json())
    return folder


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux to tell the peak")
@pytest.mark.parametrize(
    ("which", "dtype", "most"),
    [
        ("sharded", "bfloat16", 1.1),
        ("fused", "bfloat16", 1.1),
        ("sharded", "float32", 2.2),  # the numbers in twice their size
    ],
)
def test_the_peak_is_that_of_the_weights(
    which: str, dtype: str, most: float, small: Path, request: pytest.FixtureRequest
) -> None:
    folder: Path = request.getfixturevalue(which)
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(small), str(folder), dtype],
        capture_output=True,
        text=True,
        timeout=600,
        check=True,
    )
    assert int(done.stdout) <= most * _size(folder)


def test_the_fixtures_are_what_they_say(sharded: Path) -> None:
    files = set(read_json(sharded / "model.safetensors.index.json")["weight_map"].values())
    assert len(files) == NUM_SHARDS
    assert _size(sharded) > 80e6
