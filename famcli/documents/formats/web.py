"""HTML and XML: the main text of a page, with its headings, lists, tables and the lines of the page it stands on.

Left out are scripts, styles, navigation, and what is hidden. Where a page says which part of it is the main one, that
part alone is read, and of it what main_text.py finds to be the main text. The parser is the standard library's: it says
where in the page each text stands, which the faster ones do not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser

from famcli.documents.converted import Part
from famcli.documents.encodings import declared_encoding
from famcli.documents.formats import web_elements as elements
from famcli.documents.formats.main_text import LARGEST_PAGE, without_surroundings
from famcli.documents.original import Original, Positions
from famcli.documents.source import Location, Piece

_CHUNK = 1 << 16
_LONGEST_TAG = 1 << 22  # characters of a tag, comment or script that are held while its end is looked for


# What is left out by the names of classes, or because it is not in the main part, is read after all where there is so
# many times as much of it as of the rest.
_MOST_BY_CLASS, _MOST_OUTSIDE = 3, 8
_CHARSET = re.compile(
    rb"<meta[^>]{0,200}charset\s*=\s*[\"']?\s*([\w.:-]+)|<\?xml[^>]{0,100}encoding\s*=\s*[\"']([\w.:-]+)", re.I
)
_BLANKS = re.compile(r"[^\S\xa0]+")


def text_of_html(page: str) -> str:
    reader = _Reader(None)
    parts = [*reader.feed(_utf8_piece(page)), *reader.finish()]
    return "".join(text for text, _ in parts).strip()


def parts_of_page(page: str) -> Iterator[Part]:
    """The text of a page that is a string already, as parts, without the title in its head."""
    reader = _Reader(None, titled=False)
    for start in range(0, len(page), _CHUNK):
        yield from reader.feed(_utf8_piece(page[start : start + _CHUNK]))
    yield from reader.finish()


def read_html(original: Original) -> Iterator[Part]:
    """The main text; all of it where the main part has none, or next to nothing of what the page says."""
    file = original.file()
    first = file.read(1 << 22)
    size, main = max(1, file.seek(0, 2)), None
    if elements.MAIN.search(first):
        main = "main"
    elif len(elements.ARTICLE.findall(first)) == 1:
        main = "article"
    declared = _CHARSET.search(first[:4096])
    encoding = _known(next(filter(None, declared.groups())).decode("ascii", "replace")) if declared else None

    def read(reader: _Reader) -> Iterator[tuple[str, list[Part]]]:
        file.seek(0)
        for piece in original.through(file).pieces(encoding):
            original.reached(piece.end / size)
            page = elements.without_front_matter(piece) if piece.start == 0 else piece
            yield page.text, reader.feed(page)
        yield "", reader.finish()

    is_small, by_class = size <= LARGEST_PAGE, True
    held, page = list[Part](), list[str]()
    while True:
        reader = _Reader(main, by_class=by_class)
        held, page = [], []
        for text, parts in read(reader):
            if is_small:
                page.append(text)
                held += parts
        # Names of classes are customs, and "main" may be said of a teaser.
        if by_class and reader.left_by_class > _MOST_BY_CLASS * reader.kept:
            by_class = False
        elif main is not None and (not reader.has_body or reader.left_outside > _MOST_OUTSIDE * reader.kept):
            main, by_class = None, True
        else:
            break
    if is_small:
        yield from (
            without_surroundings(held, "".join(page)) if reader.has_body and not reader.feed_tags.is_told else held
        )
    else:
        for _, parts in read(_Reader(main, by_class=by_class)):
            yield from parts
    if not reader.has_body:  # a title alone
        original.note(f"{original.name} holds no text outside of scripts, menus and other parts that are left out")


class _Reader(HTMLParser):
    """Text of a page as parts. main: the element whose text alone counts ("main", "article"), or None for all.
    by_class: leave out what is called a menu or the like by its class.

    kept, left_by_class, left_outside: characters of the text, of what its class left out, and of what is not in `main`.
    """

    def __init__(self, main: str | None, titled: bool = True, by_class: bool = True) -> None:
        super().__init__(convert_charrefs=True)
        self._titled, self._by_class = titled, by_class
        self.kept = self.left_by_class = self.left_outside = 0
        self._main, self._main_depth = main, 0
        self._positions = Positions()
        self._parsed = 0  # characters before what is being parsed
        self._waiting, self._num_waiting = list[str](), 0
        self._data, self._data_place = list[str](), 0
        self._skip, self._skip_depth, self._is_by_class = "", 0, False
        self._block: list[Part] = []  # of the open paragraph
        self._prefix = ""
        self._break: str | None = ""  # None: what follows stands directly behind
        self._out: list[Part] = []
        self._title: list[str] | None = None
        self._is_title_due = ""
        self._pre = self._code = 0
        self._ends_blank = True
        self._lists = 0
        self._has_text = False  # the title counts
        self.feed_tags = elements.Feed()
        self.has_body = False

    def feed(self, piece: Piece) -> list[Part]:  # type: ignore[override]  # a piece of text with its places
        self._positions.add(piece)
        self._waiting.append(piece.text)
        self._num_waiting += len(piece.text)
        # A long comment, tag or script is gone through again from its start: only when there is twice as much of it.
        if self._num_waiting < len(self.rawdata):
            return []
        self._feed_waiting()
        if len(self.rawdata) > _LONGEST_TAG:
            self._parsed += len(self.rawdata) - 64
            self.rawdata = self.rawdata[-64:]
        self._positions.forget(self._parsed)
        done, self._out = self._out, []
        return done

    def finish(self) -> list[Part]:
        """The parts that are left when the page has ended."""
        self._feed_waiting()
        # A tag or a comment without an end goes to the end of the page, as browsers have it. The parser would look for
        # that end once more behind each of its signs.
        if self.rawdata.startswith("<"):
            self.rawdata = ""
        self.close()
        self._end_data()
        self._flush()
        self._give_title()
        done, self._out = self._out, []
        return done

    def _feed_waiting(self) -> None:
        text, self._waiting, self._num_waiting = "".join(self._waiting), [], 0
        super().feed(text)
        self._end_data()

    def updatepos(self, i: int, j: int) -> int:
        """Called by the parser when it has gone from one place in its buffer to another."""
        if j > i:
            self._parsed += j - i
        return super().updatepos(i, j)

    # ------------------------------------------------------------------------------------------------ tags

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._end_data()
        tag = self.feed_tags.element(tag, attrs)
        if self._skip:
            if tag == self._skip and tag not in elements.VOID:
                self._skip_depth += 1
            # A menu that is never closed must not hide the page.
            if not (tag in ("main", "article", "h1") and self._skip in ("nav", "aside", "menu", "footer")):
                return
            self._skip = ""
        values = dict(attrs)
        if (is_skipped := self._is_skipped(tag, values)) or self._is_called_so(tag, values):
            self._flush()
            if tag not in elements.VOID:
                self._skip, self._skip_depth, self._is_by_class = tag, 1, not is_skipped
            return
        if self._main is not None and (tag == self._main or (self._main == "main" and values.get("role") == "main")):
            self._flush()
            self._main_tag, self._main_depth = tag, self._main_depth + 1
        elif self._main_depth and tag == self._main_tag:
            self._main_depth += 1
        self._begin(tag, values)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._end_data()
        tag = self.feed_tags.element(tag, attrs)
        if not self._skip and tag != "script" and tag not in elements.INLINE:
            self._begin(tag, dict(attrs))

    def handle_endtag(self, tag: str) -> None:
        self._end_data()
        tag = self.feed_tags.element(tag)
        if self._skip:
            if tag == self._skip:
                self._skip_depth -= 1
            if not self._skip_depth or tag == "body":
                self._skip = ""
            return
        if tag == "title" and self._title is not None:
            self._is_title_due = " ".join("".join(self._title).split()) if self._titled else ""
            self._title = None
            return
        if tag == "pre":
            self._pre = max(0, self._pre - 1)
            self._close_code()
        if tag in ("ul", "ol"):
            self._lists = max(0, self._lists - 1)
        if tag in ("td", "th"):
            self._end_cell()
        elif tag not in elements.INLINE:
            self._flush()
            if tag not in ("li", "tr", "dt"):
                self._break = "\n\n"
        if self._main_depth and tag == self._main_tag:
            self._flush()
            self._main_depth -= 1

    def handle_data(self, data: str) -> None:
        """Text, which may come a character at a time."""
        if not self._data:
            self._data_place = self._parsed
        self._data.append(data)

    def handle_comment(self, data: str) -> None:
        """Left out; the text before it is whole."""
        self._end_data()

    handle_decl = handle_pi = handle_comment  # type: ignore[assignment]  # by position

    def _end_data(self) -> None:
        """Add the text that has come, a line of the page at a time."""
        data, self._data = "".join(self._data), []
        if not data:
            return
        if self._title is not None:
            self._title.append(data[:1000])
        elif self._skip:
            self.left_by_class += len(data.strip()) * self._is_by_class
        elif self._main is not None and not self._main_depth:
            self.left_outside += len(data.strip())
        else:
            self.kept += len(data.strip())
            place = self._data_place
            line, start = self._positions.line(place), self._positions.byte(place)
            for text in data.splitlines(keepends=True) if "\n" in data else [data]:
                place += len(text)
                end = self._positions.byte(place)
                self._add(text, Location("line", str(line), line=line, span=(start, end)))
                line, start = line + 1, end

    def unknown_decl(self, data: str) -> None:
        """`<![CDATA[...]]>`, in XML."""
        self._end_data()
        if data.startswith("CDATA["):
            self.handle_data(data[6:])
            self._end_data()

    def _is_skipped(self, tag: str, values: dict[str, str | None]) -> bool:
        if tag in elements.SKIPPED or (values.get("role") or "").lower() in elements.SKIPPED_ROLES:
            return True
        if tag in ("html", "body", "main", "article"):
            return False
        if "hidden" in values or values.get("aria-hidden") == "true":
            return True
        return bool(re.search(r"display\s*:\s*none|visibility\s*:\s*hidden", values.get("style") or "", re.I))

    def _is_called_so(self, tag: str, values: dict[str, str | None]) -> bool:
        if not self._by_class or tag in ("html", "body", "main", "article"):
            return False
        return not elements.SKIPPED_CLASSES.isdisjoint((values.get("class") or "").lower().split())

    def _begin(self, tag: str, values: dict[str, str | None]) -> None:
        if tag in elements.INLINE:
            if tag == "code" and self._pre and not self._block:
                self._open_code()
            return
        if tag == "title" and not self.has_body:
            self._title = []
            return
        if tag == "br":
            if self._block:
                self._block.append(("\n", None))
                self._ends_blank = True
            return
        if tag in ("td", "th") and self._block:
            self._end_cell()  # where the page does not say that it ended
            return
        self._flush()
        if (found := elements.HEADING.match(tag)) is not None:
            self._break, self._prefix = "\n\n", "#" * int(found[1]) + " "
        elif tag in ("ul", "ol"):
            self._lists += 1
        elif tag == "li":
            self._prefix = "- "
        elif tag == "pre":
            self._pre += 1
            self._break = "\n\n"
            if re.search(r"\b(?:highlight|language-|lang-|code|prettyprint|sourceCode)", values.get("class") or ""):
                self._open_code()
        elif tag not in ("tr", "td", "th", "dt", "dd"):
            self._break = "\n\n"

    # ------------------------------------------------------------------------------------------------ text

    def _add(self, text: str, location: Location) -> None:
        if not self._pre:
            text = _BLANKS.sub(" ", text)
            if self._ends_blank:
                text = text.lstrip(" ")
        if text:
            self._block.append((text, location))
            self._ends_blank = text[-1] in " \n"

    def _end_cell(self) -> None:
        """Cells of a row stand in one line, unless they hold paragraphs."""
        length = sum(len(text) for text, _ in self._block)
        if length > 200:
            self._flush()
            self._break = "\n\n"
        elif self._block and not self._ends_blank:
            self._block.append((" | ", None))
            self._ends_blank = True

    def _open_code(self) -> None:
        if not self._code:
            self._give("", None)
            self._out.append(("```\n", None))
            self._code, self._break, self._has_text = 1, None, True

    def _close_code(self) -> None:
        self._flush()
        if self._code:
            if self._out and not self._out[-1][0].endswith("\n"):
                self._out.append(("\n", None))
            self._out.append(("```", None))
            self._code, self._break = 0, "\n\n"

    def _flush(self) -> None:
        block, self._block = self._block, []
        self._ends_blank = True
        while block and not block[-1][0].rstrip(" |\n"):
            block.pop()
        if not block or not any(text.strip() for text, _ in block):
            return
        first = next(location for text, location in block if text.strip() and location is not None)
        if self._prefix.startswith("#"):
            self._give_title("".join(text for text, _ in block))
        self._give(self._prefix, first)
        last = len(block) - 1
        for number, (text, location) in enumerate(block):
            self._out.append((text.rstrip() if number == last else text, location))
        self._prefix, self._break, self.has_body = "", self._break or "\n", True
        self._has_text = True

    def _give(self, prefix: str, location: Location | None) -> None:
        """The break before a paragraph, and what it begins with."""
        self._give_title()
        if self._has_text and self._break is not None:
            self._out.append((self._break or "\n", None))
        self._break = ""
        if prefix:
            self._out.append((prefix, location))

    def _give_title(self, heading: str = "") -> None:
        """The title of the page is its first heading, unless the page begins with a heading that says the same."""
        title, self._is_title_due = self._is_title_due, ""
        heading = " ".join(heading.split()).casefold()
        if title and not (heading and (heading in title.casefold() or title.casefold() in heading)):
            self._out.append((f"# {title}", None))
            self._break, self._has_text = "\n\n", True


def _known(encoding: str) -> str | None:
    name = declared_encoding(encoding)
    # What says so of itself is UTF-8 nearly always, and the bytes tell.
    if name in ("utf-8", "utf-16", "ascii", "utf-7"):
        return None
    return "cp1252" if name == "iso8859-1" else name


def _utf8_piece(text: str) -> Piece:
    data = text.encode("utf-8", "replace")
    return Piece(data.decode("utf-8"), 0, len(data), raw=data)
