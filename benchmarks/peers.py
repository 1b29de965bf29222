"""famcli against transformers and llama.cpp: the same random weights of the 100M shape in the same type.

Each program runs in a process of its own and all are timed in turn: reading a prompt of 2k and of 16k tokens, and
greedy decoding after it. Before anything is timed, the three must agree on a short prompt's logits (famcli without
memory keys, which makes it the plain decoder that the others are). llama.cpp runs with and without its flash attention
and counts with the faster. The ratios are the bars.

    python -m benchmarks.peers [--threads 2] [--repeats 5] [--long-repeats 3] [--dtype bfloat16|float32]
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.common import FAM_100M, SHAPE_100M, pairwise, print_table, verdict
from benchmarks.gguf_file import write_gguf

Logits = np.ndarray[Any, np.dtype[np.float32]]

SHORT, LONG = 2048, 16384
DECODED = 32
GAIN = 2.0
# What is said of it in the table, engine compared with, and how many times its speed ours must be.
BARS = {
    ("read", LONG, "transformers"): 2.0,
    ("read", LONG, "llama.cpp"): 3.5,
    ("decode", SHORT, "llama.cpp"): 0.6,
    ("decode", LONG, "llama.cpp"): 1.0,
}


# ------------------------------------------------------------------------------------------------ the three engines


class Famcli:
    """Blocks through the network, with memory."""

    def __init__(self, folder: Path, dtype: str, *, quantize: str = "none") -> None:
        from famcli.checkpoint.open import open_model

        self.network = open_model(folder, device="cpu", dtype=dtype, quantize=quantize).network
        self.after: tuple[Any, Any] = (None, None)

    def read(self, tokens: Sequence[int], *, memory_mode: Any = "on") -> Logits:
        from famcli.reading.engine import read_any, start_state

        self.after = read_any(self.network, torch.tensor(tokens), start_state(self.network, memory_mode))
        with torch.inference_mode():
            logits: Logits = self.network.logits(self.after[0])[0, -1].float().numpy()
        return logits

    def plain(self, tokens: Sequence[int]) -> Logits:
        return self.read(tokens, memory_mode="none")

    def decode(self, n: int) -> None:
        from famcli.reading.engine import float_logits, write

        hidden, state = self.after
        for _ in range(n):
            # As famcli.reading.generating does.
            token = int(float_logits(self.network, hidden)[0, -1].argmax())
            hidden, state = write(self.network, torch.tensor([[token]]), state)


class Transformers:
    """One forward call over the prompt, then one for each token, with its dynamic cache."""

    def __init__(self, folder: Path, dtype: str) -> None:
        import transformers

        transformers.utils.logging.set_verbosity_error()
        self.model = transformers.LlamaForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()
        self.cache: Any = None
        self.last: Any = None

    @torch.inference_mode()
    def read(self, tokens: Sequence[int]) -> Logits:
        from transformers import DynamicCache

        self.cache = DynamicCache(config=self.model.config)
        self.last = self._forward(torch.tensor([list(tokens)]))
        logits: Logits = self.last.float().numpy()
        return logits

    plain = read

    @torch.inference_mode()
    def decode(self, n: int) -> None:
        last = self.last
        for _ in range(n):
            last = self._forward(last.argmax().view(1, 1))
        self.cache.crop(-n)

    def _forward(self, ids: torch.Tensor) -> torch.Tensor:
        out = self.model(input_ids=ids, past_key_values=self.cache, use_cache=True, logits_to_keep=1)
        logits: torch.Tensor = out.logits[0, -1]
        return logits


class LlamaCpp:
    """llama.cpp through llama-cpp-python, weights in a GGUF file of the same type, or in Q8_0."""

    def __init__(self, folder: Path, dtype: str, *, flash: bool) -> None:
        self.open(write_gguf(folder, folder / f"{dtype}-{flash}.gguf", dtype), LONG + 2 * DECODED, flash)

    def open(self, path: Path, context: int, flash: bool) -> None:
        import llama_cpp

        threads = torch.get_num_threads()
        self.model = llama_cpp.Llama(
            str(path), n_ctx=context, n_threads=threads, n_threads_batch=threads, flash_attn=flash, verbose=False
        )
        self.length = 0

    def read(self, tokens: Sequence[int]) -> Logits:
        self.model.reset()
        self.model.eval(tokens)
        self.length = self.model.n_tokens
        return self._logits().copy()

    plain = read

    def decode(self, n: int) -> None:
        for _ in range(n):
            self.model.eval([int(self._logits().argmax())])
        self.model.n_tokens = self.length  # the next call removes what is behind it from the cache
        self.model.eval([1])
        self.model.n_tokens = self.length

    def _logits(self) -> Logits:
        import llama_cpp

        pointer = llama_cpp.llama_get_logits_ith(self.model.ctx, -1)
        return np.ctypeslib.as_array(pointer, shape=(self.model.n_vocab(),))


ENGINES: dict[str, Callable[[Path, str], Any]] = {
    "famcli": Famcli,
    "transformers": Transformers,
    "llama.cpp": partial(LlamaCpp, flash=False),
    "llama.cpp, flash": partial(LlamaCpp, flash=True),
}


# ------------------------------------------------------------------------------------------------ one process each


def _serve(make: Callable[[Path, str], Any], folder: str, dtype: str, threads: int, pipe: Connection) -> None:
    torch.set_num_threads(threads)
    began = time.perf_counter()
    engine = make(Path(folder), dtype)
    pipe.send(time.perf_counter() - began)
    while (order := pipe.recv()) is not None:
        method, argument = order
        began = time.perf_counter()
        result = getattr(engine, method)(argument)
        pipe.send((time.perf_counter() - began, result))


class Worker:
    """An engine in its own process, where it keeps what it read between orders. opening: seconds that it took."""

    def __init__(self, make: Callable[[Path, str], Any], folder: Path, dtype: str, threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(make, str(folder), dtype, threads, theirs), daemon=True)
        self._process.start()
        theirs.close()
        self.opening: float = self._pipe.recv()

    def call(self, method: str, argument: Any) -> tuple[float, Any]:
        """Seconds that the engine's method took, and what it returned."""
        self._pipe.send((method, argument))
        seconds, result = self._pipe.recv()
        return seconds, result

    def stop(self) -> None:
        self._pipe.send(None)
        self._process.join()


# ------------------------------------------------------------------------------------------------ the run


def write_checkpoint(folder: Path, dtype: str) -> None:
    """Random weights whose attention is far from uniform, so that a wrong rotation or head order shows."""
    from famcli.checkpoint.save import save_checkpoint
    from famcli.checkpoint.sidecar import Sidecar
    from famcli.nn import DecoderConfig, FamConfig, RopeConfig, make_network
    from famcli.tokens.tokenizer import ByteTokenizer

    fam = FamConfig(**FAM_100M)
    network = make_network(DecoderConfig(**SHAPE_100M, rope=RopeConfig(max_position=2 * LONG)), fam)
    network.reset_parameters(0)
    with torch.no_grad():
        for parameter_name, parameter in network.named_parameters():
            if "q_proj" in parameter_name or "k_proj" in parameter_name:
                parameter.mul_(GAIN)
    sidecar = Sidecar(fam=fam, memory_trained=True)
    save_checkpoint(folder, network, ByteTokenizer(), sidecar, getattr(torch, dtype))


def random_tokens(count: int, generator: torch.Generator) -> list[int]:
    tokens: list[int] = torch.randint(0, SHAPE_100M["vocab_size"], (count,), generator=generator).tolist()
    return tokens


def plain_logits(workers: Mapping[str, Worker]) -> dict[str, Logits]:
    """What each engine makes of 300 random tokens."""
    tokens = random_tokens(300, torch.Generator().manual_seed(1))
    return {name: worker.call("plain", tokens)[1] for name, worker in workers.items()}


def deviations(logits: Logits, reference: Logits) -> float:
    """How far logits are from others, in deviations of those."""
    return float(np.sqrt(np.mean((logits - reference) ** 2)) / reference.std())


def check_agreement(workers: dict[str, Worker], dtype: str) -> list[tuple[object, ...]]:
    """How far each engine's logits are from those of transformers."""
    logits = plain_logits(workers)
    wrong = logits["transformers"][::-1]  # what unrelated logits of this spread would look like
    reference = logits["transformers"]
    rows: list[tuple[object, ...]] = []
    for name, values in [*logits.items(), ("(unrelated)", wrong)]:
        off = deviations(values, reference)
        rows.append((name, f"{off:.4f}", int(values.argmax()), f"{values.max():.4f}"))
        limit = 0.05 if dtype == "bfloat16" else 0.005
        if name in workers and off > limit:
            print_table("Logits", ["engine", "off", "best", "logit"], rows)
            raise RuntimeError(f"{name} computes something else than transformers: off by {off:.3f} deviations")
    return rows


def time_length(
    workers: Mapping[str, Worker], length: int, repeats: int, prompt: int | None = None
) -> dict[tuple[str, str], list[float]]:
    """Seconds per token of reading `length` tokens, and of decoding after them or the first `prompt`, in turn."""
    taken: dict[tuple[str, str], list[float]] = {(job, name): [] for job in ("read", "decode") for name in workers}
    generator = torch.Generator().manual_seed(length)
    for _ in range(repeats):
        tokens = random_tokens(length, generator)
        for name, worker in workers.items():
            taken["read", name].append(worker.call("read", tokens)[0] / length)
            if prompt is not None:
                worker.call("read", tokens[:prompt])
            worker.call("decode", 2)
            taken["decode", name].append(worker.call("decode", DECODED)[0] / DECODED)
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=5, help="at 2k")
    parser.add_argument("--long-repeats", type=int, default=3, help="at 16k; 0 leaves it out")
    parser.add_argument("--dtype", choices=["bfloat16", "float32"], default="bfloat16")
    options = parser.parse_args()
    rows: list[tuple[object, ...]] = []
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        write_checkpoint(folder, options.dtype)
        workers = {name: Worker(make, folder, options.dtype, options.threads) for name, make in ENGINES.items()}
        agreement = check_agreement(workers, options.dtype)
        columns = ["engine", "off, in deviations", "best token", "its logit"]
        print_table("Logits after 300 tokens, against transformers", columns, agreement)
        for length, repeats in ((SHORT, options.repeats), (LONG, options.long_repeats)):
            if not repeats:
                continue
            taken = time_length(workers, length, repeats)
            for job in ("read", "decode"):
                cells: list[object] = [f"{job} {length}" if job == "read" else f"decode after {length}"]
                cells += [f"{1 / statistics.median(taken[job, name]):.1f}" for name in workers]
                fastest = [
                    min(pair) for pair in zip(taken[job, "llama.cpp"], taken[job, "llama.cpp, flash"], strict=True)
                ]
                for peer, seconds in (("transformers", taken[job, "transformers"]), ("llama.cpp", fastest)):
                    ratio, bar = pairwise(seconds, taken[job, "famcli"]), BARS.get((job, length, peer))
                    told = "" if bar is None else f" (bar {bar:g}: {verdict(ratio, bar, at_least=True)})"
                    cells.append(f"{ratio:.2f}{told}")
                rows.append(tuple(cells))
        for worker in workers.values():
            worker.stop()
    columns = ["tokens per second", *ENGINES, "famcli / transformers", "famcli / faster llama.cpp"]
    print_table(f"100M shape, random weights, {options.dtype}, {options.threads} threads, medians", columns, rows)


if __name__ == "__main__":
    main()
