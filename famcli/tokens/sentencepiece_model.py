"""Read and write sentencepiece model files, and prepare them for streams.

The file is a protocol buffer of a few fields; reading them here spares the core a dependency on protobuf. The library's
own accessors do not suffice: they neither tell user-defined symbols from other pieces nor let a type be changed. Fields
are numbered as in sentencepiece_model.proto.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

from famcli.errors import TokenizerError
from famcli.tokens.bounds import check_character_map

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class PieceType(IntEnum):
    """ModelProto.SentencePiece.Type."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


_UNIGRAM, _BPE = 1, 2  # TrainerSpec.ModelType, those that make tokens of parts of words


@dataclass(frozen=True)
class SentencePieceModel:
    """A parsed model. pieces: text and type of each id. is_unigram: else byte-pair encoding.

    streaming: the file changed so that it encodes parts of a text unchanged. No space is put in front, none is
    removed, and user-defined symbols that look like control tokens are control tokens.
    """

    pieces: list[tuple[str, PieceType]]
    is_unigram: bool
    add_dummy_prefix: bool
    normalises: bool
    streaming: bytes

    def ids(self, kind: PieceType) -> dict[str, int]:
        return {text: index for index, (text, own) in enumerate(self.pieces) if own is kind}


def parse_model(content: bytes, name: str) -> SentencePieceModel:
    """Parse a model file. Raises TokenizerError, which calls it `name`, if it is none."""
    try:
        return _parse(content, name)
    except (IndexError, ValueError) as error:
        if isinstance(error, TokenizerError):
            raise
        raise TokenizerError(f"{name} is no sentencepiece model: fetch or copy the file again") from error


def _parse(content: bytes, name: str) -> SentencePieceModel:
    pieces: list[tuple[str, PieceType]] = []
    streaming = bytearray()
    # Defaults of the proto: unigram, a dummy prefix, no character map.
    model_type, dummy_prefix, normalises = _UNIGRAM, 1, False
    for number, value in _fields(content):
        if not isinstance(value, bytes):
            continue
        if number == 1:
            fields = dict(_fields(value))
            raw, kind = fields.get(1, b""), PieceType(_integer(fields.get(3), PieceType.NORMAL))
            if not isinstance(raw, bytes):
                raise ValueError("a piece without text")
            text = raw.decode()
            # Runs of one character and of whitespace stand for themselves; names such as <|user|> are control tokens.
            if kind is PieceType.USER_DEFINED and not (len(set(text)) == 1 or text.isspace()):
                kind = PieceType.CONTROL
                # In a protocol buffer the last value of a field counts.
                value += bytes([0x18, kind])
            pieces.append((text, kind))
        elif number == 2:
            model_type = _integer(dict(_fields(value)).get(3), model_type)
        elif number == 3:
            spec = dict(_fields(value))
            dummy_prefix = _integer(spec.get(3), dummy_prefix)
            found = spec.get(2, b"")
            character_map = found if isinstance(found, bytes) else b""
            check_character_map(character_map, name)
            normalises = bool(character_map)
        streaming += _field(number, value)
    if not pieces:
        raise TokenizerError(f"{name} is no sentencepiece model: it holds no pieces; fetch or copy the file again")
    if model_type not in (_UNIGRAM, _BPE):
        raise TokenizerError(
            f"{name} is a sentencepiece model of words or characters: only BPE and unigram can be read"
        )
    # normalizer_spec, merged into the one before: no add_dummy_prefix, no remove_extra_whitespaces
    streaming += _field(3, bytes([3 << 3, 0, 4 << 3, 0]))
    return SentencePieceModel(pieces, model_type == _UNIGRAM, bool(dummy_prefix), normalises, bytes(streaming))


def _integer(value: int | bytes | None, default: int) -> int:
    return value if isinstance(value, int) else default


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a protocol buffer message in order: number and value."""
    place = 0
    while place < len(message):
        key, place = _read_varint(message, place)
        number, kind = key >> 3, key & 7
        value: int | bytes
        if kind == _VARINT:
            value, place = _read_varint(message, place)
        elif kind in (_BYTES, _FIXED64, _FIXED32):
            size, place = _read_varint(message, place) if kind == _BYTES else (8 if kind == _FIXED64 else 4, place)
            value = message[place : place + size]
            if len(value) != size:
                raise ValueError("cut short")
            place += size
        else:
            raise ValueError("not a protocol buffer")
        yield number, value


def _read_varint(message: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[place]
        value |= (byte & 0x7F) << shift
        place += 1
        if byte < 0x80:
            return value, place
        shift += 7
        # A hostile file could continue without end.
        if shift > 63:
            raise ValueError("not a protocol buffer")


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def build_model(pieces: Sequence[tuple[str, float, PieceType]], special_ids: Mapping[str, int], prefix: bool) -> bytes:
    """A byte-pair model file of `pieces` (text, score, type) that normalises nothing.

    special_ids: of "unk", "bos" and "eos", as far as there are any. prefix: a space is put in front of a text.
    """
    content = bytearray()
    for text, score, kind in pieces:
        piece = _field(1, text.encode()) + bytes([2 << 3 | _FIXED32]) + struct.pack("<f", score)
        content += _field(1, piece + bytes([3 << 3 | _VARINT, kind]))
    trainer = bytes([3 << 3 | _VARINT, _BPE])
    for name, number in (("unk", 40), ("bos", 41), ("eos", 42)):
        index = special_ids.get(name, -1)
        trainer += _varint(number << 3 | _VARINT) + _varint(index & (1 << 64) - 1)
    if any(kind is PieceType.BYTE for _, _, kind in pieces):
        trainer += _varint(35 << 3 | _VARINT) + b"\x01"  # byte_fallback
    content += _field(2, trainer)
    content += _field(3, _field(1, b"identity") + bytes([3 << 3, prefix, 4 << 3, 0, 5 << 3, 1]))
    return bytes(content)


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | _BYTES) + _varint(len(content)) + content
