"""Documents of other formats, folders and pages through the commands: citations that open, and what was skipped."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.documents.made import epub, pdf
from tests.documents.test_fetching import PAGE, server

__all__ = ["server"]

MAILS = """From ann@example.org Mon Mar  3 10:00:00 2025
From: Ann <ann@example.org>
Subject: Lighthouse

The board decided to rent a beacon from the port.

"""


def test_a_folder_is_asked_and_every_citation_opens(run, tiny: Path, tmp_path: Path) -> None:
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "report.pdf").write_bytes(pdf([["The first page."], ["The engineer saw the lamp fail twice in winter."]]))
    (folder / "book.epub").write_bytes(epub([("Storm", "<p>The captain lost his ship beyond the reef.</p>")]))
    (folder / "mail.mbox").write_text(MAILS)
    (folder / "empty.txt").touch()
    questions = ["Who decided to rent a beacon?", "Who saw the lamp fail twice?", "Who lost his ship beyond the reef?"]
    options = [item for question in questions for item in ("-q", question)]
    result = run("ask", *options, "-f", folder, "--model", tiny, "--threshold", "0", "--json", "--top", "1")
    assert result.exit_code == 0
    assert f"skipped {folder}/empty.txt: it is empty" in result.stderr
    found = [answer["citations"][0] for answer in json.loads(result.stdout)["answers"]]
    assert [one["location"]["kind"] for one in found] == ["message", "page", "section"]
    assert [one["location"]["value"] for one in found] == ["1", "1", "Storm"]
    assert [answer["location"]["value"] for answer in json.loads(result.stdout)["answers"]] == ["1", "2", "Storm"]
    assert all(one["verified"] and one["checked_against"] == "source" for one in found)
    start, end = found[0]["location"]["span"]
    assert "rent a beacon" in MAILS[start:end]
    # Kept, and asked again; then one file has changed.
    again = run("ask", *options, "-f", folder, "--model", tiny, "--threshold", "0", "--json", "--top", "1")
    assert json.loads(again.stdout)["cached"]
    (folder / "mail.mbox").write_text(MAILS.replace("rent", "sell"))
    again = run("ask", *options, "-f", folder, "--model", tiny, "--threshold", "0", "--json", "--top", "1")
    assert not json.loads(again.stdout)["cached"]


def test_a_file_that_is_named_twice_is_read_once(run, tiny: Path, story: Path) -> None:
    once = json.loads(run("summarize", story, "--model", tiny, "--json").stdout)
    result = run("summarize", story, story.parent / ".." / story.parent.name / story.name, "--model", tiny, "--json")
    assert json.loads(result.stdout)["read"]["bytes"] == once["read"]["bytes"]
    assert "is named twice, and read once" in result.stderr


def test_a_file_that_cannot_be_read_does_not_keep_others_from_it(run, tiny: Path, story: Path) -> None:
    for command in (["summarize"], ["summarize", "--each"], ["ask", "Who hid the treasure map?", "--threshold", "0"]):
        result = run(*command, story, "absent.txt", "--model", tiny)
        assert result.exit_code == 1
        assert "famcli: absent.txt does not exist: check the path" in result.stderr.splitlines()
        assert result.stdout
    result = run("read", story, "absent.txt", "--model", tiny)
    assert (result.exit_code, result.stdout) == (1, "")


@pytest.mark.parametrize("command", [["summarize"], ["ask", "Who hid the treasure map?"], ["ppl"]])
def test_a_file_that_cannot_be_read_is_named_in_json(command: list[str], run, tiny: Path, story: Path) -> None:
    told = "absent.txt does not exist: check the path"
    result = json.loads(run(*command, story, "absent.txt", "--model", tiny, "--json").stdout)
    assert result["warnings"][-1] == told
    last = json.loads(run(*command, story, "absent.txt", "--model", tiny, "--jsonl").stdout.splitlines()[-1])
    assert (last["event"], last["warnings"][-1]) == ("result", told)
    if command != ["ppl"]:
        each = json.loads(run(*command, story, "absent.txt", "--model", tiny, "--json", "--each").stdout)
        assert (len(each["files"]), each["warnings"]) == (1, [told])


def test_a_page_is_fetched_unless_that_is_forbidden(run, server: str, tiny: Path, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    url = f"{server}/moved?to=/page.html"
    refused = run("summarize", url, "--model", tiny)
    assert refused.exit_code == 1
    assert "--allow-private" in refused.stderr
    refused = run("summarize", url, "--model", tiny, "--allow-private", "--offline")
    assert "--offline forbids that" in refused.stderr
    result = run("summarize", url, "--model", tiny, "--allow-private", "--json")
    assert json.loads(result.stdout)["read"]["sources"][0]["name"] == f"{server}/page.html"
    assert f"it leads to {server}/page.html" in result.stderr
    assert b"The board met." in PAGE


def test_a_converted_document_is_saved_asked_and_read_on(run, tiny: Path, tmp_path: Path) -> None:
    box, saved = tmp_path / "mail.mbox", tmp_path / "mail.fam"
    box.write_text(MAILS)
    assert run("read", box, "--save", saved, "--model", tiny).exit_code == 0
    ask = ("ask", "Who decided to rent a beacon?", "--load", saved, "--model", tiny, "--threshold", "0", "--json")
    citation = json.loads(run(*ask).stdout)["answers"][0]["citations"][0]
    assert (citation["location"]["kind"], citation["verified"]) == ("message", True)
    with box.open("a") as file:
        file.write(MAILS.replace("Ann", "Bob").replace("beacon", "pier"))
    grown = run("read", box, "--save", saved, "--append", "--model", tiny, "--json")
    assert grown.exit_code == 0
    assert json.loads(grown.stdout)["read"]["bytes"] > 50
    piped = run("read", "-", "--save", saved, "--append", "--model", tiny, input="More text.")
    assert piped.exit_code == 1
    assert "text from a pipe cannot continue" in piped.stderr
    box.write_text(MAILS.replace("rent", "sell") * 3)
    changed = run("read", box, "--save", saved, "--append", "--model", tiny)
    assert changed.exit_code == 1
    assert "it was changed, not continued" in changed.stderr
    assert "was changed since it was read" in run(*ask).stderr
    assert (
        "only plain text can be followed"
        in run("read", box, "--save", tmp_path / "b.fam", "--follow", "--model", tiny).stderr
    )
