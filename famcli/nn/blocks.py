"""How one layer reads: whole blocks at once, one block with its memory, or tokens of the open block.

All three agree to rounding. What a token sees is [sinks ; segments ; memory ; its own block up to itself], of which a
layer with a sliding window sees no sinks, and only its window of segments and block together.
"""

from __future__ import annotations

import torch
from torch import Tensor

from famcli.nn.call import Call, KeysValues
from famcli.nn.config import FamConfig
from famcli.nn.kernels.attention import FEW_KEYS, joined
from famcli.nn.layers import Layer
from famcli.nn.memory import compress, memory_keys_values, next_memory
from famcli.nn.state import LayerState, OpenRows

# ----------------------------------------------------------------------------------------------------- whole blocks


def read_blocks(layer: Layer, x: Tensor, before: LayerState, call: Call) -> tuple[Tensor, LayerState]:
    """The layer's output for whole blocks [b, t * C, d], and its state after them."""
    fam, block_size = call.fam, call.fam.block_size
    num_blocks = x.shape[1] // block_size
    if num_blocks == 1 and before.memory.shape[1] and call.state.memory_mode == "on":
        return _read_one_block(layer, x, before, call)
    turns = call.turns(layer)
    queries, keys, values = layer.self_attn.queries_keys_values(layer.normed(x))
    queries = turns.tokens(queries)
    sinks = _sinks(layer, before, call, keys, values)
    keys = turns.tokens(keys)
    keys, values = _join(before.segment_keys, keys), _join(before.segment_values, values)
    pieces = _pieces(keys, values, block_size)
    first = len(pieces) - num_blocks
    memory, memory_rows = _memories(layer, before, pieces[first:], call)
    attended = []
    for t, own in enumerate(torch.split(queries, block_size, dim=2)):
        seen = _segments_and_block(layer, pieces[: first + t + 1], fam)
        parts = [*_visible_sinks(sinks, layer, call, t), *seen[:-1], *memory_rows[t : t + 1], seen[-1]]
        attended.append(layer.self_attn.attend(own, parts, causal=True, window=layer.window))
    x = layer.finish(x, attended[0] if num_blocks == 1 else torch.cat(attended, dim=2))
    return x, _closed(layer, before, memory, keys, values, sinks, call)


def _pieces(keys: Tensor, values: Tensor, block_size: int) -> list[KeysValues]:
    """Keys and values of segments and blocks, block by block; what is no whole block comes first.

    By `split`: its gradient is put together once, while each slice's fills a tensor as wide as all blocks.
    """
    rest, whole = keys.shape[2] % block_size, keys.shape[2] // block_size
    sizes = [rest] * (rest > 0) + [block_size] * whole
    return list(zip(keys.split_with_sizes(sizes, dim=2), values.split_with_sizes(sizes, dim=2), strict=True))


def _segments_and_block(layer: Layer, pieces: list[KeysValues], fam: FamConfig) -> list[KeysValues]:
    """What the block that is the last of `pieces` sees of them: its segments and itself, in one part where a window
    runs over both (of which it may hide the first)."""
    *past, own = pieces
    reach = fam.memory_segments + (pieces[0][0].shape[2] < fam.block_size)
    past = past[-reach:] if reach else []
    return [*past, own] if layer.window is None else [joined([*past, own])]


def _memories(
    layer: Layer, before: LayerState, blocks: list[KeysValues], call: Call
) -> tuple[Tensor, list[KeysValues]]:
    """The recurrence over the blocks of a call: the memory after the last, and [Kf, Vf] as each block sees them."""
    memory, turns = before.memory, call.turns(layer)
    if not memory.shape[1]:
        return memory, []
    if call.state.memory_mode == "frozen":
        keys, values = layer.self_attn.keys_values(layer.normed(memory))
        return memory, [(turns.memory(t)(keys), values) for t in range(len(blocks))]
    rows = []
    for t, block in enumerate(blocks):
        rows.append(memory_keys_values(layer, memory, turns.memory(t)))
        memory = next_memory(layer, memory, call.initial if t == 0 else None, [rows[t], block], call, t)
    return memory, rows


def _read_one_block(layer: Layer, x: Tensor, before: LayerState, call: Call) -> tuple[Tensor, LayerState]:
    """One block, its memory rows in the same matrix products as its tokens."""
    memory, f = before.memory, before.memory.shape[1]
    turns, attention = call.turns(layer), layer.self_attn
    normed = torch.cat((layer.normed(memory), layer.normed(x)), dim=1)
    made = [rows.split_with_sizes([f, x.shape[1]], dim=2) for rows in attention.queries_keys_values(normed)]
    (memory_queries, memory_keys, memory_values), (queries, keys, values) = zip(*made, strict=True)
    memory_rows = (turns.memory(0)(memory_keys), memory_values)
    sinks = _sinks(layer, before, call, keys, values)
    block_rows = (turns.tokens(keys), values)
    memory_queries = turns.memory(1)(memory_queries)
    call.record(layer, memory_queries, [memory_rows, block_rows])
    compressed, kept, gate = compress(call.fam, layer, memory_queries, memory, [memory_rows, block_rows], call.initial)
    keys, values = _join(before.segment_keys, block_rows[0]), _join(before.segment_values, block_rows[1])
    parts = _visible_sinks(sinks, layer, call, 0)
    if layer.window is None:
        parts += [(before.segment_keys, before.segment_values)] if before.segment_keys.shape[2] else []
        parts += [memory_rows, block_rows]
    else:
        parts += [memory_rows, (keys, values)]
    attended = attention.attend(turns.tokens(queries), parts, causal=True, window=layer.window)
    memory, x = layer.finish_both(kept, x, torch.cat((compressed, attended), dim=2), gate, memory)
    return x, _closed(layer, before, memory, keys, values, sinks, call)


# --------------------------------------------------------------------------------------------------- the open block


def read_open(layer: Layer, x: Tensor, before: LayerState, call: Call) -> tuple[Tensor, LayerState]:
    """The layer's output for tokens [b, n, d] of the open block, which they may close, and its state after them."""
    turns, attention = call.turns(layer), layer.self_attn
    queries, keys, values = attention.queries_keys_values(layer.normed(x))
    sinks = _sinks(layer, before, call, keys, values)
    memory_rows = before.memory_rows
    if memory_rows is None and before.memory.shape[1]:
        memory_rows = memory_keys_values(layer, before.memory, turns.memory(0))
    past = before.past or _past(layer, before, sinks, memory_rows, call)
    rows, single = before.open, x.shape[1] == 1 and not torch.is_grad_enabled()
    if single and not rows.lead:
        rows, past = _for_single_tokens(layer, rows, past, call)
    rows = rows.append(turns.tokens(keys), values)
    parts = [rows.with_lead] if single and rows.lead else [*past, *_open_parts(layer, before, rows, x.shape[1])]
    x = layer.finish(x, attention.attend(turns.tokens(queries), parts, causal=True, window=layer.window))
    if rows.num_rows < call.fam.block_size:
        kept = (before.segment_keys, before.segment_values)
        return x, LayerState(before.memory, *kept, rows, *sinks, memory_rows, past)
    memory = before.memory
    if memory_rows and call.state.memory_mode == "on":
        parts = [memory_rows, (rows.keys, rows.values)]
        memory = next_memory(layer, memory, call.initial, parts, call, 0)
    keys, values = _join(before.segment_keys, rows.keys), _join(before.segment_values, rows.values)
    return x, _closed(layer, before, memory, keys, values, sinks, call)


def _for_single_tokens(
    layer: Layer, rows: OpenRows, past: tuple[KeysValues, ...], call: Call
) -> tuple[OpenRows, tuple[KeysValues, ...]]:
    """Decoding: the open block's rows and what is seen before them, as one tensor if it stays small and otherwise as
    two, which is done once for all tokens of the block."""
    if not past:
        return rows, past
    if layer.window is None and sum(keys.shape[2] for keys, _ in past) + call.fam.block_size <= FEW_KEYS:
        return rows.behind(past), past
    return rows, (joined(past),)


def _open_parts(layer: Layer, before: LayerState, rows: OpenRows, n: int) -> list[KeysValues]:
    """The open block's rows; in a layer with a window together with what it reaches of the segments."""
    own, window = (rows.keys, rows.values), layer.window
    if window is None or not before.segment_keys.shape[2]:
        return [own]
    reached = max(0, min(window + n - 1 - rows.num_rows, before.segment_keys.shape[2]))
    if not reached:
        return [own]
    past = (before.segment_keys[:, :, -reached:], before.segment_values[:, :, -reached:])
    return [past, own] if n == 1 else [joined([past, own])]  # a single token sees all of both: nothing is copied


def _past(
    layer: Layer, before: LayerState, sinks: KeysValues, memory_rows: KeysValues | None, call: Call
) -> tuple[KeysValues, ...]:
    """What the open block's tokens see before it, the same for all of them: [sinks ; segments ; memory].

    What a window moves over is not the same for all.
    """
    parts = _visible_sinks(sinks, layer, call, 0)
    if layer.window is None and before.segment_keys.shape[2]:
        parts += [(before.segment_keys, before.segment_values)]
    return (*parts, memory_rows) if memory_rows else tuple(parts)


def _closed(
    layer: Layer, before: LayerState, memory: Tensor, keys: Tensor, values: Tensor, sinks: KeysValues, call: Call
) -> LayerState:
    """A layer at fill 0: of `keys` and `values` [b, hk, k, e], closed blocks all, what is still visible stays."""
    visible = call.fam.memory_segments * call.fam.block_size
    if layer.window is not None:
        visible = min(visible, layer.window - 1)
    first = max(0, keys.shape[2] - visible)  # copied: products over strided keys copy them at every call
    keys, values = keys[:, :, first:].contiguous(), values[:, :, first:].contiguous()
    empty = keys[:, :, :0]
    return LayerState(memory, keys, values, OpenRows(empty, empty), *sinks)


# ------------------------------------------------------------------------------------------------------------ sinks


def _sinks(layer: Layer, before: LayerState, call: Call, keys: Tensor, values: Tensor) -> KeysValues:
    """The stream's first sink_tokens keys (not rotated) and values, gathered while block 0 is read."""
    missing = call.fam.sink_tokens - before.sink_keys.shape[2]
    if call.state.num_closed or missing <= 0 or layer.window is not None:
        return before.sink_keys, before.sink_values
    first = slice(None, missing)  # copied: a view would keep the whole block's rows alive
    return _join(before.sink_keys, keys[:, :, first].clone()), _join(before.sink_values, values[:, :, first].clone())


def _visible_sinks(sinks: KeysValues, layer: Layer, call: Call, t: int) -> list[KeysValues]:
    """What block t of a call sees of the sinks: nothing until block 0 has left the segments."""
    if not sinks[0].shape[2] or call.state.num_closed + t <= call.fam.memory_segments:
        return []
    return [(call.turns(layer).sinks(t)(sinks[0]), sinks[1])]


def _join(first: Tensor, second: Tensor) -> Tensor:
    return torch.cat((first, second), dim=2) if first.shape[2] else second
