"""Small documents of packed formats, made by code."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence

_CONTAINER = '<container><rootfiles><rootfile full-path="OPS/book.opf"/></rootfiles></container>'
_W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'

MANUALS = {
    "man": r"""\
.\" A note
.TH LAMP 1 2020
.SH NAME
lamp \- light a lamp
.SH OPTIONS
.TP
\fB\-q\fR, \fB\-\-quiet\fR
Say nothing\&. See
.BR lamp (5).
.IP "\(bu" 4
A point
.PP
It\(aqs
.B bright
here.
.nf
lamp \-q
.fi
.SH "EXIT STATUS"
.de Sp
Never shown.
..
.ie n \{\
. ds C+ C++
.\}
.el \{\
. ds C+ C
.if n Not this.
.\}
.ie n .IP "4" 4
.el .IP "\f(CW4\fR" 4
No oil, says \*(C+.
.RS 4
.ie n \{\
\h'-04'\(bu\h'+03'\c
.\}
.el \{\
.IP \(bu 2.3
.\}
Fill it.
.Vb 1
\&    lamp \-\-fill
.Ve
""".removeprefix("\\\n"),
    "mdoc": ".Dd May 1, 2020\n.Dt LAMP 1\n.Sh NAME\n.Nm lamp\n.Nd light a lamp\n.Sh DESCRIPTION\n.Nm\nlights it.\n"
    ".Bl -tag\n.It Fl q\nSay nothing.\n.El\n",
}  # fmt: skip
"""Manual pages in both sets of macros."""


def zipped(parts: Mapping[str, str | bytes]) -> bytes:
    """A ZIP file of these parts."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return data.getvalue()


def epub(chapters: Sequence[tuple[str, str]], title: str = "The Harbour", author: str = "Ann Example") -> bytes:
    """A book of chapters, each a title for the table of contents ("" for none) and a body of XHTML."""
    names = [f"ch{number}.xhtml" for number in range(len(chapters))]
    items = "".join(
        f'<item id="i{n}" href="{name}" media-type="application/xhtml+xml"/>' for n, name in enumerate(names)
    )
    links = "".join(
        f'<li><a href="{name}">{one}</a></li>' for name, (one, _) in zip(names, chapters, strict=True) if one
    )
    spine = "".join(f'<itemref idref="i{number}"/>' for number in range(len(chapters)))
    package = (
        f'<package xmlns:dc="d"><metadata><dc:title>{title}</dc:title><dc:creator>{author}</dc:creator></metadata>'
        f'<manifest>{items}<item id="nav" properties="nav" href="nav.xhtml" media-type="text/html"/></manifest>'
        f"<spine>{spine}</spine></package>"
    )
    parts = {"mimetype": "application/epub+zip", "META-INF/container.xml": _CONTAINER, "OPS/book.opf": package}
    parts["OPS/nav.xhtml"] = f"<html><body><nav><ol>{links}</ol></nav></body></html>"
    for name, (_, body) in zip(names, chapters, strict=True):
        parts[f"OPS/{name}"] = f"<html><head><title>{name}</title></head><body>{body}</body></html>"
    return zipped(parts)


def docx(body: str, **parts: str) -> bytes:
    """A document with this body of WordprocessingML, and further parts of the folder word/."""
    styles = (
        f'<w:styles {_W}><w:style w:styleId="berschrift1"><w:name w:val="heading 1"/></w:style>'
        f'<w:style w:styleId="Eigene"><w:basedOn w:val="berschrift1"/></w:style></w:styles>'
    )
    content = {"[Content_Types].xml": "<Types/>", "word/styles.xml": styles}
    content["word/document.xml"] = f"<w:document {_W}><w:body>{body}</w:body></w:document>"
    content |= {
        f"word/{name}.xml": text.replace("<w:footnotes>", f"<w:footnotes {_W}>") for name, text in parts.items()
    }
    return zipped(content)


def odt(body: str, kind: str = "text") -> bytes:
    """A document with this body, in prefixes without namespaces."""
    content = f'<d xmlns:text="t" xmlns:table="b" xmlns:office="o" xmlns:draw="d"><office:body>{body}</office:body></d>'
    return zipped({"mimetype": f"application/vnd.oasis.opendocument.{kind}", "content.xml": content})


def paragraph(text: str, properties: str = "") -> str:
    """A paragraph of a DOCX."""
    return f"<w:p><w:pPr>{properties}</w:pPr><w:r><w:t>{text}</w:t></w:r></w:p>"


def pdf(pages: Sequence[Sequence[str]], trailer: str = "") -> bytes:
    """Pages of lines in Helvetica. trailer: further entries of the file's trailer."""
    streams = []
    for lines in pages:
        text = " ".join(f"({line}) Tj T*" for line in lines)
        streams.append(f"BT /F1 12 Tf 14 TL 72 720 Td {text} ET" if lines else "")
    kids = " ".join(f"{4 + 2 * number} 0 R" for number in range(len(pages)))
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for number, stream in enumerate(streams):
        objects.append(
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Resources << /Font << /F1 3 0 R >> >> "
            f"/Contents {5 + 2 * number} 0 R >>"
        )
        objects.append(f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream")
    data, places = b"%PDF-1.4\n", []
    for number, one in enumerate(objects, 1):
        places.append(len(data))
        data += f"{number} 0 obj\n{one}\nendobj\n".encode()
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    end = f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}"
    end += f"trailer\n<< /Size {len(objects) + 1} /Root 1 0 R {trailer} >>\nstartxref\n{len(data)}\n%%EOF\n"
    return data + end.encode()


ENCRYPTED = (
    f"/ID [<{'00' * 16}> <{'00' * 16}>] "
    f"/Encrypt << /Filter /Standard /V 1 /R 2 /O <{'11' * 32}> /U <{'22' * 32}> /P -4 >>"
)
