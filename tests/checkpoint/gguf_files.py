"""GGUF files of tiny networks, written with the `gguf` package as llama.cpp's converters write them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from safetensors.torch import load_file

from tests.helpers import read_json

KINDS = gguf.GGMLQuantizationType
_TURNED = ("llama", "granite")
_PLUS_ONE = ("gemma", "gemma2", "gemma3")


def write_gguf(
    folder: Path,
    path: Path,
    architecture: str = "llama",
    *,
    matrices: gguf.GGMLQuantizationType = KINDS.F32,
    values: Mapping[str, Any] | None = None,
    tokenizer: Mapping[str, Any] | None = None,
    weights: Mapping[str, torch.Tensor] | None = None,
    lie: gguf.GGMLQuantizationType | None = None,
) -> Path:
    """Write the weights of `folder` as `architecture`. values: further settings of the architecture by their keys.
    lie: the way of storing that the file claims for matrices."""
    config = read_json(folder / "config.json")
    writer = gguf.GGUFWriter(path, architecture)
    sizes = {
        "context_length": config["max_position_embeddings"],
        "embedding_length": config["hidden_size"],
        "block_count": config["num_hidden_layers"],
        "feed_forward_length": config["intermediate_size"],
        "attention.head_count": config["num_attention_heads"],
        "attention.head_count_kv": config["num_key_value_heads"],
        "attention.key_length": config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"],
        "attention.layer_norm_rms_epsilon": config["rms_norm_eps"],
        "rope.freq_base": config.get("rope_theta") or (config.get("rope_parameters") or {}).get("rope_theta", 1e4),
    }
    for key, value in {**sizes, **(values or {})}.items():
        _add(writer, f"{architecture}.{key}", value)
    for key, value in (tokenizer if tokenizer is not None else byte_tokenizer(config["vocab_size"])).items():
        _add(writer, f"tokenizer.ggml.{key}", value)
    names = gguf.get_tensor_name_map(_ARCHITECTURES[architecture], config["num_hidden_layers"])
    heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}
    stored = weights if weights is not None else load_file(folder / "model.safetensors")
    for name, tensor in stored.items():
        target = names.get_name(name, try_suffixes=(".weight", ".bias")) or name
        for projection, num_heads in heads.items():
            if architecture in _TURNED and f"{projection}." in name:
                tensor = _interleaved(tensor, num_heads)
        if architecture in _PLUS_ONE and name.endswith("norm.weight"):
            tensor = tensor + 1
        kind = matrices if tensor.dim() == 2 else KINDS.F32
        data = gguf.quantize(tensor.float().numpy(), kind)
        writer.add_tensor(target, data, raw_dtype=lie if lie and tensor.dim() == 2 else kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def split_gguf(path: Path, stem: Path) -> list[Path]:
    """The file in two parts, as llama.cpp's gguf-split makes them: all settings are in the first."""
    reader = gguf.GGUFReader(path)
    half = len(reader.tensors) // 2
    parts = []
    for number, tensors in enumerate((reader.tensors[:half], reader.tensors[half:])):
        parts.append(stem.with_name(f"{stem.name}-{number + 1:05}-of-00002.gguf"))
        writer = gguf.GGUFWriter(parts[-1], "llama" if number == 0 else "")
        if number == 0:
            for field in reader.fields.values():
                if not field.name.startswith("GGUF.") and field.name != "general.architecture":
                    _add(writer, field.name, field.contents())
        else:
            writer.kv_data[0].clear()
        writer.add_uint16("split.no", number)
        writer.add_uint16("split.count", 2)
        writer.add_int32("split.tensors.count", len(reader.tensors))
        for tensor in tensors:
            writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    return parts


_ARCHITECTURES = {name: architecture for architecture, name in gguf.MODEL_ARCH_NAMES.items()}


def byte_tokenizer(size: int) -> dict[str, Any]:
    """A vocabulary of bytes and of names that no text will match."""
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    tokens += [f"token{number}" for number in range(size - len(tokens))]
    types = [gguf.TokenType.UNKNOWN] + [gguf.TokenType.CONTROL] * 2 + [gguf.TokenType.BYTE] * 256
    types += [gguf.TokenType.NORMAL] * (size - 259)
    return {
        "model": "llama",
        "tokens": tokens[:size],
        "scores": [0.0] * size,
        "token_type": [int(kind) for kind in types[:size]],
        "bos_token_id": 1,
        "eos_token_id": 2,
    }


def _add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        writer.add_array(key, value)


def _interleaved(tensor: torch.Tensor, num_heads: int) -> torch.Tensor:
    rows, *rest = tensor.shape
    return tensor.view(num_heads, 2, rows // num_heads // 2, *rest).transpose(1, 2).reshape(rows, *rest)


def scalar_q4_k(block: bytes) -> list[float]:
    """ggml's dequantize_row_q4_K of one block of 256 numbers, number by number."""
    d, dmin = np.frombuffer(block[:4], dtype="<f2").astype(np.float32)
    scales, quants = block[4:16], block[16:]
    numbers = []
    for j in range(0, 256, 64):
        for half in range(2):
            i = j // 32 + half
            if i < 4:
                scale, least = scales[i] & 63, scales[i + 4] & 63
            else:
                scale = (scales[i + 4] & 15) | ((scales[i - 4] >> 6) << 4)
                least = (scales[i + 4] >> 4) | ((scales[i] >> 6) << 4)
            for k in range(32):
                nibble = quants[j // 2 + k] >> 4 if half else quants[j // 2 + k] & 15
                numbers.append(float(d * scale * nibble - dmin * least))
    return numbers


def scalar_q6_k(block: bytes) -> list[float]:
    """ggml's dequantize_row_q6_K of one block of 256 numbers, number by number."""
    low, high = block[:128], block[128:192]
    scales = np.frombuffer(block[192:208], dtype=np.int8)
    d = np.frombuffer(block[208:210], dtype="<f2").astype(np.float32)[0]
    numbers = [0.0] * 256
    for n in range(2):
        for k in range(32):
            bits = high[32 * n + k]
            parts = (
                (low[64 * n + k] & 15) | ((bits & 3) << 4),
                (low[64 * n + k + 32] & 15) | (((bits >> 2) & 3) << 4),
                (low[64 * n + k] >> 4) | (((bits >> 4) & 3) << 4),
                (low[64 * n + k + 32] >> 4) | (((bits >> 6) & 3) << 4),
            )
            for quarter, part in enumerate(parts):
                scale = scales[8 * n + k // 16 + 2 * quarter]
                numbers[128 * n + 32 * quarter + k] = float(d * scale * (part - 32))
    return numbers
