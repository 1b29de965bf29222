"""What a layer makes of the tokens of a call, and its state after them: `read_blocks` for whole blocks,
`read_block_and_memory` for one of them together with its memory, `read_open` for tokens of the open block.

All three agree to rounding. A token sees, in this order of keys, [sinks ; segments ; memory ; its own block up to
itself] (positions: `Call`); in a layer with a
sliding window no sinks, and only its window of segments and block together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from famcli.nn.call import Call
from famcli.nn.config import FamConfig
from famcli.nn.kernels import native
from famcli.nn.kernels.attention import FEW_KEYS, KeysValues, attend, attend_few, joined
from famcli.nn.layers import Layer
from famcli.nn.memory import compress
from famcli.nn.state import LayerState, OpenRows

# ----------------------------------------------------------------------------------------------------- whole blocks


def read_blocks(layer: Layer, x: Tensor, before: LayerState, call: Call) -> tuple[Tensor, LayerState]:
    """The layer's output for whole blocks [b, t * C, d], and its state after them."""
    fam, block_size = call.fam, call.fam.block_size
    num_blocks = x.shape[1] // block_size
    if call.memory.changes_input and before.memory.shape[1]:
        if num_blocks > 1:
            return _read_in_turn(layer, x, before, call)
        x = call.memory.changed_input(layer, x, before.memory, call)
    rotate = call.rotate_tokens(layer)
    queries, keys, values = layer.self_attn.queries_keys_values(layer.attention_input(x))
    sinks = _sinks(layer, before, call, keys, values)
    queries, keys = rotate(queries), rotate(keys)
    keys, values = _join(before.segment_keys, keys), _join(before.segment_values, values)
    pieces = _pieces(keys, values, block_size)
    first = len(pieces) - num_blocks
    memory, memory_rows = before.memory, list[KeysValues]()
    if memory.shape[1]:
        memory, memory_rows = call.memory.take_in(layer, memory, pieces, num_blocks, call)
    attended = []
    for t, own in enumerate(torch.split(queries, block_size, dim=2)):
        seen = _segments_and_block(layer, pieces[: first + t + 1], fam)
        parts = [*_visible_sinks(sinks, layer, call, t), *seen[:-1], *memory_rows[t : t + 1], seen[-1]]
        attended.append(attend(own, parts, causal=True, window=layer.window, **layer.self_attn.scoring))
    x = layer.attention_output_and_mlp(x, attended[0] if num_blocks == 1 else torch.cat(attended, dim=2))
    return x, _closed(layer, memory, keys, values, sinks, call)


def _read_in_turn(layer: Layer, x: Tensor, before: LayerState, call: Call) -> tuple[Tensor, LayerState]:
    made = []
    for t, block in enumerate(torch.split(x, call.fam.block_size, dim=1)):
        out, before = read_blocks(layer, block, before, call.of_block(t))
        made.append(out)
    return torch.cat(made, dim=1), before


def _pieces(keys: Tensor, values: Tensor, block_size: int) -> list[KeysValues]:
    """Keys and values of segments and blocks, block by block; the rest that is not a whole block comes first."""
    # By split, whose gradient is put together once; that of each slice would fill a tensor as wide as all blocks.
    rest, whole = keys.shape[2] % block_size, keys.shape[2] // block_size
    sizes = [rest] * (rest > 0) + [block_size] * whole
    return list(zip(keys.split_with_sizes(sizes, dim=2), values.split_with_sizes(sizes, dim=2), strict=True))


def _segments_and_block(layer: Layer, pieces: list[KeysValues], fam: FamConfig) -> list[KeysValues]:
    """What the last block of `pieces` sees of them: its segments and itself."""
    # A layer with a window keeps less than a whole block of its oldest segment, which is one more piece.
    reach = fam.memory_segments + (pieces[0][0].shape[2] < fam.block_size)
    seen = pieces[-reach - 1 :]
    # The window runs over segments and block together, so the kernel needs them in one part.
    return seen if layer.window is None else [joined(seen)]


def read_block_and_memory(layer: Layer, x: Tensor, before: LayerState, call: Call) -> tuple[Tensor, LayerState]:
    """One whole block, with the memory rows in the same matrix products as the tokens: see memory.py."""
    memory, f = before.memory, before.memory.shape[1]
    rotate, attention = call.rotate_tokens(layer), layer.self_attn
    normed = torch.cat((layer.attention_input(memory), layer.attention_input(x)), dim=1)
    made = [rows.split_with_sizes([f, x.shape[1]], dim=2) for rows in attention.queries_keys_values(normed)]
    (memory_queries, memory_keys, memory_values), (queries, keys, values) = zip(*made, strict=True)
    memory_rows = (call.rotate_memory(layer, 0)(memory_keys), memory_values)
    sinks = _sinks(layer, before, call, keys, values)
    block_rows = (rotate(keys), values)
    memory_queries = call.rotate_memory(layer, 1)(memory_queries)
    call.record(layer, memory_queries, [memory_rows, block_rows])
    residual, compressed, gate = compress(
        call.fam, layer, memory_queries, memory, [memory_rows, block_rows], call.initial
    )
    keys, values = _join(before.segment_keys, block_rows[0]), _join(before.segment_values, block_rows[1])
    own = block_rows if layer.window is None else (keys, values)
    parts = [*_past(layer, before, memory_rows, call), own]
    attended = attend(rotate(queries), parts, causal=True, window=layer.window, **attention.scoring)
    memory, x = layer.joint_output_and_mlp(memory, residual, x, torch.cat((compressed, attended), dim=2), gate)
    return x, _closed(layer, memory, keys, values, sinks, call)


# --------------------------------------------------------------------------------------------------- the open block


def read_open(layer: Layer, x: Tensor, before: LayerState, call: Call) -> tuple[Tensor, LayerState]:
    """The layer's output for tokens [b, n, d] of the open block, which they may close, and its state after them."""
    attention, memory_rows = layer.self_attn, before.memory_rows
    # Not a function, here and below: what lies between a command and its products is kept short.
    if memory_rows is None and before.memory.shape[1]:
        memory_rows = call.memory.seen(layer, before.memory, call, 0)
    past = before.past or _past(layer, before, memory_rows, call)
    if call.memory.changes_input and before.memory.shape[1]:
        x = call.memory.changed_input(layer, x, before.memory, call)
    queries, keys, values = attention.queries_keys_values(layer.attention_input(x, call.wide))
    sinks = _sinks(layer, before, call, keys, values)
    rows, single = before.open, x.shape[1] == 1 and not call.wide and not torch.is_grad_enabled()
    if single and past and not rows.lead:
        # Decoding: what is seen before the open block is put in one tensor with it if that stays small, else joined
        # by itself, once for all tokens of the block.
        if layer.window is None and sum(keys.shape[2] for keys, _ in past) + call.fam.block_size <= FEW_KEYS:
            rows = rows.behind(past)
        else:
            past = (joined(past),)
    rotate = call.rotate_tokens(layer)
    queries, keys = rotate(queries), rotate(keys)
    how = {"window": layer.window, **attention.scoring}
    if call.wide:
        rows = rows.append(keys.to(rows.keys.dtype), values.to(rows.keys.dtype))
        attended = attend_few(queries, past, _windowed(layer, before, rows), **how)
    else:
        rows = rows.append(keys, values)
        seen = [rows.with_lead] if single and rows.lead else [*past, *_open_parts(layer, before, rows, x.shape[1])]
        attended = attend(queries, seen, causal=True, **how)
    x = layer.attention_output_and_mlp(x, attended)
    return x, _after_open(layer, before, rows, sinks, memory_rows, past, call)


def read_open_at_once(
    layers: Sequence[Layer],
    weights: Sequence[native.LayerWeights],
    x: Tensor,
    call: Call,
    levels: list[Tensor] | None = None,
) -> list[LayerState]:
    """`read_open` of all layers for a few rows x [b, n, d] in float32, which become what the last layer makes, in one
    call of the compiled kernels. levels: a list that gets what each layer makes."""
    (b, n, _), states, first = x.shape, call.state.layers, layers[0]
    shape = (weights[0].num_keys // first.self_attn.head_dim, first.self_attn.head_dim)
    made, begun, angles = native.LayersCall(x, shape), list[Any](), dict[str | None, tuple[int, int, int, int]]()
    for layer, own, before in zip(layers, weights, states, strict=True):
        memory_rows = before.memory_rows
        if memory_rows is None and before.memory.shape[1]:
            memory_rows = call.memory.seen(layer, before.memory, call, 0)
        past = before.past or _past(layer, before, memory_rows, call)
        if not isinstance(past, native.Seen):
            # Once for all tokens of the block.
            past = native.Seen.of(past)
        rows, projected, seen, num_windowed = before.open.extended(n, before.open.dtype), None, past.runs, 1
        if _gathers_sinks(layer, before, call):
            projected = x.new_empty(b, n, own.num_queries + 2 * own.num_keys)
        if layer.window is not None and before.segment_keys.shape[2]:
            seen, num_windowed = [*seen, native.run_of((before.segment_keys, before.segment_values))], 2
        if layer.rope not in angles:
            angles[layer.rope] = native.angle_numbers(call.angles(layer))
        made.add(
            own, angles[layer.rope], seen, rows.run, window=layer.window, num_windowed=num_windowed, projected=projected
        )
        begun.append((rows, projected, memory_rows, past))
    each = None if levels is None else x.new_empty(len(layers), *x.shape)
    made.run(**first.norm_options, **first.self_attn.scoring, levels=each)
    if each is not None and levels is not None:
        levels += each.unbind(0)
    after = []
    for layer, before, (rows, projected, memory_rows, past) in zip(layers, states, begun, strict=True):
        sinks = (before.sink_keys, before.sink_values)
        if projected is not None:
            heads = projected.view(b, n, -1, shape[1]).transpose(1, 2)
            sinks = _sinks(layer, before, call, *heads[:, -2 * shape[0] :].chunk(2, dim=1))
        after.append(_after_open(layer, before, rows, sinks, memory_rows, past, call))
    return after


def _after_open(
    layer: Layer,
    before: LayerState,
    rows: OpenRows,
    sinks: KeysValues,
    memory_rows: KeysValues | None,
    past: tuple[KeysValues, ...],
    call: Call,
) -> LayerState:
    """The layer's state once the open block holds `rows`, which may close it."""
    memory = before.memory
    if rows.num_rows < call.fam.block_size:
        return LayerState(memory, before.segment_keys, before.segment_values, rows, *sinks, memory_rows, past)
    keys, values = _join(before.segment_keys, rows.keys), _join(before.segment_values, rows.values)
    if memory.shape[1] and call.state.memory_mode == "on":
        memory, _ = call.memory.take_in(layer, memory, _pieces(keys, values, call.fam.block_size), 1, call)
    return _closed(layer, memory, keys, values, sinks, call)


def _windowed(layer: Layer, before: LayerState, rows: OpenRows) -> list[KeysValues]:
    """The open block's rows; in a layer with a window behind the segments that it keeps."""
    if layer.window is None or not before.segment_keys.shape[2]:
        return [(rows.keys, rows.values)]
    return [(before.segment_keys, before.segment_values), (rows.keys, rows.values)]


def _open_parts(layer: Layer, before: LayerState, rows: OpenRows, n: int) -> list[KeysValues]:
    """The open block's rows; in a layer with a window together with what it reaches of the segments."""
    own, reached = (rows.keys, rows.values), 0
    if layer.window is not None:
        reached = min(layer.window + n - 1 - rows.num_rows, before.segment_keys.shape[2])
    if reached <= 0:
        return [own]
    past = (before.segment_keys[:, :, -reached:], before.segment_values[:, :, -reached:])
    # A single token sees all of both, so nothing needs to be copied.
    return [past, own] if n == 1 else [joined([past, own])]


def _past(layer: Layer, before: LayerState, memory_rows: KeysValues | None, call: Call) -> tuple[KeysValues, ...]:
    """What all tokens of the open block see before it: [sinks ; segments ; memory]."""
    # In a layer with a window each token sees other segments, which are a part with the block itself.
    parts = _visible_sinks((before.sink_keys, before.sink_values), layer, call, 0)
    if layer.window is None and before.segment_keys.shape[2]:
        parts += [(before.segment_keys, before.segment_values)]
    return (*parts, memory_rows) if memory_rows else tuple(parts)


def _closed(layer: Layer, memory: Tensor, keys: Tensor, values: Tensor, sinks: KeysValues, call: Call) -> LayerState:
    """A layer at fill 0, which keeps what is still visible of the closed blocks' `keys` and `values` [b, hk, k, e]."""
    visible = call.fam.memory_segments * call.fam.block_size
    if layer.window is not None:
        visible = min(visible, layer.window - 1)
    first = max(0, keys.shape[2] - visible)
    # Copied once here: products over strided keys would copy them at every call.
    keys, values = keys[:, :, first:].contiguous(), values[:, :, first:].contiguous()
    empty = keys[:, :, :0]
    return LayerState(memory, keys, values, OpenRows(empty, empty), *sinks)


# ------------------------------------------------------------------------------------------------------------ sinks


def _sinks(layer: Layer, before: LayerState, call: Call, keys: Tensor, values: Tensor) -> KeysValues:
    """The stream's first sink_tokens keys (not rotated) and values, gathered while block 0 is read."""
    if not _gathers_sinks(layer, before, call):
        return before.sink_keys, before.sink_values
    first = slice(None, call.fam.sink_tokens - before.sink_keys.shape[2])
    dtype = before.sink_keys.dtype if call.wide else keys.dtype
    # Copied: a view would keep the whole block's rows alive.
    keys, values = (x[:, :, first].to(dtype, copy=True) for x in (keys, values))
    return _join(before.sink_keys, keys), _join(before.sink_values, values)


def _gathers_sinks(layer: Layer, before: LayerState, call: Call) -> bool:
    return before.sink_keys.shape[2] < call.fam.sink_tokens and not call.state.num_closed and layer.window is None


def _visible_sinks(sinks: KeysValues, layer: Layer, call: Call, t: int) -> list[KeysValues]:
    """What block t of a call sees of the sinks: nothing until block 0 has left the segments."""
    if not sinks[0].shape[2] or call.state.num_closed + t <= call.fam.memory_segments:
        return []
    return [(call.rotate_sinks(layer, t)(sinks[0]), sinks[1])]


def _join(first: Tensor, second: Tensor) -> Tensor:
    return torch.cat((first, second), dim=2) if first.shape[2] else second
