"""sentencepiece models: those that ship here, and those of pretrained decoders that bring a tokenizer.model.

Three things differ from calling the library. A literal U+2581, which sentencepiece takes for a space, is encoded by
its bytes. User-defined symbols that look like control tokens never match in text. And text is encoded as a part of a
longer one, so that streams can be cut: the proof stands at `SentencePieceTokenizer.safe_cut`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import sentencepiece

from famcli.errors import TokenizerError
from famcli.tokens.added import Surroundings, named, read_bytes, read_surroundings
from famcli.tokens.sentencepiece_model import ModelType, PieceType, SentencePieceModel, parse_model
from famcli.tokens.tokenizer import (
    ControlToken,
    Ids,
    Offsets,
    control_tokens,
    copy_files,
    fingerprint_of,
    without_surrogates,
)

SPACE = "\u2581"
_REPLACEMENT = "\ufffd".encode()


class SentencePieceTokenizer:
    """A tokenizer.model: byte-pair or unigram, with or without byte fallback and normalisation.

    Added tokens of the files beside it are control tokens: text never becomes one. `bos_id` and `eos_id` are those
    that tokenizer_config.json names, else the model's own. `content`: of the model, where it is not the file `path`
    itself. Raises TokenizerError when a file is missing, damaged, or of another kind of model.
    """

    def __init__(self, path: str | os.PathLike[str], content: bytes | None = None) -> None:
        self._path = Path(path)
        self._made = content  # not from a file of its own
        beside = Surroundings((), (), {}, ()) if content is not None else read_surroundings(self._path.parent)
        content = read_bytes(self._path) if content is None else content
        model = parse_model(content, str(self._path))
        try:
            self._processor = sentencepiece.SentencePieceProcessor(model_proto=model.streaming)
        except RuntimeError as error:
            raise TokenizerError(f"{self._path} is no sentencepiece model: fetch or copy the file again") from error
        added = [token for token in beside.added if token.id >= len(model.pieces)]
        self.vocab_size: int = max([len(model.pieces), *(token.id + 1 for token in added)])
        self.control_ids: Mapping[str, int] = model.control_ids | {token.content: token.id for token in added}
        self.control_tokens: Mapping[str, ControlToken] = control_tokens(self.control_ids, beside.added)
        self.bos_id: int | None = self._named(beside, "bos_token", self._processor.bos_id())
        self.eos_id: int | None = self._named(beside, "eos_token", self._processor.eos_id())
        self.fingerprint = fingerprint_of(content, *(repr(token).encode() for token in added))
        self._beside = beside.files
        self._dummy_prefix = model.add_dummy_prefix
        self._unigram = model.model_type is ModelType.UNIGRAM
        self._bytes = [_piece_bytes(piece.text, piece.type) for piece in model.pieces]
        self._bytes += [b""] * (self.vocab_size - len(self._bytes))
        for token in added:
            self._bytes[token.id] = b"" if token.special else token.content.encode()
        self._lengths = np.array([len(content) for content in self._bytes], dtype=np.int64)
        self._space_bytes = _byte_ids(model, SPACE.encode())
        # With byte fallback, a piece for the space and no normalisation, every id stands for exactly its bytes.
        self._exact = not model.normalises and self._space_bytes is not None and _has_space(model)
        self._normalises = model.normalises
        self._is_byte = np.zeros(self.vocab_size, dtype=bool)
        self._is_byte[: len(model.pieces)] = [piece.type is PieceType.BYTE for piece in model.pieces]
        self._joined = _joined_pairs(model)
        self._openers = {pair[0] for pair in self._joined}

    @property
    def files(self) -> list[Path]:
        return [self._path, *self._beside]

    def encode(self, text: str) -> list[int]:
        """Ids of `text` as a part of a longer text; a literal U+2581 becomes its three bytes."""
        text = without_surrogates(text)
        if self._space_bytes is None or SPACE not in text:
            return self._encode_plain(text)
        ids: list[int] = []
        for index, part in enumerate(text.split(SPACE)):
            if index:
                ids += self._space_bytes
            ids += self._encode_plain(part)
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

    def section_opening(self, text: str) -> str:
        """Nothing: a text has one beginning."""
        return ""

    def decode(self, ids: Sequence[int]) -> str:
        """The concatenated bytes of the ids as UTF-8; exactly the text that `encode` was given."""
        return b"".join(self._bytes[token] for token in ids).decode("utf-8", errors="replace")

    def token_bytes(self, token: int) -> bytes:
        """UTF-8 bytes of one id; empty for control tokens."""
        return self._bytes[token]

    def safe_cut(self, text: str, final: bool = False, low: int = 0) -> int:
        """The last place where no piece can span the two characters beside it.

        Proof for byte-pair encoding. A token is one symbol of the text or the merge of two adjacent ones into a piece
        of the vocabulary. If no piece holds text[p - 1] directly followed by text[p] (a space counting as U+2581), no
        merge ever joins symbols from both sides of p; merges on either side are chosen by score, then by position, and
        change nothing on the other side; so the two sides come out as if encoded alone. User-defined symbols are
        matched from left to right, longest first, and are pieces too: none spans p, so matching always stops there.
        A literal U+2581 is encoded apart and cuts on both sides. In models trained to split at whitespace no piece
        holds a letter before U+2581, so every start of a word is such a place; so is the end of a newline, after which
        nothing joins. Unigram models are *defined* here as encoding what lies between such places one by one: their
        scores are sums in single precision, which a longer text would round differently.

        Without byte fallback the library merges neighbouring unknown characters, and with a normaliser it maps
        sequences of characters: there, only a space after an ASCII letter or digit counts.
        """
        length = len(text)
        if final:
            return length
        if self._exact:
            if length > low and text[-1] not in self._openers:
                return length
            joined = self._joined
            for place in range(length - 1, low, -1):
                if text[place - 1 : place + 1] not in joined:
                    return place
            return 0
        for place in range(length - 1, low, -1):
            if text[place] == " " and _ascii_word(before := text[place - 1]) and before + " " not in self._joined:
                return place
        return 0

    def save(self, folder: Path) -> None:
        """Copy the model, and what stands beside it, into `folder`."""
        if self._made is not None:
            (folder / "tokenizer.model").write_bytes(self._made)
        else:
            copy_files(self.files, folder)

    def _named(self, beside: Surroundings, key: str, own: int) -> int | None:
        name = named(beside.config, key)
        return self.control_ids.get(name, _control(own)) if name is not None else _control(own)

    def _encode_plain(self, text: str) -> list[int]:
        if not self._unigram:
            return list(self._processor.encode(text))
        return [token for ids in self._processor.encode(self._atoms(text)) for token in ids]

    def _atoms(self, text: str) -> list[str]:
        """The text cut at every safe place."""
        atoms = []
        end = len(text)
        while end > 0:
            # Places up to end - 1 only: the end itself is a cut already.
            begin = self._cut_before(text, end)
            atoms.append(text[begin:end])
            end = begin
        return atoms[::-1]

    def _cut_before(self, text: str, end: int) -> int:
        for place in range(end - 1, 0, -1):
            pair = text[place - 1 : place + 1]
            if pair not in self._joined and (self._exact or (pair[1] == " " and _ascii_word(pair[0]))):
                return place
        return 0

    def _encode_mapped(self, text: str) -> tuple[Ids, Offsets]:
        """Offsets where ids do not spell the text: taken from the library, atom by atom."""
        ids: list[int] = []
        ends: list[int] = []
        offset = 0
        for atom in self._atoms(text) if self._unigram else [text]:
            for part, literal in self._literals(atom):
                if literal:
                    ids += self._space_bytes or []
                    ends += [offset + 1] * len(self._space_bytes or [])
                else:
                    mapping = self._processor.EncodeAsOffsetMapping(part)
                    ids += mapping["ids"]
                    ends += [offset + end for _, end in mapping["offsets"]]
                offset += len(part)
        return self._settle(np.array(ids, dtype=np.int32), np.array(ends, dtype=np.int64), len(text))

    def _literals(self, text: str) -> list[tuple[str, bool]]:
        if self._space_bytes is None or SPACE not in text:
            return [(text, False)]
        parts: list[tuple[str, bool]] = []
        for index, part in enumerate(text.split(SPACE)):
            if index:
                parts.append((SPACE, True))
            parts.append((part, False))
        return parts

    def _settle(self, ids: Ids, ends: Offsets, length: int) -> tuple[Ids, Offsets]:
        """Byte pieces but the last of a character have no width in the library: give them the character's end."""
        if not len(ids):
            return ids, ends
        ends[-1] = length
        starts = np.concatenate(([0], ends[:-1]))
        index = np.arange(len(ids))
        inside = self._is_byte[ids] & (ends == starts)
        last = np.minimum.accumulate(np.where(inside, len(ids) - 1, index)[::-1])[::-1]
        return ids, np.maximum.accumulate(ends[last])


def _control(token: int) -> int | None:
    return token if token >= 0 else None


def _ascii_word(character: str) -> bool:
    return character.isascii() and character.isalnum()


def _piece_bytes(piece: str, kind: PieceType) -> bytes:
    if kind is PieceType.CONTROL:
        return b""
    if kind is PieceType.UNKNOWN:
        return _REPLACEMENT
    if kind is PieceType.BYTE:
        return bytes([int(piece[3:5], 16)])
    return piece.replace(SPACE, " ").encode()


def _has_space(model: SentencePieceModel) -> bool:
    """Whether a space is a piece; else it would be spelled by the bytes of U+2581, which is what stands for it."""
    return any(piece.text == SPACE and piece.type is not PieceType.CONTROL for piece in model.pieces)


def _byte_ids(model: SentencePieceModel, content: bytes) -> list[int] | None:
    """The byte-fallback ids that spell `content`, None in a model without them."""
    table = {piece.text: index for index, piece in enumerate(model.pieces) if piece.type is PieceType.BYTE}
    if len(table) < 256:
        return None
    return [table[f"<0x{byte:02X}>"] for byte in content]


def _joined_pairs(model: SentencePieceModel) -> frozenset[str]:
    """All pairs of neighbouring characters inside pieces that text can become, with U+2581 as the space it is."""
    pairs: set[str] = set()
    for piece in model.pieces:
        if piece.type in (PieceType.NORMAL, PieceType.USER_DEFINED, PieceType.UNUSED):
            text = piece.text.replace(SPACE, " ")
            pairs.update(text[index : index + 2] for index in range(len(text) - 1))
    return frozenset(pairs)
