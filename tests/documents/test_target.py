"""A result replaces nothing that is no earlier result of its kind."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from famcli.documents.target import check_page, check_target
from famcli.errors import UsageError

PAGE = "<!DOCTYPE html>\n<p>old</p>"


def make(folder: Path) -> None:
    (folder / "page.html").write_text(PAGE)
    (folder / "notes.txt").write_text("my notes")
    (folder / "empty.html").touch()
    (folder / "folder").mkdir()
    os.mkfifo(folder / "pipe")
    (folder / "link").symlink_to(folder / "page.html")
    (folder / "link to notes").symlink_to(folder / "notes.txt")
    (folder / "nowhere").symlink_to(folder / "new.html")


@pytest.mark.parametrize("name", ["page.html", "empty.html", "link", "nowhere", "new"])
def test_a_page_may_be_new_or_replace_a_page(tmp_path: Path, name: str) -> None:
    make(tmp_path)
    check_page(tmp_path / name, [str(tmp_path / "notes.txt"), "-", "not there"])


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("notes.txt", "is there already and is no page, so it is not replaced: name another file"),
        ("link to notes", "is there already and is no page"),
        ("pipe", "is a device or a pipe, which a page cannot replace"),
        ("/dev/null", "is a device or a pipe"),
        ("/dev/stdout", "is a device or a pipe"),
        ("folder", "is a directory: name a file in it"),
        ("missing/page.html", "there is no folder .*missing; make it, or name another file"),
        ("notes.txt/page.html", "there is no folder .*notes.txt"),
    ],
)
def test_what_is_no_page_is_not_replaced(tmp_path: Path, name: str, reason: str) -> None:
    make(tmp_path)
    with pytest.raises(UsageError, match=reason):
        check_page(tmp_path / name)


def test_what_an_open_file_is_called_is_not_replaced_but_files_below_dev_are(tmp_path: Path) -> None:
    with (tmp_path / "page.html").open("w") as page, pytest.raises(UsageError, match="is a device or a pipe"):
        check_page(Path(f"/dev/fd/{page.fileno()}"))
    if os.access("/dev/shm", os.W_OK):
        with tempfile.NamedTemporaryFile(dir="/dev/shm", suffix=".html") as shared:
            check_page(Path(shared.name))


def test_a_text_that_is_read_is_not_replaced(tmp_path: Path) -> None:
    make(tmp_path)
    with pytest.raises(UsageError, match="is a text that is read, and would be lost: name another file"):
        check_page(tmp_path / "link", [tmp_path / "page.html"])
    with pytest.raises(UsageError, match="is there already and is no poem"):
        check_target(tmp_path / "page.html", "poem", lambda first: first.startswith(b"Roses"))
