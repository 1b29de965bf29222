"""GGUF files as checkpoints: what they declare as a family's `config.json`, and their tensors as the family's own.

The converters of llama.cpp rename tensors, permute some and leave some settings out; that is undone here, and
everything after is the same as for a folder. Values are dequantized by the `gguf` package when they are loaded.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from famcli.checkpoint.folder import shown
from famcli.checkpoint.gguf_bits import grouped, is_grouped
from famcli.errors import CheckpointError
from famcli.tokens.gguf_file import GgufFile, GgufTensor, read_gguf

if TYPE_CHECKING:
    from famcli.nn.kernels.few_bits import Grouped

# ggml's number of each storage type that is read, its name here, and the bytes of a group of so many numbers. Kept here
# so that a file can be inspected without the `gguf` package.
GGUF_TYPES: Mapping[int, tuple[str, int, int]] = {
    0: ("float32", 4, 1),
    1: ("float16", 2, 1),
    30: ("bfloat16", 2, 1),
    2: ("Q4_0", 18, 32),
    3: ("Q4_1", 20, 32),
    6: ("Q5_0", 22, 32),
    7: ("Q5_1", 24, 32),
    8: ("Q8_0", 34, 32),
    10: ("Q2_K", 84, 256),
    11: ("Q3_K", 110, 256),
    12: ("Q4_K", 144, 256),
    13: ("Q5_K", 176, 256),
    14: ("Q6_K", 210, 256),
    16: ("IQ2_XXS", 66, 256),
    17: ("IQ2_XS", 74, 256),
    18: ("IQ3_XXS", 98, 256),
    19: ("IQ1_S", 50, 256),
    20: ("IQ4_NL", 18, 32),
    21: ("IQ3_S", 110, 256),
    22: ("IQ2_S", 82, 256),
    23: ("IQ4_XS", 136, 256),
    29: ("IQ1_M", 56, 256),
    34: ("TQ1_0", 54, 256),
    35: ("TQ2_0", 66, 256),
}


@dataclass(frozen=True)
class GgufFamily:
    """How files of one `general.architecture` differ from the family's folders.

    family: its `model_type`. interleaved: the rows of queries and keys are interleaved for llama.cpp's rotation.
    plus_one: norms have 1 added. mlp_norm: the name of the norm before the MLP. keys: further settings, by the key of
    `config.json`. settings: computed settings.
    """

    family: str
    interleaved: bool = False
    plus_one: bool = False
    mlp_norm: str = "post_attention_layernorm"
    keys: Mapping[str, str] = field(default_factory=dict)
    settings: Callable[[GgufFile, dict[str, Any]], dict[str, Any]] = lambda file, config: {}


def _llama(file: GgufFile, config: dict[str, Any]) -> dict[str, Any]:
    """Llama 3's scaling is stored as the factors that result, one for each frequency."""
    if "rope_freqs.weight" not in file.tensors:
        return {}
    factors = values_of(file, file.tensors["rope_freqs.weight"]).tolist()
    scaling = {"rope_type": "longrope", "long_factor": factors, "short_factor": factors, "attention_factor": 1.0}
    return {"rope_scaling": scaling}


def _phi3(file: GgufFile, config: dict[str, Any]) -> dict[str, Any]:
    rotated = _number(file, "rope.dimension_count", config["head_dim"])
    settings: dict[str, Any] = {"partial_rotary_factor": rotated / config["head_dim"]}
    both = {f"{size}_factor": file.tensors.get(f"rope_factors_{size}.weight") for size in ("long", "short")}
    if all(both.values()):
        factors = {key: values_of(file, tensor).tolist() for key, tensor in both.items() if tensor is not None}
        settings["rope_scaling"] = {"rope_type": "longrope"} | factors
        settings["original_max_position_embeddings"] = _number(
            file, "rope.scaling.original_context_length", config["max_position_embeddings"]
        )
    return settings


def _gemma2(file: GgufFile, config: dict[str, Any]) -> dict[str, Any]:
    """The scale of the scores is not in the file; it differs in the largest checkpoint of each generation."""
    largest = {"gemma2": 46, "gemma3": 62}[file.architecture]
    by_width = config["hidden_size"] / config["num_attention_heads"]
    return {"query_pre_attn_scalar": by_width if config["num_hidden_layers"] == largest else config["head_dim"]}


_GEMMA: dict[str, Any] = {"plus_one": True, "mlp_norm": "pre_feedforward_layernorm"}
GGUF_FAMILIES: Mapping[str, GgufFamily] = {
    "llama": GgufFamily("llama", interleaved=True, settings=_llama),
    "qwen2": GgufFamily("qwen2"),
    "qwen3": GgufFamily("qwen3"),
    "phi3": GgufFamily("phi3", keys={"sliding_window": "attention.sliding_window"}, settings=_phi3),
    "gemma": GgufFamily("gemma", plus_one=True),
    "gemma2": GgufFamily(
        "gemma2",
        keys={
            "sliding_window": "attention.sliding_window",
            "attn_logit_softcapping": "attn_logit_softcapping",
            "final_logit_softcapping": "final_logit_softcapping",
        },
        settings=_gemma2,
        **_GEMMA,
    ),
    "gemma3": GgufFamily(
        "gemma3_text", keys={"sliding_window": "attention.sliding_window"}, settings=_gemma2, **_GEMMA
    ),
    "olmo2": GgufFamily("olmo2"),
    "granite": GgufFamily(
        "granite",
        interleaved=True,
        keys={
            "embedding_multiplier": "embedding_scale",
            "residual_multiplier": "residual_scale",
            "attention_multiplier": "attention.scale",
            "logits_scaling": "logit_scale",
        },
    ),
}

_SIZES = {
    "max_position_embeddings": "context_length",
    "hidden_size": "embedding_length",
    "num_hidden_layers": "block_count",
    "intermediate_size": "feed_forward_length",
    "num_attention_heads": "attention.head_count",
}


def family_of(file: GgufFile) -> GgufFamily:
    """The entry for a file. Raises CheckpointError for an unknown architecture."""
    name = file.architecture
    if name not in GGUF_FAMILIES:
        known = ", ".join(GGUF_FAMILIES)
        raise CheckpointError(
            f"{file.path} holds '{shown(name)}', which this famcli does not read from GGUF; known: {known}; a folder "
            "with safetensors may open"
        )
    if _number(file, "expert_count", 0):
        raise CheckpointError(f"{file.path} holds a mixture of experts, which is read from folders only")
    return GGUF_FAMILIES[name]


def config_values(path: Path) -> dict[str, Any]:
    """The `config.json` of the same network. Raises CheckpointError."""
    file = read_gguf(path)
    architecture = family_of(file)
    config: dict[str, Any] = {"model_type": architecture.family}
    for key, name in _SIZES.items():
        config[key] = _number(file, name)
    heads = config["num_attention_heads"]
    config["num_key_value_heads"] = _number(file, "attention.head_count_kv", heads)
    config["head_dim"] = _number(file, "attention.key_length", config["hidden_size"] // max(1, heads))
    config["rms_norm_eps"] = _number(file, "attention.layer_norm_rms_epsilon", 1e-5)
    config["tie_word_embeddings"] = "output.weight" not in file.tensors
    embedding = file.tensors.get("token_embd.weight")
    config["vocab_size"] = embedding.shape[0] if embedding is not None and embedding.shape else 0
    config |= {key: value for key, name in architecture.keys.items() if (value := _found(file, name)) is not None}
    if (theta := _found(file, "rope.freq_base")) is not None:
        config["rope_theta"] = theta
    if "blk.0.attn_q.bias" in file.tensors:
        config["attention_bias"] = True
    config |= _scaling(file)
    try:
        return config | architecture.settings(file, config)
    except ZeroDivisionError as error:
        raise CheckpointError(f"{path}: no network can have these sizes; fetch the file again") from error


def _scaling(file: GgufFile) -> dict[str, Any]:
    """Scalings without a tensor; converters write "none" for those that have one.

    As llama.cpp has it, a factor without a type is linear, and older files have it under a key of its own.
    """
    factor = _found(file, "rope.scaling.factor") or _found(file, "rope.scale_linear") or 1.0
    kind = file.value(f"{file.architecture}.rope.scaling.type", str, "none" if factor == 1.0 else "linear")
    if kind in ("none", "longrope") or (kind == "linear" and factor == 1.0):
        return {}
    scaling: dict[str, Any] = {"rope_type": kind, "factor": factor}
    trained = _found(file, "rope.scaling.original_context_length")
    if trained is not None:
        scaling["original_max_position_embeddings"] = trained
    return {"rope_scaling": scaling}


def _number(file: GgufFile, name: str, default: Any = None) -> Any:
    value = _found(file, name)
    if value is None:
        if default is None:
            raise CheckpointError(f"{file.path} lacks '{file.architecture}.{name}'; convert the model again")
        return default
    return value


def _found(file: GgufFile, name: str) -> Any:
    """A number among the architecture's settings; of a list with one for each layer, the one that all share."""
    value = file.metadata.get(f"{file.architecture}.{name}")
    if isinstance(value, np.ndarray):
        if len(set(value.tolist())) != 1:
            raise CheckpointError(f"{file.path}: '{name}' differs from layer to layer, which no family here has")
        value = value[0].item()
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise CheckpointError(f"{file.path}: '{name}' must be a number, it is '{shown(value)}'")
    return value


# ----------------------------------------------------------------------------------------------------------- tensors

_OUTER = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
_INNER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_qkv": "self_attn.qkv_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "post_attention_norm": "post_attention_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_BUFFERS = ("rope_freqs", "rope_factors_long", "rope_factors_short")


def tensor_name(file: GgufFile, name: str) -> str | None:
    """The tensor's name in a folder of the same family; None for settings that are stored as tensors.

    An unknown name stays as it is, to be refused with the names that no network has.
    """
    stem, _, kind = name.rpartition(".")
    if stem in _BUFFERS:
        return None
    if stem in _OUTER:
        return f"{_OUTER[stem]}.{kind}"
    match = re.fullmatch(r"blk\.(\d+)\.(.+)", stem)
    if match is None:
        return name
    part = match[2]
    if part in _BUFFERS:
        return None
    inner = family_of(file).mlp_norm if part == "ffn_norm" else _INNER.get(part, part)
    # Phi-3: gate and up are one tensor, which the converters name after the second.
    if part == "ffn_up" and f"blk.{match[1]}.ffn_gate.weight" not in file.tensors:
        inner = "mlp.gate_up_proj"
    return f"model.layers.{match[1]}.{inner}.{kind}"


def gguf_name(path: Path, name: str) -> str:
    """The file's own name of the tensor that is `name` in a folder of the same family."""
    parts = {inner: part for part, inner in _INNER.items()} | {family_of(read_gguf(path)).mlp_norm: "ffn_norm"}
    stem, _, kind = name.rpartition(".")
    outer = {inner: part for part, inner in _OUTER.items()}.get(stem)
    if outer is not None:
        return f"{outer}.{kind}"
    match = re.fullmatch(r"model\.layers\.(\d+)\.(.+)", stem)
    return name if match is None else f"blk.{match[1]}.{parts.get(match[2], match[2])}.{kind}"


class GgufTensors:
    """Reads tensors by the names that a folder of the family has, in float32 (or the type they are stored in)."""

    def __init__(self, path: Path) -> None:
        self._file = file = read_gguf(path)
        self._by_name = {tensor_name(file, name): tensor for name, tensor in file.tensors.items()}
        self._family = family_of(file)

    def get_tensor(self, name: str) -> Any:
        """A whole tensor of torch's, as the family has it."""
        import torch

        tensor = self._by_name[name]
        values = torch.from_numpy(values_of(self._file, tensor))
        # float16 and bfloat16 stay as they are stored, so that they can be used without a copy in float32.
        if tensor.type in (1, 30):
            values = values.to(torch.float16 if tensor.type == 1 else torch.bfloat16)
        # Gemma multiplies by 1 + weight; the converters store the sum.
        if self._family.plus_one and name.endswith("norm.weight"):
            values = values - 1
        # llama.cpp rotates neighbouring dimensions of a head, the family's own code its two halves.
        heads = self._interleaved_heads(name)
        return _in_halves(heads, values) if heads else values

    def few_bits(self, name: str) -> Callable[[], Grouped] | None:
        """What makes a matrix in the bits that it is stored in; None for what gguf_bits.py does not take."""
        tensor, heads = self._by_name[name], self._interleaved_heads(name)
        kind, _ = tensor_bytes(tensor)
        if len(tensor.shape) != 2 or not is_grouped(kind):
            return None
        # Mapped now: a file that takes this one's place later is another one.
        rows = _stored_rows(tensor)

        def made() -> Grouped:
            whole = grouped(rows, kind, GGUF_TYPES[tensor.type][1])
            return whole.changed(partial(_in_halves, heads)) if heads else whole

        return made

    def get_rows(self, name: str, rows: slice) -> Any:
        """Rows of a matrix that is stored as the family has it (the embedding); only they are dequantized."""
        import torch

        assert not self._interleaved_heads(name)
        return torch.from_numpy(values_of(self._file, self._by_name[name], rows))

    def _interleaved_heads(self, name: str) -> int:
        if not self._family.interleaved:
            return 0
        heads = _number(self._file, "attention.head_count")
        if ".q_proj." in name:
            return int(heads)
        return int(_number(self._file, "attention.head_count_kv", heads)) if ".k_proj." in name else 0


def _in_halves(heads: int, values: Any) -> Any:
    """A tensor [rows, ...] whose rows of each head lie in pairs, with the first ones before the second ones."""
    rows, *rest = values.shape
    return values.view(heads, rows // heads // 2, 2, *rest).transpose(1, 2).reshape(rows, *rest)


def declared_tensors(path: Path) -> Iterator[tuple[str, str, int, GgufTensor]]:
    """Each tensor's name in a folder of the family, its type, its bytes, and itself. Raises CheckpointError."""
    file = read_gguf(path)
    for tensor in file.tensors.values():
        name = tensor_name(file, tensor.name)
        if name is not None:
            yield name, *tensor_bytes(tensor), tensor


# ------------------------------------------------------------------------------------------------------------ values


def tensor_bytes(tensor: GgufTensor) -> tuple[str, int]:
    """A tensor's type and its bytes. Raises CheckpointError for a type that is not read."""
    path = tensor.file
    if tensor.type not in GGUF_TYPES:
        known = ", ".join(name for name, _, _ in GGUF_TYPES.values())
        raise CheckpointError(
            f"{path}: '{shown(tensor.name)}' is stored as ggml's type {tensor.type}; known are {known}"
        )
    name, group_bytes, group = GGUF_TYPES[tensor.type]
    if not tensor.shape or tensor.shape[-1] % group:
        raise CheckpointError(f"{path}: '{shown(tensor.name)}' cannot be stored as {name} with its shape")
    return name, prod(tensor.shape) // group * group_bytes


def values_of(file: GgufFile, tensor: GgufTensor, part: slice | None = None) -> npt.NDArray[np.float32]:
    """The dequantized values of a tensor, or of the rows `part` of a matrix. Raises CheckpointError."""
    try:
        from gguf import GGMLQuantizationType
        from gguf.quants import dequantize
    except ImportError as error:
        raise CheckpointError(f"{file.path} needs the `gguf` package: install famcli[hf]") from error
    rows = _stored_rows(tensor)
    rows = rows if part is None else rows[part]
    values = np.array(dequantize(rows, GGMLQuantizationType(tensor.type)), dtype=np.float32)
    return values.reshape(tensor.shape if part is None else (len(rows), *tensor.shape[1:]))


def _stored_rows(tensor: GgufTensor) -> npt.NDArray[np.uint8]:
    """The mapped bytes of a tensor's rows. Raises CheckpointError."""
    _, size = tensor_bytes(tensor)
    if tensor.start + size > tensor.file.stat().st_size:
        raise CheckpointError(f"{tensor.file} is cut short: '{shown(tensor.name)}' is beyond its end; fetch it again")
    raw = np.memmap(tensor.file, mode="r", dtype=np.uint8, offset=tensor.start, shape=(size,))
    return raw.reshape(-1, size // prod(tensor.shape[:-1]))
