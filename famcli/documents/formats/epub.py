"""EPUB: the chapters of a book in the order of its spine, each a page of XHTML; cited by their titles."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from urllib.parse import unquote

from famcli.documents.converted import Part
from famcli.documents.encodings import declared_encoding
from famcli.documents.formats.web import parts_of_page
from famcli.documents.formats.zipped import Archive, Element
from famcli.documents.original import Original
from famcli.documents.source import Location
from famcli.errors import DocumentError

_PAGES = ("application/xhtml+xml", "text/html")
_HEADING = re.compile(r"#{1,6} $")
_DECLARED = re.compile(rb"<\?xml[^>]{0,100}encoding\s*=\s*[\"']([\w.:-]+)")


def is_epub(archive: Archive) -> bool:
    """True for a ZIP file that says where its book begins."""
    return "META-INF/container.xml" in archive.names


def read_epub(original: Original, archive: Archive) -> Iterator[Part]:
    """The title and the chapters. Raises DocumentError for a damaged book, and one that only a shop's reader opens."""
    rights = "META-INF/encryption.xml"
    if rights in archive.names and b"aes" in archive.read(rights).lower():
        raise DocumentError(f"{original.name} is protected (DRM), so that only its shop's programs read it")
    package = _package_path(original, archive)
    chapters, toc, facts = _package(archive, package)
    if facts:
        yield f"# {facts[0]}\n\n" + "".join(f"By {author}.\n\n" for author in facts[1:]), Location("section", facts[0])
    titles, missing = _titles(archive, toc), 0
    for number, path in enumerate(chapters):
        original.reached(number / len(chapters))
        if path not in archive.names:
            missing += 1
            continue
        yield from _chapter(archive, path, titles.get(path))
    original.reached(1.0)
    if missing:
        original.note(f"{original.name}: {missing:,} of {len(chapters):,} chapters are missing in the file")


def _chapter(archive: Archive, path: str, title: str | None) -> Iterator[Part]:
    data = archive.read(path)
    declared = _DECLARED.search(data[:200])
    parts = list(parts_of_page(_decoded(data, declared[1].decode() if declared else "utf-8")))
    if not any(text.strip() for text, _ in parts):
        return
    heading = _first_heading(parts)
    where = Location("section", title or heading or posixpath.basename(path))
    if title and not heading:
        yield f"# {title}\n\n", where
    for text, location in parts:
        yield text, None if location is None else where
    yield "\n\n", None


def _decoded(data: bytes, encoding: str) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        encoding = "utf-16"
    try:
        return data.decode(declared_encoding(encoding) or "utf-8")
    except ValueError:
        return data.decode("utf-8", "replace")


def _first_heading(parts: list[Part]) -> str:
    """The heading with which a chapter begins, or nothing."""
    begins = next((place for place, (text, _) in enumerate(parts[:12]) if _HEADING.search(text)), None)
    if begins is None:
        return ""
    words = list[str]()
    for text, _ in parts[begins + 1 :]:
        if text.startswith("\n") or len(words) > 20:
            break
        words.append(text)
    return " ".join("".join(words).split())[:120]


def _package_path(original: Original, archive: Archive) -> str:
    for element in archive.elements("META-INF/container.xml"):
        if element.name == "rootfile" and "full-path" in element.attributes:
            return element.attributes["full-path"]
    raise DocumentError(f"{original.name} does not say where its book begins: it is damaged")


def _package(archive: Archive, path: str) -> tuple[list[str], list[str], list[str]]:
    """The paths of the chapters and of the tables of contents, and the title with the authors."""
    folder = posixpath.dirname(path)
    items, spine, toc = dict[str, tuple[str, str]](), list[str](), list[str]()
    title, authors, open_name = list[str](), list[str](), ""
    for element in archive.elements(path):
        one = element.attributes
        if not element.name:
            if open_name == "title" and len(title) < 1 and element.text.strip():
                title.append(" ".join(element.text.split()))
            elif open_name == "creator" and element.text.strip():
                authors.append(" ".join(element.text.split()))
            continue
        open_name = "" if element.is_end else element.name
        if element.is_end:
            continue
        if element.name == "item" and "href" in one:
            full = posixpath.normpath(posixpath.join(folder, unquote(one["href"])))
            kind = one.get("media-type", "")
            if "nav" in one.get("properties", "").split() or kind == "application/x-dtbncx+xml":
                toc.append(full)
            else:
                items[one.get("id", "")] = full, kind
        elif element.name == "itemref" and one.get("linear") != "no" and one.get("idref") in items:
            full, kind = items[one["idref"]]
            spine += [full] * (kind in _PAGES)
    return spine, toc, [*title, *authors] if title else []


def _titles(archive: Archive, toc: list[str]) -> dict[str, str]:
    """The titles of chapters by their paths, as the table of contents has them."""
    found = dict[str, str]()
    for path in toc:
        if path not in archive.names:
            continue
        folder, text, target = posixpath.dirname(path), list[str](), ""
        try:
            for element in archive.elements(path):
                if not element.name:
                    text.append(element.text)
                elif element.name in ("a", "navPoint", "text") and not element.is_end:
                    text, target = [], element.attributes.get("href", target if element.name == "text" else "")
                elif (link := _link(element, target)) is not None:
                    full = posixpath.normpath(posixpath.join(folder, unquote(link.partition("#")[0])))
                    found.setdefault(full, " ".join("".join(text).split())[:120])
                    target = ""
        except DocumentError:
            continue  # a book without a table of contents can be read
    return found


def _link(element: Element, target: str) -> str | None:
    """The chapter that the text before leads to: a link around it, or what follows it in an older book."""
    if element.name == "a" and element.is_end:
        return target or None
    return element.attributes.get("src") if element.name == "content" and not element.is_end else None
