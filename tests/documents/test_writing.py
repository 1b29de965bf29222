"""Files and folders appear whole or not at all, and replace nothing that is not an earlier result of their kind."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from famcli.documents.locking import release_all, sole_writer
from famcli.documents.writing import atomic_file, atomic_files, atomic_folder, check_page, check_target, put_in_place
from famcli.errors import UsageError

PAGE = "<!DOCTYPE html>\n<p>old</p>"


@pytest.fixture(params=[0o022, 0o077], ids=["umask 022", "umask 077"])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt])
def test_a_file_takes_its_place_whole_or_not_at_all_and_links_stay(tmp_path: Path, failure: type) -> None:
    (tmp_path / "page").write_text("old")
    (tmp_path / "link").symlink_to("page")
    before = sorted(tmp_path.iterdir())

    def fail() -> None:
        with atomic_file(tmp_path / "link") as beside:
            beside.write_text("half")
            raise failure

    with pytest.raises(failure):
        fail()
    assert (tmp_path / "page").read_text() == "old"
    with atomic_file(tmp_path / "link") as beside:
        beside.write_text("whole")
        assert (tmp_path / "page").read_text() == "old"
    assert (tmp_path / "page").read_text() == "whole"
    assert (tmp_path / "link").is_symlink()
    assert sorted(tmp_path.iterdir()) == before


def test_the_umask_decides_who_may_read_unless_it_is_private(tmp_path: Path, umask: int) -> None:
    for name, private in (("page", False), ("memory", True)):
        with atomic_file(tmp_path / name, private=private) as beside:
            beside.unlink()  # as a library may that writes a file of its own
            beside.write_text("text")
            beside.chmod(0o644)
    assert mode(tmp_path / "page") == 0o666 & ~umask
    assert mode(tmp_path / "memory") == 0o600
    with atomic_folder(tmp_path / "folder") as made:
        (made / "file").touch()
    assert mode(tmp_path / "folder") == 0o777 & ~umask


def test_a_file_that_cannot_be_moved_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "folder" / "inner").mkdir(parents=True)
    with pytest.raises(OSError, match="folder"), atomic_file(tmp_path / "folder"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt])
def test_a_folder_takes_its_place_whole_or_not_at_all(tmp_path: Path, failure: type) -> None:
    target = tmp_path / "parent" / "folder"

    def write(name: str, fails: bool = False) -> None:
        with atomic_folder(target) as made:
            (made / name).write_text(name)
            if fails:
                raise failure

    with pytest.raises(failure):
        write("zero", fails=True)
    assert not list((tmp_path / "parent").iterdir())
    for name in ("one", "two"):
        write(name)
        with pytest.raises(failure):
            write("half", fails=True)
        assert [path.name for path in target.iterdir()] == [name]
        assert list((tmp_path / "parent").iterdir()) == [target]


def test_the_old_folder_comes_back_if_the_new_one_cannot_be_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, made, rename = tmp_path / "folder", tmp_path / "made", Path.rename
    for folder in (old, made):
        folder.mkdir()
        (folder / folder.name).touch()

    def fails(path: Path, target: Path) -> Path:
        if path == made:
            raise OSError(28, "No space left on device")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fails)
    with pytest.raises(OSError, match="No space"):
        put_in_place(made, old)
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")) == [
        *("folder", "folder/folder", "made", "made/made")
    ]


def test_files_move_into_a_folder_with_the_one_that_opens_it_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, moved, replace = tmp_path / "new" / "folder", [], os.replace
    with atomic_files(folder, ["a.json"]) as made:
        for name in ("a.json", "b.bin", "card.md", "e.bin"):
            (made / name).write_text("old")

    def note(path: Path, target: Path) -> None:
        moved.append(target.name)
        assert not (folder / "a.json").exists(), "files of two checkpoints"
        replace(path, target)

    monkeypatch.setattr(os, "replace", note)
    with atomic_files(folder, ["a.json"], ["[e-z].*"]) as made:
        for name in ("a.json", "b.bin", "c.json", "d.bin"):
            (made / name).write_text("new")
    assert moved == ["b.bin", "c.json", "d.bin", "a.json"]
    assert {path.name: path.read_text() for path in folder.iterdir()} == {
        **dict.fromkeys(moved, "new"),
        "card.md": "old",
    }


def test_no_file_moves_if_writing_them_fails(tmp_path: Path) -> None:
    def fail() -> None:
        with atomic_files(tmp_path, ()) as made:
            (made / "a").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert not list(tmp_path.iterdir())


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


def test_a_lock_whose_with_was_never_entered_is_given_back(tmp_path: Path) -> None:
    target, lock = tmp_path / "x.fam", tmp_path / ".x.fam.lock"
    # As an interruption does it that comes before the body of the `with`.
    lost = sole_writer(target)
    lost.__enter__()
    assert lock.exists()
    release_all()
    assert list(tmp_path.iterdir()) == []
    with sole_writer(target):
        assert lock.exists()
    assert list(tmp_path.iterdir()) == []
