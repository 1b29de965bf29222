"""How fast a pretrained decoder reads and writes: `python -m benchmarks.real_decoder speed`.

famcli (bfloat16 and int4), transformers and llama.cpp with the same weights, each in a process of its own, in turns:
opening, reading the example novel's first tokens, greedy decoding after them, peak memory. In the same run the
machine's own rates: matrix products at the decoder's shapes, reading of memory. Shares are of those rates: what the
layers' weights alone multiply over the matrix rate, and the bytes of all weights over the memory's. As it is, it takes
about five minutes of two idle cores; `--lengths 32768` alone takes twice that, most of it in transformers.

    python -m benchmarks.real_decoder speed [--lengths 2048 32768] [--systems famcli transformers] [--repeats 3]
    python -m benchmarks.real_decoder speed --grounded [--systems famcli famcli-plain llama.cpp]

`famcli-smollm2` reads with the adapter that ships for SmolLM2, its small window and its memory. The second form writes
after turns that hold a stretch of the novel, where famcli looks up what comes next in it.
"""

from __future__ import annotations

import argparse
import platform
import resource
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import torch

from benchmarks import peers
from benchmarks.common import EXAMPLE, interleaved, pairwise, print_table
from benchmarks.near_the_machine import layer_products, product_candidates
from famcli.checkpoint.chat_template import Message, open_chat_template
from famcli.checkpoint.folder import ADAPTER_CONFIG
from famcli.checkpoint.locate import resolve, shipped_models
from famcli.checkpoint.weights import check_folder
from famcli.nn import DecoderConfig

LENGTHS = (2048, 8192)
DECODED = 32
# What a turn asks of its stretch of `STRETCH` tokens, and how many tokens of an answer are written.
GROUNDED = {
    "copy": "Repeat this text word for word:\n\n",
    "quote": "Quote the three most important sentences of this text:\n\n",
    "sum up": "Summarize this text in a few sentences:\n\n",
}
STRETCH, ANSWERED = 1500, 96
# Rows that the rate of products is measured at, and layers whose weights take turns, so that no cache holds them.
_ROWS, _LAYERS = 1024, 6
# An unrelated decoder's logits are about 1.4 deviations away.
_AGREES = 0.5


class _Writing:
    """An engine that writes so many tokens, after any text or as an answer from what it has read.

    It also says what memory its process took at most.
    """

    def peak_bytes(self, _: None) -> int:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    def write(self, n: int) -> int:
        self.decode(n)  # type: ignore[attr-defined]
        return n

    def answer(self, n: int) -> int:
        return self.write(n)


class Famcli(_Writing, peers.Famcli):
    """As its commands run: blocks, and `generate`."""

    def __init__(
        self, path: Path, dtype: str, *, quantize: str = "none", adapter: Path | None = None, lookup: bool = True
    ) -> None:
        from famcli.checkpoint.device import keep_freed_memory
        from famcli.checkpoint.open import open_model

        keep_freed_memory()
        # Without an end: each system writes the same number of tokens.
        opened = open_model(path, device="cpu", dtype=dtype, quantize=quantize, adapter=adapter)
        self.model = replace(opened, end_ids=frozenset())
        self.network = self.model.network
        self.after, self.known, self._lookup = (None, None), list[int](), lookup

    def read(self, tokens: Sequence[int], *, memory_mode: Any = "on") -> peers.Logits:
        self.known = list(tokens)
        return super().read(tokens, memory_mode=memory_mode)

    def write(self, n: int, *, known: Sequence[int] = ()) -> int:
        from famcli.reading.generating import GenerationConfig, GenerationEnd, generate

        hidden, state = self.after
        config = GenerationConfig(max_tokens=n, lookup=self._lookup)
        for event in generate(self.model, state, [], config, last_hidden=hidden, known=known):
            if isinstance(event, GenerationEnd):
                return len(event.tokens)
        raise AssertionError

    def answer(self, n: int) -> int:
        return self.write(n, known=self.known)


def as_transformers_name(path: Path) -> dict[str, Any]:
    """The folder or the GGUF file `path` as the arguments of `from_pretrained`."""
    if path.is_file():
        return {"pretrained_model_name_or_path": path.parent, "gguf_file": path.name}
    return {"pretrained_model_name_or_path": path}


class Transformers(_Writing, peers.Transformers):
    """One call for the prompt, its own cache of keys and values, torch's fused attention."""

    def __init__(self, path: Path, dtype: str) -> None:
        import transformers

        transformers.utils.logging.set_verbosity_error()
        transformers.utils.logging.disable_progress_bar()
        place = as_transformers_name(path)
        kind = transformers.AutoModelForCausalLM
        self.model = kind.from_pretrained(**place, dtype=getattr(torch, dtype), attn_implementation="sdpa").eval()


class LlamaCpp(_Writing, peers.LlamaCpp):
    """llama.cpp on the GGUF file as it is."""

    def __init__(self, path: Path, dtype: str, *, flash: bool, context: int) -> None:
        self.open(path, context, flash)


def engines(context: int) -> dict[str, Any]:
    """What can be measured; llama.cpp with room for `context` tokens."""
    return {
        "famcli": Famcli,
        "famcli-plain": partial(Famcli, lookup=False),
        "famcli-smollm2": partial(Famcli, adapter=shipped_models(ADAPTER_CONFIG).get("fam-smollm2")),
        "famcli-int8": partial(Famcli, quantize="int8"),
        "famcli-int4": partial(Famcli, quantize="int4"),
        "transformers": Transformers,
        "llama.cpp": partial(LlamaCpp, flash=False, context=context),
        "llama.cpp-flash": partial(LlamaCpp, flash=True, context=context),
    }


# ------------------------------------------------------------------------------------------------ the machine


def matrix_rate(config: DecoderConfig, dtype: torch.dtype, repeats: int) -> float:
    """Floating-point operations a second of a layer's products, each in the fastest way torch offers here."""
    taken = []
    for sizes in layer_products(config):
        seconds = 0.0
        for inputs, outputs in sizes:
            x = torch.randn(_ROWS, inputs).to(dtype)
            weights = [torch.randn(outputs, inputs).to(dtype) for _ in range(_LAYERS)]
            ways = [product_candidates(x, weight) for weight in weights]
            calls = {name: partial(_each, [way[name] for way in ways]) for name in ways[0]}
            seconds += min(map(min, interleaved(calls, repeats).values())) / _LAYERS
        taken.append(2.0 * _ROWS * sum(i * o for i, o in sizes) / seconds)
    return max(taken)


def _each(calls: Sequence[Any]) -> None:
    for call in calls:
        call()


def memory_rate(repeats: int) -> float:
    """Bytes a second that all threads read of a tensor that no cache holds."""
    wide = torch.ones(64 << 20)
    return wide.nbytes / min(interleaved({"sum": lambda: wide.sum()}, repeats)["sum"])


def weights(config: DecoderConfig) -> tuple[int, int]:
    """Numbers in the layers' matrices, and in all that a decoded token is multiplied by."""
    layers = config.num_layers * sum(i * o for i, o in layer_products(config)[0])
    return layers, layers + config.hidden_size * config.vocab_size


def processor() -> str:
    """The processor's name, and which instructions for narrow types it has."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    told = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = [flag for flag in ("avx512_bf16", "avx512_vnni", "amx_bf16") if flag in told.get("flags", "").split()]
    return f"{told.get('model name', platform.processor())}, family {told.get('cpu family')}, {' '.join(flags)}"


# ------------------------------------------------------------------------------------------------ the run


def check_agreement(logits: dict[str, peers.Logits]) -> None:
    """Print how far each engine's logits are from the first one's, in their deviations. Raises RuntimeError."""
    first = next(iter(logits.values()))
    off = {name: peers.deviations(each, first) for name, each in logits.items()}
    told = ", ".join(f"{name} {value:.3f}" for name, value in off.items())
    print(f"logits of the same prompt, deviations from the first: {told}", flush=True)
    if max(off.values()) > _AGREES:
        raise RuntimeError("one of the engines computes something else")


def turns(workers: dict[str, peers.Worker], tokens: list[int], repeats: int) -> dict[tuple[str, str], list[float]]:
    """Seconds of reading `tokens`, and seconds a token of writing after them, by (what, system)."""
    taken: dict[tuple[str, str], list[float]] = {(what, name): [] for what in ("read", "write") for name in workers}
    for _ in range(repeats):
        for name, worker in workers.items():
            taken["read", name].append(worker.call("read", tokens)[0])
            worker.call("write", 2)
            seconds, written = worker.call("write", DECODED)
            taken["write", name].append(seconds / written)
            rate = len(tokens) / taken["read", name][-1]
            print(f"{name}: {rate:,.0f} tokens/s read, {written / seconds:,.1f} written", file=sys.stderr, flush=True)
    return taken


def rows(
    taken: dict[tuple[str, str], list[float]],
    length: int,
    config: DecoderConfig,
    rates: tuple[float, float],
    stored: float,
) -> Iterator[tuple[object, ...]]:
    """Lines of the table: tokens a second, shares of the machine, and ratios to the peers.

    stored: bytes of a number in the file, by which it is written.
    """
    systems = [name for what, name in taken if what == "read"]
    layers, all_weights = weights(config)
    others = [name for name in systems if not name.startswith("famcli")]
    for what, count in (("read", length), ("write", 1)):
        for name in systems:
            seconds = statistics.median(taken[what, name])
            if what == "read":
                share = f"{2 * layers * count / seconds / rates[0]:.0%} of products"
            else:
                size = {"famcli-int8": 1.0, "famcli-int4": 0.625, "transformers": 2.0}.get(name, stored)
                share = f"{size * all_weights / seconds / rates[1]:.0%} of memory"
            ratios = [f"{pairwise(taken[what, other], taken[what, name]):.2f}" for other in others]
            beyond = " *" if not name.startswith("famcli") and length > config.rope.max_position else ""
            told = f"{what} {length:,}" if what == "read" else f"write after {length:,}"
            spread = f"{count / max(taken[what, name]):,.0f} to {count / min(taken[what, name]):,.0f}"
            yield (told, name + beyond, f"{count / seconds:,.1f}", spread, share, *ratios)


def grounded(workers: dict[str, peers.Worker], path: Path, repeats: int) -> None:
    """Write after turns about stretches of the example novel, and print tokens a second by what is asked."""
    checked = check_folder(path)
    chat = open_chat_template(checked.path, checked.tokenizer)
    assert chat is not None
    taken: dict[tuple[str, str], list[float]] = {(what, name): [] for what in GROUNDED for name in workers}
    novel = checked.tokenizer.encode(EXAMPLE.read_text(encoding="utf-8"))
    for place in range(repeats):
        stretch = novel[place * len(novel) // repeats :][:STRETCH]
        for what, asked in GROUNDED.items():
            before, after = chat.around([Message("user", asked)], "")
            for name, worker in workers.items():
                worker.call("read", [*before, *stretch, *after])
                worker.call("write", 2)
                seconds, written = worker.call("answer", ANSWERED)
                taken[what, name].append(seconds / written)
                print(f"{what}: {name} {written / seconds:,.1f} tokens/s", file=sys.stderr, flush=True)
    for name in workers:
        taken["all", name] = [sum(each) for each in zip(*(taken[what, name] for what in GROUNDED), strict=True)]
    others = [name for name in workers if not name.startswith("famcli")]
    table = []
    for what, name in taken:
        rate = (len(GROUNDED) if what == "all" else 1) / statistics.median(taken[what, name])
        ratios = [f"{pairwise(taken[what, other], taken[what, name]):.2f}" for other in others]
        table.append((what, name, f"{rate:,.1f}", *ratios))
    columns = ["asked", "system", "tokens/s", *(f"times {name}" for name in others)]
    print_table(f"{ANSWERED} tokens after {STRETCH:,}, medians of {repeats} stretches", columns, table)


def speed(options: argparse.Namespace) -> None:
    """Measure and print as it goes."""
    torch.set_num_threads(options.threads)
    path = resolve(options.model).path
    checked = check_folder(path)
    config = checked.config.decoder
    text = EXAMPLE.read_text(encoding="utf-8")[: 6 * max(options.lengths)]
    tokens = checked.tokenizer.encode(text)
    dtype = getattr(torch, options.dtype)
    print(f"{processor()}; {options.threads} threads; {path.name}, {options.dtype}", flush=True)
    numbers = sum(prod(each.shape) for each in checked.weights.values())
    stored = sum(each.num_bytes for each in checked.weights.values()) / numbers
    measured = [(matrix_rate(config, dtype, 5), memory_rate(5))]
    known = engines(max(options.lengths) + 4 * DECODED)
    workers, logits = dict[str, peers.Worker](), dict[str, peers.Logits]()
    for name in options.systems:
        if path.is_file() or "llama" not in name:
            try:
                worker = peers.Worker(known[name], path, options.dtype, options.threads)
                logits[name] = worker.call("plain", tokens[:300])[1]
                workers[name] = worker
            except EOFError:
                print(f"{name} died: where that was an illegal instruction, build it without AMX", flush=True)
    opened = ", ".join(f"{name} {worker.opening:.2f} s" for name, worker in workers.items())
    print(f"opening, with what it imports besides torch: {opened}", flush=True)
    check_agreement(logits)
    if options.grounded:
        grounded(workers, path, options.repeats)
        options.lengths = []
    others = [name for name in workers if not name.startswith("famcli")]
    columns = ["", "system", "tokens/s", "slowest to fastest", "share", *(f"times {name}" for name in others)]
    for length in options.lengths:
        assert len(tokens) >= length
        repeats = max(1, options.repeats * 2048 // max(2048, length)) if options.fewer else options.repeats
        taken = turns(workers, tokens[:length], repeats)
        measured.append((matrix_rate(config, dtype, 3), memory_rate(3)))
        matrix, memory = (statistics.median(pair) for pair in zip(*measured[-2:], strict=True))
        title = f"{length:,} tokens, medians of {repeats}; products {matrix / 1e9:,.0f} GFLOP/s, memory "
        print_table(title + f"{memory / 1e9:.1f} GB/s", columns, rows(taken, length, config, (matrix, memory), stored))
        peaks = {name: worker.call("peak_bytes", None)[1] for name, worker in workers.items()}
        print("peak memory: " + ", ".join(f"{name} {value / 1e6:,.0f} MB" for name, value in peaks.items()), flush=True)
    if max(options.lengths, default=0) > config.rope.max_position:
        print(f"* the decoder was trained on {config.rope.max_position:,} tokens: the text it writes is of no use")
    for worker in workers.values():
        worker.stop()


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default="smollm2-plain")
    parser.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float32"))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--lengths", type=int, nargs="+", default=LENGTHS, help="tokens to read")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--grounded", action="store_true", help="write about stretches of a text, with lookup")
    parser.add_argument("--same", dest="fewer", action="store_false", help="as many repeats for long texts")
    usual = ["famcli", "famcli-int4", "transformers", "llama.cpp"]
    parser.add_argument("--systems", nargs="+", choices=list(engines(0)), default=usual)
    parser.set_defaults(run=speed)
