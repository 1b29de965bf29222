"""Spans: an answer copied from the evidence by the network, word by word, so that it is always verbatim.

Greedy decoding in which every token must continue the evidence from where the last one stood, or end the answer.
"""

from __future__ import annotations

import torch
from torch import Tensor

from famcli.checkpoint.model import Model
from famcli.nn import State
from famcli.reading.engine import read_any


def copy_span(model: Model, state: State, last_hidden: Tensor, text: str, max_tokens: int) -> tuple[int, int] | None:
    """The characters [start, end) of a passage's `text` that the network copies after `state`.

    last_hidden: [1, 1, d] of the last token that was read. The span begins at the start of a word, ends at the end of
    one, and has at most `max_tokens`. None where the text has no word, or nothing was copied. Costs one call of the
    network for each token.
    """
    # A word has other tokens with a space before it; what is copied follows "Answer:" and a space.
    ids, ends = model.tokenizer.encode_offsets(" " + text)
    tokens, stops = [int(token) for token in ids], [max(0, int(end) - 1) for end in ends]
    starts = [0, *stops[:-1]]
    # The same tokens may stand in several places: all of them are followed until the copy tells them apart.
    places = [place for place in range(len(tokens)) if _begins_word(text, starts[place])]
    end_token, length = model.tokenizer.encode("\n")[-1], 0
    while places and length < max_tokens:
        allowed = {tokens[place] for place in places if place < len(tokens)}
        may_end = length > 0 and any(_ends_word(text, stops[place - 1]) for place in places)
        choices = sorted(allowed | ({end_token} if may_end else set()))
        if not choices:
            break
        best = choices[int(torch.argmax(_log_probs(model, last_hidden)[torch.tensor(choices)]))]
        if best == end_token and may_end:
            places = [place for place in places if _ends_word(text, stops[place - 1])]
            break
        length += 1
        places = [place + 1 for place in places if place < len(tokens) and tokens[place] == best]
        hidden, state = read_any(model.network, [best], state)
        assert hidden is not None
        last_hidden = hidden
    if not places or not length:
        return None
    return _whole_words(text, starts[places[0] - length], stops[places[0] - 1])


def _whole_words(text: str, start: int, end: int) -> tuple[int, int] | None:
    """The span with its last word completed, without white space and punctuation at its ends."""
    while start < end < len(text) and text[end - 1].isalnum() and text[end].isalnum():
        end += 1
    piece = text[start:end]
    start += len(piece) - len(piece.lstrip())
    end = start + len(piece.strip().rstrip(".,;:"))
    return (start, end) if end > start else None


def _begins_word(text: str, place: int) -> bool:
    rest = text[place:].lstrip()
    before = text[place - 1] if place else " "
    return bool(rest) and rest[0].isalnum() and (text[place].isspace() or not before.isalnum())


def _ends_word(text: str, place: int) -> bool:
    return place >= len(text) or (text[place - 1 : place].isalnum() and not text[place].isalnum())


@torch.inference_mode()
def _log_probs(model: Model, last_hidden: Tensor) -> Tensor:
    """Of the next token [v], float32 on the CPU."""
    return torch.log_softmax(model.network.logits(last_hidden)[0, -1].float().cpu(), dim=-1)
