"""What a reading gathers: each document is recognised as a log or a text by its beginning, and read as that."""

from __future__ import annotations

from famcli.documents.source import Piece
from famcli.tasks.summarize import choosing
from famcli.tasks.summarize.candidates import Budget
from famcli.tasks.summarize.extract import Extraction
from famcli.tasks.summarize.facts import facts_of
from famcli.tasks.summarize.log_digest import LogDigest
from famcli.tasks.summarize.summary_result import (
    MAX_OUTLINE,
    DocumentKind,
    Fact,
    SummarizeConfig,
    TableSummary,
    is_too_short,
    num_log_kinds,
    outline_budget,
    sentence_budget,
)
from famcli.tasks.summarize.table_digest import TableDigest, has_header
from famcli.text.log_lines import is_log

# Lines or characters by which a document is told. A pipe may bring them one by one, so fewer are enough before the
# network reads them.
_ENOUGH_LINES, _ENOUGH_CHARACTERS = 200, 1 << 15
_FEW_LINES, _FEW_CHARACTERS = 40, 1 << 12


class Gathering:
    """Documents read one after the other.

    tells: detect the kind of each document; if False, it is what `config.kind` says, else prose.
    """

    def __init__(self, config: SummarizeConfig, tells: bool = True) -> None:
        focus, kind = config.focus, config.kind
        self.text, self.log = Extraction(focus, as_minutes=kind == "minutes"), LogDigest(focus)
        self.in_log = self.has_log = self.has_text = False
        self._focus = focus
        self._kind, self._tells, self._length = kind, tells and focus is None, config.length
        self._log_or_text = (kind == "log") if kind is not None or not tells else None
        self._name, self._num_bytes = "", 0
        self._undecided: list[Piece] | None = None  # of the open document, until it is told
        self._num_sources, self._table, self._is_of_rows = 0, TableDigest(), False

    def begin_source(self, name: str, is_table: bool = False) -> None:
        """Begin a document. is_table: its text was made of rows."""
        self._num_sources += 1
        self._is_of_rows = is_table
        self._is_table = is_table and self._tells and self._kind is None and self._num_sources == 1
        self._name, self._undecided, self._num_bytes, self.in_log = name, [], 0, False

    def feed(self, piece: Piece) -> None:
        """Take text that is about to be read."""
        if self._is_table:
            self._table.feed(piece)
        if self._undecided is None:
            self._taker.feed(piece)
        else:
            self._undecided.append(piece)
            self._decide(_ENOUGH_LINES, _ENOUGH_CHARACTERS)

    def advance(self, num_bytes: int) -> None:
        """Take in what of a text was read."""
        self._num_bytes = num_bytes
        self._decide(_FEW_LINES, _FEW_CHARACTERS)
        if self._undecided is None and not self.in_log:
            self.text.advance(num_bytes)

    def end_source(self) -> None:
        self.settle()
        self._taker.end_source()

    def settle(self) -> None:
        """Take in what was read of the open document, although more of it might tell another kind."""
        self._decide(0, 0)

    @property
    def kind(self) -> DocumentKind:
        if self.has_log and not self.has_text:
            return "log"
        if self._kind is not None or not self._tells:
            return self._kind or "prose"
        if self.table() is not None:
            return "table"
        told = self.text.kind
        return "prose" if told in ("outline", "story") and is_too_short(self._length) else told

    def table(self) -> TableSummary | None:
        """What the table holds, if a single one was read."""
        found = self._table.summary()
        return found if self._num_sources == 1 and found.columns else None

    def facts(self) -> tuple[Fact, ...]:
        """What a single text is, as far as that was found, whatever is quoted or written of it."""
        if self._num_sources != 1 or self.has_log or self._kind == "prose" or self._focus or self.kind == "table":
            return ()
        return facts_of(self.text, self._kind or self.text.kind)

    def choose(self) -> choosing.Chosen:
        """The summary of what was text, after its kind, and the sections of that."""
        kind, text, length = self.kind, self.text, self._length
        by_parts = outline_budget(length, len(text.parts.all()))
        if kind == "outline" and text.num_quotable:
            return choosing.outline(text, by_parts)
        if kind == "table" and not text.num_quotable:
            return (), ()
        if kind == "minutes":
            return choosing.decisions(text, length if isinstance(length, Budget) else Budget(num_log_kinds(length)))
        if kind == "changes":
            return choosing.changes(text, outline_budget(length, MAX_OUTLINE))
        budget = sentence_budget(length, text.num_bytes, text.num_seen, self._num_sources)
        if kind == "story" and text.num_quotable:
            return choosing.story(text, budget)
        return choosing.prose(text, budget), ()

    @property
    def _taker(self) -> Extraction | LogDigest:
        return self.log if self.in_log else self.text

    def _decide(self, enough_lines: int, enough_characters: int) -> None:
        """Tell what the open document is, if there is enough of it."""
        if self._undecided is None:
            return
        text = "".join(piece.text for piece in self._undecided)
        lines = text.split("\n")
        is_enough = len(lines) >= enough_lines or len(text) >= enough_characters
        if self._log_or_text is None and not is_enough:
            return
        pieces, self._undecided = self._undecided, None
        # The last line may be cut.
        whole = lines[: max(1, len(lines) - bool(enough_lines))]
        self.in_log = bool(self._log_or_text)
        if self._log_or_text is None and not (self._is_of_rows and has_header(text)):
            self.in_log = is_log(whole[:_ENOUGH_LINES])
        self.has_log, self.has_text = self.has_log or self.in_log, self.has_text or not self.in_log
        self._taker.begin_source(self._name)
        for piece in pieces:
            self._taker.feed(piece)
        if not self.in_log:
            self.text.advance(self._num_bytes)
