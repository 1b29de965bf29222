"""What `famcli ask` is measured against: BM25 by a library, over the very same passages."""

from __future__ import annotations

import numpy as np

from famcli.errors import UsageError
from famcli.tasks.ask.passage_index import PassageIndex


class LibraryBM25:
    """bm25s with its English stop words and a Snowball stemmer, as its makers recommend."""

    def __init__(self, index: PassageIndex) -> None:
        """Raises UsageError where the packages are not installed."""
        try:
            import bm25s
            import Stemmer
        except ImportError as error:
            raise UsageError(f"the package {error.name} is needed; pip install 'famcli[eval]'") from error
        self._library, self._stemmer = bm25s, Stemmer.Stemmer("english")
        texts = [index.passage(number).text for number in range(index.num_passages)]
        self._bm25 = bm25s.BM25()
        self._bm25.index(self._words(texts), show_progress=False)

    def ranked(self, question: str, count: int) -> list[int]:
        """The numbers of the best passages, best first; none where no word of the question counts."""
        words = self._words([question])[0]
        if not words:
            return []
        order = np.argsort(-self._bm25.get_scores(words), kind="stable")[:count]
        return [int(number) for number in order]

    def _words(self, texts: list[str]) -> list[list[str]]:
        words: list[list[str]] = self._library.tokenize(
            texts, stopwords="en", stemmer=self._stemmer, show_progress=False, return_ids=False
        )
        return words
