"""Train the tokenizers that ship: sentencepiece byte-pair encoding that keeps every text exactly.

sentencepiece's defaults normalise text, squeeze spaces and put one in front; all of that is off here. Newline and tab
are symbols of their own, whatever the vocabulary lacks falls back to bytes, and no piece spans the start of a word,
which is what makes cuts of a stream provably safe (see `famcli.tokens.sentencepiece`).
"""

from __future__ import annotations

import io
import os
import random
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path

import sentencepiece

from famcli.errors import TokenizerError
from famcli.tokens.tokenizer import MODEL_FILE

_MAX_LINE_BYTES = 1 << 16


def train_sentencepiece(
    texts: Iterable[str],
    vocab_size: int,
    folder: str | os.PathLike[str],
    *,
    character_coverage: float = 0.9997,
    num_threads: int = 1,
) -> Path:
    """Train on `texts` and write `tokenizer.model` into `folder` (made if absent); return its path.

    Id 0 is the unknown piece (never produced: bytes are the fallback), 1 begins a text, 2 ends one, then newline, tab
    and the 256 bytes. Raises TokenizerError when the texts are empty, or hold too few distinct pieces for `vocab_size`.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    lines = _lines(texts)
    # Checked here, because the trainer's own error for an empty corpus does not say that it is empty.
    first = list(islice(lines, 1))
    if not first:
        raise TokenizerError("cannot train a tokenizer on no text at all: give it at least one line")
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=chain(first, lines),
            model_writer=model,
            model_type="bpe",
            vocab_size=vocab_size,
            character_coverage=character_coverage,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            add_dummy_prefix=False,
            allow_whitespace_only_pieces=True,
            byte_fallback=True,
            split_digits=True,
            user_defined_symbols=["\n", "\t"],
            unk_id=0,
            bos_id=1,
            eos_id=2,
            pad_id=-1,
            max_sentence_length=2 * _MAX_LINE_BYTES,
            num_threads=num_threads,
            minloglevel=2,
        )
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise TokenizerError(
            f"cannot train a tokenizer of {vocab_size} pieces: {reason}; choose another size or give it more text"
        ) from error
    path = folder / MODEL_FILE
    path.write_bytes(model.getvalue())
    return path


def sample_windows(texts: Iterable[str], num_chars: int, seed: int = 0) -> Iterator[str]:
    """One window of at most `num_chars` characters from each text, at a place drawn from `seed`.

    A sample of every document teaches a vocabulary more than the whole of a few.
    """
    rng = random.Random(seed)
    for text in texts:
        start = rng.randrange(max(1, len(text) - num_chars + 1))
        yield text[start : start + num_chars]


def _lines(texts: Iterable[str]) -> Iterator[str]:
    """The lines of the texts without newlines (which are symbols of their own), none too long for the trainer."""
    for text in texts:
        # U+2581 stands for a space in pieces, so it cannot be learnt as itself.
        for line in text.replace("\u2581", " ").split("\n"):
            for start in range(0, len(line), _MAX_LINE_BYTES // 4):
                yield line[start : start + _MAX_LINE_BYTES // 4]
