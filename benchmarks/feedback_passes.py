"""Training a Feedback Transformer token by token and in passes: time of the processor, and how close they are.

`python -m benchmarks.feedback_passes [--checkpoint DIR] [--lanes 1 4 16] [--tokens 256] [--passes 2 4 8 16]` reads one
block of drawn tokens (with a checkpoint, of its own tokens: weights that were trained), forwards and backwards, and
prints the time against the exact loop, the relative error of the hidden rows and the cosine of the gradients.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional

from famcli.checkpoint.open import open_model
from famcli.nn import DecoderConfig, FamConfig, Network, make_network


def gradient(network: Network, tokens: Tensor) -> tuple[float, Tensor, Tensor]:
    """Seconds of the processor, hidden rows, and the gradient of the next tokens' loss as one vector."""
    network.zero_grad()
    began = time.process_time()
    hidden, _ = network.read(tokens, network.start(len(tokens)))
    logits = network.logits(hidden[:, :-1]).flatten(0, 1)
    cast(Any, functional.cross_entropy(logits, tokens[:, 1:].flatten())).backward()
    seconds = time.process_time() - began
    return seconds, hidden.detach(), torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])


def network_of(options: argparse.Namespace) -> Network:
    """The checkpoint's network in float32, or one with initial weights, that reads `tokens` in one block."""
    fam = FamConfig(options.tokens, 0, 0, architecture="feedback")
    if options.checkpoint is None:
        width = options.width
        config = DecoderConfig(4096, width, 5 * width // 2, 4, 4, 2, width // 4, tie_embeddings=True)
        network = make_network(config, fam)
        network.reset_parameters(seed=0)
        return network
    opened = open_model(options.checkpoint, device="cpu", dtype="float32").network
    network = make_network(opened.config, replace(fam, feedback_projections=opened.fam.feedback_projections))
    network.load_state_dict(opened.state_dict())
    return network


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint")
    parser.add_argument("--width", type=int, default=160)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--lanes", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--passes", type=int, nargs="+", default=[2, 4, 8, 16])
    options = parser.parse_args()
    torch.set_num_threads(1)
    network = network_of(options)
    generator = torch.Generator().manual_seed(0)
    for lanes in options.lanes:
        tokens = torch.randint(3, network.config.vocab_size, (lanes, options.tokens), generator=generator)
        if options.checkpoint is not None:
            tokens = written(network, tokens)
        seconds, exact, expected = gradient(network, tokens)
        print(f"{lanes} lanes of {options.tokens} tokens: exact {seconds:.2f} s", flush=True)
        for passes in options.passes:
            network.fam = replace(network.fam, feedback_passes=passes)
            took, hidden, found = gradient(network, tokens)
            network.fam = replace(network.fam, feedback_passes=0)
            error = float(torch.linalg.vector_norm(hidden - exact) / torch.linalg.vector_norm(exact))
            cosine = float(functional.cosine_similarity(found.double(), expected.double(), dim=0))
            print(
                f"  {passes:3} passes {took:.2f} s, {seconds / took:.1f} times; rows {error:.1e}, cosine {cosine:.6f}"
            )


@torch.no_grad()
def written(network: Network, first: Tensor) -> Tensor:
    """Tokens [b, n] that the network itself writes after one drawn token: text of the kind it knows."""
    state, rows = network.start(len(first)), [first[:, :1]]
    while len(rows) < first.shape[1]:
        hidden, state = network.read(rows[-1], state)
        rows.append(torch.multinomial(network.logits(hidden)[:, -1].softmax(-1), 1))
    return torch.cat(rows, dim=1)


if __name__ == "__main__":
    main()
