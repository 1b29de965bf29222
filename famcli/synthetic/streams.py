"""Episodes laid out in filler: tokens of real text with statements and questions at places of their own.

A place is moved on to where a sentence of the filler ends, else to where a word begins, so that what is hidden stands
between sentences. Pieces go out as they are made: what is held does not grow with the length of the stream.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from famcli.synthetic.episodes import Episode, Question, Statement
from famcli.synthetic.filler import Filler
from famcli.tokens.tokenizer import Ids, Tokenizer

PIECE = 4096
"""Tokens of filler in one piece at most."""

_LOOK_AHEAD = 64  # tokens within which a place is moved on


@dataclass(frozen=True, eq=False)
class _Run:
    """Tokens put in at filler token `place`; the last `num_answer` of them are an answer."""

    place: int
    ids: Ids
    num_answer: int = 0


def question_ids(question: Question, tokenizer: Tokenizer) -> tuple[Ids, Ids]:
    """Tokens of the question up to the answer, with a space in front of it, and of the answer without its point."""
    return _ids(" " + question.text, tokenizer), _ids(question.answer, tokenizer)


def num_statement_tokens(episode: Episode, tokenizer: Tokenizer) -> int:
    """Tokens of all statements of `episode`: the shortest stream that holds them."""
    return sum(len(_ids(" " + part.text, tokenizer)) for part in episode if isinstance(part, Statement))


def layout(
    episode: Episode,
    tokenizer: Tokenizer,
    filler: Filler,
    num_tokens: int,
    rng: np.random.Generator,
    depths: Sequence[float] | None = None,
) -> Iterator[Ids]:
    """The statements of `episode` in filler, in pieces of at most a few thousand tokens, `num_tokens` in all.

    depths: where each statement goes, as shares of the filler (0 is the start, 1 the end); drawn uniformly, in the
    order of the episode, if not given. Raises ValueError if the statements alone are longer than `num_tokens`.
    """
    runs = [_ids(" " + part.text, tokenizer) for part in episode if isinstance(part, Statement)]
    num_filler = _room(runs, num_tokens)
    if depths is None:
        places = np.sort(rng.integers(0, num_filler + 1, len(runs)))
    else:
        places = np.array([round(depth * num_filler) for depth in depths])
        order = np.argsort(places, kind="stable")
        places, runs = places[order], [runs[i] for i in order]
    placed = [_Run(int(place), ids) for place, ids in zip(places, runs, strict=True)]
    return (ids for ids, _ in _lay(placed, tokenizer, filler, num_filler))


def embed(
    episode: Episode,
    tokenizer: Tokenizer,
    filler: Filler,
    num_tokens: int,
    rng: np.random.Generator,
    *,
    question_at_end: bool = True,
) -> tuple[Ids, NDArray[np.bool_]]:
    """A whole training document: ids [num_tokens] int32, and which of them are answers [num_tokens] bool.

    Every question is followed by its answer and a point, both marked. Places are uniform, in the order of the episode;
    with `question_at_end` those questions that no statement follows stand at the very end, the last token being the
    last answer's point. No BOS. Raises ValueError if the episode alone is longer than `num_tokens`.
    """
    point = _ids(".", tokenizer)
    runs, answers = [], []
    for part in episode:
        if isinstance(part, Question):
            asked, answer = question_ids(part, tokenizer)
            runs.append(np.concatenate((asked, answer, point)))
            answers.append(len(answer) + len(point))
        else:
            runs.append(_ids(" " + part.text, tokenizer))
            answers.append(0)
    num_filler = _room(runs, num_tokens)
    places = np.sort(rng.integers(0, num_filler + 1, len(runs)))
    if question_at_end:
        last_statement = max((i for i, part in enumerate(episode) if isinstance(part, Statement)), default=-1)
        places[last_statement + 1 :] = num_filler
    placed = [_Run(int(place), ids, count) for place, ids, count in zip(places, runs, answers, strict=True)]
    pieces = list(_lay(placed, tokenizer, filler, num_filler))
    mask = np.zeros(num_tokens, dtype=np.bool_)
    end = 0
    for ids, num_answer in pieces:
        end += len(ids)
        mask[end - num_answer : end] = True
    return np.concatenate([ids for ids, _ in pieces]), mask


def _room(runs: Sequence[Ids], num_tokens: int) -> int:
    """How many tokens of filler there are beside `runs`."""
    taken = sum(map(len, runs))
    if taken > num_tokens:
        raise ValueError(f"{taken} tokens of statements and questions do not fit into {num_tokens}")
    return num_tokens - taken


def _lay(runs: Sequence[_Run], tokenizer: Tokenizer, filler: Filler, num_filler: int) -> Iterator[tuple[Ids, int]]:
    """Filler and `runs` (places ascending) in order, as (ids, how many of the last ones are an answer)."""
    breaks = _breaks(tokenizer)  # type: ignore[arg-type]  # every tokenizer can be hashed
    ahead = filler.take(_LOOK_AHEAD)  # filler that was looked at and not given out
    ahead = ahead[1 + breaks.next_place(int(ahead[0]), ahead[1:]) :]  # begin where a sentence begins
    done, before = 0, -1
    for run in runs:
        while done < run.place:
            count = min(run.place - done, PIECE)
            piece, ahead = _take(filler, ahead, count)
            done, before = done + count, int(piece[-1])
            yield piece, 0
        if 0 < done < num_filler:
            seen, ahead = _take(filler, ahead, min(_LOOK_AHEAD, num_filler - done))
            skip = breaks.next_place(before, seen)
            ahead = np.concatenate((seen[skip:], ahead))
            if skip:
                done, before = done + skip, int(seen[skip - 1])
                yield seen[:skip], 0
        yield run.ids, run.num_answer
    while done < num_filler:
        count = min(num_filler - done, PIECE)
        piece, ahead = _take(filler, ahead, count)
        done += count
        yield piece, 0


def _take(filler: Filler, ahead: Ids, count: int) -> tuple[Ids, Ids]:
    """`count` tokens, those of `ahead` first, and what is left of `ahead`."""
    if len(ahead) < count:
        ahead = np.concatenate((ahead, filler.take(count - len(ahead))))
    return ahead[:count], ahead[count:]


@dataclass(frozen=True, eq=False)
class _Breaks:
    """Which tokens begin with white space, and which end a sentence [v]."""

    begins_word: NDArray[np.bool_]
    ends_sentence: NDArray[np.bool_]

    def next_place(self, before: int, tokens: Ids) -> int:
        """How many of `tokens` (which follow token `before`) to pass so that a sentence, else a word, ends there."""
        words = self.begins_word[tokens]
        previous = np.concatenate(([before], tokens[:-1]))
        for candidates in (np.flatnonzero(words & self.ends_sentence[previous]), np.flatnonzero(words)):
            if len(candidates):
                return int(candidates[0])
        return 0


@lru_cache(maxsize=8)
def _breaks(tokenizer: Tokenizer) -> _Breaks:
    contents = [tokenizer.token_bytes(token) for token in range(tokenizer.vocab_size)]
    return _Breaks(
        np.array([content[:1].isspace() for content in contents]),
        np.array([content.rstrip(b"\"')").endswith((b".", b"!", b"?", b"\n")) for content in contents]),
    )


def _ids(text: str, tokenizer: Tokenizer) -> Ids:
    return np.array(tokenizer.encode(text), dtype=np.int32)
