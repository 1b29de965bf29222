"""A summary that the checkpoint writes: a note for each stretch of the text, and a last pass over the notes.

A checkpoint with a chat template reads each stretch inside a user's turn, which asks for the note before and after it
(prompts.py). Without a trained memory it begins each stretch anew, so that nothing but the stretch is in sight; with
one it reads on, and the turn is closed on a fork. What is written is checked sentence by sentence against the stretch:
a sentence with a name, number or quotation that the stretch does not have is struck, and each that stays keeps the
sentence of the text that supports it best. A note also quotes the sentence of its stretch that has most in common with
the others: what a small checkpoint writes is often true and beside the point (docs/experiments.md). Notes that outgrow
the window are joined two by two, so that what is held stays bounded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, groupby

from famcli.checkpoint.model import Model
from famcli.nn import State
from famcli.reading.generating import GeneratedText
from famcli.reading.reader import Reader
from famcli.tasks.grounding import Sources, support
from famcli.tasks.prompts import ABOUT, fill
from famcli.tasks.summarize.sentence_score import likeness, standardized
from famcli.tasks.summarize.summary_result import Quote, Struck, SummarizeConfig, WrittenSummary
from famcli.tasks.task import Stage
from famcli.tasks.written_text import TurnWriter
from famcli.text.context import context_dependence
from famcli.text.words import content_terms, num_words, similarity, word_set

# Tokens that a note is about: small checkpoints lose the thread of longer ones (docs/decisions.md).
_STRETCH = 1024
# Notes that are written side by side: reading a token costs about the same for several states as for one. The first
# note comes alone, so that there is something to see.
_TOGETHER = 4
_TOKENS_A_WORD = 1.6
_WORDS_A_TURN = 75
"""Words of the summary that are asked for at once, from their share of the notes: a small checkpoint writes no more."""

_LEAST_SUPPORT = 0.35
_LEAST_WORDS = 5  # of the sentence that a note quotes
_SAME = 0.6
"""Likeness of two sentences from which on the later one repeats the earlier."""

# A share of the words that were asked for that a part may go over, or stay below before notes fill it up.
_SLACK = 0.2
_NUMBER = re.compile(r"\s*\[\d{1,3}\]")
_ENDS = re.compile("[.!?\u2026\u3002\uff01\uff1f\u0964]['\")\\]\u201d\u2019]*$")


@dataclass(frozen=True)
class Note:
    """An event: a note was written. index: in the order of writing. level: 0 is about the text, more about notes."""

    index: int
    level: int
    text: str


@dataclass(frozen=True)
class _Held:
    """A note that is held: its sentences, and what supports each (None if no sentence of the text does). section: the
    title of the part of the text that it is about, if that has one. span: source bytes of what it is about."""

    level: int
    sentences: tuple[str, ...]
    quotes: tuple[Quote | None, ...]
    section: str | None = None
    span: tuple[int, int] = (0, 0)

    @property
    def text(self) -> str:
        return " ".join(self.sentences)


class Writer:
    """Writes notes while a text is read, and a summary at its end."""

    def __init__(self, model: Model, config: SummarizeConfig) -> None:
        """Raises CheckpointError for a chat template that cannot be used, UsageError for impossible settings."""
        self.model, self.config = model, config
        self.num_notes = 0
        self.of_talk = False  # what is read is what speakers say in turns: most of it is beside the point
        self.struck: list[Struck] = []
        self._pen = TurnWriter(model, config.sampling)
        self._notes: list[_Held] = []
        self._num_blocks, self._num_parts = 0, 1  # blocks since the last note, and parts begun until then
        self._num_stretches = 0
        self._writes = False  # anything that the text bears out
        self._waiting: list[tuple[State, list[Quote]]] = []
        fam = model.sidecar.fam
        self._window = (fam.memory_segments + 1) * fam.block_size
        # Tokens that are kept are what the text states, not what a turn asked for at its beginning.
        remembers = model.sidecar.memory_trained and fam.fam_length > 0 and not fam.keeps_tokens
        self._begins_anew = self._pen.chat is not None and not remembers
        in_sight = max(1, fam.memory_segments) if self._pen.chat is not None else fam.memory_segments + 1
        self._stretch = max(1, min(in_sight, _STRETCH // fam.block_size))
        max_words = str(max(8, int(config.max_note_tokens / _TOKENS_A_WORD)))
        self.opening, self._closing = self._pen.around("summarize_note", self._values(max_words))

    @property
    def doubt(self) -> str | None:
        """Why the result may be useless; None if the checkpoint is known to follow instructions."""
        if self._pen.chat is not None or self.model.sidecar.tasks.get("summarize") == "write":
            return None
        return (
            f"{self.model.name} is not known to follow instructions (its fam.json does not say that it writes "
            "summaries, and it has no chat template): what it writes may be nonsense; mode 'extract' quotes instead"
        )

    def after_block(self, reader: Reader, recent: list[Quote], num_parts: int) -> Iterator[Note]:
        """Write a note if a stretch of text, or a part of it, ended with the block.

        recent: the sentences read since the last note, which it empties then. num_parts: begun so far.
        """
        self._num_blocks += 1
        # A section gets a note of its own only where it is not much shorter than a stretch.
        part_ended = num_parts > self._num_parts and 2 * self._num_blocks >= self._stretch
        if self._num_blocks >= self._stretch or part_ended:
            self._num_parts = num_parts
            yield from self._note(reader, recent)
            if self._begins_anew:
                reader.restart()

    def write(
        self, reader: Reader, recent: list[Quote], quotes: Sequence[Quote], words: int
    ) -> Iterator[GeneratedText | Note | Stage | WrittenSummary]:
        """The summary in pieces as they are certain, then as a whole; the last note comes before it.

        quotes: sentences of the whole text, to cite where none of those behind the notes fits, and to quote where too
        little was written. words: asked for. The result's text is empty where nothing that was written is borne out by
        the text.
        """
        if not self._num_stretches:
            # The whole text is in sight: what is written of it is the summary.
            sentences = self._pen.sentences(self._whole(words), self._budget(words), reader.state, reader.last_hidden)
            held = self._checked(sentences, recent, level=0)
            groups = [[held]] if held.sentences else []
            drafts: Iterator[Iterator[str]] = iter([iter(held.sentences)] * len(groups))
        else:
            if recent:
                yield from self._note(reader, recent)
            yield from self._note_waiting()
            groups = self._groups(words)
            drafts = (self._draft(group, words // len(groups)) for group in groups)
        yield Stage(f"writing from {self.num_notes} notes" if self.num_notes else "writing")
        summary = _Summary(quotes)
        for number, (group, draft) in enumerate(zip(groups, drafts, strict=True)):
            missing = words * (number + 1) // len(groups) - summary.num_words
            if self.config.sections and (title := group[0].section):
                yield GeneratedText(summary.heading(title))
            for piece in summary.part(draft, group, missing):
                yield GeneratedText(piece)
        yield WrittenSummary(summary.text, summary.quotes, self.num_notes, tuple(self.struck))

    # ------------------------------------------------------------------------------------------------ notes

    def _groups(self, words: int) -> list[list[_Held]]:
        """The notes in parts of about as much text, each for a turn; by section where sections are asked for."""
        if self.config.sections:
            return [list(some) for _, some in groupby(self._notes, key=lambda note: note.section)]
        total = len(self._notes)
        count = min(total, max(1, round(words / _WORDS_A_TURN)))
        return [self._notes[total * i // count : total * (i + 1) // count] for i in range(count)]

    def _note(self, reader: Reader, recent: list[Quote]) -> Iterator[Note]:
        self._num_blocks = 0
        self._num_stretches += 1
        read, recent[:] = list(recent), []
        # What frames a book (its archive's words) has no sentences here, and needs no note.
        if not read:
            return
        # Whole stretches of a checkpoint that begins each anew have states of one shape, and can be noted together.
        if self._begins_anew and reader.state.fill == 0 and self._num_stretches > 1:
            self._waiting.append((reader.state, read))
            if len(self._waiting) >= _TOGETHER:
                yield from self._note_waiting()
            return
        yield from self._note_waiting()
        max_tokens = self.config.max_note_tokens
        sentences = self._pen.sentences(self._closing, max_tokens, reader.state, reader.last_hidden)
        yield from self._add(self._noted(sentences, read))

    def _note_waiting(self) -> Iterator[Note]:
        waiting, self._waiting = self._waiting, []
        for _, some in groupby(waiting, key=lambda one: int(one[0].position[0])):
            states, texts = zip(*some, strict=True)
            drafts = self._pen.sentences_together(self._closing, self.config.max_note_tokens, states)
            for draft, read in zip(drafts, texts, strict=True):
                yield from self._add(self._noted(iter(draft), read))

    def _noted(self, sentences: Iterator[str], read: Sequence[Quote]) -> _Held:
        """The note on a stretch: what is borne out of it, and the sentence that says most unless that is said."""
        held = self._checked(sentences, read, level=0)
        place = None if self.of_talk else most_central([one.text for one in read], self.config.focus)
        self._writes = self._writes or bool(held.sentences)
        # Of a checkpoint that writes nothing true so far quotes are no notes.
        if place is None or not self._writes:
            return held
        text = _in_one_line(read[place])
        if any(similarity(word_set(text), word_set(said)) >= _SAME for said in held.sentences):
            return held
        return replace(held, sentences=(*held.sentences, text), quotes=(*held.quotes, read[place]))

    def _checked(self, sentences: Iterator[str], read: Sequence[Quote], level: int) -> _Held:
        """The written sentences that `read` bears out, with what supports each; the others are struck."""
        kept = list(self._borne_out(sentences, Sources(quote.text for quote in read)))
        quotes = [_best(sentence, read) for sentence in kept]
        if not read:
            return _Held(level, tuple(kept), tuple(quotes))
        span = read[0].span[0], read[-1].span[1]
        return _Held(level, tuple(kept), tuple(quotes), read[len(read) // 2].section, span)

    def _add(self, held: _Held) -> Iterator[Note]:
        if not held.sentences:
            return
        self._notes.append(held)
        yield Note(self.num_notes, held.level, held.text)
        self.num_notes += 1
        # 3 for the line break and its like.
        num_tokens = sum(len(self.model.tokenizer.encode(note.text)) + 3 for note in self._notes)
        if len(self._notes) > 1 and num_tokens > self._window // 2:
            yield from self._join()

    def _join(self) -> Iterator[Note]:
        """Make one note of two that follow one another: the first ones of the lowest level."""
        levels = [max(one.level, other.level) for one, other in zip(self._notes, self._notes[1:], strict=False)]
        place = levels.index(min(levels))
        pair = self._notes[place : place + 2]
        max_tokens = self.config.max_note_tokens
        draft = self._draft(pair, int(max_tokens / _TOKENS_A_WORD), "summarize_condense", max_tokens)
        kept = tuple(sentence for sentence in draft) or pair[0].sentences
        known = [quote for note in pair for quote in note.quotes if quote is not None]
        quotes = tuple(_best(sentence, known) for sentence in kept)
        span = pair[0].span[0], pair[1].span[1]
        joined = _Held(levels[place] + 1, kept, quotes, pair[0].section, span)
        self._notes[place : place + 2] = [joined]
        yield Note(self.num_notes, joined.level, joined.text)
        self.num_notes += 1

    # ------------------------------------------------------------------------------------------------ generating

    def _draft(
        self, notes: Sequence[_Held], words: int, name: str = "summarize", max_tokens: int | None = None
    ) -> Iterator[str]:
        """What the checkpoint writes of notes, as far as they bear it out."""
        before, after = self._pen.around(name, self._values(str(max(8, words))))
        text = self.model.tokenizer.encode("\n".join(note.text for note in notes))
        known = [quote.text for note in notes for quote in note.quotes if quote is not None]
        sources = Sources([*(note.text for note in notes), *known])
        return self._borne_out(self._pen.sentences(before + text + after, max_tokens or self._budget(words)), sources)

    def _borne_out(self, sentences: Iterator[str], sources: Sources) -> Iterator[str]:
        """Those that have nothing that the sources lack; the others are kept as struck."""
        for sentence in sentences:
            text = _NUMBER.sub("", sentence)
            # Cut off by the budget: what it would have said is not known.
            if not _ENDS.search(text):
                continue
            if missing := sources.missing(text):
                self.struck.append(Struck(text, missing))
            else:
                yield text

    def _whole(self, words: int) -> list[int]:
        """What closes the turn where it asks for the summary of all that was read."""
        return self._pen.around("summarize_note", self._values(str(words)))[1]

    def _values(self, words: str) -> dict[str, str]:
        focus = self.config.focus
        about = "" if focus is None else fill(ABOUT, {"focus": focus})
        return {"words": words, "about": about, "focus": focus or ""}

    @staticmethod
    def _budget(words: int) -> int:
        return int(words * _TOKENS_A_WORD * (1 + _SLACK)) + 16


class _Summary:
    """Sentences that become a summary, each with the number of the quote that supports it."""

    def __init__(self, quotes: Sequence[Quote]) -> None:
        self.quotes: tuple[Quote, ...] = ()
        self.num_words = 0
        self.text = ""
        self._others = quotes
        self._said: list[frozenset[str]] = []

    def heading(self, title: str) -> str:
        """Begin a section; returns the new text."""
        piece = ("\n\n" if self.text else "") + f"{title}:"
        self.text += piece
        return piece

    def part(self, draft: Iterator[str], notes: Sequence[_Held], words: int) -> Iterator[str]:
        """Add a paragraph of about so many words: from a draft; where that is too short, from its notes; and where
        these are, of sentences of the text that they are about."""
        known = [quote for note in notes for quote in note.quotes if quote is not None]
        begun, least, most = self.num_words, words * (1 - _SLACK), words * (1 + _SLACK)
        paragraph = "\n" if self.text.endswith(":") else "\n\n" if self.text else ""
        # What notes quote is the best of a stretch; `_of_text` has the best of the whole.
        of_notes = (
            one
            for note in notes
            for one, quote in zip(note.sentences, note.quotes, strict=True)
            if quote is None or one != _in_one_line(quote)
        )
        too_long = list[str]()

        def fitting() -> Iterator[str]:
            for sentence in chain(draft, of_notes, self._of_text(notes)):
                if self.num_words - begun >= least:
                    return
                if any(similarity(word_set(sentence), said) >= _SAME for said in self._said):
                    continue
                if self.num_words - begun + num_words(sentence) <= most:
                    yield sentence
                else:
                    too_long.append(sentence)
            if self.num_words == begun and too_long:
                yield min(too_long, key=num_words)

        for sentence in fitting():
            piece = paragraph + self._cited(sentence, known)
            paragraph = " "
            self._said.append(word_set(sentence))
            self.num_words += num_words(sentence)
            self.text += piece
            yield piece

    def _of_text(self, notes: Sequence[_Held]) -> Iterator[str]:
        """Sentences of the text that notes are about, the best first."""
        start, end = min(note.span[0] for note in notes), max(note.span[1] for note in notes)
        about = [quote for quote in self._others if start <= quote.span[0] < end]
        yield from map(_in_one_line, sorted(about, key=lambda quote: -quote.score))

    def _cited(self, sentence: str, known: Sequence[Quote]) -> str:
        quote = _best(sentence, known) or _best(sentence, self._others)
        if quote is None:
            return sentence
        if quote not in self.quotes:
            self.quotes = (*self.quotes, quote)
        return f"{sentence} [{self.quotes.index(quote) + 1}]"


def _in_one_line(quote: Quote) -> str:
    return " ".join(quote.text.split())


def most_central(sentences: Sequence[str], focus: str | None = None) -> int | None:
    """The place of the sentence that shares most with the others and can stand alone; of those with words of the focus,
    where there is one."""
    wanted, words = set(content_terms(focus or "")), [content_terms(one) for one in sentences]
    whole = [n for n, one in enumerate(sentences) if num_words(one) >= _LEAST_WORDS and _ENDS.search(one.strip())]
    if not whole:
        return None
    shared = standardized(likeness([words[n] for n in whole])).tolist()
    worth = {n: value - context_dependence(sentences[n]) for n, value in zip(whole, shared, strict=True)}
    about = [n for n in whole if not wanted or wanted.intersection(words[n])]
    return max(about, key=lambda n: worth[n], default=None)


def _best(sentence: str, quotes: Sequence[Quote]) -> Quote | None:
    """The quote that supports a written sentence best, None if none does well enough."""
    best = max(quotes, key=lambda quote: support(sentence, quote.text), default=None)
    return best if best is not None and support(sentence, best.text) >= _LEAST_SUPPORT else None
