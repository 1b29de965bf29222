"""The frequencies of rotary positions and their scalings, in float64 and without torch."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from famcli.nn.config import DecoderConfig, FamConfig, RopeConfig

Frequencies = npt.NDArray[np.float64]


def layer_frequencies(config: DecoderConfig, fam: FamConfig) -> dict[str, tuple[Frequencies, float]]:
    """`inverse_frequencies` by the kinds of layers (`Layer.rope`), for the tokens that are seen at once. Sinks and
    memory rows stand a little farther away; the scaling that was trained with must not depend on them."""
    ropes = {"global": config.rope, "local": config.local_rope}
    return {
        kind: inverse_frequencies(rope, config.rotated_dim, fam.visible_tokens)
        for kind, rope in ropes.items()
        if rope is not None
    }


def inverse_frequencies(config: RopeConfig, head_dim: int, visible: int) -> tuple[Frequencies, float]:
    """Frequencies [e/2] in float64, and the factor by which scaled rotations are multiplied.

    `head_dim` is e, the dimensions of a head that are rotated. `visible`: how many tokens are seen at once, as if a
    text had that length. Raises ValueError for a scaling that is not known or lacks a number.
    """
    # Scalings that depend on a text's length are fixed once by the visible distance: a stream has no length.
    # Numbers that overflow come out as inf or nan, which the caller refuses.
    with np.errstate(all="ignore"):
        return _scaled(config, head_dim, visible)


def _scaled(config: RopeConfig, head_dim: int, visible: int) -> tuple[Frequencies, float]:
    exponents = np.arange(0, head_dim, 2, dtype=np.float64) / head_dim
    frequencies: Frequencies = config.theta**-exponents
    scaling = config.scaling
    if scaling is None:
        return frequencies, 1.0
    kind = str(scaling.get("rope_type", scaling.get("type", "default")))
    if kind == "default":
        return frequencies, 1.0
    if kind == "linear":
        return frequencies / _number(scaling, "factor"), 1.0
    if kind == "dynamic":
        factor, trained = _number(scaling, "factor"), config.max_position
        stretch = max(1.0, factor * max(visible, trained) / trained - (factor - 1))
        base = config.theta * stretch ** (head_dim / (head_dim - 2))
        return base**-exponents, 1.0
    if kind == "llama3":
        return _llama3(frequencies, scaling), 1.0
    if kind == "yarn":
        return _yarn(frequencies, scaling, config, head_dim)
    if kind == "longrope":
        return _longrope(frequencies, scaling, config, visible)
    raise ValueError(f"rope scaling '{kind}' is not known; known are default, linear, dynamic, llama3, yarn, longrope")


def _llama3(frequencies: Frequencies, scaling: Mapping[str, object]) -> Frequencies:
    factor, trained = _number(scaling, "factor"), _number(scaling, "original_max_position_embeddings")
    low, high = _number(scaling, "low_freq_factor"), _number(scaling, "high_freq_factor")
    # Whole turns within the trained length: fast frequencies are kept, slow ones interpolated.
    turns = trained * frequencies / (2 * math.pi)
    keep = np.clip((turns - low) / (high - low), 0, 1)
    return frequencies * (keep + (1 - keep) / factor)


def _yarn(
    frequencies: Frequencies, scaling: Mapping[str, object], config: RopeConfig, head_dim: int
) -> tuple[Frequencies, float]:
    """YaRN (arXiv 2309.00071): low frequencies are interpolated, high ones kept, and attention is sharpened."""
    trained = _number(scaling, "original_max_position_embeddings", config.max_position)
    factor = _number(scaling, "factor", config.max_position / trained)

    def plane(turns: float) -> float:
        return head_dim * math.log(trained / (turns * 2 * math.pi)) / (2 * math.log(config.theta))

    low, high = plane(_number(scaling, "beta_fast", 32.0)), plane(_number(scaling, "beta_slow", 1.0))
    if scaling.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, head_dim - 1)
    planes = np.arange(len(frequencies), dtype=np.float64)
    ramp = np.clip((planes - low) / ((high - low) or 0.001), 0, 1)
    scaled = frequencies / factor * ramp + frequencies * (1 - ramp)

    def sharpen(mscale: float) -> float:
        return 0.1 * mscale * math.log(factor) + 1.0 if factor > 1 else 1.0

    if scaling.get("attention_factor") is not None:
        return scaled, _number(scaling, "attention_factor")
    if scaling.get("mscale") and scaling.get("mscale_all_dim"):
        return scaled, sharpen(_number(scaling, "mscale")) / sharpen(_number(scaling, "mscale_all_dim"))
    return scaled, sharpen(1.0)


def _longrope(
    frequencies: Frequencies, scaling: Mapping[str, object], config: RopeConfig, visible: int
) -> tuple[Frequencies, float]:
    """LongRoPE (arXiv 2402.13753): one factor for each frequency, of two sets."""
    # The long set serves distances past the length of the first training.
    trained = _number(scaling, "original_max_position_embeddings", config.max_position)
    factors = _numbers(scaling, "long_factor" if visible > trained else "short_factor", len(frequencies))
    stretch = _number(scaling, "factor", config.max_position / trained)
    if scaling.get("attention_factor") is not None:
        return frequencies / factors, _number(scaling, "attention_factor")
    if stretch <= 1:
        return frequencies / factors, 1.0
    return frequencies / factors, math.sqrt(1 + math.log(stretch) / math.log(trained))


def _numbers(scaling: Mapping[str, object], key: str, count: int) -> Frequencies:
    value = scaling.get(key)
    if not isinstance(value, list) or len(value) != count:
        raise ValueError(f"rope scaling needs a list of {count} numbers for '{key}'")
    return np.array([_number({key: each}, key) for each in value], dtype=np.float64)


def _number(scaling: Mapping[str, object], key: str, default: float | None = None) -> float:
    value = scaling.get(key)
    if value is None:
        value = default
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value) or value <= 0:
        raise ValueError(f"rope scaling needs a positive number for '{key}', found {value!r}")
    return float(value)
