"""The parts of a decoder layer: norms, projections, feed-forward. Parameter names are those of Llama checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from famcli.nn.config import Activation, DecoderConfig, ExpertConfig, later_switches
from famcli.nn.kernels import native
from famcli.nn.kernels.linear import JointLinear, Linear, is_narrow, is_wide
from famcli.nn.kernels.quantized import QuantizedMatrix
from famcli.nn.shapes import expert_layer

_Result = TypeVar("_Result")

# Switches of `DecoderConfig` that `native.read_layer` knows, or that concern no layer. A new one is not among them
# until few_rows.c computes it: the layer then goes operator by operator.
_KNOWN_TO_KERNEL = frozenset({
    "output_bias", "norm", "query_key_norm", "attention_scale", "attention_softcap", "rotary_dim", "sliding_window",
    "local_layers", "local_rope", "unrotated_layers", "experts", "logits_softcap", "embedding_scale", "logits_scale",
})  # fmt: skip

_ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "silu": functional.silu,
    "gelu": functional.gelu,
    "gelu_tanh": partial(functional.gelu, approximate="tanh"),
    "relu": functional.relu,
}


class RMSNorm(nn.Module):
    """Root mean square norm (arXiv 1910.07467); the mean is taken in float32. plus_one: times 1 + weight (Gemma)."""

    def __init__(self, width: int, eps: float, plus_one: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps, self.plus_one = eps, plus_one

    def forward(self, x: Tensor, wide: bool = False) -> Tensor:
        """[..., d] to [..., d] in the weight's type, whatever the type of `x`; wide: in float32, as `x` is."""
        if wide:
            return native.rms_norm(x, self.weight, self.eps, self.plus_one)
        if native.takes_blocks(x, self.weight):
            return native.norm_blocks(x, self.weight, self.eps, self.plus_one)
        one = x.numel() == self.weight.numel() and x.dtype == self.weight.dtype and x.device.type == "cpu"
        if one and not self.plus_one and not torch.is_grad_enabled():
            # Decoding waits for operators to begin: with the scale as a Python number there are half as many.
            length: float = torch.linalg.vector_norm(x, dtype=torch.float32).item()
            return x * (length * length / x.numel() + self.eps) ** -0.5 * self.weight  # type: ignore[no-any-return]
        numbers = x.float()
        scale = torch.rsqrt(numbers.square().mean(-1, keepdim=True) + self.eps)
        if self.plus_one:
            return (numbers * scale * (1 + self.weight.float())).to(self.weight.dtype)
        return (numbers * scale).to(self.weight.dtype) * self.weight


class LayerNorm(nn.Module):
    """The norm with mean and bias (arXiv 1607.06450), in float32."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))
        self.eps = eps

    def forward(self, x: Tensor, wide: bool = False) -> Tensor:
        """[..., d] to [..., d] in the weight's type, whatever the type of `x`; wide: in float32."""
        weight, bias = self.weight.float(), self.bias.float()
        normed = functional.layer_norm(x.float(), weight.shape, weight, bias, self.eps)
        return normed if wide else normed.to(self.weight.dtype)


def make_norm(config: DecoderConfig, width: int) -> RMSNorm | LayerNorm:
    """A norm over `width` numbers, of the one kind that the network has everywhere."""
    if config.norm == "layer":
        return LayerNorm(width, config.norm_eps)
    return RMSNorm(width, config.norm_eps, config.norm == "rms_plus_one")


class Attention(nn.Module):
    """The four projections of grouped-query attention; which keys a query sees is up to the decoder.

    scoring: how scores are made of queries and keys, as the attention kernels take it.
    """

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.head_dim = config.head_dim
        self.scoring: dict[str, Any] = {"scale": config.attention_scale, "softcap": config.attention_softcap}
        self.norm_of = config.query_key_norm
        queries, keys = config.num_heads * config.head_dim, config.num_key_value_heads * config.head_dim
        self.q_proj = Linear(config.hidden_size, queries, bias=config.attention_bias)
        self.k_proj = Linear(config.hidden_size, keys, bias=config.attention_bias)
        self.v_proj = Linear(config.hidden_size, keys, bias=config.attention_bias)
        self.o_proj = Linear(queries, config.hidden_size, bias=config.biases_output)
        if self.norm_of != "none":
            self.q_norm = make_norm(config, config.head_dim if self.norm_of == "head" else queries)
            self.k_norm = make_norm(config, config.head_dim if self.norm_of == "head" else keys)
        self._joint = JointLinear()

    def queries_keys_values(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[b, n, d] to queries [b, h, n, e], keys and values [b, hk, n, e], none rotated."""
        queries, keys, values = self._joint(x, self.q_proj, self.k_proj, self.v_proj)
        return self._normed(queries, "q_norm"), self._normed(keys, "k_norm"), self.heads(values)

    # The queries, or the keys and values, alone, for the few rows of a memory. `few` multiplies with the weights as
    # they are: they are packed for the joint product already, and a second packed copy would cost memory.
    def queries(self, x: Tensor) -> Tensor:
        return self._normed(self.q_proj.few(x), "q_norm")

    def keys_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self._normed(self.k_proj.few(x), "k_norm"), self.heads(self.v_proj.few(x))

    def _normed(self, x: Tensor, norm: str) -> Tensor:
        if self.norm_of == "none":
            return self.heads(x)
        over: Callable[[Tensor, bool], Tensor] = getattr(self, norm)
        wide = is_wide(x, getattr(self, norm).weight)
        return over(self.heads(x), wide) if self.norm_of == "head" else self.heads(over(x, wide))

    def heads(self, x: Tensor) -> Tensor:
        """[b, n, heads * e] to [b, heads, n, e]."""
        return x.view(*x.shape[:-1], -1, self.head_dim).transpose(1, 2)


class FeedForward(nn.Module):
    """Feed-forward with a gate, down(act(gate(x)) * up(x)) (arXiv 2002.05202), or without, down(act(up(x)))."""

    def __init__(self, config: DecoderConfig, size: int) -> None:
        super().__init__()
        if config.gated:
            self.gate_proj = Linear(config.hidden_size, size, bias=config.mlp_bias)
        self.up_proj = Linear(config.hidden_size, size, bias=config.mlp_bias)
        self.down_proj = Linear(size, config.hidden_size, bias=config.mlp_bias)
        self.gated, self._activation = config.gated, _ACTIVATIONS[config.activation]
        self._joint = JointLinear()

    def forward(self, x: Tensor) -> Tensor:
        if not self.gated:
            return self.down_proj(self._activation(self.up_proj(x)))  # type: ignore[no-any-return]
        gate, up = self._joint(x, self.gate_proj, self.up_proj)
        dense = gate.dim() == 3 and gate.stride() == up.stride() and gate.stride(0) == gate.shape[1] * gate.stride(1)
        if self._activation is functional.silu and dense and native.takes_blocks(gate, up):
            return self.down_proj(native.gate_blocks(gate, up))  # type: ignore[no-any-return]
        return self.down_proj(self._activation(gate) * up)  # type: ignore[no-any-return]


class Experts(nn.Module):
    """A mixture of feed-forwards (arXiv 2401.04088): each row goes through those with the largest router weights."""

    def __init__(self, config: DecoderConfig, experts: ExpertConfig) -> None:
        super().__init__()
        self.gate = Linear(config.hidden_size, experts.num_experts, bias=False)
        self.experts = nn.ModuleList(FeedForward(config, experts.size) for _ in range(experts.num_experts))
        self.per_token, self.normalize = experts.per_token, experts.normalize

    def forward(self, x: Tensor) -> Tensor:
        rows = x.flatten(0, -2)
        weights, chosen = torch.softmax(self.gate(rows).float(), dim=-1).topk(self.per_token, dim=-1)
        if self.normalize:
            weights = weights / weights.sum(-1, keepdim=True)
        weights = weights.to(rows.dtype)
        out = torch.zeros_like(rows)
        # Expert by expert, so that each one's rows are one product.
        for number in torch.unique(chosen).tolist():
            row, place = torch.where(chosen == number)
            made = self.experts[number](rows[row]) * weights[row, place, None]
            out = out.index_add(0, row, made)
        return out.view_as(x)


class Layer(nn.Module):
    """One decoder layer's weights, and all that it computes but the attention itself.

    window: tokens that a token sees, None for all. rope: which of the decoder's ways to rotate, None for none.
    """

    def __init__(self, config: DecoderConfig, index: int) -> None:
        super().__init__()
        self.index, self.window = index, config.window(index)
        local = self.window is not None and config.local_rope is not None
        self.rope = None if index in config.unrotated_layers else "local" if local else "global"
        self.place, self.parallel, self._residual_scale = config.norm_place, config.parallel, config.residual_scale
        self.self_attn = Attention(config)
        experts = config.experts if expert_layer(config, index) else None
        self.norm_options: dict[str, Any] = {"eps": config.norm_eps, "plus_one": config.norm == "rms_plus_one"}
        self._is_plain = later_switches(config).keys() <= _KNOWN_TO_KERNEL and experts is None
        self._is_plain &= config.norm != "layer" and config.query_key_norm != "all"
        self._is_plain &= not config.biases_output and not config.mlp_bias
        self._few_rows: native.LayerWeights | None = None
        self.mlp = FeedForward(config, config.intermediate_size) if experts is None else Experts(config, experts)
        if self.place != "after":
            self.input_layernorm = make_norm(config, config.hidden_size)
        self.post_attention_layernorm = make_norm(config, config.hidden_size)
        if self.place == "around":
            self.pre_feedforward_layernorm = make_norm(config, config.hidden_size)
        if self.place != "before":
            self.post_feedforward_layernorm = make_norm(config, config.hidden_size)

    def few_rows_weights(self) -> native.LayerWeights | None:
        """The weights for `native.LayersCall`; None if the layer has something that it does not know, or a hook."""
        if not self._is_plain or self._forward_pre_hooks:
            return None
        if self._few_rows is None or not self._few_rows.are_current():
            self._few_rows = self._found_weights()
        return self._few_rows

    def _found_weights(self) -> native.LayerWeights | None:
        attention, mlp = self.self_attn, cast(FeedForward, self.mlp)
        modules: list[tuple[nn.Module, str]] = [(attention, f"{name}_proj") for name in "qkvo"]
        modules += [(mlp, f"{name}_proj") for name in ("gate", "up", "down")]
        maps: list[Any] = [getattr(*each) for each in modules]
        if not all(each.plain and is_narrow(each.weight) for each in maps):
            return None
        norms: list[Any] = [self.input_layernorm, self.post_attention_layernorm]
        norms += [attention.q_norm, attention.k_norm] if attention.norm_of == "head" else [None, None]
        return native.LayerWeights(
            [
                (each._modules if isinstance(each.weight, QuantizedMatrix) else each._parameters, "weight")
                for each in maps
            ],
            [
                *(None if each is None else (each._parameters, "weight") for each in norms),
                *(None if each.bias is None else (each._parameters, "bias") for each in maps[:3]),
            ],
            [(owner._modules, name) for owner, name in modules],
        )

    def read_others(
        self,
        weights: native.LayerWeights,
        x: Tensor,
        seen: Sequence[tuple[Tensor, Tensor]],
        angles: tuple[Tensor, Tensor] | None,
    ) -> Tensor:
        """What the layer makes of single tokens x [b, 1, d] in float32 that do not see themselves, in one call of the
        compiled kernel. seen: keys and values, in parts. angles: [b or 1, 1, 1, planes] in float32."""
        x, keys = x.clone(), seen[0][0]
        # Their own keys and values go where nobody looks.
        unseen = keys.new_empty(2, *keys.shape[:2], 1, keys.shape[3])
        parts, call = native.Seen.of(seen), native.LayersCall(x, (keys.shape[1], keys.shape[3]))
        room = native.run_of((unseen[0], unseen[1]))
        call.add(weights, native.angle_numbers(angles), parts.runs[:-1], parts.runs[-1], room=room)
        call.run(**self.norm_options, **self.self_attn.scoring)
        return x

    def attention_input(self, x: Tensor, wide: bool = False) -> Tensor:
        """What attention reads of the layer's input [b, n, d], normed, in the type of the weights; wide: in float32."""
        if self.place == "after":
            return x if wide else x.to(self.dtype)
        return self.input_layernorm(x, wide)  # type: ignore[no-any-return]

    def forward(self, step: Callable[..., _Result], *arguments: Any) -> _Result:
        # Reading goes through here where it must: FSDP2 gathers the layer's weights in a hook on it, and gradient
        # checkpoints compute it again.
        return step(self, *arguments)

    def attention_output_and_mlp(
        self, residual: Tensor, attended: Tensor, gate: Tensor | None = None, inputs: Tensor | None = None
    ) -> Tensor:
        """a = residual + Wo attended; a + mlp(norm(a)). `attended` is [b, h, n, e]; the sum has the residual's type.

        `gate` [b, n, 1] scales both terms that are added. `inputs`: the layer's input where that is not the residual,
        which the feed-forward of a parallel layer reads.
        """
        wide = is_wide(attended, self.post_attention_layernorm.weight)
        added = self._after_attention(self.self_attn.o_proj(attended.transpose(1, 2).flatten(2)), wide)
        if self.parallel:
            read = self._mlp_input(residual if inputs is None else inputs, wide)
            return residual + _gated(added + self._after_mlp(self.mlp(read), wide), gate)
        x = residual + _gated(added, gate)
        return x + _gated(self._after_mlp(self.mlp(self._mlp_input(x, wide)), wide), gate)

    def joint_output_and_mlp(
        self, memory: Tensor, kept: Tensor, residual: Tensor, attended: Tensor, gate: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """The same for memory rows [b, f, d] and for tokens [b, n, d], in the same matrix products.

        memory: the rows' input, of which they keep `kept` (float32) as their residual. attended: [b, h, f + n, e].
        """
        sizes = [kept.shape[1], residual.shape[1]]
        added = self._after_attention(self.self_attn.o_proj(attended.transpose(1, 2).flatten(2)))
        added_rows, added_tokens = added.split_with_sizes(sizes, dim=1)
        rows, x = kept + _gated(added_rows, gate), residual + added_tokens
        read = (memory, residual) if self.parallel else (rows, x)
        added = self._after_mlp(self.mlp(torch.cat([self._mlp_input(each) for each in read], dim=1)))
        added_rows, added_tokens = added.split_with_sizes(sizes, dim=1)
        return rows + _gated(added_rows, gate), x + added_tokens

    def _mlp_input(self, x: Tensor, wide: bool = False) -> Tensor:
        if self.place == "after":
            return x if wide else x.to(self.dtype)
        norm = self.pre_feedforward_layernorm if self.place == "around" else self.post_attention_layernorm
        return norm(x, wide)  # type: ignore[no-any-return]

    def _after_attention(self, x: Tensor, wide: bool = False) -> Tensor:
        return self._scaled(x if self.place == "before" else self.post_attention_layernorm(x, wide))

    def _after_mlp(self, x: Tensor, wide: bool = False) -> Tensor:
        return self._scaled(x if self.place == "before" else self.post_feedforward_layernorm(x, wide))

    def _scaled(self, x: Tensor) -> Tensor:
        return x if self._residual_scale == 1 else x * self._residual_scale

    @property
    def dtype(self) -> torch.dtype:
        return self.post_attention_layernorm.weight.dtype


def few_rows_weights(layers: Sequence[Layer]) -> list[native.LayerWeights] | None:
    """Those of all `layers`, or None."""
    found = list[native.LayerWeights]()
    for layer in layers:
        weights = layer.few_rows_weights()
        if weights is None:
            return None
        found.append(weights)
    return found


def computes_wide(config: DecoderConfig, num_rows: int, like: Tensor) -> bool:
    """True if so few rows may go in float32 through layers of this shape, whose weights are of the type of `like`
    (kernels/native.py)."""
    widths = (config.hidden_size, config.head_dim, config.intermediate_size, config.num_heads * config.head_dim)
    return not any(width % native.STEP for width in widths) and native.computes(num_rows, like)


def _gated(x: Tensor, gate: Tensor | None) -> Tensor:
    return x if gate is None else x * gate


class Embedding(nn.Embedding):
    """`nn.Embedding` whose weight may be quantized."""

    def forward(self, tokens: Tensor) -> Tensor:
        weight: Tensor | QuantizedMatrix = self.weight
        return weight.rows(tokens) if isinstance(weight, QuantizedMatrix) else super().forward(tokens)

    def reset_parameters(self) -> None:
        # To draw values on the meta device torch would load its compiler, which takes seconds.
        if not self.weight.is_meta:
            super().reset_parameters()


class Backbone(nn.Module):
    """Embedding, layers and final norm, which Llama checkpoints store under the name `model`."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.embed_tokens = Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Layer(config, index) for index in range(config.num_layers))
        self.norm = make_norm(config, config.hidden_size)
