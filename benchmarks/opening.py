"""Opening a checkpoint: peak memory against its size on disk, and time against plain reading of the same files.

Random checkpoints in bfloat16, in one file and in four, of a family whose tensors are taken as they lie and of two
whose fused tensors are cut apart (GPT-NeoX's rows are copied). Each is opened in a process of its own, from the disk
(the system is asked to forget the files first), and every page of its weights is then touched once: a mapped weight is
read when it is used. Beside it the files are read plainly, in turn with that. Bars: peak over what the process had
before at most 1.1 times the size, time at most 1.25 times plain reading. The CPU time is of opening and touching: what
is left of the time is the disk's (or, on a busy machine, other processes').

    python -m benchmarks.opening [--megabytes 1600] [--repeats 5] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Iterable
from math import prod
from pathlib import Path
from typing import Any

from benchmarks.common import pairwise, print_table, run_child, verdict

PEAK_BAR, TIME_BAR = 1.1, 1.25
NUM_SHARDS, VOCABULARY, WIDTH = 4, 257, 1024
MB = 1_000_000
CASES = (("llama", 1), ("llama", NUM_SHARDS), ("phi3", NUM_SHARDS), ("gpt_neox", 1), ("gpt_neox", NUM_SHARDS))

_OPEN = """
import json, os, sys, time
from pathlib import Path
from famcli.checkpoint.open import open_model

def memory(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))

def forget():
    for path in files:
        with open(path, "rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

def read_plainly():
    buffer = bytearray(1 << 23)
    for path in files:
        with open(path, "rb", buffering=0) as file:
            while file.readinto(buffer):
                pass

small, large = sys.argv[1:3]
files = sorted(Path(large).glob("*.safetensors"))
open_model(small, device="cpu", dtype="bfloat16")  # whatever is loaded once is loaded now
forget()
began = time.perf_counter()
read_plainly()
plain = time.perf_counter() - began
forget()
Path("/proc/self/clear_refs").write_text("5")  # the peak is what there is now
before = memory("VmRSS")
began, busy = time.perf_counter(), time.process_time()
model = open_model(large, device="cpu", dtype="bfloat16")
opened = time.perf_counter() - began
for parameter in model.network.parameters():
    parameter.detach().view(-1)[::2048].sum()
touched = time.perf_counter() - began
busy = time.process_time() - busy
peak = memory("VmHWM") - before
print(json.dumps({"plain": plain, "opened": opened, "touched": touched, "busy": busy, "peak": peak}))
"""


def write_checkpoint(folder: Path, family: str, num_layers: int, num_shards: int) -> Path:
    """A checkpoint of `family` whose weights are drawn from a few numbers, layer by layer, enabled for streams."""
    import torch
    from safetensors.torch import save_file

    from famcli.checkpoint.enable import enable
    from famcli.tokens.tokenizer import ByteTokenizer

    folder.mkdir()
    config = {
        "model_type": family,
        "vocab_size": VOCABULARY,
        "hidden_size": WIDTH,
        "intermediate_size": 4 * WIDTH,
        "num_hidden_layers": num_layers,
        "num_attention_heads": WIDTH // 64,
        "max_position_embeddings": 4096,
        "tie_word_embeddings": False,
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    shards: list[dict[str, Any]] = [{} for _ in range(num_shards)]
    for index, names in enumerate(_stored_shapes(family, num_layers)):
        shard = shards[min(index * num_shards // (num_layers + 1), num_shards - 1)]
        shard |= {name: torch.full(shape, 0.01, dtype=torch.bfloat16) for name, shape in names.items()}
    places = {}
    for number, tensors in enumerate(shards, start=1):
        name = "model.safetensors" if num_shards == 1 else f"model-{number:05}-of-{num_shards:05}.safetensors"
        save_file(tensors, folder / name)
        places |= dict.fromkeys(tensors, name)
    if num_shards > 1:
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}), encoding="utf-8")
    ByteTokenizer().save(folder)
    enable(folder)
    return folder


def _stored_shapes(family: str, num_layers: int) -> Iterable[dict[str, tuple[int, ...]]]:
    """Names and shapes as the family stores them: of each layer, then of what is outside of all."""
    d, inner = WIDTH, 4 * WIDTH
    norms = {"input_layernorm.weight": (d,), "post_attention_layernorm.weight": (d,)}
    matrices: dict[str, tuple[int, ...]]
    if family == "gpt_neox":
        matrices = {"attention.query_key_value": (3 * d, d), "attention.dense": (d, d)}
        matrices |= {"mlp.dense_h_to_4h": (inner, d), "mlp.dense_4h_to_h": (d, inner)}
        biases = {f"{name}.bias": shape[:1] for name, shape in matrices.items()}
        biases |= {name.replace("weight", "bias"): shape for name, shape in norms.items()}
        layer, outer = norms | biases, {f"gpt_neox.final_layer_norm.{part}": (d,) for part in ("weight", "bias")}
        ends, prefix = ("gpt_neox.embed_in.weight", "embed_out.weight"), "gpt_neox"
    else:
        fused = {"self_attn.qkv_proj": (3 * d, d), "mlp.gate_up_proj": (2 * inner, d)}
        apart = {f"self_attn.{part}_proj": (d, d) for part in "qkv"}
        apart |= {f"mlp.{part}_proj": (inner, d) for part in ("gate", "up")}
        matrices = {"self_attn.o_proj": (d, d), "mlp.down_proj": (d, inner)} | (fused if family == "phi3" else apart)
        layer, outer = norms, {"model.norm.weight": (d,)}
        ends, prefix = ("model.embed_tokens.weight", "lm_head.weight"), "model"
    layer = layer | {f"{name}.weight": shape for name, shape in matrices.items()}
    for index in range(num_layers):
        yield {f"{prefix}.layers.{index}.{name}": shape for name, shape in layer.items()}
    yield outer | dict.fromkeys(ends, (VOCABULARY, d))


def measure(folder: Path, small: Path, repeats: int) -> dict[str, Any]:
    """Bytes on disk, and of each repeat its peak in bytes and its times in seconds."""
    command = [sys.executable, "-c", _OPEN, str(small), str(folder)]
    runs = [json.loads(run_child(command).stdout) for _ in range(repeats)]
    size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    return {"bytes": size} | {key: [run[key] for run in runs] for key in runs[0]}


def row_of(name: str, num_files: int, result: dict[str, Any]) -> tuple[object, ...]:
    """One row of the table."""
    size = result["bytes"]
    peak, ratio = max(result["peak"]) / size, pairwise(result["touched"], result["plain"])
    ratios = [touched / plain for touched, plain in zip(result["touched"], result["plain"], strict=True)]
    rate = size / statistics.median(result["touched"]) / MB
    return (
        f"{name}, {num_files} file{'s' if num_files > 1 else ''}",
        f"{size / MB:.0f} MB",
        f"{peak:.3f}",
        verdict(peak, PEAK_BAR),
        f"{statistics.median(result['opened']):.2f} s",
        f"{statistics.median(result['busy']):.2f} s",
        f"{rate:.0f} MB/s",
        f"{size / statistics.median(result['plain']) / MB:.0f} MB/s",
        f"{ratio:.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
        verdict(ratio, TIME_BAR),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=1600, help="about, of each checkpoint")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the measurements there")
    options = parser.parse_args()
    if not Path("/proc/self/clear_refs").exists():
        sys.exit("only Linux tells the peak of a process from a moment on")
    rows, results = [], {}
    for family, num_files in CASES:
        with tempfile.TemporaryDirectory() as made:
            layer = sum(prod(shape) for shape in next(iter(_stored_shapes(family, 1))).values())
            num_layers = max(NUM_SHARDS, round(options.megabytes * MB / 2 / layer))
            small = write_checkpoint(Path(made) / "small", family, 1, 1)
            large = write_checkpoint(Path(made) / "large", family, num_layers, num_files)
            results[f"{family}, {num_files}"] = result = measure(large, small, options.repeats)
            rows.append(row_of(family, num_files, result))
    columns = [
        "family",
        "size",
        "peak / size",
        "bar 1.1",
        "opened in",
        "CPU time",
        "opened and touched",
        "read plainly",
    ]
    columns += ["time / plain", "bar 1.25"]
    print_table(f"Opening bfloat16 checkpoints, medians of {options.repeats} runs", columns, rows)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
