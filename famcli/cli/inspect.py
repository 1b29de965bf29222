"""`famcli inspect`: the facts of a checkpoint folder or a memory file, without loading weights."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from famcli.cli.options import CacheOption
from famcli.cli.render import Output, describe_bytes, describe_sizes, plural
from famcli.cli.work import cache_environment

if TYPE_CHECKING:
    from famcli.checkpoint.inspect import CheckpointInfo
    from famcli.nn.config import FamConfig
    from famcli.reading.memory_format import MemoryFileInfo


def inspect(
    path: Annotated[
        str | None,
        typer.Argument(
            metavar="PATH",
            help="A checkpoint folder, a name that `famcli models` lists, or a memory file. "
            "Default: the checkpoint that --model would take.",
        ),
    ] = None,
    cache: CacheOption = None,
    json: Annotated[bool, typer.Option("--json", help="Print the facts as one JSON object.")] = False,
) -> None:
    """Show what a checkpoint folder or a memory file holds.

    Sizes, how it reads (block size, segments, memory rows), bytes of a state, the length it was validated on, and the
    fingerprints by which a memory file is matched to a checkpoint. No weight is loaded.
    """
    output = Output()
    file = None if path is None else Path(path).expanduser()
    if file is not None and file.is_file():
        from famcli.reading.memory_format import inspect_memory_file

        _show(output, "memory file", *_memory_file_facts(file, inspect_memory_file(file)), json)
        return
    from famcli.checkpoint.inspect import inspect_checkpoint
    from famcli.checkpoint.locate import resolve

    info = inspect_checkpoint(resolve(path, cache_environment(cache), asked_by="PATH"))
    _show(output, "checkpoint", *_checkpoint_facts(info), json)


def _show(output: Output, kind: str, values: dict[str, Any], lines: list[tuple[str, str]], json: bool) -> None:
    if json:
        output.json({"kind": kind, **values})
        return
    for name, text in lines:
        output.write(f"{name:<14}", "bold")
        output.line(text)


def _checkpoint_facts(info: CheckpointInfo) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    decoder, sidecar = info.decoder, info.sidecar
    values = asdict(info) | {
        "path": str(info.path),
        "sidecar": sidecar.to_json() if sidecar else None,
        "files": [{"name": name, "bytes": size} for name, size in info.files],
    }
    stored = ", ".join(f"{count:,} in {dtype}" for dtype, count in info.dtypes.items())
    if info.storage == "int8":
        stored += "; int8 has a scale for each row and is turned back on loading"
    lines = [
        ("checkpoint", f"{info.name} ({info.where}), {info.path}"),
        ("family", info.family),
        ("parameters", f"{info.num_parameters:,} ({stored}), {describe_bytes(info.weights_bytes)}"),
        (
            "shape",
            f"{plural(decoder.num_layers, 'layer')}, width {decoder.hidden_size:,}, {decoder.num_heads} heads "
            f"({decoder.num_key_value_heads} for keys) of {decoder.head_dim}, feed-forward "
            f"{decoder.intermediate_size:,}, vocabulary {decoder.vocab_size:,}",
        ),
        ("pretrained on", plural(info.max_positions, "token")),
    ]
    if sidecar is None:
        lines.append(("memory", f"none: give it one with famcli enable {info.path}"))
    else:
        fam = sidecar.fam
        validated = sidecar.validated_tokens
        lines += [
            ("reads", _describe_fam(fam)),
            ("memory", "trained" if sidecar.memory_trained else "not trained"),
            ("validated on", "never" if validated is None else plural(validated, "token")),
            ("state", f"{describe_bytes(info.state_bytes or 0)} at most, however much is read"),
            ("tasks", ", ".join(f"{task}: {mode}" for task, mode in sidecar.tasks.items()) or "none named"),
        ]
    prints = info.fingerprints
    lines += _fingerprint_lines(prints.weights, prints.config, prints.tokenizer)
    return values, lines


def _memory_file_facts(path: Path, info: MemoryFileInfo) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    size, seen = path.stat().st_size, info.seen
    unread = f" (and {plural(seen.bytes_unread, 'byte')} not read yet)" if seen.bytes_unread else ""
    values = {"path": str(path), "file_size": size} | {
        "memory_kind" if key == "kind" else key: value for key, value in asdict(info).items()
    }
    lines = [
        ("memory file", f"{path}, {describe_bytes(size)}, kind {info.kind}"),
        ("made with", f"{info.model}, memory {info.memory_mode}"),
        ("reads", _describe_fam(info.fam)),
        ("has read", describe_sizes(seen.num_bytes, seen.num_tokens, seen.num_blocks) + unread),
        *(("source", f"{part.name}, {plural(part.num_bytes, 'byte')}, {part.encoding}") for part in info.sources),
        *_fingerprint_lines(info.weights, info.config, info.tokenizer),
    ]
    return values, lines


def _describe_fam(fam: FamConfig) -> str:
    return (
        f"blocks of {plural(fam.block_size, 'token')}, {plural(fam.memory_segments, 'segment')}, "
        f"{plural(fam.fam_length, 'memory row')} ({fam.memory_update}), {plural(fam.sink_tokens, 'sink')}"
    )


def _fingerprint_lines(weights: str, config: str, tokenizer: str) -> list[tuple[str, str]]:
    return [("fingerprints", f"weights    {weights}"), ("", f"config     {config}"), ("", f"tokenizer  {tokenizer}")]
