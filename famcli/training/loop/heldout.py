"""The figures of a model card: whole held-out documents, read once after the run, with the memory on and frozen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from famcli.evaluation.figures import Subject, document_figures
from famcli.nn import Network
from famcli.tokens.tokenizer import Tokenizer
from famcli.training.data.corpus import OnProgress, PackedCorpus, pack
from famcli.training.loop.checks import check_modes
from famcli.training.loop.events import ScoreProgress, TrainEvent
from famcli.training.recipe.recipe import CorpusRecipe


def open_heldout(
    path: Path, tokenizer: Tokenizer, cache: Path, on_progress: OnProgress = lambda progress: None
) -> PackedCorpus:
    """The held-out corpus at `path` as tokens, from the cache if it is there."""
    return pack(CorpusRecipe(name="heldout", path=path, weight=1.0), tokenizer, cache, 0, on_progress=on_progress)


def heldout_figures(
    network: Network,
    tokenizer: Tokenizer,
    path: Path,
    cache: Path,
    on_event: Callable[[TrainEvent], None] = lambda event: None,
) -> dict[str, Any]:
    """Bits per byte, next-token accuracy and more over all documents of the corpus at `path`, as plain values.

    Each document starts afresh, its first token is predicted from BOS. `difference` pairs the memory modes document by
    document, past the window of (m + 1) * C tokens: frozen minus on, so above 0 the memory helps.
    """
    corpus = open_heldout(path, tokenizer, cache, on_event)
    done = dict.fromkeys(check_modes(network), 0)

    def on_tokens(subject: Subject, count: int) -> None:
        done[subject.memory_mode] += count
        on_event(ScoreProgress(subject.memory_mode, done[subject.memory_mode], corpus.num_tokens))

    subjects = [Subject("", network, mode) for mode in done]
    documents = [corpus.document(index) for index in range(len(corpus))]
    found = document_figures(subjects, tokenizer, documents, on_tokens=on_tokens)
    modes = {
        subject.memory_mode: {
            "bits_per_byte": subject.bits_per_byte,
            "perplexity": subject.perplexity,
            "accuracy": subject.accuracy,
            "by_position": list(subject.by_position),
        }
        for subject in found.subjects
    }
    figures: dict[str, Any] = {
        "corpus": path.name,
        "documents": found.documents,
        "tokens": found.tokens,
        "bytes": found.bytes,
        "longest_document_tokens": found.longest,
        "dtype": str(network.dtype).removeprefix("torch."),
        "positions": list(found.positions),
        "modes": modes,
    }
    for difference in found.differences:
        figures["difference"] = {
            "from_position": difference.from_position,
            "documents": difference.documents,
            "mean": difference.mean,
            "standard_error": difference.standard_error,
        }
    return figures
