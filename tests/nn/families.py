"""Tiny random checkpoints of every family, as `transformers` makes them: together they use every switch there is."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import PreTrainedModel

from famcli.checkpoint.families.pretrained import read_config
from famcli.checkpoint.open import load_network
from famcli.checkpoint.weights import checked_weights
from famcli.nn import FamConfig
from famcli.nn.decoder import Decoder
from famcli.nn.shapes import own_shapes

LENGTH = 64
SHAPE: dict[str, Any] = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 48,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
# Just the text is visible, so that scalings that depend on a length see the same one on both sides.
WHOLE = FamConfig(block_size=16, memory_segments=3, fam_length=0)


@dataclass(frozen=True)
class Case:
    """A configuration of `transformers`, by its class. without: keys of SHAPE that the family does not have.

    cached: whether `transformers` generates from cached keys what it would from the whole text. steady: whether the
    rotation of a text does not change with its length, from the prompt of a generation to its end.
    """

    kind: str
    options: dict[str, Any] = field(default_factory=dict)
    without: tuple[str, ...] = ()
    cached: bool = True
    steady: bool = True

    def config(self) -> transformers.PreTrainedConfig:
        """The configuration, whose attention is computed plainly."""
        shape = {key: value for key, value in SHAPE.items() if key not in self.without}
        config: transformers.PreTrainedConfig = getattr(transformers, f"{self.kind}Config")(**(shape | self.options))
        config._attn_implementation = "eager"
        return config

    def oracle(self, seed: int = 0) -> PreTrainedModel:
        """Weights large enough that attention is sharp, norms and biases that are not ones and zeros."""
        torch.manual_seed(seed)
        network = getattr(transformers, f"{self.kind.removesuffix('Text')}ForCausalLM")
        model: PreTrainedModel = network(self.config()).eval()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                noise = torch.randn_like(parameter)
                centre = 0.0 if name.endswith("bias") or "emma" in self.kind else 1.0
                parameter.copy_(centre + 0.2 * noise if "norm" in name else 0.2 * noise)
        return model


def ours(folder: Path, fam: FamConfig = WHOLE) -> Decoder:
    """The network in a folder, with a memory prompt drawn here if it is to have one."""
    config = read_config(folder)
    stored = checked_weights(folder, config)
    network = load_network(config.decoder, replace(fam, fam_length=0), stored, torch.device("cpu"), torch.float32)
    if not fam.fam_length:
        return network
    remembering = Decoder(config.decoder, fam)
    remembering.load_state_dict(network.state_dict(), strict=False)
    for name, shape in own_shapes(config.decoder, fam).items():
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(3))
        getattr(remembering, name).data.copy_(0.2 * noise)
    return remembering.eval()


def tokens_of(batch: int, length: int) -> Tensor:
    """Random tokens, always the same."""
    return torch.randint(0, SHAPE["vocab_size"], (batch, length), generator=torch.Generator().manual_seed(1))


ROPE = {"rope_theta": 10000.0}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 256} | ROPE
LONG = {
    "rope_type": "longrope",
    "short_factor": [1.0, 1.1, 1.3, 1.6],
    "long_factor": [1.0, 2.0, 5.0, 9.0],
} | ROPE
TUNED = {"beta_fast": 16.0, "beta_slow": 2.0, "mscale": 1.0, "mscale_all_dim": 0.7, "truncate": False}
DYNAMIC = {"rope_type": "dynamic", "factor": 2.0} | ROPE
SLIDING = {"use_sliding_window": True, "sliding_window": 11, "max_window_layers": 2}
LOCAL_GLOBAL = ["sliding_attention", "full_attention", "full_attention", "sliding_attention"]
NO_HEAD_DIM = ("head_dim",)
NEOX = ("head_dim", "num_key_value_heads")


def _llama(**options: Any) -> Case:
    return Case("Llama", options)


def _llama_rope(**rope: Any) -> Case:
    return Case("Llama", {"rope_parameters": ROPE | rope})


CASES: dict[str, Case] = {
    "llama": _llama(),
    "llama-multi-head": _llama(num_key_value_heads=4),
    "llama-multi-query": _llama(num_key_value_heads=1),
    "llama-tied": _llama(tie_word_embeddings=True),
    "llama-attention-bias": _llama(attention_bias=True),
    "llama-mlp-bias": _llama(mlp_bias=True),
    "llama-wide-heads": _llama(head_dim=16),
    "llama-gelu": _llama(hidden_act="gelu"),
    "llama-theta": _llama_rope(rope_theta=500000.0),
    "llama-linear": _llama_rope(rope_type="linear", factor=4.0),
    "llama-llama3": _llama_rope(rope_theta=500000.0, **LLAMA3),
    "llama-yarn": _llama_rope(**YARN),
    "llama-yarn-tuned": _llama_rope(**YARN | TUNED),
    "llama-yarn-attention": _llama_rope(**YARN, attention_factor=1.5),
    "llama-yarn-steep": _llama_rope(**YARN | {"original_max_position_embeddings": 8, "truncate": False}),
    "llama-longrope-factor": _llama_rope(**LONG, original_max_position_embeddings=24, factor=3.0),
    "llama-longrope-attention": _llama_rope(**LONG, original_max_position_embeddings=24, attention_factor=1.3),
    # The window of 64 tokens is past, at, and within what was trained for.
    "llama-dynamic-past": Case("Llama", {"rope_parameters": DYNAMIC}, steady=False),
    "llama-dynamic-at": _llama(max_position_embeddings=64, rope_parameters=DYNAMIC),
    "llama-dynamic-within": _llama(max_position_embeddings=80, rope_parameters=DYNAMIC),
    "llama-all": _llama(attention_bias=True, mlp_bias=True, rope_parameters=ROPE | LLAMA3),
    "mistral": Case("Mistral", {"sliding_window": None}),
    "mistral-window": Case("Mistral", {"sliding_window": 13}),
    "mistral-narrow": Case("Mistral", {"sliding_window": 1, "head_dim": 16}, cached=False),
    "qwen2": Case("Qwen2", {}, NO_HEAD_DIM),
    "qwen2-window-tied": Case("Qwen2", SLIDING | {"tie_word_embeddings": True}, NO_HEAD_DIM),
    "qwen2-yarn": Case("Qwen2", {"rope_parameters": YARN | {"original_max_position_embeddings": 16}}, NO_HEAD_DIM),
    "qwen3": Case("Qwen3", {"head_dim": 16}),
    "qwen3-all": Case("Qwen3", SLIDING | {"attention_bias": True, "layer_types": LOCAL_GLOBAL}),
    "gemma2": Case("Gemma2", {"sliding_window": 9, "query_pre_attn_scalar": 24}),
    "gemma2-caps": Case(
        "Gemma2",
        {
            "sliding_window": 20,
            "attn_logit_softcapping": 1.5,
            "final_logit_softcapping": 2.0,
            "attention_bias": True,
            "layer_types": LOCAL_GLOBAL,
            "head_dim": 16,
        },
    ),
    "gemma2-uncapped": Case("Gemma2", {"attn_logit_softcapping": None, "final_logit_softcapping": None}),
    "gemma3": Case("Gemma3Text", {"sliding_window": 10, "query_pre_attn_scalar": 24, "sliding_window_pattern": 2}),
    "gemma3-scaled": Case(
        "Gemma3Text",
        {
            "sliding_window": 17,
            "layer_types": LOCAL_GLOBAL,
            "attn_logit_softcapping": 1.5,
            "final_logit_softcapping": 3.0,
            "attention_bias": True,
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 500.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 20.0},
            },
        },
    ),
    "phi3": Case("Phi3", {}, NO_HEAD_DIM),
    "phi3-partial-window": Case(
        "Phi3",
        {"sliding_window": 15, "tie_word_embeddings": True, "rope_parameters": {"partial_rotary_factor": 0.5} | ROPE},
        NO_HEAD_DIM,
    ),
    # 64 tokens are on the far side of 40 and on the near side of 72: another set of factors each.
    "phi3-long": Case("Phi3", {"original_max_position_embeddings": 40, "rope_parameters": LONG}, NO_HEAD_DIM),
    "phi3-short": Case(
        "Phi3",
        {"original_max_position_embeddings": 72, "max_position_embeddings": 144, "rope_parameters": LONG},
        NO_HEAD_DIM,
    ),
    "phi3-long-partial": Case(
        "Phi3",
        {
            "original_max_position_embeddings": 40,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "rope_parameters": LONG | {"partial_rotary_factor": 0.5},
        },
        NO_HEAD_DIM,
    ),
    "smollm3": Case("SmolLM3", {"no_rope_layer_interval": 2, "tie_word_embeddings": False}, NO_HEAD_DIM),
    "smollm3-all": Case(
        "SmolLM3",
        {
            "no_rope_layers": [0, 1, 1, 0],
            "use_sliding_window": True,
            "sliding_window": 12,
            "attention_bias": True,
            "mlp_bias": True,
            "rope_parameters": YARN | {"original_max_position_embeddings": 16},
        },
        NO_HEAD_DIM,
    ),
    "gpt-neox": Case("GPTNeoX", {}, NEOX),
    "gpt-neox-serial": Case(
        "GPTNeoX",
        {
            "use_parallel_residual": False,
            "attention_bias": False,
            "hidden_act": "gelu_new",
            "tie_word_embeddings": True,
            "rope_parameters": {"rope_theta": 500.0, "partial_rotary_factor": 1.0},
        },
        NEOX,
    ),
    "gpt-neox-relu": Case(
        "GPTNeoX",
        {
            "hidden_act": "relu",
            "rope_parameters": {"partial_rotary_factor": 0.5, "rope_type": "linear", "factor": 2.0} | ROPE,
        },
        NEOX,
    ),
    "gemma": Case("Gemma", {"head_dim": 16}),
    "gemma-all": Case("Gemma", {"attention_bias": True, "tie_word_embeddings": False, "hidden_act": "gelu"}),
    "olmo2": Case("Olmo2", {}, NO_HEAD_DIM),
    "olmo2-bias": Case("Olmo2", {"attention_bias": True, "tie_word_embeddings": True}, NO_HEAD_DIM),
    "granite": Case(
        "Granite",
        {
            "embedding_multiplier": 6.0,
            "residual_multiplier": 0.3,
            "logits_scaling": 0.5,
            "attention_multiplier": 0.2,
            "attention_bias": True,
            "mlp_bias": True,
        },
        NO_HEAD_DIM,
    ),
    "mixtral": Case("Mixtral", {"num_local_experts": 5, "num_experts_per_tok": 2}),
    "mixtral-window": Case("Mixtral", {"num_local_experts": 3, "num_experts_per_tok": 1, "sliding_window": 14}),
    "qwen3-moe": Case(
        "Qwen3Moe",
        {"num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 12, "norm_topk_prob": True},
    ),
    "qwen3-moe-all": Case(
        "Qwen3Moe",
        {
            "num_experts": 6,
            "num_experts_per_tok": 3,
            "moe_intermediate_size": 12,
            "decoder_sparse_step": 2,
            "mlp_only_layers": [3],
            "attention_bias": True,
            "use_sliding_window": True,
            "sliding_window": 18,
        },
    ),
}
