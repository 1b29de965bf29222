"""A draft for a decoder: a few of its layers that guess the next tokens cheaply (SPIRe, arXiv 2504.06419).

The draft has the target's embedding, its last layers and its head; embedding, final norm and head are not copied, but
used where they are. With x_t^0 .. x_t^D the levels of token t, and w of each layer's own:

    m_t^i = sum over j = 0..D of softmax(w_i)_j x_t^j      what layer i keeps of token t: `keys_values`

For tokens that the target has read, the levels are the target's own activations: what enters the first of its last D
layers, and what each of these makes of it. For tokens that are being drafted they are the draft's: the embedding, and
what each layer makes of it. As in the Feedback Transformer, a token sees the memories before it, never its own.

A token sees the memories of the tokens drafted before it, the last `window` that the target read, and of the first
`sink_tokens` of the stream those that the window has left. Positions count from the oldest of these, since only
distances matter: nothing grows with the stream.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from famcli.nn.config import DecoderConfig, FamConfig
from famcli.nn.kernels.attention import KeysValues, attend, attend_few
from famcli.nn.kernels.linear import is_wide
from famcli.nn.layers import Layer, computes_wide
from famcli.nn.network import Network
from famcli.nn.rope import cos_sin, rotate_halves
from famcli.nn.rope_scaling import layer_frequencies
from famcli.nn.shapes import parameter_shapes


@dataclass(frozen=True)
class DraftConfig:
    """num_layers: D. drafted_tokens: guessed at a time, k. Raises ValueError for what is out of bounds."""

    num_layers: int
    window: int = 64
    sink_tokens: int = 1
    drafted_tokens: int = 4

    def __post_init__(self) -> None:
        for name, low in (("num_layers", 1), ("window", 1), ("sink_tokens", 0), ("drafted_tokens", 1)):
            if not low <= getattr(self, name) <= 1 << 16:
                raise ValueError(f"{name} is {getattr(self, name)}, it must be between {low} and {1 << 16}")


def draft_shapes(config: DecoderConfig, fam: FamConfig, draft: DraftConfig) -> dict[str, tuple[int, ...]]:
    """The shape of every parameter of a `Draft` by name. Raises ValueError for more layers than the decoder has."""
    first = config.num_layers - draft.num_layers
    if first < 0:
        raise ValueError(f"a draft of {draft.num_layers} layers cannot be made of {config.num_layers}")
    shapes = {}
    for name, shape in parameter_shapes(config, fam).items():
        if name.startswith("model.layers."):
            number, rest = name.removeprefix("model.layers.").split(".", 1)
            if int(number) >= first:
                shapes[f"layers.{int(number) - first}.{rest}"] = shape
    return {**shapes, "layer_weights": (draft.num_layers, draft.num_layers + 1)}


@dataclass(frozen=True)
class DraftState:
    """What a draft knows of the tokens that the target has read.

    sinks, window: keys (not rotated) and values [b, hk, k, e] of the first and of the last memories, for each layer.
    num_read: the tokens that were read, counted no further than the two can hold.
    """

    sinks: tuple[KeysValues, ...]
    window: tuple[KeysValues, ...]
    num_read: int


class Draft(nn.Module):
    """The layers and layer weights of a draft for a decoder of this shape. Raises ValueError as `draft_shapes`."""

    def __init__(self, config: DecoderConfig, fam: FamConfig, draft: DraftConfig) -> None:
        super().__init__()
        first = config.num_layers - draft.num_layers
        self.config, self.draft = config, draft
        self.layer_weights = nn.Parameter(torch.zeros(draft_shapes(config, fam, draft)["layer_weights"]))
        self.layers = nn.ModuleList(Layer(config, index) for index in range(first, config.num_layers))
        self._ropes = layer_frequencies(config, fam)
        self._angles: dict[object, tuple[Tensor, Tensor]] = {}

    @property
    def num_levels(self) -> int:
        """How many of the target's last activations `read` takes."""
        return self.draft.num_layers + 1

    @property
    def own_layers(self) -> Sequence[Layer]:
        return cast(Sequence[Layer], self.layers)

    def begin(self, target: Network) -> None:
        """Take over the target's last layers.

        Raises ValueError for a target of another kind, or whose layers are not in full precision.
        """
        if target.fam.architecture != "fam":
            raise ValueError(f"a draft is for decoders with a memory of their own, not for '{target.fam.architecture}'")
        sources = list(target.layers)[-self.draft.num_layers :]
        with torch.no_grad():
            for layer, source in zip(self.layers, sources, strict=True):
                given = dict(source.named_parameters())
                for name, parameter in layer.named_parameters():
                    if name not in given:
                        raise ValueError("a draft begins as layers of its target: open that without quantization")
                    parameter.copy_(given[name])

    # ------------------------------------------------------------------------------------------- what the target read

    def start(self) -> DraftState:
        """The state before the first token."""
        return DraftState((), (), 0)

    def read(self, levels: Sequence[Tensor], state: DraftState) -> DraftState:
        """The state after tokens that the target read. levels: its last activations [b, n, d], `num_levels` of them."""
        window, num_sinks = self.draft.window, self.draft.sink_tokens
        missing = max(0, num_sinks - state.num_read)
        made = self.keys_values([level[:, -window - missing :] for level in levels])
        first = self.keys_values([level[:, :missing] for level in levels]) if missing else ()
        return DraftState(
            _joined(state.sinks, first),
            tuple((keys[:, :, -window:], values[:, :, -window:]) for keys, values in _joined(state.window, made)),
            min(state.num_read + levels[0].shape[1], window + num_sinks),
        )

    def seen(self, state: DraftState) -> list[KeysValues]:
        """What a token sees of `state`, keys rotated, by layer; the places of what follows begin after it."""
        # A sink that the window still holds is not seen twice.
        outside = min(max(0, state.num_read - self.draft.window), self.draft.sink_tokens)
        sinks = tuple((keys[:, :, :outside], values[:, :, :outside]) for keys, values in state.sinks)
        return self.rotated(_joined(sinks, state.window), 0)

    # ------------------------------------------------------------------------------------------- drafting

    def keys_values(self, levels: Sequence[Tensor]) -> tuple[KeysValues, ...]:
        """Keys (not rotated) and values [b, hk, n, e] of each layer, made of levels [b, n, d]."""
        weights = torch.softmax(self.layer_weights.float(), dim=1)
        memories = torch.tensordot(weights, torch.stack(tuple(levels)).float(), dims=1)
        wide = computes_wide(
            self.config, levels[0].shape[:2].numel(), self.own_layers[0].post_attention_layernorm.weight
        )
        made = []
        for layer, memory in zip(self.own_layers, memories, strict=True):
            keys, values = layer.self_attn.keys_values(layer.attention_input(memory, wide))
            made.append((keys.to(layer.dtype), values.to(layer.dtype)))
        return tuple(made)

    def rotated(self, rows: Sequence[KeysValues], place: int) -> list[KeysValues]:
        return [
            (self._rotate(layer, keys, place), values)
            for layer, (keys, values) in zip(self.own_layers, rows, strict=True)
        ]

    def levels(self, x: Tensor, seen: Sequence[Sequence[KeysValues]], place: int) -> list[Tensor]:
        """The levels of one token from its embedding [b, 1, d]. seen: what each layer sees, in parts.

        An embedding in float32 with weights in bfloat16 goes through the compiled kernels: see `Decoder.read`.
        """
        levels = [x]
        for layer, parts in zip(self.own_layers, seen, strict=True):
            x = levels[-1]
            wide = is_wide(x, layer.post_attention_layernorm.weight)
            if wide and (weights := layer.few_rows_weights()) is not None:
                levels.append(layer.read_others(weights, x, parts, self._angles_at(layer, x, place)))
                continue
            queries = self._rotate(layer, layer.self_attn.queries(layer.attention_input(x, wide)), place)
            scoring = layer.self_attn.scoring
            if wide:
                attended = attend_few(queries, parts[:-1], parts[-1:], **scoring)
            else:
                attended = attend(queries, parts, causal=False, **scoring)
            levels.append(layer.attention_output_and_mlp(x, attended))
        return levels

    def propose(
        self, target: Network, token: int, state: DraftState, choose: Callable[[Tensor], int], count: int
    ) -> list[int]:
        """`count` tokens, at most k, that may follow `token`, the first one that the target has not read.

        choose: takes each of them from its logits [v].
        """
        seen, tokens = [[part] for part in self.seen(state)], [token]
        place = seen[0][0][0].shape[2]
        for index in range(count):
            x = target.embed(torch.tensor([[tokens[-1]]], device=target.device))
            levels = self.levels(x.float() if target.writes_ahead else x, seen, place + index)
            tokens.append(choose(target.logits(levels[-1])[0, -1]))
            if index < count - 1:
                for parts, own in zip(seen, self.rotated(self.keys_values(levels), place + index), strict=True):
                    parts.append(own)
        return tokens[1:]

    def _rotate(self, layer: Layer, x: Tensor, place: int) -> Tensor:
        angles = self._angles_at(layer, x, place)
        return x if angles is None else rotate_halves(x, *angles)

    def _angles_at(self, layer: Layer, x: Tensor, place: int) -> tuple[Tensor, Tensor] | None:
        """Cosines and sines [1, 1, n, planes] of x [..., n, e or d] from `place` on, in its type."""
        if layer.rope is None:
            return None
        rows = self.draft.sink_tokens + self.draft.window + self.draft.drafted_tokens
        key = (layer.rope, x.dtype, x.device)
        if key not in self._angles:
            self._angles[key] = cos_sin(torch.arange(rows)[None], *self._ropes[layer.rope], x.dtype, x.device)
        cos, sin = (angles[:, :, place : place + x.shape[-2]] for angles in self._angles[key])
        return cos, sin


def _joined(first: Sequence[KeysValues], second: Sequence[KeysValues]) -> tuple[KeysValues, ...]:
    if not first or not second:
        return tuple(first or second)
    return tuple(
        (torch.cat((keys, more_keys), dim=2), torch.cat((values, more_values), dim=2))
        for (keys, values), (more_keys, more_values) in zip(first, second, strict=True)
    )
