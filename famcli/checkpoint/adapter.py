"""LoRA adapters in PEFT's file layout: read an adapter's folder, and check that it fits a checkpoint. No torch.

`adapter_config.json` and `adapter_model.safetensors` are PEFT's own, so that either side opens what the other wrote.
famcli adds files that PEFT ignores: `fam.json` says how the adapted network reads a stream and which weights it was
made for, `fam.safetensors` holds its memory prompt. (The `peft` package is no dependency: it brings transformers.)
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from famcli.checkpoint.families.pretrained import PretrainedConfig
from famcli.checkpoint.families.table import Rows
from famcli.checkpoint.fingerprints import weights_fingerprint
from famcli.checkpoint.folder import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    Fields,
    check_links,
    inside,
    read_json_object,
    shown,
)
from famcli.checkpoint.sidecar import SIDECAR_FILE, Sidecar, read_sidecar
from famcli.checkpoint.weights import PROMPT_FILE, StoredTensor, headers, some_of
from famcli.errors import CheckpointError
from famcli.plain import user_path

_PICKLE = "adapter_model.bin"

# PEFT wraps a model twice, and its names tell.
_NAME = re.compile(r"base_model\.model\.(.+)\.lora_([AB])\.weight")
_MAX_RANK = 1 << 14
# Features of PEFT's LoRA beyond the plain update; false or null in an adapter without them.
_FEATURES = (
    *("use_dora", "lora_bias", "fan_in_fan_out", "modules_to_save", "trainable_token_indices", "target_parameters"),
    *("layer_replication", "use_qalora", "alora_invocation_tokens", "megatron_config"),
)
# Ways to begin a LoRA that also change the base weights: the file alone does not give the adapted network.
_CHANGES_BASE = ("pissa", "olora", "corda", "loftq", "loraga", "lora_ga")


@dataclass(frozen=True)
class StoredUpdate:
    """The stored update of one module: A [rank, i], B [o, rank] and its scale."""

    a: StoredTensor
    b: StoredTensor
    scale: float


@dataclass(frozen=True)
class Adapter:
    """An adapter's folder, read and checked by itself.

    updates: by the name of their module in the checkpoint's own folder. targets: the configuration's target_modules,
    None where that is a pattern. base: the checkpoint it says it was made for. sidecar: its `fam.json`, None for an
    adapter that famcli did not make.
    """

    folder: Path
    rank: int
    alpha: float
    targets: tuple[str, ...] | None
    excluded: tuple[str, ...]
    layers: tuple[int, ...] | None
    base: str | None
    updates: Mapping[str, StoredUpdate]
    sidecar: Sidecar | None

    @property
    def num_parameters(self) -> int:
        """Parameters of all updates; the memory prompt is not counted."""
        return sum(sum(tensor.shape[0] * tensor.shape[1] for tensor in (u.a, u.b)) for u in self.updates.values())


Fitted = Mapping[str, tuple[StoredUpdate, Rows | None]]
"""The update of each parameter, and its rows of B where the module holds several parameters."""


def is_adapter(folder: Path) -> bool:
    """True if `folder` holds an adapter and no checkpoint."""
    return (folder / ADAPTER_CONFIG).is_file() and not (folder / "config.json").exists()


def read_adapter(path: Path) -> Adapter:
    """The adapter in a folder. Raises CheckpointError: missing, damaged, pickled, or more than a plain LoRA."""
    folder = user_path(path)
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is not a folder; give the one that holds {ADAPTER_CONFIG}")
    if not (folder / ADAPTER_CONFIG).exists():
        raise CheckpointError(f"{folder} is no adapter's folder: it has no {ADAPTER_CONFIG}; give the one that has")
    has_sidecar = (folder / SIDECAR_FILE).exists()
    if (folder / PROMPT_FILE).exists() and not has_sidecar:
        raise CheckpointError(f"{folder} has {PROMPT_FILE} and no {SIDECAR_FILE}, which belong together; copy it again")
    check_links(folder)
    fields = Fields(folder / ADAPTER_CONFIG, read_json_object(folder / ADAPTER_CONFIG))
    _refuse_others(fields)
    rank = fields.integer("r", low=1, high=_MAX_RANK)
    alpha = fields.number("lora_alpha", low=1e-9, high=1e9)
    base, listed = fields.values.get("base_model_name_or_path"), fields.values.get("layers_to_transform")
    listed = [listed] if isinstance(listed, int) else listed
    if listed is not None and not (isinstance(listed, list) and all(isinstance(number, int) for number in listed)):
        raise fields.wrong("layers_to_transform", "must be numbers of layers")
    return Adapter(
        folder=folder,
        rank=rank,
        alpha=alpha,
        targets=_names(fields, "target_modules"),
        excluded=_names(fields, "exclude_modules") or (),
        layers=None if listed is None else tuple(listed),
        base=base if isinstance(base, str) and base else None,
        updates=_updates(folder, fields, rank, alpha),
        sidecar=read_sidecar(folder) if has_sidecar else None,
    )


def adapted_fingerprint(stored: Mapping[str, StoredTensor], adapter: Adapter | None) -> str:
    """The fingerprint of the weights and of the adapter that is added to them."""
    weights = weights_fingerprint(stored)
    if adapter is None:
        return weights
    with (adapter.folder / ADAPTER_WEIGHTS).open("rb") as file:
        added = hashlib.file_digest(file, "sha256").hexdigest()
    scales = sorted((module, update.scale) for module, update in adapter.updates.items())
    return hashlib.sha256(f"{weights} {added} {scales}".encode()).hexdigest()


def fit(adapter: Adapter, config: PretrainedConfig, stored: Mapping[str, StoredTensor], name: object) -> Fitted:
    """The adapter's updates by the network's parameters, once all of them fit the checkpoint called `name`.

    stored: the checkpoint's weights. Raises CheckpointError that names the first update that does not fit, or the
    matrices in which the adapter's two files disagree.
    """
    wrong, made_for = f"{adapter.folder} is for another checkpoint:", _made_for(adapter)
    fitted: dict[str, tuple[StoredUpdate, Rows | None]] = {}
    for module, update in adapter.updates.items():
        for parameter, rows in config.family.parameters(f"{module}.weight", config.decoder).items():
            base = stored.get(parameter)
            if base is None:
                raise CheckpointError(f"{wrong} {name} has no '{shown(module)}'{made_for}")
            shape = [base.shape[0] if rows is None else rows.total, base.shape[1]]
            own = [update.b.shape[0], update.a.shape[1]]
            if own != shape:
                raise CheckpointError(f"{wrong} its '{shown(module)}' is {own}, in {name} it is {shape}{made_for}")
            fitted[parameter] = update, rows
    _refuse_missing(adapter, stored, name)
    return fitted


def base_warnings(adapter: Adapter, stored: Mapping[str, StoredTensor], name: object) -> tuple[str, ...]:
    """A warning if `adapter` says that it was made for other weights than `stored`, those of the checkpoint `name`."""
    made_for = adapter.sidecar and adapter.sidecar.base_weights
    if made_for is None or made_for == weights_fingerprint(stored):
        return ()
    text = f"{adapter.folder} was made for other weights than those of {name}, though its shapes fit"
    return (text + _made_for(adapter),)


def _made_for(adapter: Adapter) -> str:
    return "" if adapter.base is None else f"; it was made for {shown(adapter.base)}"


def _refuse_others(fields: Fields) -> None:
    """Raise CheckpointError for an adapter that is no LoRA, or a LoRA with a feature that would be ignored."""
    kind = fields.string("peft_type")
    if kind != "LORA":
        raise fields.wrong("peft_type", f"is '{shown(kind)}'; famcli reads LORA adapters")
    for feature in _FEATURES:
        if fields.values.get(feature):
            raise fields.wrong(feature, "is set, which famcli does not apply", "merge the adapter with peft")
    if fields.string("bias", "none") != "none":
        raise fields.wrong("bias", "is not 'none': trained biases are not applied", "merge the adapter with peft")
    start = fields.values.get("init_lora_weights")
    if isinstance(start, str) and start.startswith(_CHANGES_BASE):
        problem = f"is '{shown(start)}', which changes the base checkpoint's weights"
        raise fields.wrong("init_lora_weights", problem, "merge the adapter with peft")


def _updates(folder: Path, fields: Fields, rank: int, alpha: float) -> dict[str, StoredUpdate]:
    halves: dict[str, dict[str, StoredTensor]] = {}
    path = _weights_file(folder)
    for tensor in headers(path):
        match = _NAME.fullmatch(tensor.name)
        if match is None or len(tensor.shape) != 2:
            raise CheckpointError(f"{path} has '{shown(tensor.name)}', which is no part of a plain LoRA")
        halves.setdefault(match[1], {})[match[2]] = tensor
    # One that trained nothing but its memory says so.
    if not halves and fields.values.get("target_modules") != []:
        raise CheckpointError(f"{path} holds no update; fetch it again")
    ranks, alphas = _pattern(fields, "rank_pattern"), _pattern(fields, "alpha_pattern")
    rooted = fields.boolean("use_rslora", False)
    updates = {}
    for module, pair in halves.items():
        for half in {"A", "B"} - pair.keys():
            raise CheckpointError(f"{path}: 'base_model.model.{shown(module)}.lora_{half}.weight' is missing")
        # The first name that fits decides, as with PEFT.
        own = next((int(value) for name, value in ranks.items() if _ends_with(module, (name,))), rank)
        own_alpha = next((value for name, value in alphas.items() if _ends_with(module, (name,))), alpha)
        if (pair["A"].shape[0], pair["B"].shape[1]) != (own, own):
            raise CheckpointError(
                f"{path}: '{shown(module)}' has rank {pair['A'].shape[0]} in A and {pair['B'].shape[1]} in B, "
                f"{ADAPTER_CONFIG} says {own}; one of the files belongs to another adapter"
            )
        # Rank-stabilised LoRA (arXiv 2312.03732) divides by the root of the rank.
        scale = own_alpha / (own**0.5 if rooted else own)
        updates[module] = StoredUpdate(pair["A"], pair["B"], scale)
    return updates


def _weights_file(folder: Path) -> Path:
    path = folder / ADAPTER_WEIGHTS
    if path.exists() or path.is_symlink():
        return inside(folder, path)
    if (folder / _PICKLE).exists():
        raise CheckpointError(
            f"{folder} has its adapter only as a pickle ({_PICKLE}), which can run code and is never opened; "
            "save it again with peft's save_pretrained"
        )
    raise CheckpointError(f"{folder} has no {ADAPTER_WEIGHTS}; fetch the adapter again")


def _refuse_missing(adapter: Adapter, stored: Mapping[str, StoredTensor], name: object) -> None:
    """Raise CheckpointError for matrices that the targets name and the file lacks, and the reverse."""
    if adapter.targets is None:
        return
    matrices = {t.name.removesuffix(".weight") for t in stored.values() if len(t.shape) == 2}
    named = {module for module in matrices if _is_target(module, adapter)}
    missing, extra = sorted(named - set(adapter.updates)), sorted(set(adapter.updates) - named)
    for modules, problem in ((missing, "has no update for"), (extra, "does not target, but has an update for,")):
        if modules:
            raise CheckpointError(
                f"{adapter.folder} {problem} {some_of(modules)}: it is for another checkpoint than {name}, or "
                "its two files do not belong together" + _made_for(adapter)
            )


def _is_target(module: str, adapter: Adapter) -> bool:
    """True if the targets name a module: whole, or by the end of its name (PEFT's rule)."""
    assert adapter.targets is not None
    layer = re.search(r"\.(?:layers|h|blocks)\.(\d+)\.", module)
    if adapter.layers is not None and (layer is None or int(layer[1]) not in adapter.layers):
        return False
    return _ends_with(module, adapter.targets) and not _ends_with(module, adapter.excluded)


def _ends_with(module: str, names: tuple[str, ...]) -> bool:
    return any(module == name or module.endswith(f".{name}") for name in names)


def _names(fields: Fields, key: str) -> tuple[str, ...] | None:
    """A list of names, None when absent or a pattern."""
    values = fields.values.get(key)
    if not isinstance(values, list):
        return None
    if not all(isinstance(value, str) for value in values):
        raise fields.wrong(key, "must be a list of names")
    return tuple(values)


def _pattern(fields: Fields, key: str) -> dict[str, float]:
    # PEFT takes regular expressions here. Real ones are refused: a stranger's may take for ever to match.
    values: dict[str, Any] = fields.mapping(key) or {}
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1e9:
            raise fields.wrong(key, f"must give numbers above 0, '{shown(name)}' has another value")
        if not re.fullmatch(r"[\w.^$]+", name):
            raise fields.wrong(key, f"has the pattern '{shown(name)}'; famcli knows names only", "merge it with peft")
    return {name.strip("^$"): float(value) for name, value in values.items()}
