"""The report: what it shows is the text, citations lead to their places, and it is what a browser shows."""

from __future__ import annotations

import html
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from famcli.documents.opening import open_source
from famcli.errors import UsageError
from famcli.reading.cursor import SourceRecord
from famcli.tasks.ask.rereading import pieces_until
from famcli.tasks.report import page as report_text
from famcli.tasks.report.page import LEVELS, Cited, Item, Report, report_html, text_html, write_report
from famcli.tasks.report.record import AttentionProfile, Recorder, ShownText
from famcli.tasks.summarize.summarize import Summarizer
from famcli.tasks.summarize.summary_format import report_of
from famcli.tasks.summarize.summary_result import SummarizeConfig
from tests.reading.support import pipe
from tests.tasks.support import LARGE, byte_model, prose, write

TEXT = "Zwölf <b>Boxkämpfer</b> jagen.\nViktor & Co. quer \u202eüber\x07 den Deich.\n" * 3


def recorded(text: str, heat: tuple[np.ndarray, ...] = ()) -> Iterator[ShownText]:
    with Recorder() as recorder, pipe(text.encode(), sizes=[5, 100, 3]) as document:
        recorder.begin("x")
        for piece in document.pieces():
            recorder.see(piece)
        if heat:
            recorder.heat(0, *heat)
        yield recorder.texts[0]


def file_text(path: Path, size: int) -> ShownText:
    record = SourceRecord(str(path), str(path), "utf-8", size, None)
    return ShownText(str(path), size, lambda: pieces_until(record))


def shown(parts: Iterator[str]) -> str:
    """The text that HTML shows, citation numbers left out."""
    page = re.sub(r'<a id="c\d+".*?</a>', "", "".join(parts))
    return html.unescape(re.sub(r"<[^>]+>", "", page))


def test_what_is_recorded_is_the_text_with_its_places() -> None:
    for text in recorded(TEXT):
        pieces = list(text.pieces())
        assert "".join(piece.text for piece in pieces) == TEXT
        assert text.size == len(TEXT.encode())
        raw = TEXT.encode()
        for piece in pieces:
            offsets = piece.char_offsets()
            for character, start, end in zip(piece.text, offsets[:-1], offsets[1:], strict=True):
                assert raw[start:end].decode() == character


def test_a_file_shows_what_was_read_of_it(tmp_path: Path) -> None:
    path = write(tmp_path, "äöü and more")
    text = file_text(path, 4)
    assert "".join(piece.text for piece in text.pieces()) == "äö"
    assert list(text.heat()) == []


def test_the_page_shows_the_text_and_nothing_of_it_is_markup() -> None:
    for text in recorded(TEXT):
        page = "".join(text_html(text, [(1, (0, 10)), (2, (5, 40))], np.empty(0)))
        assert shown(iter([page])) == TEXT.replace("\u202e", "\ufffd").replace("\x07", "\ufffd")
        assert "<b>" not in page
        assert page.index('id="c1"') < page.index('id="c2"')


def test_a_citation_is_marked_where_it_stands() -> None:
    start, end = TEXT.encode().index(b"Viktor"), TEXT.encode().index(b"quer")
    for text in recorded(TEXT):
        page = "".join(text_html(text, [(7, (start, end))], np.empty(0)))
        assert '<a id="c7" class="n" href="#s7">7</a><span class="cited">Viktor &amp; Co. </span>quer' in page


def test_words_are_as_hot_as_their_tokens() -> None:
    places = np.array([0, 4, 8, 14, 18])
    for text in recorded("one two three four", (places[:-1], places[1:], np.array([0.0, 5.0, np.nan, 1.0]))):
        page = "".join(text_html(text, [], np.array([0.5, 2.0, 3.0, 4.0, 6.0])))
        assert page == 'one <span class="h4">two </span>three <span class="h1">four</span>'


def test_colours_are_given_by_rank() -> None:
    with Recorder() as recorder:
        assert len(recorder.thresholds(LEVELS)) == 0
        values = np.concatenate((np.random.default_rng(0).normal(size=10_000), [np.nan]))
        recorder.heat(0, np.arange(10_001), np.arange(10_001), values)
        assert recorder.thresholds((0.5, 0.97)) == pytest.approx([0.0, 1.88], abs=0.1)


def test_the_profile_takes_out_where_in_a_block_a_token_stands() -> None:
    profile, block = AttentionProfile(), 64
    shape = np.repeat(np.linspace(0.1, 3.0, 32), 2)
    for _ in range(500):
        salience = profile.salience(shape / shape.sum(), 0, block)
    assert np.abs(salience).max() < 0.1
    odd = shape / shape.sum()
    odd[10] *= 8
    assert profile.salience(odd, 0, block).argmax() == 10
    assert len(profile.salience(shape[-5:] / shape.sum(), block - 5, block)) == 5


def test_of_a_long_text_what_surrounds_citations_is_shown_and_the_rest_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(report_text, "SHOWN_WHOLE", 1000)
    monkeypatch.setattr(report_text, "AROUND", 50)
    long = "".join(f"{number:09} " for number in range(1000))
    for text in recorded(long):
        page = "".join(text_html(text, [(1, (5000, 5010))], np.empty(0)))
        left_out = [int(number.replace(",", "")) for number in re.findall(r"([\d,]+) bytes of the text", page)]
        kept = re.sub(r'<p class="gap">.*?</p>', "|", page)
        assert shown(iter([kept])) == f"{long[:50]}|{long[4950:5060]}|"
        assert sum(left_out) == 10_000 - 160


def test_a_report_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    report = Report("T", (), (Item("a"),), ())
    with pytest.raises(UsageError, match=r"cannot write .*: there is no folder .*; make it, or name another file"):
        write_report(tmp_path / "missing" / "r.html", report, [])
    write_report(tmp_path / "r.html", report, [])
    assert (tmp_path / "r.html").read_text().startswith("<!DOCTYPE html>")
    assert [path.name for path in tmp_path.iterdir()] == ["r.html"]


def summary_page(folder: Path, extra: str = "", name: str = "text.txt") -> tuple[Path, list[str]]:
    """A real summary's report, and the sentences in it."""
    source = write(folder, f"# First\n\n{extra}{prose(60, 1)}\n\n# Second\n\n{prose(60, 2)}", name)
    path = folder / "report.html"
    with Recorder() as recorder:
        task = Summarizer(byte_model(LARGE), SummarizeConfig(sections=True), recorder)
        for _ in task.events([open_source(source)]):
            pass
        result = task.result()
        report = report_of(result, "Summary", ("a fact",), "the memory's attention to each word")
        write_report(path, report, recorder.texts, recorder)
    return path, [quote.text for quote in result.sentences]


def test_a_summary_makes_a_report(tmp_path: Path) -> None:
    path, sentences = summary_page(tmp_path)
    page = path.read_text()
    assert sentences
    assert page.count('class="cited') + page.count(' cited"') >= len(sentences)
    assert "memory&#x27;s attention" in page
    assert all(f'href="#c{number}"' in page and f'id="c{number}"' in page for number in range(1, len(sentences) + 1))
    assert re.search(r'class="h[1-5]', page)
    article = page[page.index("class='doc'") :].partition(">")[2].partition("</div>")[0]
    assert shown(iter([article])) == (tmp_path / "text.txt").read_text()


class Tags(HTMLParser):
    """Which tags a page has, and whether each that is opened is closed in its turn."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.names, self.attributes, self._open = Counter[str](), set[str](), list[str]()
        self.feed(page)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names[tag] += 1
        self.attributes |= {name for name, _ in attrs}
        if tag not in ("meta", "input", "br"):
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag


HOSTILE = (
    "</div></article></section><script>alert(1)</script><img src=x onerror=alert(2)> stood there on the wall, \"'><svg "
    "onload='alert(3)'> and nobody in the whole town had ever read it aloud.\n"
)


def test_a_hostile_text_adds_nothing_to_the_page(tmp_path: Path) -> None:
    plain, hostile = (
        summary_page(_made(tmp_path / name), extra, f"{name}{extra[:1]}.txt")[0].read_text(encoding="utf-8")
        for name, extra in (("plain", ""), ("hostile", HOSTILE))
    )
    tags, expected = Tags(hostile), Tags(plain)
    assert tags.names.keys() == expected.names.keys()
    assert tags.attributes == expected.attributes
    assert (tags.names["script"], tags.names["h1"], tags.names["article"]) == (1, 1, 1)
    assert "onerror=alert(2)" in html.unescape(hostile)
    assert "http:" not in plain
    assert "https:" not in plain


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_an_answer_can_be_shown_from_a_file(tmp_path: Path) -> None:
    source = write(tmp_path, "The key lay under the mat. Nobody knew it.")
    places = (Cited(str(source), (0, 26), "line 1", "The key lay under the mat."),)
    report = Report("Where is the key?", (), (Item("Under the mat.", (1,), "Answer", quotes=True),), places)
    page = "".join(report_html(report, [file_text(source, 42)], np.empty(0)))
    assert "<h3>Answer</h3>" in page
    assert '<blockquote dir="auto">The key lay under the mat. <a href="#c1">line 1</a></blockquote>' in page
    assert '<span class="cited">The key lay under the mat.</span> Nobody knew it.' in page


def browser() -> str | None:
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return next((found for name in names if (found := shutil.which(name))), None)


@pytest.mark.skipif(browser() is None, reason="no browser is installed")
def test_a_browser_shows_it_and_citations_lead_to_their_places(tmp_path: Path) -> None:
    playwright = pytest.importorskip("playwright.sync_api")
    path, sentences = summary_page(tmp_path)
    with playwright.sync_playwright() as running:
        chromium = running.chromium.launch(executable_path=browser(), args=["--no-sandbox"])
        page, problems = chromium.new_page(viewport={"width": 1200, "height": 500}), []
        page.on("console", lambda message: problems.append(message.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(path.as_uri())
        last = len(sentences)
        target = page.locator(f"#c{last}")
        assert not _is_in_view(page, f"#c{last}")
        page.click(f"#s{last}")
        page.wait_for_function(f"() => {_IN_VIEW}('#c{last}')")
        cited = target.evaluate(
            "node => { let text = ''; for (let n = node.nextSibling; n && n.className.includes"
            "('cited'); n = n.nextSibling) text += n.textContent; return text; }"
        )
        assert cited == sentences[-1]
        hot = page.locator(".doc span[class^=h]").first
        colour = hot.evaluate("node => getComputedStyle(node).backgroundColor")
        page.uncheck("#heat")
        assert hot.evaluate("node => getComputedStyle(node).backgroundColor") == "rgba(0, 0, 0, 0)" != colour
        papers = []
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            papers.append(page.evaluate(_CONTRAST))
        assert min(papers) > 10
        assert problems == []
        chromium.close()


_CONTRAST = """() => {
    const parts = colour => colour.match(/[\\d.]+/g).slice(0, 3).map(Number);
    const light = ([r, g, b]) => [0.2126 * r, 0.7152 * g, 0.0722 * b].reduce((a, c) => a + (c / 255) ** 2.2, 0);
    const probe = document.body.appendChild(document.createElement("p"));
    probe.style.cssText = "background: Canvas; color: CanvasText";
    const both = [getComputedStyle(probe).backgroundColor, getComputedStyle(document.querySelector(".item")).color];
    probe.remove();
    const [a, b] = both.map(parts).map(light).sort((x, y) => y - x);
    return (a + 0.05) / (b + 0.05);
}"""
_IN_VIEW = (
    "(name => { const box = document.querySelector(name).getBoundingClientRect();"
    " return box.top >= 0 && box.bottom <= innerHeight; })"
)


def _is_in_view(page: object, name: str) -> bool:
    return bool(page.evaluate(f"{_IN_VIEW}('{name}')"))  # type: ignore[attr-defined]
