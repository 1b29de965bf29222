"""The networks of a run: the one it starts with, the copy it computes on, its cost, and the checkpoint it ends with."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from famcli.checkpoint.choose import default_tasks, with_chosen_sinks
from famcli.checkpoint.open import open_model
from famcli.checkpoint.save import replacing, rewrite, save_adapter, save_checkpoint
from famcli.checkpoint.sidecar import SIDECAR_FILE, Sidecar, read_sidecar
from famcli.documents.writing import write_text
from famcli.errors import RecipeError
from famcli.nn import Network, make_network
from famcli.nn.config import DecoderConfig, FamConfig, RopeConfig
from famcli.nn.lora import LoraConfig, lora_updates
from famcli.nn.shapes import EMBEDDING, own_shapes
from famcli.tokens.tokenizer import Tokenizer
from famcli.training.adapt import adapted_network, open_base
from famcli.training.recipe.recipe import SHAPE, Recipe
from famcli.training.recipe.sections import AdaptRecipe


def trained(network: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that training changes, by name: all that are not frozen."""
    return {name: value for name, value in network.named_parameters() if value.requires_grad}


def start_network(recipe: Recipe, tokenizer: Tokenizer) -> Network:
    """The network that a run starts with, on the CPU; its trained parameters are float32.

    With schedule.init it has the weights of that checkpoint. Block size, segments and the memory's update may differ;
    if the memory prompt has another length there, or is missing, or the memory is of another kind, the network keeps
    its own. Raises RecipeError or CheckpointError if a checkpoint that the recipe names is damaged or does not fit.
    """
    network, name = build_network(recipe, tokenizer.vocab_size), recipe.schedule.init
    if name is None:
        return network
    model = open_model(name, device="cpu", dtype="float32")
    if model.fingerprints.tokenizer != tokenizer.fingerprint:
        raise RecipeError(f"schedule.init {name}: has another tokenizer; set tokenizer.path to {model.path}")
    given = {key: value.detach() for key, value in model.network.named_parameters()}
    for key, parameter in network.named_parameters():
        if key in given and given[key].shape == parameter.shape:
            parameter.data.copy_(given[key])
        elif key not in own_shapes(network.config, network.fam):
            there = list(given[key].shape) if key in given else "absent"
            raise RecipeError(
                f"schedule.init {name}: {key} is {there} there and {list(parameter.shape)} in the recipe; "
                "make [network] that of the checkpoint"
            )
    return network


def build_network(recipe: Recipe, vocab_size: int) -> Network:
    """The recipe's network, float32, with initial weights; with [adapt], the checkpoint's network with its own."""
    shape = recipe.network
    if recipe.adapt is not None:
        return adapted_network(recipe, shape.fam)
    # No key is ever further away in training.
    rope = RopeConfig(theta=shape.rope_theta, max_position=shape.visible_tokens)
    config = DecoderConfig(vocab_size=vocab_size, rope=rope, **{name: getattr(shape, name) for name in SHAPE})
    network = make_network(config, shape.fam)
    network.reset_parameters(recipe.schedule.seed)
    return network


def copy_of(network: Network, dtype: torch.dtype) -> Network:
    """A second network with the same weights in `dtype`."""
    # Made without values, as all of them are loaded.
    with torch.device("meta"):
        copy = make_network(replace(network.config), network.fam)
    copy = copy.to_empty(device=network.device).to(dtype)
    copy.load_state_dict(network.state_dict())
    return copy


def compile_layers(network: Network) -> None:
    """Compile the parts of a network that are worth it, for calls with gradients.

    Checks are rare and have their own shapes: compiling for them does not pay.
    """

    def compiled_in_training(plain: Callable[..., Any]) -> Callable[..., Any]:
        compiled = torch.compile(plain, dynamic=True)
        return lambda *args, **kwargs: (compiled if torch.is_grad_enabled() else plain)(*args, **kwargs)

    # One lane or several, first layer or later, memory rows or tokens: each is a compilation of its own.
    torch._dynamo.config.recompile_limit = 64
    network.compile_parts(compiled_in_training)


# Seconds for which the machine's peak is measured.
_PEAK_SECONDS = 0.3


def flops_per_token(config: DecoderConfig, fam: FamConfig, blocks_per_step: int, *, frozen: bool = False) -> float:
    """Floating-point operations of training on one token, in blocks late enough in a document to see all segments.

    Counts the matrix products that the mathematics needs: two operations a multiplication, the backward pass twice the
    forward pass. What gradient checkpointing recomputes does not count (the "model FLOPs" of arXiv 2204.02311, appendix
    B). frozen: weights get no gradient, but gradients pass through them; low-rank updates are not counted.
    """
    queries, keys = config.num_heads * config.head_dim, config.num_key_value_heads * config.head_dim
    layer = config.hidden_size * (2 * queries + 2 * keys + 3 * config.intermediate_size)
    c, f = fam.block_size, fam.fam_length
    # FAM's rows take part in every product of a token; those that are tokens of before are only seen.
    made = 0 if fam.keeps_tokens else f / c
    rows = 1 + made
    # Keys that a token attends to, on average; a memory row sees the memory and the block.
    seen = fam.memory_segments * c + f + (c + 1) / 2 if fam.architecture == "fam" else fam.visible_tokens
    attention = 2 * queries * (seen + made * (f + c))
    products = config.num_layers * (rows * layer + attention) + config.hidden_size * config.vocab_size
    # The memory prompt goes up the layers at most once a step for each lane.
    prompt = config.num_layers * made * layer / blocks_per_step
    return (4.0 if frozen else 6.0) * (products + prompt)


def machine_flops(device: torch.device, dtype: torch.dtype) -> float:
    """Operations a second of a large matrix product, the best of several, on the threads in use."""
    size = 8192 if device.type == "cuda" else 1024
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    times: list[float] = []
    began = time.monotonic()
    while len(times) < 3 or time.monotonic() - began < _PEAK_SECONDS:
        start = time.perf_counter()
        left @ right
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    return 2.0 * size**3 / min(times)


def export_checkpoint(
    folder: Path, network: Network, tokenizer: Tokenizer, recipe: Recipe, validated_tokens: int | None
) -> Path:
    """Write `network` to `folder`: weights as `recipe.export` says, tokenizer, `fam.json` and the recipe.

    With [adapt] the folder is an adapter's (LoRA), or a checkpoint in the layout of the one that was adapted.
    validated_tokens: the length at which bits per byte were measured; commands warn past it. Raises CheckpointError
    when writing fails.
    """
    if recipe.adapt is not None:
        _export_adapted(folder, network, recipe.adapt, validated_tokens)
    else:
        export = recipe.export
        save_checkpoint(
            folder,
            network,
            tokenizer,
            # Passes are for training: the checkpoint reads exactly.
            Sidecar(
                replace(network.fam, feedback_passes=0),
                network.fam.remembers,
                validated_tokens,
                tasks={"summarize": "extract"},
            ),
            torch.float32 if export.storage == "float32" else torch.bfloat16,
            storage="int8" if export.storage == "int8" else "float",
            shard_bytes=None if export.shard_megabytes is None else int(export.shard_megabytes * 1e6),
        )
    target = folder / "recipe.toml"
    # A finished run may be exported again from the recipe inside its own export.
    if recipe.path.is_file() and not (target.exists() and target.samefile(recipe.path)):
        write_text(target, recipe.path.read_text(encoding="utf-8"))
    return folder


def _export_adapted(folder: Path, network: Network, adapt: AdaptRecipe, validated_tokens: int | None) -> None:
    base, config, stored = open_base(adapt)
    fam = network.fam
    if not fam.fam_length:
        # Where no memory is trained the decoder goes on seeing what it saw before, its first tokens too.
        fam = with_chosen_sinks(fam, config.decoder)
    own = read_sidecar(base) if (base / SIDECAR_FILE).exists() else None
    fallback = default_tasks(base) or {"summarize": "extract"}
    sidecar = Sidecar(
        fam=fam,
        memory_trained=fam.fam_length > 0,
        validated_tokens=validated_tokens,
        tasks=own.tasks if own else fallback,
        prompts={**(own.prompts if own else {}), **(adapt.prompts or {})},
    )
    made = {name: getattr(network, name).detach() for name in own_shapes(network.config, network.fam)}
    if adapt.method != "full":
        updates, lora = lora_updates(network), LoraConfig(adapt.rank, adapt.alpha, adapt.targets)
        dtype = getattr(torch, adapt.storage)
        save_adapter(folder, updates, lora, stored, base=adapt.model, sidecar=sidecar, own=made, dtype=dtype)
        return
    weights = {name: value.detach().cpu() for name, value in network.named_parameters() if name not in made}
    # Some checkpoints store a tied head as well, and the layout is theirs.
    weights.setdefault("lm_head.weight", weights[EMBEDDING])
    rewrite(base, folder, replacing(weights), sidecar, made)
