"""Notes on stretches of held-out texts, by a decoder and adapters: `python -m benchmarks.turn_notes MODEL ADAPTER ...`.

FILE holds stretches with what people wrote of them (`benchmarks.note_data CORPUS FILE --heldout --most 20`). Each is
noted as `summarize --mode write` does, by the decoder without an adapter (`none`) and with each: ROUGE against what
people wrote, and how many of the names and numbers in a note the stretch has, before and after the sentences that the
stretch does not bear out are struck, as `summarize` does; last, ROUGE-L of the whole note, with the sentence of the
stretch that it quotes. Differences of ROUGE-L are paired, with their standard error.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.common import gap, print_table
from benchmarks.quality.summaries import MEASURES, Scores, rouge
from benchmarks.real_decoder import precision
from benchmarks.turn_answers import adapters_asked
from famcli.checkpoint.open import open_model
from famcli.documents.records import read_objects
from famcli.tasks.grounding import Sources, sentences_of
from famcli.tasks.summarize.write import most_central
from famcli.tasks.written_text import TurnWriter
from famcli.text.words import num_words

_WORDS, _MOST_TOKENS = "60", 96


@dataclass(frozen=True)
class Noted:
    """A note: what is said of it, its sentences, and those that the stretch bears out. scores: of these. whole: ROUGE-L
    of these and the sentence that is quoted."""

    stretch: str
    scores: Scores
    written: str
    kept: str
    whole: float


def notes(model_name: str, adapter: Path | None, texts: Path, dtype: str) -> Iterator[Noted]:
    """The notes on all stretches in order."""
    model, score = open_model(model_name, adapter=adapter, dtype=dtype), rouge()
    pen = TurnWriter(model)
    before, after = pen.around("summarize_note", {"words": _WORDS, "about": "", "focus": ""})
    for _, row in read_objects(texts):
        stretch, (_, reference), *_ = row["text"], *row["asked"]
        said = list(pen.sentences(before + model.tokenizer.encode(stretch) + after, _MOST_TOKENS))
        sources = Sources([stretch])
        kept = [one for one in said if not sources.missing(one)]
        own = sentences_of(stretch)
        place = most_central(own)
        quoted = [] if place is None else [own[place]]
        scores, whole = (score([reference], "\n".join(some)) for some in (kept, [*kept, *quoted]))
        yield Noted(stretch, scores, " ".join(said), " ".join(kept), whole[-1])


def rows_of(found: Mapping[str, Sequence[Noted]]) -> Iterator[list[str]]:
    """A row of the table for each adapter."""
    (_, first), *_ = found.items()
    for name, noted in found.items():
        scores, base = (100 * np.array([one.scores for one in some]) for some in (noted, first))
        above = "" if noted is first else gap(scores[:, -1].tolist(), base[:, -1].tolist(), digits=1)
        whole = [100 * one.whole for one in noted]
        quoted = f"{np.mean(whole):.1f} ({gap(whole, base[:, -1].tolist(), digits=1)})"
        written, kept = ([(getattr(one, part), one.stretch) for one in noted] for part in ("written", "kept"))
        rates = ["{} of {}".format(*precision(pairs)) for pairs in (written, kept)]
        words = np.mean([num_words(one.kept) for one in noted])
        yield [name, str(len(noted)), *(f"{one:.1f}" for one in scores.mean(0)), above, *rates, f"{words:.0f}", quoted]


def main() -> None:
    options = adapters_asked(__doc__, nargs="*")
    named: dict[str, Path | None] = {"none": None, **{str(one): one for one in options.adapter}}
    found = {name: list(notes(options.model, one, options.texts, options.dtype)) for name, one in named.items()}
    columns = [
        "adapter",
        "notes",
        *MEASURES,
        "ROUGE-L minus the first",
        "names in the text, written",
        "kept",
        "words",
        "ROUGE-L with the quote",
    ]
    print_table(str(options.texts), columns, list(rows_of(found)))


if __name__ == "__main__":
    main()
