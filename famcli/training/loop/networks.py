"""The networks of a run: the one it begins with, drawn anew or from a checkpoint, and the copy it computes on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import ParamSpec, TypeVar

import torch
from torch import nn

from famcli.checkpoint.open import open_model
from famcli.errors import RecipeError
from famcli.nn import Network, make_network
from famcli.nn.config import DecoderConfig, RopeConfig
from famcli.tokens.tokenizer import Tokenizer
from famcli.training.adapt import adapted_network
from famcli.training.recipe.recipe import Recipe

_P = ParamSpec("_P")
_R = TypeVar("_R")


def trained(network: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that training changes, by name: all that are not frozen."""
    return {name: value for name, value in network.named_parameters() if value.requires_grad}


def start_network(recipe: Recipe, tokenizer: Tokenizer) -> Network:
    """The network that a run starts with, on the CPU; its trained parameters are float32.

    Raises RecipeError or CheckpointError if a checkpoint that the recipe names is damaged or does not fit.
    """
    network = build_network(recipe, tokenizer.vocab_size)
    if recipe.schedule.init:
        start_from_checkpoint(network, recipe.schedule.init, tokenizer)
    return network


def build_network(recipe: Recipe, vocab_size: int) -> Network:
    """The recipe's network, float32, with initial weights; with [adapt], the checkpoint's network with its own."""
    shape = recipe.network
    if recipe.adapt is not None:
        return adapted_network(recipe, shape.fam)
    config = DecoderConfig(
        vocab_size=vocab_size,
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size,
        num_layers=shape.num_layers,
        num_heads=shape.num_heads,
        num_key_value_heads=shape.num_key_value_heads,
        head_dim=shape.head_dim,
        norm_eps=shape.norm_eps,
        # No key is ever further away in training.
        rope=RopeConfig(theta=shape.rope_theta, max_position=shape.visible_tokens),
        tie_embeddings=shape.tie_embeddings,
    )
    network = make_network(config, shape.fam)
    network.reset_parameters(recipe.schedule.seed)
    return network


def start_from_checkpoint(network: Network, name: str | Path, tokenizer: Tokenizer) -> None:
    """Copy the weights of a checkpoint (a folder, or a name as in `famcli models`) into `network`.

    Block size, segments and the memory's update may differ. If its memory prompt has another length, or is missing, the
    network keeps its own. Raises RecipeError if weights or tokenizer do not fit, CheckpointError for a damaged
    checkpoint.
    """
    model = open_model(name, device="cpu", dtype="float32")
    if model.fingerprints.tokenizer != tokenizer.fingerprint:
        raise RecipeError(f"schedule.init {name}: has another tokenizer; set tokenizer.path to {model.path}")
    given = dict(model.network.named_parameters())
    with torch.no_grad():
        for key, parameter in network.named_parameters():
            # A memory of another length starts from its own prompt.
            if key == "memory_prompt" and (key not in given or given[key].shape != parameter.shape):
                continue
            if key not in given or given[key].shape != parameter.shape:
                there = list(given[key].shape) if key in given else "absent"
                raise RecipeError(
                    f"schedule.init {name}: {key} is {there} there and {list(parameter.shape)} in the recipe; "
                    "make [network] that of the checkpoint"
                )
            parameter.copy_(given[key])


def copy_of(network: Network, dtype: torch.dtype) -> Network:
    """A second network with the same weights in `dtype`."""
    # Made without values, as all of them are loaded.
    with torch.device("meta"):
        copy = make_network(replace(network.config), network.fam)
    copy = copy.to_empty(device=network.device).to(dtype)
    copy.load_state_dict(network.state_dict())
    return copy


def compile_layers(network: Network) -> None:
    """Compile the parts of a network that are worth it."""
    # One lane or several, first layer or later, memory rows or tokens: each is a compilation of its own.
    torch._dynamo.config.recompile_limit = 64
    network.compile_parts(_compiled_in_training)


def _compiled_in_training(plain: Callable[_P, _R]) -> Callable[_P, _R]:
    """`plain`, compiled for calls with gradients. Checks are rare and have their own shapes: compiling does not pay."""
    compiled = torch.compile(plain, dynamic=True)

    def call(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        return (compiled if torch.is_grad_enabled() else plain)(*args, **kwargs)

    return call
