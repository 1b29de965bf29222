"""The weights that feedback-tiny begins with: a decoder's, with projections of keys and values fitted to memories.

`python -m benchmarks.feedback_start RECIPE DECODER FILE OUT [--tokens 16384]`: RECIPE is that of a Feedback Transformer
of DECODER's shape, whose layers have their own projections. The decoder reads texts of FILE. Of what its layers make of
each token the mean is taken, which is the token's memory, and each layer's projections are fitted, by least squares, to
give from it the keys and values that the decoder's layer made of its own input. All else is the decoder's. The table
shows the share of their variance that is explained, with the decoder's own projections and with the fitted ones.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.common import print_table
from famcli.checkpoint.open import open_model
from famcli.evaluation.texts import read_texts
from famcli.training.draft import read_levels
from famcli.training.loop.networks import export_checkpoint, start_network
from famcli.training.recipe.recipe import load_recipe

_TEXT_TOKENS = 512


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("decoder")
    parser.add_argument("file", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--tokens", type=int, default=16384)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    fitted = fit(arguments.recipe, arguments.decoder, arguments.file, arguments.out, arguments.tokens)
    rows = [[name, f"{own:.3f}", f"{best:.3f}"] for name, own, best in fitted]
    print_table(f"{arguments.tokens:,} tokens: variance explained", ["layer", "own", "fitted"], rows)


@torch.no_grad()
def fit(recipe_path: Path, name: str, file: Path, out: Path, num_tokens: int) -> list[tuple[str, float, float]]:
    """Write the weights to `out`. Returns what of each projection's output is explained, before and after."""
    decoder = open_model(name, device="cpu", dtype="float32")
    recipe = load_recipe(recipe_path, (f"schedule.init={name}",))
    network = start_network(recipe, decoder.tokenizer)
    corpus = read_texts([file], decoder.tokenizer, max_tokens=64 * num_tokens)
    # Spread over all that was read, so that no one book decides.
    last = corpus.num_tokens - _TEXT_TOKENS
    places = torch.linspace(0, last, num_tokens // _TEXT_TOKENS).long().tolist()
    texts = torch.stack([torch.tensor(corpus.tokens[place : place + _TEXT_TOKENS].astype(int)) for place in places])
    levels, _ = read_levels(decoder.network, texts, len(network.layers) + 1, _TEXT_TOKENS - 1, "none")
    flat = [level.flatten(0, 1) for level in levels]
    memory, fitted = torch.stack(flat).mean(0), []
    for index, layer in enumerate(network.layers):
        given, own = layer.attention_input(memory), layer.attention_input(flat[index])
        for part in ("k_proj", "v_proj"):
            weight = getattr(layer.self_attn, part).weight
            wanted = own @ weight.T
            before = _explained(given @ weight.T, wanted)
            weight.copy_(torch.linalg.lstsq(given, wanted).solution.T)
            fitted.append((f"{index} {part}", before, _explained(given @ weight.T, wanted)))
    export_checkpoint(out, network, decoder.tokenizer, recipe, None)
    return fitted


def _explained(made: Tensor, wanted: Tensor) -> float:
    return 1 - float((made - wanted).square().sum() / (wanted - wanted.mean(0)).square().sum())


if __name__ == "__main__":
    main()
