"""What docs/promises.md promises, one test for each kind of fault."""

from __future__ import annotations

import json
import os
import pwd
import re
import resource
import signal
import socket
import stat
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from famcli.documents.locking import sole_writer
from famcli.documents.writing import atomic_file, atomic_folder, temporary_name
from famcli.errors import BusyError, DocumentError, MemoryFileError, TokenizerError
from famcli.plain import harmless
from famcli.reading.memory_file import inspect_memory_file, load_memory
from famcli.tasks import read as read_module
from famcli.tasks.ask.ask import Ask, AskConfig, ask
from famcli.tasks.ask.passage_index import DamagedIndexError, PassageIndex
from famcli.tasks.ask.reading_cache import ReadingCache
from famcli.tasks.read import Read, ReadConfig, Saved, read
from famcli.tasks.report import page
from famcli.tasks.task import Notice
from famcli.tokens.huggingface import HuggingFaceTokenizer
from tests.faults.children import Child, command, own_streams, run_command
from tests.faults.fuzz import _tokenizer_json
from tests.faults.saves import FACT, QUESTION
from tests.helpers import make_random_checkpoint, write_json
from tests.tasks.support import LARGE, byte_model, prose, write

HOSTILE = "\x1b]52;c;YQ==\x07\x9b31m\u202e\u061c\u200b\u2066\ufeff"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_random_checkpoint(tmp_path_factory.mktemp("models") / "tiny")


# ------------------------------------------------------------------------------------------------- kept readings


def _be_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _be_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _be_link(path: Path) -> None:
    path.rename(path.with_suffix(".moved"))
    path.symlink_to(path.with_suffix(".moved"))


def _be_socket(path: Path) -> None:
    path.unlink()
    here = os.getcwd()
    os.chdir(path.parent)  # a socket's path must be short
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind(path.name)
    os.chdir(here)


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


DAMAGES: list[Callable[[Path], object]] = [_be_folder, _be_pipe, _be_link, _be_socket, _flip, Path.unlink]


def test_whatever_happened_to_a_kept_reading_the_answer_is_given_and_the_next_one_is_kept(tmp_path: Path) -> None:
    model, text, cache = byte_model(LARGE), write(tmp_path, prose(8) + FACT), ReadingCache(tmp_path / "readings")
    config = AskConfig(style="span")  # which keeps what the network has read, too
    answers = ask(model, QUESTION, [text], config, cache).answers
    for name in ("state.fam", "passages.sqlite", "entry.json"):
        for damage in DAMAGES:
            (entry,) = cache.entries()
            damage(cache.folder / entry.key / name)
            result = ask(model, QUESTION, [text], config, cache)
            assert (result.answers, result.cached, len(result.warnings)) == (answers, False, 1), (name, damage)
            assert "cannot be used" in result.warnings[0]
            assert ask(model, QUESTION, [text], config, cache).cached


def test_what_another_user_put_there_is_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, text, cache = byte_model(LARGE), write(tmp_path, prose(8) + FACT), ReadingCache(tmp_path / "readings")
    ask(model, QUESTION, [text], cache=cache)
    with monkeypatch.context() as other:
        other.setattr(os, "geteuid", lambda: 12345)
        other.setattr("famcli.tasks.ask.reading_cache._remove", lambda path: False)
        result = ask(model, QUESTION, [text], cache=cache)
        assert not result.cached
        assert "belongs to another user" in result.warnings[0]
        assert "cannot be removed" in result.warnings[0]
        with pytest.raises(DocumentError, match=r"removed 0 of 1 readings; .* cannot be removed"):
            cache.clear()
    assert cache.clear() == 1


def test_a_kept_reading_that_fails_under_the_questions_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, text, cache = byte_model(LARGE), write(tmp_path, prose(8) + FACT), ReadingCache(tmp_path / "readings")
    answers = ask(model, [QUESTION, "Who hid it?"], [text], cache=cache).answers
    fail, passage = [True], PassageIndex.passage

    def failing(self: PassageIndex, number: int) -> object:
        if fail.pop() if fail else False:
            raise DamagedIndexError("the passage index cannot be read (disk I/O error)")
        return passage(self, number)

    monkeypatch.setattr(PassageIndex, "passage", failing)
    task = Ask(model, [QUESTION, "Who hid it?"], cache=cache)
    list(task.events([text]))
    result = task.result()
    task.close()
    assert result.answers == answers
    assert ["cannot be used any more" in warning for warning in result.warnings] == [True]


# ------------------------------------------------------------------------------------------------- one writer


def test_the_second_writer_is_told_who_is_first(tmp_path: Path) -> None:
    target, streams = tmp_path / "x.fam", tmp_path / "streams"
    streams.mkdir()

    def hold() -> None:
        with sole_writer(target):
            time.sleep(60)

    child = Child(hold, streams)
    while not (tmp_path / ".x.fam.lock").exists() or not (tmp_path / ".x.fam.lock").read_bytes():
        time.sleep(0.01)
    with pytest.raises(BusyError, match=f"is being written by process {child.pid} "), sole_writer(target):
        pass
    with pytest.raises(BusyError):
        Read(byte_model(), ReadConfig(save=target))
    child.send(9)
    child.wait()
    assert (tmp_path / ".x.fam.lock").exists()
    with sole_writer(target), sole_writer(target), atomic_file(target) as beside:
        beside.write_text("whole")
        # A thread is another writer, though of the same process.
        found = list[BaseException]()

        def other() -> None:
            try:
                with sole_writer(target):
                    pass
            except BusyError as error:
                found.append(error)

        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        assert len(found) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["streams", "x.fam"]


def test_what_killed_processes_left_is_swept_and_a_folder_between_two_renames_comes_back(tmp_path: Path) -> None:
    target = tmp_path / "x"
    for name in (".x.00000000.tmp", ".x.fam.00000000.tmp", ".x.mine.tmp"):
        (tmp_path / name).write_text("half")
    temporary_name(target).mkdir()
    old = temporary_name(target, "old")
    old.mkdir()
    (old / "file").write_text("all there is")
    with pytest.raises(RuntimeError), atomic_folder(target):
        raise RuntimeError
    assert (target / "file").read_text() == "all there is"
    assert sorted(path.name for path in tmp_path.iterdir()) == [".x.fam.00000000.tmp", ".x.mine.tmp", "x"]


# ------------------------------------------------------------------------------------------------- followed files


def test_a_file_that_is_cut_and_outgrows_its_old_size_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = prose(10).encode()
    for new in (prose(30, seed=5).encode(), old[:5000][:-9] + b"x" * 999, old.replace(b".", b"!")):
        path = write(tmp_path, old)
        monkeypatch.setattr(read_module.time, "sleep", lambda seconds, path=path, new=new: path.write_bytes(new))
        result = read(byte_model(), [path], ReadConfig(save=tmp_path / "x.fam", force=True, follow=True))
        assert result.counts.num_bytes == len(old)
        assert result.warnings == (f"{path} was written anew: following has ended with what was read until then",)


def test_a_save_on_the_way_that_fails_is_told_and_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save, number = read_module.save_memory, 0

    def full(path: Path, reader: object, kind: str) -> object:
        nonlocal number
        number += 1
        if number in (2, 3):
            raise MemoryFileError(f"cannot save to {path}: No space left on device")
        return save(path, reader, kind)

    monkeypatch.setattr(read_module, "save_memory", full)
    path, memory = write(tmp_path, prose(6)), tmp_path / "x.fam"
    task = Read(byte_model(), ReadConfig(save=memory, save_every=1e-9))
    events = list(task.events([path]))
    told = [event.text for event in events if isinstance(event, Notice)]
    assert len(told) == 1
    assert told[0].endswith("No space left on device. Reading goes on, and saving is tried again")
    assert sum(isinstance(event, Saved) for event in events) > 3
    assert inspect_memory_file(memory).num_bytes == path.stat().st_size


@pytest.mark.parametrize("encoding", ["latin-1", "shift-jis"])
def test_ascii_that_goes_on_in_another_encoding_is_read_as_if_at_once(tmp_path: Path, encoding: str) -> None:
    model, path, memory = byte_model(), tmp_path / "text.txt", tmp_path / "x.fam"
    rest = {
        "latin-1": "Der M\u00fcller f\u00e4hrt \u00fcber die Br\u00fccke. ",
        "shift-jis": "\u3053\u308c\u306f\u6587\u3067\u3059\u3002",
    }[encoding]
    path.write_bytes(b"Plain words. ")
    read(model, [path], ReadConfig(save=memory))
    path.write_bytes(b"Plain words. " + (rest * 20).encode(encoding))
    appended = read(model, [path], ReadConfig(save=memory, append=True))
    whole = read(model, [path])
    assert appended.counts.sources[0].encoding == whole.counts.sources[0].encoding != "utf-8"
    assert appended.total == whole.total


def test_a_guess_from_few_bytes_that_was_wrong_is_not_gone_on_with(tmp_path: Path) -> None:
    model, path, memory = byte_model(), tmp_path / "text.txt", tmp_path / "x.fam"
    text = ("caf\u00e9 na\u00efve " * 20).encode()
    path.write_bytes(text[:4])  # the half of a character
    read(model, [path], ReadConfig(save=memory))
    path.write_bytes(text)
    with pytest.raises(MemoryFileError, match=r"was read as .*, but what it has become is UTF-8"):
        read(model, [path], ReadConfig(save=memory, append=True))
    assert read(model, [path], ReadConfig(save=memory, append=True, encoding="latin-1")).total.num_bytes == len(text)


# ------------------------------------------------------------------------------------------------- hostile files


@pytest.mark.parametrize("where", ["outside", "pipe", "device", "link"])
def test_a_memory_file_opens_no_file_of_its_own_choice(where: str, tmp_path: Path, tiny: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "others").mkdir()
    text, memory = write(tmp_path / "others", prose(8) + FACT, "text.txt"), tmp_path / "mine" / "x.fam"
    if where in ("pipe", "link"):
        text = text.rename(tmp_path / "mine" / "text.txt")
    environ = {"FAMCLI_READINGS": str(tmp_path / "kept")}
    assert run_command(["read", text, "--save", memory, "--model", tiny], tmp_path, environ=environ)[0] == 0
    if where == "pipe":
        text.unlink()
        os.mkfifo(text)
    elif where == "link":
        text.rename(tmp_path / "others" / "secret.txt")
        text.symlink_to(tmp_path / "others" / "secret.txt")
    elif where == "device":
        data = memory.read_bytes()
        name = str(text).encode()
        # As long as before, so that the header's length stays; the checksum is of no use to who is to be deceived.
        memory.write_bytes(data.replace(name, b"/dev/zero".ljust(len(name), b"/")))
    words = ["ask", QUESTION, "--load", memory, "--model", tiny]
    code, output, error = run_command(words, tmp_path, environ=environ, cwd=tmp_path / "mine")
    assert "this is a bug" not in error
    assert "Ottilie" not in output
    if where in ("outside", "link"):
        assert "is not opened unless its folder is named as one of sources" in error
        allowed = run_command(
            [*words, "--sources", tmp_path / "others"], tmp_path, environ=environ, cwd=tmp_path / "mine"
        )
        assert "Ottilie" in allowed[1]
    else:
        assert code == 1, (code, error)


def test_a_memory_file_that_is_a_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.fam")
    with pytest.raises(MemoryFileError, match="it is no regular file"):
        load_memory(tmp_path / "x.fam", byte_model())


PATTERNS = [r"(a+)+$", r"(a|aa)+$", r"(\w+\s?)+$", r"(\w|\w\w)*!", r"(.*)*=", r"\s*\s*\s*\s*\s*\s*\s*x"]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_pattern_without_end_is_refused_in_one_line(
    pattern: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data = json.loads(_tokenizer_json())
    data["pre_tokenizer"]["pretokenizers"][0]["pattern"] = {"Regex": pattern}
    write_json(tmp_path / "tokenizer.json", data)
    began, refused = time.monotonic(), ""
    try:
        HuggingFaceTokenizer(tmp_path / "tokenizer.json").encode("a" * 5000 + " " * 5000 + "!?=")
    except TokenizerError as error:
        refused = str(error)
    # The library finds some of them harmless.
    assert refused or pattern not in PATTERNS[:3]
    assert "\n" not in refused
    assert time.monotonic() - began < 20
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    "normalizer",
    [
        {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 5000},
        {"type": "Replace", "pattern": {"Regex": "x*"}, "content": "b" * 200},
        {"type": "Sequence", "normalizers": [{"type": "Replace", "pattern": {"String": "a"}, "content": "aaaa"}] * 12},
        {"type": "Prepend", "prepend": "a" * 100_000},
    ],
)
def test_a_normalizer_that_makes_much_of_little_is_refused(normalizer: dict[str, object], tmp_path: Path) -> None:
    write_json(tmp_path / "tokenizer.json", json.loads(_tokenizer_json()) | {"normalizer": normalizer})
    with pytest.raises(TokenizerError, match=r"its normalizer could make a text [\d,]+ times longer"):
        HuggingFaceTokenizer(tmp_path / "tokenizer.json")


# ------------------------------------------------------------------------------------------------- terminals


def _on_a_terminal(words: list[object], environ: dict[str, str], cwd: Path) -> str:
    """All that a command prints where its streams are a terminal."""
    pid, terminal = os.forkpty()
    if not pid:
        own_streams()
        with suppress(SystemExit):
            command(words, environ=environ, cwd=cwd)()
        sys.stdout.flush()
        os._exit(0)
    found = b""
    while True:
        try:
            data = os.read(terminal, 1 << 16)
        except OSError:
            break
        if not data:
            break
        found += data
    os.close(terminal)
    os.waitpid(pid, 0)
    return found.decode("utf-8", "surrogateescape")


def test_nothing_hostile_reaches_a_terminal(tmp_path: Path, tiny: Path) -> None:
    name = f"na\nme{HOSTILE}.txt"
    text = write(tmp_path, "".join(f"{HOSTILE} {line}\n" for line in (prose(8) + FACT).split(". ")), name)
    other = write(tmp_path, prose(3), f"b{HOSTILE}.txt")
    model = tmp_path / f"model{HOSTILE}"
    model.symlink_to(tiny)
    environ = {"NO_COLOR": "1", "TERM": "dumb", "FAMCLI_READINGS": str(tmp_path / f"kept{HOSTILE}"), "COLUMNS": "200"}
    use: list[object] = ["--model", model, "--progress", "none"]
    commands: list[list[object]] = [
        ["ask", QUESTION + HOSTILE, "-f", text, "-f", other, *use],
        ["ask", QUESTION, "-f", text, "-f", other, "--json", *use],
        ["ask", QUESTION, "-f", text, "--each", "--jsonl", *use],
        ["summarize", text, other, *use],
        ["summarize", text, "--json", "--focus", HOSTILE, *use],
        ["ppl", text, other, "--per", "line", *use],
        ["read", text, "--save", tmp_path / f"{HOSTILE}.fam", *use],
        ["read", text, "--save", tmp_path / f"{HOSTILE}.fam", *use],
        ["inspect", tmp_path / f"{HOSTILE}.fam"],
        ["inspect", model],
        ["readings"],
        ["readings", "--json"],
        ["ppl", tmp_path / f"missing{HOSTILE}", *use],
        ["ppl", text, "--model", tmp_path / f"missing{HOSTILE}"],
        ["ppl", text, f"--no-such{HOSTILE}"],
        ["ppl", text, "--per", HOSTILE],
        [f"com{HOSTILE}"],
        ["--debug", "ppl", text, "--encoding", HOSTILE, *use],
    ]
    for words in commands:
        shown = _on_a_terminal(words, environ, tmp_path)
        assert shown.strip(), words
        assert "this is a bug" not in shown, shown
        plain = shown.replace("\r\n", "\n")
        assert harmless(plain) == plain, (words, plain)
        assert "na\nme" not in plain, words


def test_a_terminal_that_is_closed_costs_nothing_that_was_read(tmp_path: Path, tiny: Path) -> None:
    text, memory = write(tmp_path, prose(3000)), tmp_path / "x.fam"
    pid, terminal = os.forkpty()
    if not pid:
        own_streams()
        for signum in (signal.SIGINT, signal.SIGHUP):
            signal.signal(signum, signal.default_int_handler if signum == signal.SIGINT else signal.SIG_DFL)
        code = 0
        try:
            command(["read", text, "--save", memory, "--model", tiny, "--progress", "bar"])()
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 1
        os._exit(code)
    shown = b""
    while b"tokens" not in shown:
        shown += os.read(terminal, 4096)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 129
    assert 0 < inspect_memory_file(memory).num_bytes <= text.stat().st_size
    assert sorted(path.name for path in tmp_path.iterdir()) == ["text.txt", "x.fam"]


def test_the_table_knows_every_control_that_unicode_names() -> None:
    import unicodedata

    kept = {"\n", "\t", "\u00ad", "\u200c", "\u200d"}
    for code in range(0x110000):
        letter = chr(code)
        kind = unicodedata.category(letter)
        controls = unicodedata.bidirectional(letter) in {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
        is_mark = letter in "\u061c\u200e\u200f"
        if kind in ("Cc", "Zl", "Zp") or controls or is_mark or letter in "\u200b\u2060\ufeff":
            assert (harmless(letter) == letter) == (letter in kept), hex(code)
    # Joiners are letters' business where letters join.
    for text in (
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
        "\U0001f469\u200d\U0001f4bb",
        "\u0915\u094d\u200d\u0937",
    ):
        assert harmless(text) == text
    assert harmless("pay\u200dpal \u200c") == "pay\ufffdpal \ufffd"


def test_a_line_break_in_a_name_breaks_no_line(tmp_path: Path, tiny: Path) -> None:
    text = write(tmp_path, prose(8) + FACT, "two\nlines.txt")
    other = write(tmp_path, prose(4), "other.txt")
    environ = {"FAMCLI_READINGS": str(tmp_path / "kept")}
    for words in (["ask", QUESTION, "-f", text], ["summarize", text, other], ["ppl", text, other]):
        _, output, error = run_command([*words, "--model", tiny], tmp_path, environ=environ)
        assert "two\\nlines.txt" in output, (output, error)
        assert "two\nlines" not in output + error


# ------------------------------------------------------------------------------------------------- the environment


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o000])
def test_what_holds_text_is_the_owners_and_the_rest_follows_the_umask(umask: int, tmp_path: Path, tiny: Path) -> None:
    text, kept = write(tmp_path, prose(8) + FACT), tmp_path / "kept"
    before = os.umask(umask)
    try:
        use = ["--model", tiny]
        for words in (
            ["read", text, "--save", tmp_path / "x.fam", *use],
            ["ask", QUESTION, "-f", text, "--html", tmp_path / "ask.html", "--readings", kept, *use],
            ["summarize", text, "--html", tmp_path / "summary.html", *use],
            ["quantize", tiny, tmp_path / "small"],
        ):
            code, _, error = run_command(words, tmp_path)
            assert code == 0, error
    finally:
        os.umask(before)
    private = [tmp_path / "x.fam", tmp_path / "ask.html", tmp_path / "summary.html", kept, *kept.rglob("*")]
    assert len(private) >= 8
    for path in private:
        assert not stat.S_IMODE(path.stat().st_mode) & 0o077, path
    for path in (tmp_path / "small").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask, path


def test_without_a_home_and_a_name_everything_works_and_nothing_is_kept(tmp_path: Path, tiny: Path) -> None:
    text = write(tmp_path, prose(8) + FACT)

    def nobody(user: int) -> None:
        raise KeyError(user)

    def without(words: list[object]) -> Callable[[], None]:
        def run() -> None:
            for name in ("HOME", "XDG_CACHE_HOME", "FAMCLI_READINGS", "FAMCLI_CACHE", "USER", "LOGNAME"):
                os.environ.pop(name, None)
            pwd.getpwuid = nobody  # type: ignore[assignment]
            command(words, cwd=tmp_path)()

        return run

    for words, code in (
        (["ask", QUESTION, "-f", text, "--model", tiny], 0),
        (["chat", text, "--model", tiny], 0),
        (["models"], 0),
        (["inspect"], 0),
        (["readings"], 2),
        (["ppl", text, "--model", "~nobody-here/model"], 1),
        (["ppl", text, "--model", "owner/name", "--offline"], 1),
    ):
        child = Child(without(words), tmp_path)
        found = child.wait()
        _, error = child.texts()
        assert "this is a bug" not in error, error
        assert found == code, (words, error)
        if words[0] in ("ask", "chat"):
            assert "what is read is not kept for later questions" in error
    assert not (tmp_path / "~").exists()


def test_a_full_disk_under_a_page_is_a_failure_and_not_a_mistake(tmp_path: Path, tiny: Path) -> None:
    text = write(tmp_path, prose(20))

    def full(*given: Any, **options: Any) -> Any:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
        return atomic_file(*given, **options)

    def run() -> None:
        page.atomic_file = full  # type: ignore[attr-defined]
        command(["summarize", text, "--html", tmp_path / "page.html", "--model", tiny])()

    child = Child(run, tmp_path)
    assert child.wait() == 1
    assert re.search(r"cannot write the report to .*page\.html: .*; make room", child.texts()[1])
    assert not (tmp_path / "page.html").exists()
