"""A decoder with Feedback Attention Memory (TransformerFAM, arXiv 2404.09173, section 3), from top to bottom.

Each layer keeps f memory rows. After each block they attend to themselves and to the block, go through the layer's own
weights, and are what the next block's tokens see beside the last m blocks (memory.py has the equations). Without memory
rows this is block sliding window attention; with as many segments as there are blocks, full causal attention.

A layer reads whole blocks at once, one block together with its memory, or tokens of the open block. All three agree to
rounding. A token sees [sinks ; segments ; memory ; its own block up to itself]; in a layer with a sliding window
no sinks, and only its window of segments and block together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from famcli.nn.config import DecoderConfig, FamConfig, MemoryMode
from famcli.nn.kept import keep_blocks, keep_closed, kept_keys_values
from famcli.nn.kernels import native
from famcli.nn.kernels.attention import FEW_KEYS, KeysValues, attend, attend_few, joined
from famcli.nn.kernels.linear import Linear, PackedWeight, is_wide, linear
from famcli.nn.layers import Backbone, Layer
from famcli.nn.memory import compress, initial_memory, memory_keys_values, next_memory
from famcli.nn.network import Network, State, holds_whole_blocks
from famcli.nn.rope import inverse_frequencies
from famcli.nn.rotary import Call, Rotation, rotate_halves, rotation
from famcli.nn.shapes import memory_layers, memory_shape, memory_width, own_shapes
from famcli.nn.state import DecoderState, LayerState, OpenRows


class Decoder(Network):
    """A decoder of any family that streams."""

    state_class: ClassVar[type[State]] = DecoderState

    def __init__(self, config: DecoderConfig, fam: FamConfig) -> None:
        super().__init__()
        self.config, self.fam = config, fam
        self.model = Backbone(config)
        if not config.tie_embeddings:
            self.lm_head = Linear(config.hidden_size, config.vocab_size, bias=False)
        self._tied_head = PackedWeight()
        for name, shape in own_shapes(config, fam).items():
            self.register_parameter(name, nn.Parameter(torch.empty(shape)))
        # Fixed once, by the largest distance at which a token can see another.
        self._ropes = {
            kind: inverse_frequencies(rope, config.rotated_dim, fam.visible_tokens)
            for kind, rope in (("global", config.rope), ("local", config.local_rope))
            if rope is not None
        }
        self._initial: tuple[object, list[Tensor]] | None = None
        self.rotate = rotate_halves  # how rotations are applied: training may compile it

    @property
    def layers(self) -> Sequence[Layer]:
        return cast(Sequence[Layer], self.model.layers)

    @property
    def device(self) -> torch.device:
        return self.model.embed_tokens.weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.model.embed_tokens.weight.dtype

    # ------------------------------------------------------------------------------------------------ the contract

    def start(self, batch: int = 1, memory_mode: MemoryMode = "on") -> State:
        config, device, dtype = self.config, self.device, self.dtype
        remembering = () if memory_mode == "none" else memory_layers(config, self.fam)
        made = self._initial_memories() if remembering else []
        none = torch.zeros(1, 0, memory_width(config, self.fam), device=device)
        memories = [made[i] if i in remembering else none for i in range(config.num_layers)]
        rows = torch.empty(batch, config.num_key_value_heads, 0, config.head_dim, device=device, dtype=dtype)
        layers = tuple(
            LayerState(memory.expand(batch, -1, -1), rows, rows, OpenRows(rows, rows), rows, rows)
            for memory in memories
        )
        position, initial = torch.zeros(batch, dtype=torch.int64), torch.full((batch,), True)
        return DecoderState(position, 0, 0, initial, memory_mode, layers)

    def read(
        self,
        tokens: Tensor,
        state: State,
        received: list[Tensor] | None = None,
        levels: list[Tensor] | None = None,
        *,
        wide: bool = False,
    ) -> tuple[Tensor, State]:
        """wide: the rows are so few that they are computed in float32, by weights and keys in bfloat16."""
        assert isinstance(state, DecoderState)
        n, block_size = tokens.shape[1], self.fam.block_size
        whole = holds_whole_blocks(tokens, state, block_size)
        wide = wide and not whole
        scores = self.memory_scores if self.fam.keeps_tokens else None
        call = Call(self._rotation, self.fam, state, n, None if received is None else [], wide, scores)
        x, layers = self.embed(tokens), list[LayerState]()
        x = x.float() if wide else x
        if levels is not None:
            levels.append(x)
        for layer, before in zip(self.layers, state.layers, strict=True):
            if not whole:
                step = _read_open
            elif n == block_size and before.memory.shape[1] and state.memory_mode == "on" and scores is None:
                step = _read_block_and_memory
            else:
                step = _read_blocks
            if self.checkpoint_gradients and torch.is_grad_enabled():
                x, after = checkpoint(layer, step, x, before, call, use_reentrant=False)
            elif layer._forward_pre_hooks:
                x, after = layer(step, x, before, call)
            else:
                # Called directly where nothing hooks into the layer: decoding waits for each Python frame.
                x, after = step(layer, x, before, call)
            layers.append(after)
            if levels is not None:
                levels.append(x)
        closed = n // block_size if whole else (state.fill + n) // block_size
        if received is not None and call.received:
            received.append(call.mean_received(closed))
        updated = state.num_closed + closed > self.fam.blocks_not_taken_in and closed > 0 and state.memory_mode == "on"
        return x, replace(
            state,
            layers=tuple(layers),
            position=state.position + n,
            fill=(state.fill + n) % block_size,
            num_closed=min(state.num_closed + closed, self.fam.memory_segments + 1),
            memory_is_initial=state.memory_is_initial & (not updated),
        )

    def write(self, tokens: Tensor, state: State, levels: list[Tensor] | None = None) -> tuple[Tensor, State]:
        return self.read(tokens, state, None, levels, wide=self._computes_wide(tokens.numel()))

    @property
    def writes_ahead(self) -> bool:
        return self._computes_wide(1)

    def logits(self, hidden: Tensor) -> Tensor:
        wide = is_wide(hidden, self.model.norm.weight) and self._computes_wide(hidden.numel() // hidden.shape[-1])
        normed = self.model.norm(hidden, wide)
        if self.config.tie_embeddings:
            logits = linear(normed, self.model.embed_tokens.weight, packed=self._tied_head)
        else:
            logits = self.lm_head(normed)
        if self.config.logits_scale != 1:
            logits = logits / self.config.logits_scale
        cap = self.config.logits_softcap
        return logits if cap is None else torch.tanh(logits / cap) * cap

    def embed(self, tokens: Tensor) -> Tensor:
        return self._scaled(self.model.embed_tokens(tokens))

    def _computes_wide(self, num_rows: int) -> bool:
        """True if so few rows may be computed in float32, by weights and keys in bfloat16 (kernels/native.py)."""
        config = self.config
        widths = (config.hidden_size, config.head_dim, config.intermediate_size, config.num_heads * config.head_dim)
        whole = not any(width % native.STEP for width in widths)
        return whole and native.computes(num_rows, self.model.norm.weight)

    def _scaled(self, embedded: Tensor) -> Tensor:
        """What enters the first layer."""
        scale = self.config.embedding_scale
        # Rounded to the embedding's type, as Gemma was trained.
        return embedded if scale == 1 else embedded * torch.tensor(scale).to(self.dtype).item()

    # ------------------------------------------------------------------------------------------------ memory prompt

    def _initial_memories(self) -> list[Tensor]:
        """F_0 of each layer [1, f, w]; without gradient made once for unchanged weights: every text begins with it."""
        if self.fam.keeps_tokens:
            return [torch.zeros(1, *memory_shape(self.config, self.fam)[1:], device=self.device)] * len(self.layers)
        key: object = None
        if not torch.is_grad_enabled():
            key = (tuple(parameter._version for parameter in self.parameters()), self.device, self.dtype)
            if self._initial is not None and self._initial[0] == key:
                return self._initial[1]
        positions = torch.arange(-self.fam.fam_length, 0)[None]
        rotations = {kind: self._rotation(kind, positions, False) for kind in {layer.rope for layer in self.layers}}
        rows, made = self._scaled(self.memory_prompt.float())[None], []  # the first layer gets it as it gets tokens
        for layer in self.layers:
            rows = layer(initial_memory, rows, rotations[layer.rope])
            made.append(rows)
        if key is not None:
            self._initial = (key, made)
        return made

    # ------------------------------------------------------------------------------------------------ positions

    def _rotation(self, kind: str | None, positions: Tensor, wide: bool) -> Rotation:
        """The rotation of layers of one kind (`Layer.rope`) to `positions` [b, n]; wide: of float32."""
        if kind is None:
            return lambda x: x
        # Rows at the same positions, which is the usual case, share their angles.
        if len(positions) > 1 and bool((positions == positions[:1]).all()):
            positions = positions[:1]
        if wide:
            return rotation(positions, *self._ropes[kind], torch.float32, None, native.rotate)
        device = self.device
        dtype = torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else self.dtype
        return rotation(positions, *self._ropes[kind], dtype, device, self.rotate)

    # ------------------------------------------------------------------------------------------------ training

    def reset_parameters(self, seed: int) -> None:
        """Draw all weights anew: normal with deviation 0.02, less for what is added to the residual (GPT-2's way)."""
        generator = torch.Generator().manual_seed(seed)
        shrink = (2 * self.config.num_layers) ** -0.5
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                if name.endswith("bias"):
                    parameter.zero_()
                elif "norm" in name:
                    parameter.fill_(0.0 if self.config.norm == "rms_plus_one" else 1.0)
                else:
                    deviation = 0.02 * (shrink if "o_proj" in name or "down_proj" in name else 1.0)
                    parameter.copy_(torch.randn(parameter.shape, generator=generator) * deviation)

    def compile_parts(self, compiled: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
        """Norms, rotations and what each layer does after attention."""
        # Not attention and the memory's recurrence, whose shapes change from call to call.
        self.rotate = compiled(self.rotate)
        for layer in self.layers:
            for name in ("attention_input", "attention_output_and_mlp", "joint_output_and_mlp"):
                setattr(layer, name, compiled(getattr(layer, name)))


# ----------------------------------------------------------------------------------------------------- whole blocks


def _read_blocks(layer: Layer, x: Tensor, before: LayerState, call: Call) -> tuple[Tensor, LayerState]:
    """The layer's output for whole blocks [b, t * C, d], and its state after them."""
    fam, block_size = call.fam, call.fam.block_size
    num_blocks = x.shape[1] // block_size
    rotate = call.rotate_tokens(layer)
    queries, keys, values = layer.self_attn.queries_keys_values(layer.attention_input(x))
    sinks = _sinks(layer, before, call, keys, values)
    queries, keys = rotate(queries), rotate(keys)
    keys, values = _join(before.segment_keys, keys), _join(before.segment_values, values)
    pieces = _pieces(keys, values, block_size)
    first = len(pieces) - num_blocks
    memory, memory_rows = _memories(layer, before, pieces, num_blocks, call)
    attended = []
    for t, own in enumerate(torch.split(queries, block_size, dim=2)):
        seen = _segments_and_block(layer, pieces[: first + t + 1], fam)
        parts = [*_visible_sinks(sinks, layer, call, t), *seen[:-1], *memory_rows[t : t + 1], seen[-1]]
        attended.append(attend(own, parts, causal=True, window=layer.window, **layer.self_attn.scoring))
    x = layer.attention_output_and_mlp(x, attended[0] if num_blocks == 1 else torch.cat(attended, dim=2))
    return x, _closed(layer, before, memory, keys, values, sinks, call)


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


def _memories(
    layer: Layer, before: LayerState, pieces: list[KeysValues], num_blocks: int, call: Call
) -> tuple[Tensor, list[KeysValues]]:
    """The recurrence over the blocks of a call: the memory after the last, and [Kf, Vf] as each block sees them."""
    memory = before.memory
    if not memory.shape[1]:
        return memory, []
    if call.fam.keeps_tokens:
        return keep_blocks(layer, memory, pieces, num_blocks, call)
    blocks = pieces[-num_blocks:]
    if call.state.memory_mode == "frozen":
        keys, values = layer.self_attn.keys_values(layer.attention_input(memory))
        return memory, [(call.rotate_memory(layer, t)(keys), values) for t in range(len(blocks))]
    rows = []
    for t, block in enumerate(blocks):
        rows.append(memory_keys_values(layer, memory, call.rotate_memory(layer, t)))
        memory = next_memory(layer, memory, call.initial if t == 0 else None, [rows[t], block], call, t)
    return memory, rows


def _read_block_and_memory(layer: Layer, x: Tensor, before: LayerState, call: Call) -> tuple[Tensor, LayerState]:
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
    compressed, kept, gate = compress(call.fam, layer, memory_queries, memory, [memory_rows, block_rows], call.initial)
    keys, values = _join(before.segment_keys, block_rows[0]), _join(before.segment_values, block_rows[1])
    own = block_rows if layer.window is None else (keys, values)
    parts = [*_past(layer, before, sinks, memory_rows, call), own]
    attended = attend(rotate(queries), parts, causal=True, window=layer.window, **attention.scoring)
    memory, x = layer.joint_output_and_mlp(memory, kept, x, torch.cat((compressed, attended), dim=2), gate)
    return x, _closed(layer, before, memory, keys, values, sinks, call)


# --------------------------------------------------------------------------------------------------- the open block


def _read_open(layer: Layer, x: Tensor, before: LayerState, call: Call) -> tuple[Tensor, LayerState]:
    """The layer's output for tokens [b, n, d] of the open block, which they may close, and its state after them."""
    if call.wide and (weights := layer.few_rows_weights()) is not None:
        return _write_open(layer, weights, x, before, call)
    rotate, attention = call.rotate_tokens(layer), layer.self_attn
    queries, keys, values = attention.queries_keys_values(layer.attention_input(x, call.wide))
    sinks = _sinks(layer, before, call, keys, values)
    memory_rows = _memory_rows(layer, before, call)
    past = before.past or _past(layer, before, sinks, memory_rows, call)
    rows, single = before.open, x.shape[1] == 1 and not call.wide and not torch.is_grad_enabled()
    if single and past and not rows.lead:
        # Decoding: what is seen before the open block is put in one tensor with it if that stays small, else joined by
        # itself, once for all tokens of the block.
        if layer.window is None and sum(keys.shape[2] for keys, _ in past) + call.fam.block_size <= FEW_KEYS:
            rows = rows.behind(past)
        else:
            past = (joined(past),)
    keys, queries = rotate(keys), rotate(queries)
    if call.wide:
        rows = rows.append(keys.to(rows.keys.dtype), values.to(rows.keys.dtype))
        windowed = [(rows.keys, rows.values)]
        if layer.window is not None and before.segment_keys.shape[2]:
            windowed = [(before.segment_keys, before.segment_values), *windowed]
        attended = attend_few(queries, past, windowed, window=layer.window, **attention.scoring)
    else:
        rows = rows.append(keys, values)
        parts = [rows.with_lead] if single and rows.lead else [*past, *_open_parts(layer, before, rows, x.shape[1])]
        attended = attend(queries, parts, causal=True, window=layer.window, **attention.scoring)
    x = layer.attention_output_and_mlp(x, attended)
    return x, _opened(layer, before, rows, sinks, memory_rows, past, call)


def _write_open(
    layer: Layer, weights: native.LayerWeights, x: Tensor, before: LayerState, call: Call
) -> tuple[Tensor, LayerState]:
    """`_read_open` for a few rows x in float32, which are replaced, in one call of the compiled kernel."""
    (b, n, _), attention, memory_rows = x.shape, layer.self_attn, _memory_rows(layer, before, call)
    past = before.past or _past(layer, before, (before.sink_keys, before.sink_values), memory_rows, call)
    rows, room = before.open.extended(n, before.open.keys.dtype)
    windowed = [(rows.keys, rows.values)]
    if layer.window is not None and before.segment_keys.shape[2]:
        windowed = [(before.segment_keys, before.segment_values), *windowed]
    projected = x.new_empty(b, n, sum(map(len, weights[1:4]))) if _gathers_sinks(layer, before, call) else None
    native.read_layer(
        x, weights, call.angles(layer), room, [*past, *windowed], len(windowed), projected,
        window=layer.window, **layer.norm_options, **attention.scoring,
    )  # fmt: skip
    sinks = (before.sink_keys, before.sink_values)
    if projected is not None:
        heads = projected.view(b, n, -1, attention.head_dim).transpose(1, 2)
        keys, values = heads[:, len(weights.q) // attention.head_dim :].chunk(2, dim=1)
        sinks = _sinks(layer, before, call, keys, values)
    return x, _opened(layer, before, rows, sinks, memory_rows, past, call)


def _opened(
    layer: Layer,
    before: LayerState,
    rows: OpenRows,
    sinks: KeysValues,
    memory_rows: KeysValues | None,
    past: tuple[KeysValues, ...],
    call: Call,
) -> LayerState:
    """A layer whose open block holds `rows`, which may fill it."""
    if rows.num_rows < call.fam.block_size:
        kept = (before.segment_keys, before.segment_values)
        return LayerState(before.memory, *kept, rows, *sinks, memory_rows, past)
    keys, values = _join(before.segment_keys, rows.keys), _join(before.segment_values, rows.values)
    memory = before.memory
    if memory.shape[1] and call.fam.keeps_tokens:
        memory = keep_closed(layer, memory, keys, values, call)
    elif memory_rows and call.state.memory_mode == "on":
        parts = [memory_rows, (rows.keys, rows.values)]
        memory = next_memory(layer, memory, call.initial, parts, call, 0)
    return _closed(layer, before, memory, keys, values, sinks, call)


def _memory_rows(layer: Layer, before: LayerState, call: Call) -> KeysValues | None:
    """[Kf, Vf] as the open block sees them, made once for it; None if there is no memory, or none yet."""
    if before.memory_rows is not None or not before.memory.shape[1]:
        return before.memory_rows
    if call.fam.keeps_tokens:
        return kept_keys_values(layer, before.memory, call, 0) if call.initial is None else None
    return memory_keys_values(layer, before.memory, call.rotate_memory(layer, 0))


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


def _past(
    layer: Layer, before: LayerState, sinks: KeysValues, memory_rows: KeysValues | None, call: Call
) -> tuple[KeysValues, ...]:
    """What all tokens of the open block see before it: [sinks ; segments ; memory]."""
    # In a layer with a window each token sees other segments, which are a part with the block itself.
    parts = _visible_sinks(sinks, layer, call, 0)
    if layer.window is None and before.segment_keys.shape[2]:
        parts += [(before.segment_keys, before.segment_values)]
    return (*parts, memory_rows) if memory_rows else tuple(parts)


def _closed(
    layer: Layer, before: LayerState, memory: Tensor, keys: Tensor, values: Tensor, sinks: KeysValues, call: Call
) -> LayerState:
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
