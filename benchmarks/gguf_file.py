"""A Llama checkpoint folder as a GGUF file, for llama.cpp: names, rotary order, and a vocabulary that says nothing."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file

_LAYER_NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
_OUTER_NAMES = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


def write_gguf(folder: Path, path: Path, dtype: str) -> Path:
    """Write the weights of `folder` to `path`, matrices in `dtype` (bfloat16, float32 or Q8_0), norms in float32."""
    import gguf

    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    writer = gguf.GGUFWriter(path, "llama")
    _write_config(writer, config)
    _write_vocabulary(writer, config["vocab_size"])
    kinds, files = gguf.GGMLQuantizationType, gguf.LlamaFileType
    matrix_type, file_type = {
        "bfloat16": (kinds.BF16, files.MOSTLY_BF16),
        "float32": (kinds.F32, files.ALL_F32),
        "Q8_0": (kinds.Q8_0, files.MOSTLY_Q8_0),
    }[dtype]
    writer.add_file_type(file_type)
    heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}
    for name, tensor in load_file(folder / "model.safetensors").items():
        stem = name.removesuffix(".weight")
        for projection, num_heads in heads.items():
            if stem.endswith(projection):
                tensor = _interleaved_rotation(tensor, num_heads)
        kind = matrix_type if tensor.dim() == 2 else gguf.GGMLQuantizationType.F32
        data = gguf.quantize(tensor.float().numpy(), kind)
        writer.add_tensor(f"{_gguf_name(stem)}.weight", data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _write_config(writer: object, config: dict[str, object]) -> None:
    rope = config.get("rope_parameters") or {}
    assert isinstance(rope, dict)
    values = {
        "add_context_length": config["max_position_embeddings"],
        "add_embedding_length": config["hidden_size"],
        "add_block_count": config["num_hidden_layers"],
        "add_feed_forward_length": config["intermediate_size"],
        "add_head_count": config["num_attention_heads"],
        "add_head_count_kv": config["num_key_value_heads"],
        "add_layer_norm_rms_eps": config["rms_norm_eps"],
        "add_rope_dimension_count": config["head_dim"],
        "add_rope_freq_base": rope.get("rope_theta", config.get("rope_theta", 10000.0)),
        "add_vocab_size": config["vocab_size"],
    }
    for method, value in values.items():
        getattr(writer, method)(value)


def _write_vocabulary(writer: object, size: int) -> None:
    """Three control tokens, the 256 bytes that llama.cpp expects, and names that no text will match."""
    import gguf

    kinds = gguf.TokenType
    tokens = [("<unk>", kinds.UNKNOWN), ("<s>", kinds.CONTROL), ("</s>", kinds.CONTROL)]
    tokens += [(f"<0x{byte:02X}>", kinds.BYTE) for byte in range(256)]
    tokens += [(f"token{number}", kinds.NORMAL) for number in range(size - len(tokens))]
    for method, values in (
        ("add_token_list", [token for token, _ in tokens]),
        ("add_token_scores", [0.0] * size),
        ("add_token_types", [kind for _, kind in tokens]),
    ):
        getattr(writer, method)(values)
    writer.add_tokenizer_model("llama")  # type: ignore[attr-defined]
    writer.add_bos_token_id(1)  # type: ignore[attr-defined]
    writer.add_eos_token_id(2)  # type: ignore[attr-defined]


def _gguf_name(stem: str) -> str:
    if stem in _OUTER_NAMES:
        return _OUTER_NAMES[stem]
    _, _, layer, part = stem.split(".", 3)
    return f"blk.{layer}.{_LAYER_NAMES[part]}"


def _interleaved_rotation(weight: torch.Tensor, num_heads: int) -> torch.Tensor:
    """llama.cpp rotates neighbouring rows of a head together, Hugging Face's Llama rows half a head apart."""
    outputs, inputs = weight.shape
    return weight.view(num_heads, 2, outputs // num_heads // 2, inputs).transpose(1, 2).reshape(outputs, inputs)
