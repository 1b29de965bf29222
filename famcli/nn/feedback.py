"""The Feedback Transformer (arXiv 2002.09402): every layer attends to one memory of each past token.

With x_t^0 the embedding of token t and x_t^l what layer l makes of it, w the layer weights and tau the window:

    m_t   = sum over l = 0..L of softmax(w)_l x_t^l         the memory of token t: `_memory_of`
    K, V  = Wk norm(m), Wv norm(m)                          of each layer's own, or of one projection that all share
    a_t^l = softmax(q_t^l K[t - tau .. t - 1]^T) V[..]      token t sees the memories before it, never its own
    x_t^l = x_t^(l-1) + Wo a_t^l, and then its feed-forward

tau is (memory_segments + 1) * block_size: what block sliding window attention sees at a block's end. The first token of
a text sees nothing, and a_0 is 0. Queries, feed-forward and rotary positions are those of `Layer`.

All layers of token t must be done before the lowest layer of token t + 1 can begin, so `_read_exactly` goes token by
token. `_read_in_passes` reads a call's tokens side by side, with the memories of the pass before instead of those that
are not known yet, until these no longer change; for training, `_FixedPoint` finds the gradient in the same way.
A network in training mode reads in passes only where a gradient is wanted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from famcli.nn.config import DecoderConfig, FamConfig, MemoryMode
from famcli.nn.decoder import Decoder
from famcli.nn.kernels import native
from famcli.nn.kernels.attention import KeysValues, attend, joined
from famcli.nn.layers import Layer, computes_wide, few_rows_weights, make_norm
from famcli.nn.network import State, holds_whole_blocks
from famcli.nn.rope import cos_sin
from famcli.nn.shapes import own_shapes
from famcli.nn.state import FeedbackState, OpenRows

# Passes end when memories (or their gradients) change by less than this share of their norm.
_TOLERANCE = 1e-4

Angles = tuple[Tensor, Tensor]
"""Cosines and sines [b or 1, 1, n, e/2] of a call's positions."""


class FeedbackDecoder(Decoder):
    """A decoder whose layers attend to one memory. Its weights are a `Decoder`'s, and the `layer_weights` [l + 1].

    With `feedback_projections` "shared" all layers have the first one's projections of keys and values, for which the
    memory has a norm of its own; the state is then smaller by the number of layers. Raises ValueError for what only
    a `Decoder` can read.
    """

    state_class: ClassVar[type[State]] = FeedbackState

    def __init__(self, config: DecoderConfig, fam: FamConfig) -> None:
        own = own_shapes(config, fam)
        super().__init__(config, fam)
        self.layer_weights = nn.Parameter(torch.zeros(own["layer_weights"]))
        first = self.layers[0].self_attn
        self._projecting = list(self.layers)
        if fam.shares_projections:
            self._projecting = [self.layers[0]]
            self.memory_norm = make_norm(config, config.hidden_size)
            for layer in self.layers[1:]:
                for name in ("k_proj", "v_proj", "k_norm"):
                    if hasattr(first, name):
                        setattr(layer.self_attn, name, getattr(first, name))

    def start(self, batch: int = 1, memory_mode: MemoryMode = "on") -> FeedbackState:
        config = self.config
        shape = (batch, config.num_key_value_heads, 0, config.head_dim)
        empty = torch.empty(shape, device=self.device, dtype=self.dtype)
        windows = tuple(OpenRows(empty, empty) for _ in self._projecting)
        position, initial = torch.zeros(batch, dtype=torch.int64), torch.full((batch,), True)
        return FeedbackState(position, 0, 0, initial, memory_mode, windows)

    def read(
        self,
        tokens: Tensor,
        state: State,
        received: list[Tensor] | None = None,
        levels: list[Tensor] | None = None,
        *,
        wide: bool = False,
    ) -> tuple[Tensor, FeedbackState]:
        """As the contract says; nothing is appended to `received`, because no memory takes in blocks, nor to `levels`,
        because drafts are made for decoders with a memory of their own. wide: few rows may come in float32."""
        assert isinstance(state, FeedbackState)
        block_size, n = self.fam.block_size, tokens.shape[1]
        holds_whole_blocks(tokens, state, block_size)
        x = self.embed(tokens)
        # What is measured while a network is trained is measured exactly.
        in_passes = self.fam.feedback_passes and n > 1 and (torch.is_grad_enabled() or not self.training)
        weights = None if in_passes else self._few_rows_weights(len(x))
        angles = self._angles(state, n, self.dtype if weights is None else torch.float32)
        if in_passes:
            hidden, windows = self._read_in_passes(x, state.windows, angles)
        else:
            hidden, windows = self._read_exactly(x, state.windows, angles, weights)
        if weights is not None and not wide:
            hidden = hidden.to(self.dtype)
        closed, fill = divmod(state.fill + n, block_size)
        return hidden, replace(
            state,
            windows=windows,
            position=state.position + n,
            fill=fill,
            num_closed=min(state.num_closed + closed, self.fam.memory_segments + 1),
        )

    @property
    def writes_ahead(self) -> bool:
        # Tokens are read one by one anyway, and a window that has moved on cannot go back.
        return False

    def reset_parameters(self, seed: int) -> None:
        super().reset_parameters(seed)
        with torch.no_grad():
            # A plain average of the layers (section 3.1).
            self.layer_weights.zero_()

    def compile_parts(self, compiled: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
        """What is done with a token when tokens are read one by one: otherwise most of its time goes to starting
        operators."""
        self._token_in_training = compiled(self._token_in_training)  # type: ignore[method-assign]

    # ------------------------------------------------------------------------------------------------ what both share

    def _angles(self, state: FeedbackState, n: int, dtype: torch.dtype) -> Angles:
        return cos_sin(state.position[:, None] + torch.arange(n), *self._ropes["global"], dtype, self.device)

    def _memory_of(self, levels: Sequence[Tensor]) -> Tensor:
        """m [b, n, d] in float32 of the embedding and of what each layer made of it, [b, n, d] each."""
        weights = torch.softmax(self.layer_weights.float(), dim=0)
        memory: Tensor = torch.tensordot(weights, torch.stack(tuple(levels)).float(), dims=1)
        return memory

    def _projected(self, layer: Layer, memory: Tensor, angles: Angles) -> KeysValues:
        """The layer's keys (rotated) and values [b, hk, n, e] of memories [b, n, d]."""
        shared = self.fam.shares_projections
        if angles[0].dtype != self.dtype:
            # Few rows in float32, rounded last.
            normed = self.memory_norm(memory) if shared else layer.attention_input(memory, True)
            keys, values = layer.self_attn.keys_values(normed)
            return _rotated(self, layer, keys, angles).to(self.dtype), values.to(self.dtype)
        # The norm that is shared is float32, as all that a pretrained decoder does not have.
        normed = self.memory_norm(memory).to(self.dtype) if shared else layer.attention_input(memory)
        keys, values = layer.self_attn.keys_values(normed)
        return _rotated(self, layer, keys, angles), values

    def _appended(self, windows: Sequence[OpenRows], memory: Tensor, angles: Angles) -> tuple[OpenRows, ...]:
        limit = self.fam.visible_tokens
        return tuple(
            window.append_within(*self._projected(layer, memory, angles), limit)
            for window, layer in zip(windows, self._projecting, strict=True)
        )

    # ------------------------------------------------------------------------------------------------ token by token

    def _read_exactly(
        self, x: Tensor, windows: tuple[OpenRows, ...], angles: Angles, weights: list[native.LayerWeights] | None
    ) -> tuple[Tensor, tuple[OpenRows, ...]]:
        """Hidden rows of tokens [b, n, d], and the windows after them. weights: for the compiled kernels."""
        in_training, limit = torch.is_grad_enabled(), self.fam.visible_tokens
        hidden, own = list[Tensor](), [list[KeysValues]() for _ in windows]
        x = x if weights is None else x.float()
        # By chunk, whose gradient is put together once.
        for t, row in enumerate(x.chunk(x.shape[1], dim=1)):
            at = (angles[0][:, :, t : t + 1], angles[1][:, :, t : t + 1])
            if in_training:
                # From what was there before and single rows: a gradient then reaches each row once, and not the window
                # that it is in token after token.
                seen = [
                    joined([window.last(min(window.num_rows, max(0, limit - t))).keys_values, *rows[-limit:]])
                    for window, rows in zip(windows, own, strict=True)
                ]
                last, made = self._token_in_training(row, seen, at)
                for rows, pair in zip(own, made, strict=True):
                    rows.append(pair)
            else:
                seen = [window.keys_values for window in windows]
                levels = self._levels(row, seen, at) if weights is None else self._natively(row, weights, seen, at)
                last, windows = levels[-1], self._appended(windows, self._memory_of(levels), at)
            hidden.append(last)
        if in_training:
            windows = tuple(
                window.append_within(*joined(rows), limit) for window, rows in zip(windows, own, strict=True)
            )
        return torch.cat(hidden, dim=1), windows

    def _token_in_training(self, x: Tensor, seen: list[KeysValues], angles: Angles) -> tuple[Tensor, list[KeysValues]]:
        """x^L of one token [b, 1, d], and its keys and values; training may compile it as a whole."""
        levels = self._levels(x, seen, angles)
        memory = self._memory_of(levels)
        return levels[-1], [self._projected(layer, memory, angles) for layer in self._projecting]

    def _levels(self, x: Tensor, seen: Sequence[KeysValues], angles: Angles) -> list[Tensor]:
        """x^0 .. x^L of one token [b, 1, d], where each layer (or all) sees keys and values [b, hk, k, e]."""
        levels = [x]
        for index, layer in enumerate(self.layers):
            levels.append(self._through(layer, levels[-1], seen[index if len(seen) > 1 else 0], angles))
        return levels

    def _few_rows_weights(self, num_rows: int) -> list[native.LayerWeights] | None:
        """The layers' weights for the compiled kernels, if these compute so many rows here."""
        if not computes_wide(self.config, num_rows, self.model.norm.weight):
            return None
        return few_rows_weights(self.layers)

    def _natively(
        self, x: Tensor, weights: Sequence[native.LayerWeights], seen: Sequence[KeysValues], angles: Angles
    ) -> list[Tensor]:
        """`_levels` of a token x [b, 1, d] in float32, a layer in one call. angles: in float32."""
        if not seen[0][0].shape[2]:
            # Attention to one value, which is 0, is what attention to nothing is to be.
            seen = [(each.new_zeros(*each.shape[:2], 1, each.shape[3]),) * 2 for each, _ in seen]
        levels, wide = [x], (angles[0].contiguous(), angles[1].contiguous())
        for index, (layer, own) in enumerate(zip(self.layers, weights, strict=True)):
            part = seen[index if len(seen) > 1 else 0]
            levels.append(layer.read_others(own, levels[-1], [part], None if layer.rope is None else wide))
        return levels

    def _through(self, layer: Layer, x: Tensor, seen: KeysValues, angles: Angles) -> Tensor:
        if self.checkpoint_gradients and torch.is_grad_enabled():
            return checkpoint(layer, _read, x, seen, angles, self, use_reentrant=False)  # type: ignore[no-any-return]
        made: Tensor = layer(_read, x, seen, angles, self)
        return made

    # ------------------------------------------------------------------------------------------------ side by side

    def _read_in_passes(
        self, x: Tensor, windows: tuple[OpenRows, ...], angles: Angles
    ) -> tuple[Tensor, tuple[OpenRows, ...]]:
        """As `_read_exactly`, to what `feedback_passes` passes reach; exact if they are as many as there are tokens."""
        past = [window.keys_values for window in windows]
        if torch.is_grad_enabled():
            trained = [each for each in self._memory_parameters() if each.requires_grad]
            flat = [part for pair in past for part in pair]
            hidden, memory = _FixedPoint.apply(self, angles, len(flat), x, *flat, *trained)  # type: ignore[no-untyped-call]
        else:
            levels = self._settled(x, past, angles)
            hidden, memory = levels[-1], self._memory_of([x, *levels])
        return hidden, self._appended(windows, memory, angles)

    def _settled(self, x: Tensor, past: Sequence[KeysValues], angles: Angles) -> Tensor:
        """What the layers make of all tokens [l, b, n, d] after the last pass."""
        # As if each layer did nothing.
        levels = x.expand(len(self.layers), *x.shape)
        for _ in range(self.fam.feedback_passes):
            before, levels = levels, self._pass(x, past, levels, angles)
            if _is_close(levels, before):
                break
        return levels

    def _pass(self, x: Tensor, past: Sequence[KeysValues], levels: Tensor, angles: Angles) -> Tensor:
        """New `levels` [l, b, n, d], where the memories that a layer sees are made of the new ones below it and the old
        ones above: with them the passes settle in about half as many as with the old ones alone."""
        weights = torch.softmax(self.layer_weights.float(), dim=0)
        memory = self._memory_of([x, *levels])
        before = (angles[0][:, :, :-1], angles[1][:, :, :-1])
        new = [x]
        for index, (layer, old) in enumerate(zip(self.layers, levels, strict=True)):
            keys, values = past[index if len(past) > 1 else 0]
            own_keys, own_values = self._projected(layer, memory[:, :-1], before)
            seen = (torch.cat((keys, own_keys), dim=2), torch.cat((values, own_values), dim=2))
            new.append(self._through(layer, new[-1], seen, angles))
            memory = memory + weights[index + 1] * (new[-1] - old).float()
        return torch.stack(new[1:])

    def _memory_parameters(self) -> list[nn.Parameter]:
        """All that a pass computes with."""
        extra = self.memory_norm.parameters() if self.fam.shares_projections else ()
        return [*self.model.layers.parameters(), self.layer_weights, *extra]


def _read(layer: Layer, x: Tensor, seen: KeysValues, angles: Angles, network: FeedbackDecoder) -> Tensor:
    """The layer's output for tokens [b, n, d]; of the k + n - 1 rows of `seen`, token i sees the last of k + i."""
    queries = _rotated(network, layer, layer.self_attn.queries(layer.attention_input(x)), angles)
    # A text's first token has nothing to see.
    blind = max(0, queries.shape[2] - seen[0].shape[2])
    attended = torch.zeros_like(queries[:, :, :blind])
    if queries.shape[2] > blind:
        window = network.fam.visible_tokens
        scoring = layer.self_attn.scoring
        sighted = attend(queries[:, :, blind:], [seen], causal=True, window=window, **scoring)
        attended = torch.cat((attended, sighted), dim=2) if blind else sighted
    return layer.attention_output_and_mlp(x, attended)


def _rotated(network: FeedbackDecoder, layer: Layer, x: Tensor, angles: Angles) -> Tensor:
    return x if layer.rope is None else network.rotate(x, *angles)


def _is_close(after: Tensor, before: Tensor) -> bool:
    return bool(torch.linalg.vector_norm(after - before) <= _TOLERANCE * torch.linalg.vector_norm(after))


class _FixedPoint(torch.autograd.Function):
    """Hidden rows and memories that passes settle on, and their gradient without going back through the passes.

    Settled levels Z obey Z = f(Z), and the gradient that reaches them obeys g = g_out + (df/dZ)^T g (implicit
    differentiation, arXiv 1909.01377), which passes through the one pass that is kept settle on likewise. A token only
    depends on earlier ones, so that as many passes as there are tokens are exact in both directions.
    """

    @staticmethod
    def forward(
        ctx: Any, network: FeedbackDecoder, angles: Angles, num_past: int, *tensors: Tensor
    ) -> tuple[Tensor, Tensor]:
        x, *flat = (each.detach().requires_grad_(each.requires_grad) for each in tensors[: 1 + num_past])
        past = list(zip(flat[0::2], flat[1::2], strict=True))
        settled = network._settled(x, past, angles).detach().requires_grad_()
        with torch.enable_grad():
            levels = network._pass(x, past, settled, angles)
            hidden, memory = levels[-1], network._memory_of([x, *levels])
        ctx.outputs, ctx.settled, ctx.passes = (hidden, memory, levels), settled, network.fam.feedback_passes
        ctx.inputs = [x, *flat, *tensors[1 + num_past :]]
        return hidden.detach(), memory.detach()

    @staticmethod
    def backward(ctx: Any, of_hidden: Tensor, of_memory: Tensor) -> tuple[Tensor | None, ...]:
        reaching = torch.zeros_like(ctx.settled)
        for _ in range(ctx.passes):
            before, outgoing = reaching, (of_hidden, of_memory, reaching)
            (reaching,) = torch.autograd.grad(ctx.outputs, ctx.settled, outgoing, retain_graph=True)
            if _is_close(reaching, before):
                break
        wanted, outgoing = [each for each in ctx.inputs if each.requires_grad], (of_hidden, of_memory, reaching)
        found = iter(torch.autograd.grad(ctx.outputs, wanted, outgoing, allow_unused=True))
        # The graph of the pass would otherwise live as long as what came out of it.
        inputs, ctx.outputs, ctx.settled, ctx.inputs = ctx.inputs, None, None, None
        return (None, None, None, *(next(found) if each.requires_grad else None for each in inputs))
