"""What a memory that keeps tokens should keep of a text, seen from its end (ours): what later attention falls on."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from famcli.nn.decoder import Decoder
from famcli.nn.kept import token_rows
from famcli.nn.kernels.attention import attend, attention_weights
from famcli.nn.network import Network


@torch.no_grad()
def wanted_later(
    network: Network, tokens: Tensor, shares: Tensor, block_size: int
) -> Iterator[tuple[Tensor, Tensor] | None]:
    """What a memory should keep of texts [b, n] read with full attention, layer by layer; None in layers with a window.

    The rows [b, n, w] of the tokens, and of each token the largest weight [b, n] that a head of a later block's token
    gives it, times that token's share: `shares` [b, n], 0 to 1, say how much what is predicted there counts. The
    network is a decoder: no other has such a memory.
    """
    assert isinstance(network, Decoder)
    x, positions = network.embed(tokens), torch.arange(tokens.shape[1])[None]
    for layer in network.layers:
        attention, rotate = layer.self_attn, network.rotation_at(layer.rope, positions, False)
        queries, keys, values = attention.queries_keys_values(layer.attention_input(x))
        queries, rotated = rotate(queries), rotate(keys)
        if layer.window is None:
            wanted = torch.zeros(tokens.shape, device=x.device)
            for start in range(block_size, tokens.shape[1], block_size):
                own = slice(start, start + block_size)
                weights = attention_weights(queries[:, :, own], rotated[:, :, : own.stop], **attention.scoring)
                best = (weights[..., :start] * shares[:, None, own, None].to(weights)).amax((1, 2))
                wanted[:, :start] = torch.maximum(wanted[:, :start], best)
            yield token_rows(keys, values), wanted
        else:
            yield None
        attended = attend(queries, [(rotated, values)], causal=True, window=layer.window, **attention.scoring)
        x = layer.attention_output_and_mlp(x, attended)
