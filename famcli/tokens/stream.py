"""Tokens as a stream: text comes in pieces of any size, token ids with spans of source bytes go out.

The tokens do not depend on where the pieces end. Text is encoded up to the last place that no token can span
(`Tokenizer.safe_cut`); the rest waits for more. A text without such a place for `MAX_UNCUT` characters is
cut there, counted from the last cut: a rule of the text alone, so it too is the same for every reading. `encode_text`
is the whole text under the same rule.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from famcli.tokens.tokenizer import Ids, Offsets, Tokenizer

# Bounds what is pending, and the tokenizers' time, which grows with the square of the length of an uncut text in some.
MAX_UNCUT = 8192
# Characters encoded in one call, which bounds what the tokenizer's library holds.
_CHUNK = 1 << 16


@dataclass(frozen=True)
class TokenRun:
    """Consecutive tokens: ids [n], and the source bytes [starts, ends) each stands for [n].

    Spans follow one another without gaps, except that the tokens of one character (its bytes) all carry its span.
    """

    ids: Ids
    starts: Offsets
    ends: Offsets

    def __len__(self) -> int:
        return len(self.ids)

    @staticmethod
    def empty() -> TokenRun:
        return TokenRun(np.empty(0, np.int32), np.empty(0, np.int64), np.empty(0, np.int64))

    @staticmethod
    def join(runs: Sequence[TokenRun]) -> TokenRun:
        if len(runs) <= 1:
            return runs[0] if runs else TokenRun.empty()
        return TokenRun(
            np.concatenate([run.ids for run in runs]),
            np.concatenate([run.starts for run in runs]),
            np.concatenate([run.ends for run in runs]),
        )

    def __getitem__(self, part: slice) -> TokenRun:
        return TokenRun(self.ids[part], self.starts[part], self.ends[part])


class StreamEncoder:
    """Encodes one text that comes in pieces.

    start: source offset where the text begins or continues. begun: True if tokens of this text came before, so that
    no opening prefix is added; by default that is so when `start` is not 0. cut_after: a character after which no token
    continues; each part up to it is encoded as a text of its own.
    """

    def __init__(
        self, tokenizer: Tokenizer, start: int = 0, *, begun: bool | None = None, cut_after: str | None = None
    ) -> None:
        self._tokenizer, self._cut_after = tokenizer, cut_after
        self._begun = start > 0 if begun is None else begun
        self._text = ""
        self._offsets: Offsets = np.array([start], dtype=np.int64)
        self._span_start = start  # where the span of the next token begins

    @property
    def pending_start(self) -> int:
        """Source offset of the first character whose tokens are not settled: where a later encoder continues."""
        return int(self._offsets[0])

    @property
    def begun(self) -> bool:
        """True once tokens of the text went out: for a later encoder that continues."""
        return self._begun

    def copy(self) -> StreamEncoder:
        """An independent encoder in the same state: flush it to see how the text would end here."""
        twin = StreamEncoder(self._tokenizer, begun=self._begun, cut_after=self._cut_after)
        twin._text, twin._offsets, twin._span_start = self._text, self._offsets, self._span_start
        return twin

    def flush(self) -> TokenRun:
        """The tokens of what is pending, now that nothing follows."""
        if not self._text:
            return TokenRun.empty()
        run = self._encode(self._text, self._offsets)
        self._text, self._offsets = "", self._offsets[-1:].copy()
        return run

    def feed(self, text: str, offsets: Offsets) -> TokenRun:
        """The tokens that are settled once `text` is read, which follows the text before it in the source.

        offsets: source offset of every character and of the end [len(text) + 1].
        """
        # No place up to here is a cut: the pending text was searched before.
        low = max(0, len(self._text) - 1)
        if self._text:
            assert offsets[0] == self._offsets[-1], "pieces must follow one another"
            offsets = np.concatenate((self._offsets[:-1], offsets))
            text = self._text + text
        elif offsets[0] > self._offsets[0]:
            # A byte-order mark was skipped: it belongs to no token.
            self._span_start = int(offsets[0])
        runs = []
        begin = place = 0  # text[begin:place] is settled, and not encoded yet
        while place < len(text):
            window = text[place : place + MAX_UNCUT]
            cut, low = self._safe_cut(window, low), 0
            forced = not cut and len(window) == MAX_UNCUT
            if not cut and not forced:
                break
            place += cut or len(window)
            # What comes before a forced cut must not be encoded together with what follows: the tokens would differ.
            if forced or place - begin >= _CHUNK:
                runs.append(self._encode(text[begin:place], offsets[begin : place + 1]))
                begin = place
        if place > begin:
            runs.append(self._encode(text[begin:place], offsets[begin : place + 1]))
        # A view would keep the whole piece's offsets alive.
        self._text, self._offsets = text[place:], offsets[place:].copy() if place else offsets
        return TokenRun.join(runs)

    def _safe_cut(self, text: str, low: int) -> int:
        if self._cut_after is None:
            return self._tokenizer.safe_cut(text, low=low)
        ended = text.rfind(self._cut_after, low) + 1
        return self._tokenizer.safe_cut(text, low=max(low, ended)) or ended

    def _encode_parts(self, text: str) -> tuple[Ids, Offsets]:
        """`Tokenizer.encode_offsets`, under the cut rule."""
        if self._cut_after is None or self._cut_after not in text[:-1]:
            return self._tokenizer.encode_offsets(text)
        *whole, rest = text.split(self._cut_after)
        ids, ends, place = list[Ids](), list[Offsets](), 0
        for part in (*(each + self._cut_after for each in whole), rest):
            part_ids, part_ends = self._tokenizer.encode_offsets(part)
            ids.append(part_ids)
            ends.append(part_ends + place)
            place += len(part)
        return np.concatenate(ids), np.concatenate(ends)

    def _encode(self, text: str, offsets: Offsets) -> TokenRun:
        opening = "" if self._begun else self._tokenizer.opening(text)
        self._begun = True
        ids, char_ends = self._encode_parts(opening + text)
        # A normaliser dropped all of it: the next token's span begins here.
        if not len(ids):
            return TokenRun.empty()
        if opening:
            char_ends = np.maximum(char_ends - len(opening), 0)
        ends = offsets[char_ends]
        starts = np.concatenate(([self._span_start], ends[:-1]))
        # Tokens that end at the same byte share one span: that of the first.
        first = np.maximum.accumulate(np.where(np.diff(ends, prepend=-1) > 0, np.arange(len(ends)), 0))
        self._span_start = int(ends[-1])
        return TokenRun(ids, starts[first], ends)


class StreamDecoder:
    """Turns ids into text one by one, giving out whole characters only. Invalid UTF-8 becomes U+FFFD."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def feed(self, token: int) -> str:
        """The characters that are complete with this token."""
        return self._decoder.decode(self._tokenizer.token_bytes(token))

    def flush(self) -> str:
        """U+FFFD for an unfinished character at the end, else nothing."""
        return self._decoder.decode(b"", final=True)


def encode_text(tokenizer: Tokenizer, text: str) -> TokenRun:
    """Tokens of a whole text, with spans in its UTF-8 bytes: what any stream of it gives too."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
    widths = 1 + (codes >= 0x80).astype(np.int64) + (codes >= 0x800) + (codes >= 0x10000)
    encoder = StreamEncoder(tokenizer)
    offsets = np.concatenate((np.zeros(1, np.int64), np.cumsum(widths, dtype=np.int64)))
    return TokenRun.join([encoder.feed(text, offsets), encoder.flush()])
