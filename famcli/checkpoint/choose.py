"""How a pretrained decoder reads streams: a FamConfig that suits it, chosen from its own configuration. No torch.

`famcli enable` writes the choice down. A checkpoint without `fam.json` is read with the same choice, less the memory,
which nothing has trained (`sidecar_for`).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from famcli.checkpoint.chat_template import has_chat_template
from famcli.checkpoint.folder import beside
from famcli.checkpoint.sidecar import SIDECAR_FILE, Sidecar, read_sidecar
from famcli.errors import UsageError
from famcli.nn.config import DecoderConfig, FamConfig

DEFAULT_BLOCK_SIZE = 1024
DEFAULT_SEGMENTS = 3
DEFAULT_FAM_LENGTH = 64
DEFAULT_SINKS = 4
# More are never chosen to hold a sliding window: each segment costs attention time.
_MOST_SEGMENTS = 8


def sidecar_for(folder: Path, decoder: DecoderConfig, name: str | None = None) -> tuple[Sidecar, tuple[str, ...]]:
    """The sidecar of the checkpoint in `folder`, shown as `name`; without a `fam.json` a chosen one, and what to say of
    that. Raises CheckpointError for a `fam.json` that is wrong."""
    if beside(folder, SIDECAR_FILE).exists():
        return read_sidecar(folder, name), ()
    fam, _ = choose_fam(decoder, fam_length=0)
    visible = (fam.memory_segments + 1) * fam.block_size
    sinks = f" and the first {fam.sink_tokens}" if fam.sink_tokens else ""
    said = (
        f"{name or folder} has no memory: it reads in blocks of {fam.block_size:,} tokens and sees the last "
        f"{visible:,}{sinks}; famcli enable changes that"
    )
    return Sidecar(fam=fam, tasks=default_tasks(folder)), (said,)


def default_tasks(folder: Path) -> dict[str, str]:
    """The modes of tasks for a checkpoint that was just fetched: one with a chat template writes."""
    return {"summarize": "write", "ask": "write"} if has_chat_template(folder) else {}


def with_chosen_sinks(fam: FamConfig, decoder: DecoderConfig) -> FamConfig:
    """`fam` with the sinks that are chosen for a decoder without memory: it goes on seeing its first tokens."""
    return replace(fam, sink_tokens=choose_fam(decoder, fam_length=0)[0].sink_tokens)


def choose_fam(
    decoder: DecoderConfig,
    *,
    block_size: int | None = None,
    memory_segments: int | None = None,
    fam_length: int | None = None,
    sink_tokens: int | None = None,
    local_memory: bool | None = None,
) -> tuple[FamConfig, tuple[str, ...]]:
    """A FamConfig for `decoder`, in which given settings are kept, and a line for each choice and each unwise number.

    The visible tokens, (memory_segments + 1) * block_size, stay within the length that was trained for, and hold the
    sliding window of local layers where possible. Sinks and memories are for the layers without a window; where every
    layer has a window, all of them get a memory, and a block is no longer than the window, since tokens that leave it
    before their block is full are seen by nothing. Raises UsageError for impossible numbers.
    """
    trained, notes = decoder.rope.max_position, []
    all_local = len(decoder.local_layers) == decoder.num_layers
    width = _reach(decoder) + 1
    # Fewer tokens than were trained on are always safe; more would need positions that were never seen.
    if block_size is None:
        segments = DEFAULT_SEGMENTS if memory_segments is None else max(memory_segments, 0)
        block_size = max(1, min(DEFAULT_BLOCK_SIZE, trained // (segments + 1)))
        reason = f"the decoder was trained on {trained:,} tokens"
        if all_local and width < block_size:
            block_size, reason = width, f"no layer sees further than {width:,} tokens"
        notes.append(f"block_size {block_size} was chosen: {reason}")
    if memory_segments is None:
        memory_segments = _segments(decoder, block_size, all_local)
        seen = f"with the block that is read {(memory_segments + 1) * block_size:,} tokens are visible"
        if all_local and memory_segments * block_size >= width - 1:
            seen = "as many as hold the sliding window"
        notes.append(f"memory_segments {memory_segments} was chosen: {seen}")
    visible = (memory_segments + 1) * block_size
    if visible > trained and not all_local:
        notes.append(f"{visible:,} tokens are visible at once, more than the {trained:,} the decoder was trained on")
    length = min(DEFAULT_FAM_LENGTH, block_size) if fam_length is None else fam_length
    notes += _window_notes(decoder, visible - block_size, length, local_memory)
    if local_memory is None:
        local_memory = all_local and length > 0
    if local_memory and decoder.local_layers and length and block_size > width:
        notes.append(
            f"a block of {block_size:,} tokens is longer than the window: what leaves that is out of sight until the "
            "memory takes the block in, at its end"
        )
    if sink_tokens is None:
        sink_tokens = 0 if all_local else min(DEFAULT_SINKS, block_size)
        notes += [f"sink_tokens {sink_tokens} was chosen: {_WHY_SINKS}"] if sink_tokens else []
    elif sink_tokens and all_local:
        notes.append("sink_tokens has no effect: every layer has a sliding window")
    notes += _rope_notes(decoder, visible)
    try:
        fam = FamConfig(block_size, memory_segments, length, sink_tokens, local_memory=local_memory)
    except ValueError as error:
        raise UsageError(str(error)) from error
    return fam, tuple(notes)


_WHY_SINKS = "a decoder that was never adapted must see the first tokens"


def _reach(decoder: DecoderConfig) -> int:
    """The number of tokens before itself that a token of a local layer sees; 0 without such layers."""
    return decoder.sliding_window - 1 if decoder.local_layers and decoder.sliding_window is not None else 0


def _segments(decoder: DecoderConfig, block_size: int, all_local: bool) -> int:
    """The segments that hold a sliding window, within reason and within what the decoder was trained for."""
    size = max(block_size, 1)
    wanted = max(0 if all_local else DEFAULT_SEGMENTS, min(_MOST_SEGMENTS, -(-_reach(decoder) // size)))
    return max(0, min(wanted, decoder.rope.max_position // size - 1))


def _window_notes(decoder: DecoderConfig, segments: int, fam_length: int, local_memory: bool | None) -> list[str]:
    """Notes on the layers with a sliding window. segments: tokens of closed blocks that are visible."""
    count, width = len(decoder.local_layers), decoder.sliding_window
    if not count:
        return ["local_memory has no effect: no layer has a sliding window"] if local_memory is not None else []
    notes = [f"{count} of {decoder.num_layers} layers keep their sliding window of {width:,} tokens, without sinks"]
    if (cut := _reach(decoder) - segments) > 0:
        notes.append(f"at a block's start such a window is cut short by {cut:,} tokens: memory_segments says how far")
    if fam_length and local_memory is None:
        if count < decoder.num_layers:
            notes.append("those layers get no memory: the others see further; local_memory gives them one")
        else:
            notes.append("local_memory was chosen: without it no layer would have a memory")
    elif fam_length and count == decoder.num_layers and not local_memory:
        notes.append("no layer has a memory: every one has a sliding window, and local_memory is off")
    return notes


def _rope_notes(decoder: DecoderConfig, visible: int) -> list[str]:
    """Notes on a scaling that depends on a length: on which side of its switch it is fixed."""
    scaling = decoder.rope.scaling or {}
    kind, trained = scaling.get("rope_type"), scaling.get("original_max_position_embeddings")
    if kind == "dynamic":
        trained = decoder.rope.max_position
    elif kind != "longrope" or not isinstance(trained, int | float):
        return []
    side = "past" if visible > trained else "within"
    return [f"rotary positions ({kind}) are fixed for the {visible:,} visible tokens, {side} their {trained:,}"]
