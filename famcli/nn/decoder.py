"""A decoder with Feedback Attention Memory (TransformerFAM, arXiv 2404.09173, section 3), from top to bottom.

Each layer keeps f memory rows. After each block they attend to themselves and to the block, go through the layer's own
weights, and are what the next block's tokens see beside the last m blocks (memory.py has the equations). Without memory
rows this is block sliding window attention; with as many segments as there are blocks, full causal attention.

A layer reads whole blocks at once, one block together with its memory, or tokens of the open block: steps.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from famcli.nn.call import Call, Memory
from famcli.nn.config import DecoderConfig, FamConfig, MemoryMode, MemoryUpdate
from famcli.nn.delta import AssociativeMemory
from famcli.nn.kept import KeptTokens
from famcli.nn.kernels import native
from famcli.nn.kernels.linear import Linear, PackedWeight, linear
from famcli.nn.layers import Backbone, Layer, computes_wide, few_rows_weights
from famcli.nn.memory import FeedbackMemory, initial_memory
from famcli.nn.network import Network, State, holds_whole_blocks
from famcli.nn.rope import Rotation, rotate_halves, rotation
from famcli.nn.rope_scaling import layer_frequencies
from famcli.nn.shapes import memory_layers, memory_shape, memory_width, own_shapes
from famcli.nn.state import DecoderState, LayerState, OpenRows
from famcli.nn.steps import read_block_and_memory, read_blocks, read_open, read_open_at_once

_Step = Callable[[Tensor, LayerState, Call], tuple[Tensor, LayerState]]
_MEMORIES: dict[MemoryUpdate, type[Memory]] = {
    "additive": FeedbackMemory,
    "gated": FeedbackMemory,
    "kept": KeptTokens,
    "delta": AssociativeMemory,
}


class Decoder(Network):
    """A decoder of any family that streams."""

    state_class: ClassVar[type[State]] = DecoderState

    def __init__(self, config: DecoderConfig, fam: FamConfig) -> None:
        super().__init__()
        self.config, self.fam = config, fam
        self._memory = _MEMORIES[fam.memory_update]() if fam.fam_length else FeedbackMemory()
        self.model = Backbone(config)
        if not config.tie_embeddings:
            self.lm_head = Linear(config.hidden_size, config.vocab_size, bias=False)
        self._tied_head = PackedWeight()
        for name, shape in own_shapes(config, fam).items():
            if "." not in name:  # else a module's
                self.register_parameter(name, nn.Parameter(torch.empty(shape)))
        self._ropes = layer_frequencies(config, fam)
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
        made = self._initial_rows() if remembering and self._memory.begins_with_prompt else None
        zeros = torch.zeros(1, *memory_shape(config, self.fam)[1:], device=device)
        none = torch.zeros(1, 0, memory_width(config, self.fam), device=device)
        memories = [(made[i] if made else zeros) if i in remembering else none for i in range(config.num_layers)]
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
        wide, memory = wide and not whole, self._memory
        own = None if memory.parameter is None else getattr(self, memory.parameter)
        rows = self._initial_rows() if memory.returns_to_prompt else ()
        record = None if received is None else list[Tensor]()
        call = Call(self.rotation_at, self.fam, memory, state, n, record, wide, own, rows)
        x = self.embed(tokens)
        x = x.float() if wide else x
        if levels is not None:
            levels.append(x.clone() if wide else x)
        weights = few_rows_weights(self.layers) if wide and not memory.changes_input else None
        layers = list[LayerState]()
        if weights is not None:
            layers = read_open_at_once(self.layers, weights, x, call, levels)
        else:
            for step, before in zip(self._steps(state, n, whole), state.layers, strict=True):
                x, after = step(x, before, call)
                layers.append(after)
                if levels is not None:
                    levels.append(x)
        closed = n // block_size if whole else (state.fill + n) // block_size
        if received is not None and record:
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

    def _steps(self, state: DecoderState, n: int, whole: bool) -> Iterator[_Step]:
        """What reads n tokens in each layer."""
        joint = self._memory.joins_tokens and n == self.fam.block_size and state.memory_mode == "on"
        for layer, before in zip(self.layers, state.layers, strict=True):
            if not whole:
                step = read_open
            elif joint and before.memory.shape[1]:
                step = read_block_and_memory
            else:
                step = read_blocks
            if self.checkpoint_gradients and torch.is_grad_enabled():
                yield partial(checkpoint, layer, step, use_reentrant=False)
            elif layer._forward_pre_hooks:
                yield partial(layer, step)
            else:
                # Called directly where nothing hooks into the layer: decoding waits for each Python frame.
                yield partial(step, layer)

    def write(self, tokens: Tensor, state: State, levels: list[Tensor] | None = None) -> tuple[Tensor, State]:
        return self.read(tokens, state, None, levels, wide=self._computes_wide(tokens.numel()))

    @property
    def writes_ahead(self) -> bool:
        return self._computes_wide(1)

    def logits(self, hidden: Tensor) -> Tensor:
        # A few rows of a reading too: in bfloat16 the head would be rearranged first, which takes long and is a copy.
        wide = self._computes_wide(hidden.numel() // hidden.shape[-1])
        normed = self.model.norm(hidden.float() if wide else hidden, wide)
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
        return computes_wide(self.config, num_rows, self.model.norm.weight)

    def _scaled(self, embedded: Tensor) -> Tensor:
        """What enters the first layer."""
        scale = self.config.embedding_scale
        # Rounded to the embedding's type, as Gemma was trained.
        return embedded if scale == 1 else embedded * torch.tensor(scale).to(self.dtype).item()

    # ------------------------------------------------------------------------------------------------ memory prompt

    def _initial_rows(self) -> list[Tensor]:
        """F_0 of each layer [1, f, d]; without gradient made once for unchanged weights: every text begins with it."""
        key: object = None
        if not torch.is_grad_enabled():
            key = (tuple(parameter._version for parameter in self.parameters()), self.device, self.dtype)
            if self._initial is not None and self._initial[0] == key:
                return self._initial[1]
        positions = torch.arange(-self.fam.fam_length, 0)[None]
        rotations = {kind: self.rotation_at(kind, positions, False) for kind in {layer.rope for layer in self.layers}}
        rows, made = self._scaled(self.memory_prompt.float())[None], []  # the first layer gets it as it gets tokens
        for layer in self.layers:
            # As in `read`: through the layer where something hooks into it.
            make = partial(layer, initial_memory) if layer._forward_pre_hooks else partial(initial_memory, layer)
            rows = make(rows, rotations[layer.rope])
            made.append(rows)
        if key is not None:
            self._initial = (key, made)
        return made

    # ------------------------------------------------------------------------------------------------ positions

    def rotation_at(self, kind: str | None, positions: Tensor, wide: bool) -> Rotation:
        """The rotation of layers of one kind (`Layer.rope`) to `positions` [b, n]; wide: of float32."""
        if kind is None:
            return lambda x: x
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
