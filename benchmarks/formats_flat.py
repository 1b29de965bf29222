"""Peak memory must not depend on how long a converted document is.

Makes a small and a large document of each format and turns them into text, once through and then quoting from the
middle and the end (bar: 10 % or 8 MB more for the large one). No network: what is measured is the way to the text. A
PDF of 2,000 pages, a mailbox of 200 MB, and as much JSON, CSV, HTML, EPUB, DOCX and gzip as `--megabytes` says.

    python -m benchmarks.formats_flat [--pages 2000] [--megabytes 200] [--others 20] [--only pdf mail ...]
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.common import print_table, run_child, verdict

MB = 1_000_000
BAR, SLACK = 1.10, 8 * MB
SENTENCES = (
    "The harbour board met on Tuesday {n} to discuss the lighthouse and the repairs of the old pier.",
    "The engineer of section {n} explained that the lamp had failed twice in the winter storms.",
    "Captain number {n} complained that the signal could not be seen beyond the reef.",
)
_READ = """
import sys
from famcli.documents import open_source
with open_source(sys.argv[1]) as source:
    end = sum(len(piece.raw) for piece in source.pieces())
for place in (end // 2, end - 200):
    with open_source(sys.argv[1]) as source:
        source.text((place, place + 100))
print(end)
"""


def paragraphs(num_bytes: int) -> Iterator[str]:
    """Paragraphs of three sentences, about so many bytes together."""
    number = size = 0
    while size < num_bytes:
        text = " ".join(one.format(n=number) for one in SENTENCES)
        number, size = number + 1, size + len(text)
        yield text


def make_pdf(path: Path, num_pages: int) -> None:
    """Pages of 40 lines in Helvetica, written one by one."""
    places = list[int]()
    with path.open("wb") as file:

        def add(body: str) -> None:
            places.append(file.tell())
            file.write(f"{len(places)} 0 obj\n{body}\nendobj\n".encode())

        file.write(b"%PDF-1.4\n")
        add("<< /Type /Catalog /Pages 2 0 R >>")
        kids = " ".join(f"{4 + 2 * number} 0 R" for number in range(num_pages))
        add(f"<< /Type /Pages /Kids [{kids}] /Count {num_pages} >>")
        add("<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>")
        for number in range(num_pages):
            add(
                "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Resources << /Font << /F1 3 0 R >> >> "
                f"/Contents {5 + 2 * number} 0 R >>"
            )
            lines = " ".join(f"({SENTENCES[line % 3].format(n=40 * number + line)}) Tj T*" for line in range(40))
            stream = f"BT /F1 10 Tf 14 TL 60 720 Td {lines} ET"
            add(f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream")
        start = file.tell()
        file.write(f"xref\n0 {len(places) + 1}\n0000000000 65535 f \n".encode())
        file.write("".join(f"{place:010} 00000 n \n" for place in places).encode())
        file.write(f"trailer\n<< /Size {len(places) + 1} /Root 1 0 R >>\nstartxref\n{start}\n%%EOF\n".encode())


def make_mail(path: Path, num_bytes: int) -> None:
    """A mailbox of threads: every second message quotes the one before, some have a file attached."""
    last = ""
    with path.open("w") as file:
        for number, text in enumerate(paragraphs(num_bytes // 3)):
            is_reply = number % 2 == 1
            quoted = "".join(f"> {line}\n" for line in last.split(". "))
            body = f"On Monday Ann wrote:\n{quoted}{text}" if is_reply else text
            reply = f"In-Reply-To: <{number - 1}@example.org>\nSubject: Re: " if is_reply else "Subject: "
            file.write(
                f"From a{number}@example.org Mon Mar  3 10:00:00 2025\nFrom: Ann {number} <a{number}@example.org>\n"
                f"Message-ID: <{number}@example.org>\n{reply}Topic {number // 2}\n\n{body}\n{text.lower()}\n\n"
            )
            last = text


def make_json(path: Path, num_bytes: int) -> None:
    """One array on one line."""
    with path.open("w") as file:
        for number, text in enumerate(paragraphs(num_bytes)):
            file.write(("," if number else "[") + json.dumps({"id": number, "author": {"name": "Ann"}, "text": text}))
        file.write("]")


def make_csv(path: Path, num_bytes: int) -> None:
    """Rows with a header."""
    with path.open("w") as file:
        file.write("id,author,text\n")
        file.writelines(f'{number},Ann,"{text}"\n' for number, text in enumerate(paragraphs(num_bytes)))


def make_html(path: Path, num_bytes: int) -> None:
    """One page."""
    with path.open("w") as file:
        file.write("<!DOCTYPE html><html><head><title>Harbour</title></head><body><main>\n")
        file.writelines(f"<p>{text}</p>\n" for text in paragraphs(num_bytes))
        file.write("</main></body></html>\n")


def make_gzip(path: Path, num_bytes: int) -> None:
    """Plain text, packed."""
    with gzip.open(path, "wt", compresslevel=1) as file:
        file.writelines(f"{text}\n\n" for text in paragraphs(num_bytes))


def make_epub(path: Path, num_bytes: int) -> None:
    """Chapters of 100 paragraphs."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as book:
        book.writestr("mimetype", "application/epub+zip", zipfile.ZIP_STORED)
        rootfile = '<rootfile full-path="b.opf"/>'
        book.writestr("META-INF/container.xml", f"<container><rootfiles>{rootfile}</rootfiles></container>")
        chapter, names = list[str](), list[str]()
        for text in paragraphs(num_bytes):
            chapter.append(f"<p>{text}</p>")
            if len(chapter) == 100:
                names.append(f"c{len(names)}.xhtml")
                book.writestr(names[-1], f"<html><body><h1>Part {len(names)}</h1>{''.join(chapter)}</body></html>")
                chapter = []
        items = "".join(f'<item id="{one}" href="{one}" media-type="application/xhtml+xml"/>' for one in names)
        spine = "".join(f'<itemref idref="{one}"/>' for one in names)
        book.writestr("b.opf", f"<package><manifest>{items}</manifest><spine>{spine}</spine></package>")


def make_docx(path: Path, num_bytes: int) -> None:
    """Paragraphs."""
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as document,
        document.open("word/document.xml", "w", force_zip64=True) as part,
    ):
        part.write(b'<w:document xmlns:w="w"><w:body>')
        for text in paragraphs(num_bytes):
            part.write(f"<w:p><w:r><w:t>{text}</w:t></w:r></w:p>".encode())
        part.write(b"</w:body></w:document>")


MAKERS: dict[str, Callable[[Path, int], None]] = {
    "pdf": make_pdf,
    "mail": make_mail,
    "json": make_json,
    "csv": make_csv,
    "html": make_html,
    "gzip": make_gzip,
    "epub": make_epub,
    "docx": make_docx,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", type=int, default=2000)
    parser.add_argument("--megabytes", type=float, default=200, help="of the mailbox")
    parser.add_argument("--others", type=float, default=20, help="MB of the other formats")
    parser.add_argument("--only", nargs="*", choices=sorted(MAKERS), default=sorted(MAKERS))
    options = parser.parse_args()
    rows = list[tuple[object, ...]]()
    for kind in options.only:
        large = options.pages if kind == "pdf" else int((options.megabytes if kind == "mail" else options.others) * MB)
        peaks, seconds = list[int](), 0.0
        for size in (large // 20, large):
            with tempfile.TemporaryDirectory() as made:
                path = Path(made) / "document"
                MAKERS[kind](path, size)
                child = run_child([sys.executable, "-c", _READ, str(path)])
                peaks.append(child.peak_bytes)
                seconds = child.seconds
        what = f"{large:,} pages" if kind == "pdf" else f"{large / MB:g} MB"
        ratio = 1.0 if peaks[1] - peaks[0] < SLACK else peaks[1] / peaks[0]
        cells = [f"{peak / MB:.0f} MB" for peak in peaks]
        rows.append((kind, what, *cells, verdict(ratio, BAR), f"{seconds:.1f} s"))
        print(".", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    print_table("Peak resident memory of conversion", ["format", "large", "a 20th", "large", "bar", "took"], rows)


if __name__ == "__main__":
    main()
