"""Which sentences may be quoted in a summary: plain rules, no model."""

from __future__ import annotations

import re

from famcli.text.abbreviations import words
from famcli.text.markup import without_marks
from famcli.text.sentences import Sentence
from famcli.text.words import compounds, num_letters, num_words, quotes_are_balanced

MIN_WORDS, MAX_WORDS = 8, 60
MIN_LETTERS = 0.72  # share of what is not white space; rows of figures have fewer
MAX_CAPITALS = 0.3  # share of letters; headings and mastheads have more

GOES_ON = words("of the and or in a an for to with on by from")
"""A line that ends with one of these goes on below it."""

# What stands before the words in chats and logs: a time, and up to three words that name who speaks.
_LEAD_IN = re.compile(r"(?:[\W\d_]|t(?=\d))*(?:\w+(?:\W{1,3}\w+){0,2}\W{0,2}[:>\])]+\s+)?", re.I)
_ENOUGH_WORDS = 3  # must be left when the lead-in is removed
_BOILERPLATE = re.compile(
    r"https?:|www\.|\S@\S+\.\w|\u00a9|\bcopyright(?=\W*(?:\(c\)|\d{4}|by\b|notice|holders?\b))|all rights reserved|"
    r"project gutenberg|\bisbn\b|\be-?book\b|permission is hereby|provided [\"\u201c]?as is\b|without warrant|"
    r"licensed under|terms of (?:use|service)|privacy policy|table of contents",
    re.I,
)
_TABLE_ROW = re.compile(r"^\s*\||\|.*\|")
# The forms that the frames of real files have had since 1991. Before 2000 the small print ended the header.
_BOOK_STARTS = re.compile(
    r"\*{2,} ?START (?:OF )?(?:(?:THE|THIS) )?PROJECT GUTENBERG|\*END\*? ?THE SMALL PRINT",
    re.I,
)
_CREDITS = re.compile(
    r"\W*(?:(?:this )?e-?(?:text|book) (?:was )?)?(?:produced|prepared|transcribed|scanned|digiti[sz]ed) by\b", re.I
)
_BOOK_ENDS = re.compile(
    r"\*{2,} ?END (?:OF )?(?:(?:THE|THIS) )?PROJECT GUTENBERG|^\W*End of (?:the |this )?Project Gutenberg\b", re.I
)


def is_quotable(sentence: Sentence, is_list: bool = False) -> bool:
    """True if a sentence can stand alone as a line of a summary.

    It is whole, ends with an end mark and has 8 to 60 words (see `num_words`). It is mostly letters, not mostly
    capitals, and closes the quotation marks it opens. It is not code or a row of a table, and has no address,
    copyright, licence or e-book notice. is_list: it is a sentence with the list that it announces, which needs no end
    mark.
    """
    # Marks, and where a link leads, are no part of what is said.
    text = without_marks(sentence.text)
    is_finished = sentence.is_finished or is_list
    if not is_finished or sentence.is_code or not MIN_WORDS <= num_words(text) <= MAX_WORDS:
        return False
    visible = sum(not character.isspace() for character in text)
    letters = num_letters(text)
    capitals = sum(character.isupper() for character in text)
    if letters < MIN_LETTERS * visible or capitals > MAX_CAPITALS * letters:
        return False
    return quotes_are_balanced(text) and not _BOILERPLATE.search(text) and not _TABLE_ROW.search(text)


def is_line(sentence: Sentence) -> bool:
    """True if a line may be quoted in a document without sentences: whole, 3 to 60 words, with letters, not a row of a
    table or a notice."""
    text = sentence.text
    if not sentence.whole or not 3 <= num_words(text) <= MAX_WORDS or _TABLE_ROW.search(text):
        return False
    return 4 * num_letters(text) >= len(text) and not _BOILERPLATE.search(text)


def frame_marker(sentence: Sentence) -> str | None:
    """ "start" or "end" for the lines with which Project Gutenberg frames a book's own text, else None."""
    if _BOOK_STARTS.search(sentence.text):
        return "start"
    return "end" if _BOOK_ENDS.search(sentence.text) else None


def is_credit(sentence: Sentence) -> bool:
    """True for the line that says who made the file of a book."""
    return _CREDITS.match(sentence.text) is not None


def repetition_key(text: str) -> str:
    """The same for two sentences of which only one may be quoted: the words without case, marks, and a time or name
    before them."""
    lead_in = _LEAD_IN.match(text)
    rest = text[lead_in.end() :] if lead_in else text
    words = compounds(rest if num_words(rest) >= _ENOUGH_WORDS else text)
    return " ".join(words) or text
