"""Which document comes next: an endless order over several corpora, decided by counters alone.

The corpus furthest behind its share of the tokens gives the next document; inside a corpus every epoch is a seeded
shuffle. There is no random state to keep: the counters are the state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from famcli.training.corpus import PackedCorpus


class DocumentSampler:
    """Draws (corpus, document) pairs so that tokens approach `weights` as closely as whole documents allow."""

    def __init__(self, corpora: Sequence[PackedCorpus], weights: Sequence[float], seed: int) -> None:
        self._corpora = list(corpora)
        self._weights = np.array(weights, dtype=np.float64) / sum(weights)
        self._seed = seed
        self._drawn = [0] * len(corpora)  # documents given out
        self._tokens = [0] * len(corpora)  # tokens in them
        self._orders: dict[int, tuple[int, np.ndarray]] = {}

    def draw(self) -> tuple[int, int]:
        """The next (corpus index, document index)."""
        behind = self._weights * (sum(self._tokens) + 1) - np.array(self._tokens)
        behind[self._weights == 0] = -np.inf
        corpus = int(behind.argmax())
        epoch, place = divmod(self._drawn[corpus], len(self._corpora[corpus]))
        document = int(self._order(corpus, epoch)[place])
        self._drawn[corpus] += 1
        self._tokens[corpus] += len(self._corpora[corpus].document(document).tokens)
        return corpus, document

    def _order(self, corpus: int, epoch: int) -> np.ndarray:
        if corpus not in self._orders or self._orders[corpus][0] != epoch:
            generator = np.random.default_rng([self._seed, corpus, epoch])
            self._orders[corpus] = (epoch, generator.permutation(len(self._corpora[corpus])))
        return self._orders[corpus][1]

    def to_json(self) -> dict[str, Any]:
        return {"drawn": self._drawn, "tokens": self._tokens}

    def load_json(self, saved: Mapping[str, Any]) -> None:
        self._drawn, self._tokens = list(saved["drawn"]), list(saved["tokens"])
