"""The parts of a decoder layer: norm, projections, feed-forward. Parameter names are those of Llama checkpoints."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from famcli.nn.config import DecoderConfig
from famcli.nn.linear import JointLinear, Linear, linear


class RMSNorm(nn.Module):
    """Root mean square norm (arXiv 1910.07467); the mean is taken in float32."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """[..., d] to [..., d] in the weight's type, whatever the type of `x`."""
        wide = x.float()
        scale = torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
        return (wide * scale).to(self.weight.dtype) * self.weight


class Attention(nn.Module):
    """The four projections of grouped-query attention; what attends to what is the decoder's business."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.head_dim = config.head_dim
        queries, keys = config.num_heads * config.head_dim, config.num_key_value_heads * config.head_dim
        self.q_proj = Linear(config.hidden_size, queries, bias=config.attention_bias)
        self.k_proj = Linear(config.hidden_size, keys, bias=config.attention_bias)
        self.v_proj = Linear(config.hidden_size, keys, bias=config.attention_bias)
        self.o_proj = Linear(queries, config.hidden_size, bias=config.attention_bias)
        self._joint = JointLinear()

    def queries_keys_values(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[b, n, d] to queries [b, h, n, e], keys and values [b, hk, n, e], none rotated."""
        queries, keys, values = self._joint(x, self.q_proj, self.k_proj, self.v_proj)
        return self._heads(queries), self._heads(keys), self._heads(values)

    def queries(self, x: Tensor) -> Tensor:
        """The queries alone, for the few rows of a memory: weights are not packed a second time for them."""
        return self._heads(linear(x, self.q_proj.weight, self.q_proj.bias))

    def keys_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The keys and values alone, for the few rows of a memory."""
        return self._heads(linear(x, self.k_proj.weight, self.k_proj.bias)), self._heads(
            linear(x, self.v_proj.weight, self.v_proj.bias)
        )

    def output(self, attended: Tensor) -> Tensor:
        """[b, h, n, e] to [b, n, d]."""
        return self.o_proj(attended.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]

    def _heads(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:-1], -1, self.head_dim).transpose(1, 2)


class FeedForward(nn.Module):
    """Gated feed-forward: down(silu(gate(x)) * up(x)) (arXiv 2002.05202)."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.gate_proj = Linear(config.hidden_size, config.intermediate_size, bias=config.mlp_bias)
        self.up_proj = Linear(config.hidden_size, config.intermediate_size, bias=config.mlp_bias)
        self.down_proj = Linear(config.intermediate_size, config.hidden_size, bias=config.mlp_bias)
        self._joint = JointLinear()

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self._joint(x, self.gate_proj, self.up_proj)
        return self.down_proj(functional.silu(gate) * up)  # type: ignore[no-any-return]


class Layer(nn.Module):
    """One decoder layer's weights, and the half of it that follows attention."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.self_attn = Attention(config)
        self.mlp = FeedForward(config)
        self.input_layernorm = RMSNorm(config.hidden_size, config.norm_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.norm_eps)

    def finish(self, residual: Tensor, attended: Tensor, gate: Tensor | None = None) -> Tensor:
        """A = residual + Wo attended; A + ff(norm2(A)). `attended` is [b, h, n, e]; the sum has the residual's type.

        `gate` [b, n, 1] scales what is added: both terms.
        """
        x = residual + _scaled(self.self_attn.output(attended), gate)
        return x + _scaled(self.mlp(self.post_attention_layernorm(x)), gate)

    def finish_both(
        self, rows: Tensor, residual: Tensor, attended: Tensor, gate: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """`finish` for memory rows [b, f, d] (float32, gated) and tokens [b, n, d] in the same matrix products."""
        f = rows.shape[1]
        output = self.self_attn.output(attended)
        rows, x = rows + _scaled(output[:, :f], gate), residual + output[:, f:]
        norm = self.post_attention_layernorm
        output = self.mlp(torch.cat((norm(rows), norm(x)), dim=1))
        return rows + _scaled(output[:, :f], gate), x + output[:, f:]


def _scaled(x: Tensor, gate: Tensor | None) -> Tensor:
    return x if gate is None else x * gate


class Embedding(nn.Embedding):
    """Without values where it has no memory to draw them in: torch would load its compiler, for seconds, to do that."""

    def reset_parameters(self) -> None:
        if not self.weight.is_meta:
            super().reset_parameters()


class Backbone(nn.Module):
    """Embedding, layers and final norm, under the name `model` that Llama checkpoints give them."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.embed_tokens = Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_layers))
        self.norm = RMSNorm(config.hidden_size, config.norm_eps)
