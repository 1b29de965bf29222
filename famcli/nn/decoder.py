"""A decoder with Feedback Attention Memory (TransformerFAM, arXiv 2404.09173, section 3).

Each layer keeps f memory rows. After each block they attend to themselves and to the block, go through the layer's own
weights, and are what the next block's tokens see beside the last m blocks. Without memory rows this is block sliding
window attention; with as many segments as there are blocks, full causal attention.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from famcli.nn.blocks import read_blocks, read_open
from famcli.nn.call import Call, Turn, unrotated
from famcli.nn.config import DecoderConfig, FamConfig, MemoryMode, RopeConfig
from famcli.nn.kernels.linear import Linear, PackedWeight, linear
from famcli.nn.layers import Backbone, Layer
from famcli.nn.memory import run_prompt
from famcli.nn.network import AttentionRecorder, Network, State
from famcli.nn.rope import Rotation, rope_frequencies, rotate_halves, rotation
from famcli.nn.shapes import memory_layers
from famcli.nn.state import DecoderState, LayerState, OpenRows


class Decoder(Network):
    """A decoder of any family that streams."""

    state_class = DecoderState

    def __init__(self, config: DecoderConfig, fam: FamConfig) -> None:
        super().__init__()
        self.config, self.fam = config, fam
        self.model = Backbone(config)
        if not config.tie_embeddings:
            self.lm_head = Linear(config.hidden_size, config.vocab_size, bias=False)
        self._tied_head = PackedWeight()
        if fam.fam_length:
            self.memory_prompt = nn.Parameter(torch.empty(fam.fam_length, config.hidden_size))
        self._ropes = {"global": self._frequencies(config.rope), "local": self._frequencies(config.local_rope)}
        self._initial: tuple[object, list[Tensor]] | None = None
        self.rotate = rotate_halves  # how `Rotation` is applied: training may compile it

    @property
    def layers(self) -> Sequence[Layer]:
        return cast(Sequence[Layer], self.model.layers)

    @property
    def device(self) -> torch.device:
        return self.model.embed_tokens.weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.model.embed_tokens.weight.dtype

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
        """Norms, rotations and what each layer does after attention: output, norm, feed-forward.

        Attention and the memory's recurrence stay as they are: their shapes change from call to call.
        """
        self.rotate = compiled(self.rotate)
        for layer in self.layers:
            for name in ("normed", "finish", "finish_both"):
                setattr(layer, name, compiled(getattr(layer, name)))

    # ------------------------------------------------------------------------------------------------ the contract

    def start(self, batch: int = 1, memory_mode: MemoryMode = "on") -> DecoderState:
        config, device, dtype = self.config, self.device, self.dtype
        remembering = () if memory_mode == "none" else memory_layers(config, self.fam)
        made = self._initial_memories() if remembering else []
        none = torch.zeros(1, 0, config.hidden_size, device=device)
        memories = [made[i] if i in remembering else none for i in range(config.num_layers)]
        rows = torch.empty(batch, config.num_key_value_heads, 0, config.head_dim, device=device, dtype=dtype)
        layers = tuple(
            LayerState(memory.expand(batch, -1, -1), rows, rows, OpenRows(rows, rows), rows, rows)
            for memory in memories
        )
        position, initial = torch.zeros(batch, dtype=torch.int64), torch.full((batch,), True)
        return DecoderState(position, 0, 0, initial, memory_mode, layers)

    def read(
        self, tokens: Tensor, state: State, recorder: AttentionRecorder | None = None
    ) -> tuple[Tensor, DecoderState]:
        assert isinstance(state, DecoderState)
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
        call = Call(self._rotation, self.fam, state, n, recorder)
        x = self._scaled(self.model.embed_tokens(tokens))
        layers = []
        for layer, before in zip(self.layers, state.layers, strict=True):
            step = read_blocks if whole else read_open
            if self.checkpoint_gradients and torch.is_grad_enabled():
                x, after = checkpoint(layer, step, x, before, call, use_reentrant=False)
            else:
                x, after = layer(step, x, before, call)
            layers.append(after)
        if recorder is not None:
            recorder.finish(num_blocks)
        closed = num_blocks if whole else (state.fill + n) // block_size
        updated = closed > 0 and state.memory_mode == "on"
        return x, replace(
            state,
            layers=tuple(layers),
            position=state.position + n,
            fill=(state.fill + n) % block_size,
            num_closed=min(state.num_closed + closed, self.fam.memory_segments + 1),
            memory_is_initial=state.memory_is_initial & (not updated),
        )

    def logits(self, hidden: Tensor) -> Tensor:
        normed = self.model.norm(hidden)
        if self.config.tie_embeddings:
            logits = linear(normed, self.model.embed_tokens.weight, packed=self._tied_head)
        else:
            logits = self.lm_head(normed)
        if self.config.logits_scale != 1:
            logits = logits / self.config.logits_scale
        cap = self.config.logits_softcap
        return logits if cap is None else torch.tanh(logits / cap) * cap

    def _scaled(self, embedded: Tensor) -> Tensor:
        """What enters the first layer. The factor is rounded to the embedding's type, as Gemma was trained."""
        scale = self.config.embedding_scale
        return embedded if scale == 1 else embedded * torch.tensor(scale).to(self.dtype).item()

    def _embedded_prompt(self) -> Tensor:
        """The memory prompt [f, d] as it enters the first layer: as tokens do, in float32."""
        return self._scaled(self.memory_prompt.float())

    # ------------------------------------------------------------------------------------------- positions

    def _frequencies(self, rope: RopeConfig | None) -> tuple[Tensor, float] | None:
        """Fixed once, by the largest distance at which a token can see another."""
        if rope is None:
            return None
        return rope_frequencies(rope, self.config.rotated_dim, self.fam.visible_tokens)

    def _rotation(self, kind: str | None, positions: Tensor) -> Turn:
        """Angles are computed on the CPU, in float64 (some devices have none), and moved once."""
        rope = None if kind is None else self._ropes[kind]
        if rope is None:
            return unrotated
        if len(positions) > 1 and bool((positions == positions[:1]).all()):
            positions = positions[:1]
        device = self.device
        dtype = torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else self.dtype
        made = rotation(positions, *rope, dtype)
        return Rotation(made.cos.to(device), made.sin.to(device), self.rotate)

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
        places = torch.arange(-self.fam.fam_length, 0)[None]
        made = {kind: self._rotation(kind, places) for kind in {layer.rope for layer in self.layers}}
        return run_prompt(self.layers, self._embedded_prompt(), lambda layer: made[layer.rope])
