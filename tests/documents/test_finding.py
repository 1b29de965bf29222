"""Folders and patterns: the documents in order, and what was skipped."""

from __future__ import annotations

from pathlib import Path

import pytest

from famcli.documents.finding import find_documents, is_many
from famcli.errors import DocumentError


def test_the_documents_of_a_folder_in_order(tmp_path: Path) -> None:
    for name in ("part 10.txt", "part 9.txt", "sub/page.html", ".hidden/a.txt", "node_modules/a.txt", ".b.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("<html><p>The board met.</p></html>" if name.endswith("html") else "The board met.")
    (tmp_path / "empty.txt").touch()
    (tmp_path / "logo.png").write_bytes(b"\x89PNG\r\n\x1a\n...")
    (tmp_path / "old.doc").write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1...")
    (tmp_path / "letter.rtf").write_bytes(rb"{\rtf1\ansi The board met.}")
    (tmp_path / "cut.pdf").write_bytes(b"%PDF-1.7\n...")
    (tmp_path / "gone.txt").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to(tmp_path)
    documents, skipped = find_documents(str(tmp_path))
    assert [Path(one).relative_to(tmp_path).as_posix() for one in documents] == [
        "part 9.txt",
        "part 10.txt",
        "sub/page.html",
    ]
    reasons = {Path(name).name: reason for name, reason in skipped}
    assert reasons.pop("cut.pdf").startswith("is a damaged PDF")
    assert "soffice --convert-to docx" in reasons.pop("old.doc")
    assert reasons.pop("letter.rtf").startswith("is an RTF file, not text: save it as DOCX or PDF")
    assert reasons.pop("logo.png") == "is a PNG image, not text: run text recognition on it and give the text"
    assert reasons == {"empty.txt": "is empty", "gone.txt": "is a broken link"}
    assert len(find_documents(f"{tmp_path}/*.txt")[0]) == 2
    assert len(find_documents(f"{tmp_path}/**/*.html")[0]) == 1
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "empty.txt").touch()
    with pytest.raises(DocumentError, match=r"no document that can be read; .*empty.txt is empty"):
        find_documents(str(tmp_path / "none"))


def test_a_file_with_the_name_of_a_pattern_is_that_file(tmp_path: Path) -> None:
    (tmp_path / "a[1].txt").write_text("The board met.")
    assert not is_many(str(tmp_path / "a[1].txt"))
    assert is_many(str(tmp_path / "a[2].txt"))
    assert not is_many(str(tmp_path / "missing.txt"))
