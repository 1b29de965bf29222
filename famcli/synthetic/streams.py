"""Episodes placed in filler: tokens of real text with statements and questions hidden between its sentences.

Streams are made as they are read, so their length costs no memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from famcli.synthetic.episodes import Episode, RecallQuestion, statements_of
from famcli.tokens.tokenizer import Ids, Tokenizer

PIECE = 4096
"""The most tokens of filler in one yielded piece."""

# A statement is moved on by at most this many tokens to reach the end of a sentence.
_LOOK_AHEAD = 64
ANSWER, STATEMENT = 1, 2
"""What a token of a training document is; 0 if it is neither."""
Marks = NDArray[np.int8]
_Insert = tuple[int, Ids, int, int]
"""(filler tokens before it, its token ids, what the last of them are, and how many)."""


class Filler:
    """An endless stream of tokens: whole documents in random order.

    tokens: those of all documents one after the other, possibly a memory map. offsets [documents + 1]: where each
    document begins, and where the last one ends. The first document is drawn by its length and entered at a random
    place; the next ones are drawn in the same way and read from their start. Raises ValueError if there is no token.
    """

    def __init__(self, tokens: NDArray[np.integer], offsets: NDArray[np.int64], rng: np.random.Generator) -> None:
        self._tokens, self._offsets, self._rng = tokens, offsets, rng
        if not 0 <= offsets[0] < offsets[-1] <= len(tokens):
            raise ValueError("filler needs at least one document that is not empty")
        self._place, self._end = self._draw()

    def take(self, count: int) -> Ids:
        """The next `count` tokens [count] int32."""
        parts, missing = [np.empty(0, np.int32)], count
        while missing:
            part = np.asarray(self._tokens[self._place : min(self._end, self._place + missing)], dtype=np.int32)
            parts.append(part)
            missing -= len(part)
            self._place += len(part)
            if self._place == self._end:
                self._end = self._draw()[1]
                # Only the first document is entered in its middle.
                self._place = int(self._offsets[np.searchsorted(self._offsets, self._end) - 1])
        return np.concatenate(parts)

    def _draw(self) -> tuple[int, int]:
        """A random place, every token equally likely, and where its document ends."""
        place = int(self._rng.integers(self._offsets[0], self._offsets[-1]))
        return place, int(self._offsets[np.searchsorted(self._offsets, place, side="right")])


def question_ids(question: RecallQuestion, tokenizer: Tokenizer) -> tuple[Ids, Ids]:
    """Tokens of the question up to the answer, with a space before it, and of the answer without its full stop."""
    return _ids(" " + question.text, tokenizer), _ids(question.answer, tokenizer)


def num_statement_tokens(episode: Episode, tokenizer: Tokenizer) -> int:
    """Tokens of all statements of `episode`: the length of the shortest stream that holds them."""
    return sum(len(_ids(" " + statement, tokenizer)) for statement in statements_of(episode))


def layout(
    episode: Episode,
    tokenizer: Tokenizer,
    filler: Filler,
    num_tokens: int,
    rng: np.random.Generator,
    depths: Sequence[float] | None = None,
) -> Iterator[Ids]:
    """The statements of `episode` in filler: `num_tokens` in all, in pieces of at most a few thousand.

    depths: where each statement goes, as a share of the filler (0 is the start, 1 the end). Without it, places are
    drawn uniformly, in the order of the episode. Raises ValueError if the statements are longer than `num_tokens`.
    """
    statements = [_ids(" " + statement, tokenizer) for statement in statements_of(episode)]
    num_filler = _num_filler(statements, num_tokens)
    if depths is None:
        places = sorted(rng.integers(0, num_filler + 1, len(statements)).tolist())
    else:
        places = [round(depth * num_filler) for depth in depths]
    inserts = [(place, ids, 0, 0) for place, ids in zip(places, statements, strict=True)]
    # The sort is stable: statements at one place keep their order.
    inserts.sort(key=lambda insert: insert[0])
    return (ids for ids, _, _ in _lay(inserts, tokenizer, filler, num_filler))


def embed(
    episode: Episode, tokenizer: Tokenizer, filler: Filler, num_tokens: int, rng: np.random.Generator
) -> tuple[Ids, Marks]:
    """A whole training document: ids [num_tokens] int32, and marks [num_tokens] of what answers and statements are.

    Each question is followed by its answer and a full stop, both marked as an answer. Places are uniform, in the order
    of the episode, but questions after the last statement stand at the very end. No BOS. Raises ValueError if the
    episode is longer than `num_tokens`.
    """
    stop = _ids(".", tokenizer)
    pieces, marked = list[Ids](), list[tuple[int, int]]()
    for part in episode:
        if isinstance(part, RecallQuestion):
            asked, answer = question_ids(part, tokenizer)
            pieces.append(np.concatenate((asked, answer, stop)))
            marked.append((ANSWER, len(answer) + len(stop)))
        else:
            pieces.append(_ids(" " + part, tokenizer))
            marked.append((STATEMENT, len(pieces[-1])))
    num_filler = _num_filler(pieces, num_tokens)
    places = np.sort(rng.integers(0, num_filler + 1, len(pieces)))
    last_statement = max((i for i, part in enumerate(episode) if isinstance(part, str)), default=-1)
    places[last_statement + 1 :] = num_filler
    inserts = [(place, ids, *how) for place, ids, how in zip(places.tolist(), pieces, marked, strict=True)]
    laid = list(_lay(inserts, tokenizer, filler, num_filler))
    marks, end = np.zeros(num_tokens, dtype=np.int8), 0
    for ids, mark, count in laid:
        end += len(ids)
        marks[end - count : end] = mark
    return np.concatenate([ids for ids, _, _ in laid]), marks


def _num_filler(pieces: Sequence[Ids], num_tokens: int) -> int:
    """Tokens of filler that fit beside `pieces`."""
    taken = sum(map(len, pieces))
    if taken > num_tokens:
        raise ValueError(f"{taken} tokens of statements and questions do not fit into {num_tokens}")
    return num_tokens - taken


def _lay(
    inserts: Sequence[_Insert], tokenizer: Tokenizer, filler: Filler, num_filler: int
) -> Iterator[tuple[Ids, int, int]]:
    """Filler and `inserts` (places ascending) in order, as (ids, what the last of them are, and how many)."""
    # Filler that was looked at but not yielded. It begins at the start of a sentence.
    ahead = filler.take(_LOOK_AHEAD)
    ahead = ahead[1 + _next_break(tokenizer, int(ahead[0]), ahead[1:]) :]
    done, before = 0, -1
    # The last insert is nothing, after all of the filler.
    for place, ids, mark, count in (*inserts, (num_filler, ahead[:0], 0, 0)):
        while done < place:
            piece, ahead = _take(filler, ahead, min(place - done, PIECE))
            done, before = done + len(piece), int(piece[-1])
            yield piece, 0, 0
        if 0 < done < num_filler:
            seen, ahead = _take(filler, ahead, min(_LOOK_AHEAD, num_filler - done))
            skip = _next_break(tokenizer, before, seen)
            ahead = np.concatenate((seen[skip:], ahead))
            if skip:
                done, before = done + skip, int(seen[skip - 1])
                yield seen[:skip], 0, 0
        yield ids, mark, count


def _take(filler: Filler, ahead: Ids, count: int) -> tuple[Ids, Ids]:
    """`count` tokens, those of `ahead` first, and the rest of `ahead`."""
    if len(ahead) < count:
        ahead = np.concatenate((ahead, filler.take(count - len(ahead))))
    return ahead[:count], ahead[count:]


def _next_break(tokenizer: Tokenizer, before: int, tokens: Ids) -> int:
    """How many of `tokens`, which follow the token `before`, to skip to stand after a sentence, or else after a word.

    0 if there is neither.
    """
    begins_word, ends_sentence = _break_tokens(tokenizer)  # type: ignore[arg-type]  # every tokenizer can be hashed
    words = begins_word[tokens]
    previous = np.concatenate(([before], tokens[:-1]))
    for candidates in (np.flatnonzero(words & ends_sentence[previous]), np.flatnonzero(words)):
        if len(candidates):
            return int(candidates[0])
    return 0


# Decoding the whole vocabulary takes a second for a large tokenizer, and every stream needs it.
@lru_cache(maxsize=8)
def _break_tokens(tokenizer: Tokenizer) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Masks [v] of the tokens that begin with white space, and of those that end a sentence."""
    contents = [tokenizer.token_bytes(token) for token in range(tokenizer.vocab_size)]
    return (
        np.array([content[:1].isspace() for content in contents]),
        np.array([content.rstrip(b"\"')").endswith((b".", b"!", b"?", b"\n")) for content in contents]),
    )


def _ids(text: str, tokenizer: Tokenizer) -> Ids:
    return np.array(tokenizer.encode(text), dtype=np.int32)
