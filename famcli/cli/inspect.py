"""`famcli inspect`: the facts of a checkpoint folder or a memory file, without loading weights."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from famcli.cli.options import CacheOption, JsonOption
from famcli.cli.render import Output, describe_bytes, describe_sizes
from famcli.cli.work import cache_environment
from famcli.plain import plural, user_path

if TYPE_CHECKING:
    from famcli.checkpoint.adapter import Adapter
    from famcli.checkpoint.inspect import CheckpointInfo
    from famcli.checkpoint.sidecar import Sidecar
    from famcli.nn import DecoderConfig, FamConfig
    from famcli.reading.memory_format import MemoryFileInfo

Facts = tuple[str, dict[str, Any], list[tuple[str, str]]]
"""What a thing is, its facts as plain values, and as lines of a name and a text."""


def inspect(
    path: Annotated[
        str | None,
        typer.Argument(
            metavar="PATH",
            help="A checkpoint folder, a GGUF file, a name that `famcli models` lists, an adapter's folder, or a "
            "memory file. "
            "Default: the checkpoint that --model would take.",
        ),
    ] = None,
    cache: CacheOption = None,
    json: JsonOption = False,
) -> None:
    """Show what a checkpoint, an adapter or a memory file holds.

    Sizes, how it reads (block size, segments, memory rows), bytes of a state, the memory that the weights need for each
    --dtype and --quantize, the length it was validated on, and the fingerprints by which a memory file is matched to a
    checkpoint. No weight is loaded.
    """
    kind, values, lines = _facts(path, cache)
    if json:
        Output().json({"kind": kind, **values})
    else:
        Output().facts(lines)


def _facts(path: str | None, cache: Path | None) -> Facts:
    from famcli.tokens.gguf_file import is_gguf

    file = None if path is None else user_path(path)
    # What ends with .fam is meant as a memory file, so that one which is missing is called so.
    if file is not None and (file.is_file() or file.suffix == ".fam") and not file.is_dir() and not is_gguf(file):
        from famcli.reading.memory_format import inspect_memory_file

        return _memory_file_facts(file, inspect_memory_file(file))
    from famcli.checkpoint.adapter import is_adapter, read_adapter
    from famcli.checkpoint.inspect import inspect_checkpoint
    from famcli.checkpoint.locate import resolve

    if file is not None and is_adapter(file):
        return _adapter_facts(read_adapter(file))
    return _checkpoint_facts(inspect_checkpoint(resolve(path, cache_environment(cache), asked_by="PATH")))


def _checkpoint_facts(info: CheckpointInfo) -> Facts:
    decoder, sidecar = info.decoder, info.sidecar
    # The names of the fields are the keys, as scripts know them (num_parameters, not parameters).
    values = asdict(info) | {
        "sidecar": sidecar.to_json() if sidecar else None,
        "files": [{"name": name, "bytes": size} for name, size in info.files],
    }
    several = len(info.dtypes) > 1
    stored = ", ".join(f"{count:,} in {dtype}" if several else f"in {dtype}" for dtype, count in info.dtypes.items())
    # Quantized folders open as bfloat16 unless asked otherwise, which their sizes on disk do not show.
    if info.storage != "float":
        stored += f"; {info.storage} is turned back on loading, unless --quantize {info.storage} is given"
    lines = [
        ("checkpoint", f"{info.name} ({info.where})" + (f", {info.path}" if str(info.path) != info.name else "")),
        ("family", info.family),
        ("parameters", f"{info.num_parameters:,} ({stored}), {describe_bytes(info.weights_bytes)}"),
        (
            "shape",
            f"{plural(decoder.num_layers, 'layer')}, width {decoder.hidden_size:,}, {decoder.num_heads} heads "
            f"({decoder.num_key_value_heads} for keys) of {decoder.head_dim}, feed-forward "
            f"{decoder.intermediate_size:,}, vocabulary {decoder.vocab_size:,}",
        ),
        *_kinds_of_layers(decoder),
        ("pretrained on", plural(info.max_positions, "token")),
    ]
    if info.adapter is not None:
        from famcli.checkpoint.adapter import read_adapter

        # The name of its folder, and how large it is; what it says of reading stands below as the checkpoint's own.
        facts = _adapter_facts(read_adapter(info.adapter))[2]
        lines += [(name, text) for name, text in facts if name in ("adapter", "updates")]
    if sidecar is None:
        lines.append(("memory", f"none: give it one with famcli enable {shlex.quote(info.name)}"))
    else:
        validated = sidecar.validated_tokens
        lines += [
            ("reads", _describe_fam(sidecar.fam)),
            ("memory", _describe_memory(sidecar)),
            ("validated on", "never" if validated is None else plural(validated, "token")),
            ("state", f"{describe_bytes(info.state_bytes or 0)} at most, however much is read"),
            ("tasks", ", ".join(f"{task}: {mode}" for task, mode in sidecar.tasks.items()) or "none named"),
        ]
    needs = ", ".join(f"{choice} {describe_bytes(size)}" for choice, size in info.memory_bytes.items())
    lines.append(("weights need", f"{needs} in memory"))
    prints = info.fingerprints
    lines += _fingerprint_lines(prints.weights, prints.config, prints.tokenizer)
    return "checkpoint", values, lines


def _kinds_of_layers(decoder: DecoderConfig) -> list[tuple[str, str]]:
    kinds = []
    if decoder.local_layers:
        kinds.append(
            f"{len(decoder.local_layers)} with a sliding window of {plural(decoder.sliding_window or 0, 'token')}"
        )
    if decoder.unrotated_layers:
        kinds.append(f"{len(decoder.unrotated_layers)} without positions")
    if decoder.experts:
        mixed = decoder.num_layers - len(decoder.experts.dense_layers)
        kinds.append(f"{mixed} with {decoder.experts.num_experts} experts, {decoder.experts.per_token} for each token")
    return [("layers", "; ".join(kinds))] if kinds else []


def _memory_file_facts(path: Path, info: MemoryFileInfo) -> Facts:
    size, seen = path.stat().st_size, info.progress
    unread = f" (and {plural(seen.bytes_unread, 'byte')} not read yet)" if seen.bytes_unread else ""
    values: dict[str, Any] = {"path": path, "file_size": size, **asdict(info)}
    # The file's kind and how it was read lie among its other facts; "kind" itself says that it is a memory file.
    values |= {"memory_kind": values.pop("kind")} | values.pop("fam")
    sizes = [f", {plural(part.num_bytes, 'byte')}" if len(info.sources) > 1 else "" for part in info.sources]
    lines = [
        ("memory file", f"{path}, {describe_bytes(size)}, kind {info.kind}"),
        ("made with", f"{info.model}, memory {info.memory_mode}"),
        ("reads", _describe_fam(info.fam)),
        ("has read", describe_sizes(seen.num_bytes, seen.num_tokens, seen.num_blocks) + unread),
        *(("source", f"{part.name}{size}, {part.encoding}") for part, size in zip(info.sources, sizes, strict=True)),
        *_fingerprint_lines(info.weights, info.config, info.tokenizer),
    ]
    return "memory file", values, lines


def _describe_fam(fam: FamConfig) -> str:
    update = f"gated from {fam.gate_threshold:g}" if fam.memory_update == "gated" else fam.memory_update
    local = ", memory in layers with a sliding window too" if fam.local_memory else ""
    return f"{_describe_blocks(fam, update)}, {plural(fam.sink_tokens, 'sink')}{local}"


def _describe_blocks(fam: FamConfig, update: str) -> str:
    if fam.architecture == "feedback":
        whose = "that all layers share" if fam.shares_projections else "of each layer"
        seen = plural(fam.visible_tokens, "token")
        return f"the memories of the last {seen}, by projections {whose}; blocks of {plural(fam.block_size, 'token')}"
    blocks, rows = plural(fam.block_size, "token"), plural(fam.fam_length, "memory row")
    return f"blocks of {blocks}, {plural(fam.memory_segments, 'segment')}, {rows} ({update})"


def _describe_memory(sidecar: Sidecar) -> str:
    if sidecar.fam.architecture == "feedback":
        return "one of each token for all layers (Feedback Transformer)"
    if not sidecar.fam.fam_length:
        return "none"
    return "trained" if sidecar.memory_trained else "not trained"


def _fingerprint_lines(weights: str, config: str, tokenizer: str) -> list[tuple[str, str]]:
    return [("fingerprints", f"weights    {weights}"), ("", f"config     {config}"), ("", f"tokenizer  {tokenizer}")]


def _adapter_facts(adapter: Adapter) -> Facts:
    from famcli.checkpoint.folder import shown

    names = sorted({module.rpartition(".")[2] for module in adapter.updates})
    size = sum(half.num_bytes for update in adapter.updates.values() for half in (update.a, update.b))
    sidecar, named = adapter.sidecar, shown(adapter.base or "")
    weights = f", weights {shown(sidecar.base_weights[:12])}" if sidecar and sidecar.base_weights else ""
    values = {
        "path": adapter.folder,
        "base": adapter.base,
        "rank": adapter.rank,
        "alpha": adapter.alpha,
        "targets": names,
        "matrices": len(adapter.updates),
        "num_parameters": adapter.num_parameters,
        "weights_bytes": size,
        "sidecar": sidecar.to_json() if sidecar else None,
    }
    lines = [
        ("adapter", f"{adapter.folder}, LoRA of rank {adapter.rank}, alpha {adapter.alpha:g}"),
        ("made for", (named or "a checkpoint that it does not name") + weights),
        ("updates", f"of {len(adapter.updates):,} matrices: {', '.join(names)}"),
        ("parameters", f"{adapter.num_parameters:,}, {describe_bytes(size)}"),
    ]
    if not names:
        lines[:1], lines[2:] = [("adapter", f"{adapter.folder}, a memory without updates")], []
    if sidecar is None:
        lines.append(("memory", "none of its own: the checkpoint's fam.json says how to read with it"))
    else:
        fam = sidecar.fam
        lines += [("reads", _describe_blocks(fam, fam.memory_update)), ("memory", _describe_memory(sidecar))]
    return "adapter", values, [*lines, ("use", f"--model {named or 'MODEL'} --adapter {adapter.folder}")]
