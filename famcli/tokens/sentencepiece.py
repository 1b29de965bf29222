"""sentencepiece models: those of pretrained decoders that bring a tokenizer.model, and training those that ship.

Three things differ from calling the library. A literal U+2581, which sentencepiece takes for a space, is encoded by
its bytes. User-defined symbols that look like control tokens never match in text. And text is encoded as a part of a
longer one, so that streams can be cut: the proof is in `SentencePieceTokenizer.safe_cut`.

A model is trained to keep every text exactly. sentencepiece's defaults normalise text, squeeze spaces and put one in
front; all of that is off. Newline and tab are symbols, what the vocabulary lacks falls back to bytes, and no piece
spans the start of a word, which makes cuts of a stream safe.
"""

from __future__ import annotations

import io
import os
import random
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import sentencepiece

from famcli.errors import TokenizerError
from famcli.tokens.sentencepiece_model import PieceType, SentencePieceModel, parse_model
from famcli.tokens.tokenizer import (
    MODEL_FILE,
    AddedToken,
    Ids,
    Offsets,
    Tokenizer,
    fingerprint_of,
    read_bytes,
    read_config,
    token_name,
    without_surrogates,
)

SPACE = "\u2581"
_MAX_LINE_BYTES = 1 << 16


class SentencePieceTokenizer(Tokenizer):
    """A tokenizer.model: byte-pair or unigram, with or without byte fallback and normalisation.

    Added tokens of the files beside it are control tokens: text never becomes one. `bos_id` and `eos_id` are those
    that tokenizer_config.json names, else the model's own. converted: the model, when it was made from another file,
    `path`. Raises TokenizerError when a file is missing, damaged, or of another kind of model.
    """

    def __init__(self, path: str | os.PathLike[str], converted: bytes | None = None) -> None:
        self.path = Path(path)
        config, beside, files = ({}, (), ()) if converted is not None else read_config(self.path.parent)
        beside_it: dict[str, Path | bytes] = {file.name: file for file in (self.path, *files)}
        self.files = beside_it if converted is None else {MODEL_FILE: converted}
        content = read_bytes(self.path) if converted is None else converted
        model = parse_model(content, str(self.path))
        try:
            self._processor = sentencepiece.SentencePieceProcessor(model_proto=model.streaming)
        except RuntimeError as error:
            raise TokenizerError(f"{self.path} is no sentencepiece model: fetch or copy the file again") from error
        added = [token for token in beside if token.id >= len(model.pieces)]
        self.vocab_size = max([len(model.pieces), *(token.id + 1 for token in added)])
        # The model's control pieces, as the files beside it describe them, and the tokens that these add.
        described = {token.id: token for token in beside}
        controls = model.ids(PieceType.CONTROL) | {token.content: token.id for token in added}
        self.control_tokens = {name: described.get(index, AddedToken(name, index)) for name, index in controls.items()}
        self.fingerprint = fingerprint_of(content, *(repr(token).encode() for token in added))
        self.bos_id = self._named(config, "bos_token", self._processor.bos_id())
        self.eos_id = self._named(config, "eos_token", self._processor.eos_id())
        self._dummy_prefix, self._is_unigram = model.add_dummy_prefix, model.is_unigram
        self._bytes = [_piece_bytes(*piece) for piece in model.pieces]
        self._bytes += [b""] * (self.vocab_size - len(self._bytes))
        for token in added:
            self._bytes[token.id] = b"" if token.special else token.content.encode()
        self._lengths = np.array([len(content) for content in self._bytes], dtype=np.int64)
        byte_ids = model.ids(PieceType.BYTE)
        self._space_bytes = None if len(byte_ids) < 256 else [byte_ids[f"<0x{byte:02X}>"] for byte in SPACE.encode()]
        # With byte fallback, a piece for the space and no normalisation, every id stands for exactly its bytes. Without
        # that piece a space would be spelled by the bytes of U+2581.
        has_space = any(text == SPACE and kind is not PieceType.CONTROL for text, kind in model.pieces)
        self._exact = not model.normalises and self._space_bytes is not None and has_space
        self._is_byte = np.zeros(self.vocab_size, dtype=bool)
        self._is_byte[list(byte_ids.values())] = True
        self._joined = _joined_pairs(model)
        self._openers = {pair[0] for pair in self._joined}

    def encode(self, text: str) -> list[int]:
        """Ids of `text` as a part of a longer text; a literal U+2581 becomes its three bytes."""
        ids: list[int] = []
        for part in self._parts(without_surrogates(text)):
            if part == SPACE and self._space_bytes is not None:
                ids += self._space_bytes
            elif self._is_unigram:
                ids += [token for atom in self._processor.encode(self._atoms(part)) for token in atom]
            else:
                ids += self._processor.encode(part)
        return ids

    def encode_offsets(self, text: str) -> tuple[Ids, Offsets]:
        """Ids [n] and the character where each ends [n]."""
        if not self._exact:
            return self._encode_mapped(without_surrogates(text))
        ids = np.array(self.encode(text), dtype=np.int32)
        ends = np.cumsum(self._lengths[ids], dtype=np.int64)
        if not text.isascii():
            raw = np.frombuffer(without_surrogates(text).encode(), dtype=np.uint8)
            # Characters begun by each byte: the bytes of one character all point at its end.
            ends = np.cumsum((raw & 0xC0) != 0x80, dtype=np.int64)[ends - 1]
        return ids, ends

    def opening(self, text: str) -> str:
        """A space where the model was trained with one in front of every text."""
        return " " if self._dummy_prefix and text else ""

    def token_bytes(self, token: int) -> bytes:
        """UTF-8 bytes of one id; empty for control tokens."""
        return self._bytes[token]

    def safe_cut(self, text: str, low: int = 0) -> int:
        """The last place where no piece can span the two characters beside it.

        Proof for byte-pair encoding. A token is one symbol of the text or the merge of two adjacent ones into a piece
        of the vocabulary. If no piece holds text[p - 1] directly followed by text[p] (a space counting as U+2581), no
        merge ever joins symbols from both sides of p; merges on either side are chosen by score, then by position, and
        change nothing on the other side; so the two sides come out as if encoded alone. User-defined symbols are
        matched from left to right, longest first, and are pieces too: none spans p, so matching always stops there.
        A literal U+2581 is encoded apart and cuts on both sides. In models trained to split at whitespace no piece
        holds a letter before U+2581, so every start of a word is such a place; so is the end of a newline, after which
        nothing joins. Unigram models are *defined* here as encoding what is between such places piece by piece: their
        scores are sums in single precision, which a longer text would round differently.

        Without byte fallback the library merges neighbouring unknown characters, and with a normaliser it maps
        sequences of characters: there, only a space after an ASCII letter or digit counts.
        """
        if self._exact and len(text) > low and text[-1] not in self._openers:
            return len(text)
        return self._last_cut(text, len(text), low)

    def _named(self, config: Mapping[str, Any], key: str, own: int) -> int | None:
        """The id of the token that the configuration names; without a name the model's own, below 0 if it has none."""
        name = token_name(config, key)
        token = None if name is None else self.control_tokens.get(name)
        return token.id if token is not None else own if own >= 0 else None

    def _last_cut(self, text: str, end: int, low: int) -> int:
        """The last safe place between two characters with low < place < end, 0 if there is none."""
        joined, exact = self._joined, self._exact
        for place in range(end - 1, low, -1):
            pair = text[place - 1 : place + 1]
            if pair not in joined and (exact or (pair[1] == " " and pair[0].isascii() and pair[0].isalnum())):
                return place
        return 0

    def _atoms(self, text: str) -> list[str]:
        """The text cut at every safe place."""
        places = [len(text)]
        while places[-1] > 0:
            places.append(self._last_cut(text, places[-1], 0))
        places.reverse()
        return [text[begin:end] for begin, end in pairwise(places)]

    def _parts(self, text: str) -> list[str]:
        """The text around each literal U+2581, and these, where the model can spell them in bytes."""
        return [text] if self._space_bytes is None else re.split(f"({SPACE})", text)

    def _encode_mapped(self, text: str) -> tuple[Ids, Offsets]:
        """Offsets where ids do not spell the text: taken from the library, atom by atom."""
        ids: list[int] = []
        ends: list[int] = []
        offset = 0
        for atom in self._atoms(text) if self._is_unigram else [text]:
            for part in self._parts(atom):
                if part == SPACE and self._space_bytes is not None:
                    ids += self._space_bytes
                    ends += [offset + 1] * len(self._space_bytes)
                else:
                    mapping = self._processor.EncodeAsOffsetMapping(part)
                    ids += mapping["ids"]
                    ends += [offset + end for _, end in mapping["offsets"]]
                offset += len(part)
        tokens, places = np.array(ids, dtype=np.int32), np.array(ends, dtype=np.int64)
        if not ids:
            return tokens, places
        # Byte pieces but the last of a character have no width in the library: give them the character's end.
        places[-1] = len(text)
        inside = self._is_byte[tokens] & (np.diff(places, prepend=0) == 0)
        last = np.minimum.accumulate(np.where(inside, len(ids) - 1, np.arange(len(ids)))[::-1])[::-1]
        return tokens, np.maximum.accumulate(places[last])


def _piece_bytes(piece: str, kind: PieceType) -> bytes:
    if kind is PieceType.CONTROL:
        return b""
    if kind is PieceType.UNKNOWN:
        return "\ufffd".encode()
    if kind is PieceType.BYTE:
        return bytes([int(piece[3:5], 16)])
    return piece.replace(SPACE, " ").encode()


def _joined_pairs(model: SentencePieceModel) -> frozenset[str]:
    """All pairs of neighbouring characters inside pieces that text can become, with U+2581 as the space it is."""
    pairs: set[str] = set()
    for piece, kind in model.pieces:
        if kind in (PieceType.NORMAL, PieceType.USER_DEFINED, PieceType.UNUSED):
            text = piece.replace(SPACE, " ")
            pairs.update(text[index : index + 2] for index in range(len(text) - 1))
    return frozenset(pairs)


def train_sentencepiece(
    texts: Iterable[str], vocab_size: int, folder: str | os.PathLike[str], *, num_threads: int = 1
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
            character_coverage=0.9997,
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


def sample_windows(texts: Iterable[str], num_chars: int) -> Iterator[str]:
    """One window of at most `num_chars` characters from each text, at a place that is drawn, the same each time.

    A sample of every document teaches a vocabulary more than the whole of a few.
    """
    rng = random.Random(0)
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
