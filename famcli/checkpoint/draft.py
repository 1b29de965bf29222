"""A draft's folder: `draft.json`, which says its shape and whose draft it is, and `draft.safetensors`."""

from __future__ import annotations

from dataclasses import asdict, fields, replace
from pathlib import Path

import torch

from famcli.checkpoint.folder import DRAFT_FILE, Fields, check_draft, check_links, read_json_object
from famcli.checkpoint.model import Model
from famcli.checkpoint.save import save_tensors, write_json, writing
from famcli.checkpoint.weights import check_weights, headers, opened
from famcli.errors import CheckpointError, UsageError
from famcli.nn import Network
from famcli.nn.draft import Draft, DraftConfig, draft_shapes

DRAFT_WEIGHTS = "draft.safetensors"
_FORMAT = 1


def default_layers(num_layers: int) -> int:
    """The layers of a draft for a decoder of `num_layers`: a quarter, at least one."""
    return max(1, num_layers // 4)


def make_draft(network: Network, config: DraftConfig) -> Draft:
    """A float32 draft for `network`, which begins as its last layers.

    Raises CheckpointError for a network that has not that many layers, or no layers of tokens to begin with.
    """
    try:
        draft = Draft(network.config, network.fam, config)
        draft.begin(network)
    except ValueError as error:
        raise CheckpointError(f"no draft can be made: {error}") from error
    return draft


def save_draft(folder: Path, draft: Draft, model: Model, config: DraftConfig) -> None:
    """Write `draft` in bfloat16, its layer weights in float32. Raises CheckpointError when writing fails."""
    values = {"format": _FORMAT, "target": model.fingerprints.weights, **asdict(config)}
    tensors = {
        name: value.detach().to(torch.float32 if name == "layer_weights" else torch.bfloat16)
        for name, value in draft.named_parameters()
    }
    with writing(folder, "draft", DRAFT_FILE) as made:
        save_tensors(made / DRAFT_WEIGHTS, tensors)
        write_json(made / DRAFT_FILE, values)


def with_draft(model: Model, path: Path) -> Model:
    """`model`, writing with the draft in a folder. Raises CheckpointError as `open_draft`, and UsageError for a model
    that cannot check guesses exactly."""
    draft = open_draft(path, model)
    with torch.inference_mode():
        is_exact = model.network.writes_ahead
    if not is_exact:
        raise UsageError(
            "a draft helps only where a token's numbers do not depend on how many are read at once: on a processor, in "
            "bfloat16, with a C compiler, for decoders whose widths are multiples of 32",
            remedy={"dtype": "bfloat16", "device": "cpu"},
        )
    return replace(model, draft=draft)


def open_draft(path: Path, model: Model) -> Draft:
    """The draft in a folder, in the compute type of `model`, which it is for.

    Raises CheckpointError for a folder that is damaged, or whose draft is for another checkpoint.
    """
    folder = check_draft(path)
    check_links(folder)
    read = Fields(folder / DRAFT_FILE, read_json_object(folder / DRAFT_FILE))
    read.integer("format", low=_FORMAT, high=_FORMAT)
    # Another checkpoint of the same shape would be drafted for, and nothing accepted.
    if read.string("target") != model.fingerprints.weights:
        raise CheckpointError(f"{folder} is a draft for other weights than those of {model.name}; train one for these")
    network = model.network
    try:
        config = DraftConfig(
            **{each.name: read.integer(each.name, low=0, high=1 << 16) for each in fields(DraftConfig)}
        )
        shapes = draft_shapes(network.config, network.fam, config)
    except ValueError as error:
        raise CheckpointError(f"{folder / DRAFT_FILE}: {error}") from error
    weights = folder / DRAFT_WEIGHTS
    stored = {tensor.name: tensor for tensor in headers(weights)}
    check_weights(stored, shapes, folder)
    draft = Draft(network.config, network.fam, config)
    with opened(weights, "pt") as file:
        loaded = {name: file.get_tensor(name) for name in shapes}
    draft.load_state_dict(loaded)
    for name, parameter in draft.named_parameters():
        if name != "layer_weights":
            parameter.data = parameter.data.to(network.dtype)
    return draft.to(network.device).eval().requires_grad_(False)
