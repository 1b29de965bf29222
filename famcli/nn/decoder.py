"""A decoder with Feedback Attention Memory (TransformerFAM, arXiv 2404.09173, section 3).

Each layer keeps f memory rows. After each block they attend to themselves and to the block, go through the layer's own
weights, and are what the next block's tokens see beside the last m blocks. Without memory rows this is block sliding
window attention; with as many segments as there are blocks, full causal attention.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from famcli.nn.attention import attend
from famcli.nn.call import Call, KeysValues, Probe
from famcli.nn.config import DecoderConfig, FamConfig
from famcli.nn.layers import Backbone, Layer
from famcli.nn.linear import Linear, PackedWeight, linear
from famcli.nn.memory import compress, memory_keys_values, next_memory, run_prompt
from famcli.nn.rope import Rotation, rope_frequencies, rotation
from famcli.nn.state import LayerState, MemoryMode, OpenRows, State


class Decoder(nn.Module):
    """A Llama-shaped decoder that streams. Shapes: b batch, n tokens, d width, v vocabulary, f memory rows.

    checkpoint_gradients: in training, keep only the layers' inputs and compute the rest again in the backward pass.
    """

    def __init__(self, config: DecoderConfig, fam: FamConfig) -> None:
        super().__init__()
        self.config, self.fam = config, fam
        self.model = Backbone(config)
        if not config.tie_embeddings:
            self.lm_head = Linear(config.hidden_size, config.vocab_size, bias=False)
        self._tied_head = PackedWeight()
        if fam.fam_length:
            self.memory_prompt = nn.Parameter(torch.empty(fam.fam_length, config.hidden_size))
        visible = (fam.memory_segments + 1) * fam.block_size
        self._frequencies, self._gain = rope_frequencies(config.rope, config.head_dim, visible)
        self._initial: tuple[object, list[Tensor]] | None = None
        self.checkpoint_gradients = False

    @property
    def layers(self) -> Sequence[Layer]:
        return cast(Sequence[Layer], self.model.layers)

    @property
    def device(self) -> torch.device:
        return self.model.embed_tokens.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """The compute type: that of the weights."""
        return self.model.embed_tokens.weight.dtype

    def reset_parameters(self, seed: int) -> None:
        """Draw all weights anew: normal with deviation 0.02, less for what is added to the residual (GPT-2's way)."""
        generator = torch.Generator().manual_seed(seed)
        shrink = (2 * self.config.num_layers) ** -0.5
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                if "norm" in name:
                    parameter.fill_(1.0)
                elif name.endswith("bias"):
                    parameter.zero_()
                else:
                    deviation = 0.02 * (shrink if "o_proj" in name or "down_proj" in name else 1.0)
                    parameter.copy_(torch.randn(parameter.shape, generator=generator) * deviation)

    # ------------------------------------------------------------------------------------------------ the contract

    def start(self, batch: int = 1, memory_mode: MemoryMode = "on", memory: State | None = None) -> State:
        """The state before the first token: nothing read, each layer's memory as the memory prompt makes it.

        With `memory` (of as many rows) its memories go on, without gradient, into a new document: random state
        passing (section 3.3 of the paper). They are not initial: their next update keeps its residual.
        """
        config, device, dtype = self.config, self.device, self.dtype
        f = 0 if memory_mode == "none" else self.fam.fam_length
        nothing = [torch.zeros(1, 0, config.hidden_size, device=device)] * config.num_layers
        memories = self._initial_memories() if f else nothing
        if memory is not None and f:
            memories = [layer.memory.detach().to(device) for layer in memory.layers]
        rows = torch.empty(batch, config.num_key_value_heads, 0, config.head_dim, device=device, dtype=dtype)
        layers = tuple(
            LayerState(memory.expand(batch, -1, -1), rows, rows, OpenRows(rows, rows), rows, rows)
            for memory in memories
        )
        return State(layers, torch.zeros(batch, dtype=torch.int64), 0, 0, memory is None, memory_mode)

    def read(self, tokens: Tensor, state: State, probe: Probe | None = None) -> tuple[Tensor, State]:
        """Read `tokens` [b, n] after `state`: their hidden rows [b, n, d] before the final norm, and the next state.

        A call either stays inside the open block (fill + n <= block_size; it closes the block if it fills it) or
        begins at fill 0 and holds whole blocks. Raises ValueError for any other n, and for a batch that differs.
        """
        batch, n = tokens.shape
        block_size = self.fam.block_size
        if batch != state.batch:
            raise ValueError(f"{batch} rows of tokens were given to a state of {state.batch}")
        whole = n > 0 and state.fill == 0 and n % block_size == 0
        if not whole and not 0 < n <= block_size - state.fill:
            raise ValueError(
                f"{n} tokens do not fit a block of {block_size} with {state.fill} read: give at most what is left "
                "of the block, or whole blocks at its start"
            )
        num_blocks = n // block_size if whole else 1
        call = Call(self._rotation, self.fam, state, n, probe)
        if self.fam.prompt_with_first_block and state.memory_is_initial and self.fam.fam_length:
            call.rising = self.memory_prompt.float().expand(batch, -1, -1)
        x = self.model.embed_tokens(tokens)
        layers = []
        for layer, before in zip(self.layers, state.layers, strict=True):
            step = self._read_blocks if whole else self._read_open
            if self.checkpoint_gradients and torch.is_grad_enabled():
                x, after = checkpoint(step, layer, x, before, state, call, use_reentrant=False)
            else:
                x, after = step(layer, x, before, state, call)
            layers.append(after)
        if probe is not None:
            probe.collect(self.config.num_layers)
        closed = num_blocks if whole else (state.fill + n) // block_size
        updated = closed > 0 and state.memory_mode == "on"
        return x, replace(
            state,
            layers=tuple(layers),
            position=state.position + n,
            fill=(state.fill + n) % block_size,
            num_closed=min(state.num_closed + closed, self.fam.memory_segments + 1),
            memory_is_initial=state.memory_is_initial and not updated,
        )

    def logits(self, hidden: Tensor) -> Tensor:
        """Final norm and head: [b, k, d] to [b, k, v]. Ask only for the rows that are wanted."""
        normed = self.model.norm(hidden)
        if self.config.tie_embeddings:
            return linear(normed, self.model.embed_tokens.weight, packed=self._tied_head)
        return self.lm_head(normed)  # type: ignore[no-any-return]

    # ------------------------------------------------------------------------------------------- positions

    def _rotation(self, positions: Tensor) -> Rotation:
        """Angles are computed on the CPU, in float64 (some devices have none), and moved once."""
        if len(positions) > 1 and bool((positions == positions[:1]).all()):
            positions = positions[:1]
        device = self.device
        dtype = torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else self.dtype
        made = rotation(positions, self._frequencies, self._gain, dtype)
        return made if device.type == "cpu" else Rotation(made.cos.to(device), made.sin.to(device))

    # ------------------------------------------------------------------------------------------- memory

    def _initial_memories(self) -> list[Tensor]:
        """F_0 of each layer [1, f, d]: the prompt's rows go up the layers and attend to one another only."""
        if torch.is_grad_enabled():
            return self._prompt_memories()
        versions = tuple(parameter._version for parameter in self.parameters())
        key = (versions, self.device, self.dtype)
        if self._initial is None or self._initial[0] != key:
            self._initial = (key, self._prompt_memories())
        return self._initial[1]

    def _prompt_memories(self) -> list[Tensor]:
        rotate = self._rotation(torch.arange(-self.fam.fam_length, 0)[None])
        return run_prompt(self.layers, self.memory_prompt, rotate)

    # ------------------------------------------------------------------------------------------- whole blocks

    def _read_blocks(
        self, layer: Layer, x: Tensor, before: LayerState, state: State, call: Call
    ) -> tuple[Tensor, LayerState]:
        block_size = self.fam.block_size
        num_blocks = x.shape[1] // block_size
        if num_blocks == 1 and before.memory.shape[1] and state.memory_mode == "on" and call.rising is None:
            return self._read_one_block(layer, x, before, state, call)
        queries, keys, values = layer.self_attn.queries_keys_values(layer.input_layernorm(x))
        queries = call.tokens(queries)
        sinks = self._sinks(before, state, keys, values)
        keys = call.tokens(keys)
        memory, memory_rows = self._memories(layer, before, state, (keys, values), call)
        keys, values = _join(before.segment_keys, keys), _join(before.segment_values, values)
        closed = before.segment_keys.shape[2] // block_size
        attended = []
        for t in range(num_blocks):
            block = slice((closed + t) * block_size, (closed + t + 1) * block_size)
            segments = slice(max(0, closed + t - self.fam.memory_segments) * block_size, block.start)
            parts = self._visible_sinks(sinks, state, call, t)
            if segments.start < segments.stop:
                visible = (keys[:, :, segments], values[:, :, segments])
                stopped = self.fam.stop_segment_gradient
                parts.append((visible[0].detach(), visible[1].detach()) if stopped else visible)
            parts += memory_rows[t : t + 1]
            parts += [(keys[:, :, block], values[:, :, block])]
            own = queries[:, :, t * block_size : (t + 1) * block_size]
            attended.append(attend(own, parts, causal=True))
        x = layer.finish(x, attended[0] if num_blocks == 1 else torch.cat(attended, dim=2))
        return x, self._closed(before, memory, keys, values, sinks)

    def _memories(
        self,
        layer: Layer,
        before: LayerState,
        state: State,
        block_rows: KeysValues,
        call: Call,
    ) -> tuple[Tensor, list[KeysValues]]:
        """The recurrence over the blocks of a call: the memory after the last, and [Kf, Vf] as each block sees them."""
        memory, size = before.memory, self.fam.block_size
        if not memory.shape[1]:
            return memory, []
        num_blocks = block_rows[0].shape[2] // size
        if state.memory_mode == "frozen":
            keys, values = layer.self_attn.keys_values(layer.input_layernorm(memory))
            return memory, [(call.memory(t)(keys), values) for t in range(num_blocks)]
        rows = []
        for t in range(num_blocks):
            rows.append(memory_keys_values(layer, memory, call.memory(t)))
            block = slice(t * size, (t + 1) * size)
            parts = [rows[t], (block_rows[0][:, :, block], block_rows[1][:, :, block])]
            initial = state.memory_is_initial and t == 0
            memory = next_memory(self.fam, layer, memory, initial, parts, call, t)
        return memory, rows

    def _read_one_block(
        self, layer: Layer, x: Tensor, before: LayerState, state: State, call: Call
    ) -> tuple[Tensor, LayerState]:
        """One block, its memory rows in the same matrix products as its tokens."""
        memory, f = before.memory, before.memory.shape[1]
        normed = torch.cat((layer.input_layernorm(memory), layer.input_layernorm(x)), dim=1)
        queries, keys, values = layer.self_attn.queries_keys_values(normed)
        memory_rows = (call.memory(0)(keys[:, :, :f]), values[:, :, :f])
        keys, values = keys[:, :, f:], values[:, :, f:]
        sinks = self._sinks(before, state, keys, values)
        block_rows = (call.tokens(keys), values)
        memory_queries = call.memory(1)(queries[:, :, :f])
        if call.probe is not None:
            call.probe.observe(memory_queries, [memory_rows, block_rows])
        compressed, kept, gate = compress(
            self.fam, memory_queries, memory, [memory_rows, block_rows], state.memory_is_initial
        )
        parts = self._visible_sinks(sinks, state, call, 0)
        parts += [(before.segment_keys, before.segment_values)] if before.segment_keys.shape[2] else []
        parts += [memory_rows, block_rows]
        attended = torch.cat(
            (
                compressed,
                attend(call.tokens(queries[:, :, f:]), parts, causal=True),
            ),
            dim=2,
        )
        memory, x = layer.finish_both(kept, x, attended, gate)
        keys, values = _join(before.segment_keys, block_rows[0]), _join(before.segment_values, block_rows[1])
        return x, self._closed(before, memory, keys, values, sinks)

    # ------------------------------------------------------------------------------------------- the open block

    def _read_open(
        self, layer: Layer, x: Tensor, before: LayerState, state: State, call: Call
    ) -> tuple[Tensor, LayerState]:
        queries, keys, values = layer.self_attn.queries_keys_values(layer.input_layernorm(x))
        sinks = self._sinks(before, state, keys, values)
        rows = before.open.append(call.tokens(keys), values)
        memory_rows = before.memory_rows
        if memory_rows is None and before.memory.shape[1]:
            memory_rows = memory_keys_values(layer, before.memory, call.memory(0))
        past = before.past or self._past(before, sinks, memory_rows, state, call)
        if x.shape[1] == 1 and len(past) > 1 and not torch.is_grad_enabled():
            past = (_joined(past),)  # decoding: once for all tokens of the block
        x = layer.finish(x, attend(call.tokens(queries), [*past, (rows.keys, rows.values)], causal=True))
        if rows.num_rows < self.fam.block_size:
            after = replace(before, open=rows, memory_rows=memory_rows, past=past)
            return x, replace(after, sink_keys=sinks[0], sink_values=sinks[1])
        memory = before.memory
        if memory_rows and state.memory_mode == "on":
            parts = [memory_rows, (rows.keys, rows.values)]
            memory = next_memory(self.fam, layer, memory, state.memory_is_initial, parts, call, 0)
        keys, values = _join(before.segment_keys, rows.keys), _join(before.segment_values, rows.values)
        return x, self._closed(before, memory, keys, values, sinks)

    def _past(
        self,
        before: LayerState,
        sinks: KeysValues,
        memory_rows: KeysValues | None,
        state: State,
        call: Call,
    ) -> tuple[KeysValues, ...]:
        """What the open block's tokens see before it, the same for all of them: [sinks ; segments ; memory]."""
        parts = self._visible_sinks(sinks, state, call, 0)
        parts += [(before.segment_keys, before.segment_values)] if before.segment_keys.shape[2] else []
        return (*parts, memory_rows) if memory_rows else tuple(parts)

    def _closed(
        self, before: LayerState, memory: Tensor, keys: Tensor, values: Tensor, sinks: KeysValues
    ) -> LayerState:
        """A layer at fill 0: of `keys` and `values` [b, hk, k, e], closed blocks all, the last m stay visible."""
        visible = self.fam.memory_segments * self.fam.block_size
        first = max(0, keys.shape[2] - visible)  # copied: products over strided keys copy them at every call
        keys, values = keys[:, :, first:].contiguous(), values[:, :, first:].contiguous()
        empty = keys[:, :, :0]
        return LayerState(memory, keys, values, OpenRows(empty, empty), *sinks)

    # ------------------------------------------------------------------------------------------- sinks

    def _sinks(self, before: LayerState, state: State, keys: Tensor, values: Tensor) -> KeysValues:
        """The stream's first sink_tokens keys (not rotated) and values, gathered while block 0 is read."""
        missing = self.fam.sink_tokens - before.sink_keys.shape[2]
        if state.num_closed or missing <= 0:
            return before.sink_keys, before.sink_values
        first = slice(None, missing)  # copied: a view would keep the whole block's rows alive
        return _join(before.sink_keys, keys[:, :, first].clone()), _join(
            before.sink_values, values[:, :, first].clone()
        )

    def _visible_sinks(self, sinks: KeysValues, state: State, call: Call, t: int) -> list[KeysValues]:
        """What block t of a call sees of the sinks: nothing until block 0 has left the segments."""
        if not self.fam.sink_tokens or state.num_closed + t <= self.fam.memory_segments:
            return []
        return [(call.sinks(t)(sinks[0]), sinks[1])]


def _joined(parts: Sequence[KeysValues]) -> KeysValues:
    return torch.cat([keys for keys, _ in parts], dim=2), torch.cat([values for _, values in parts], dim=2)


def _join(first: Tensor, second: Tensor) -> Tensor:
    return torch.cat((first, second), dim=2) if first.shape[2] else second
