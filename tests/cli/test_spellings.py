"""A word is found whichever way it is spelled, and what is quoted stays as it stands in the source."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import pytest

_TEXT = """The parish register lists every family that came over the mountains in those years.

{0} was born in the mill house beside the old bridge and later became a surveyor. {0} drew the first map of the valley.

The canal company went bankrupt two years later, and the map was bought by a collector from the coast.
"""
_DIVIDED = """The parish register lists every family that came over the moun-
tains in those years. On the second of May the surveyor Rother-
ham was born in the mill house beside the old bridge. He drew the first map of the valley
and sold it to the canal company for forty pounds.

The canal company went bankrupt two years later, and the map was bought by a collector from the coast.
"""


def _answer(run, model: Path, path: Path, question: str, text: str) -> dict:
    path.write_text(text, encoding="utf-8")
    result = run("ask", question, "-f", path, "-m", model, "--json")
    assert result.exit_code == 0
    answer = json.loads(result.stdout)["answers"][0]
    start, end = answer["span"]
    assert answer["found"]
    assert path.read_bytes()[start:end].decode() == answer["text"]
    return answer


def test_composed_and_decomposed_letters_are_the_same(run, tiny: Path, tmp_path: Path) -> None:
    question, text = "Where was Jos\u00e9 Pe\u00f1arol born?", _TEXT.format("Jos\u00e9 Pe\u00f1arol")
    answers = [
        _answer(run, tiny, tmp_path / "text", unicodedata.normalize(asked, question), unicodedata.normalize(read, text))
        for asked in ("NFC", "NFD")
        for read in ("NFC", "NFD")
    ]
    assert len({answer["confidence"] for answer in answers}) == 1
    assert all("was born in the mill house" in answer["text"] for answer in answers)


@pytest.mark.parametrize("spelling", ["Rother\u00adham", "Rother\u200bham", "ROTHERHAM", "\uff32otherham"])
def test_invisible_characters_and_widths_change_nothing(run, tiny: Path, tmp_path: Path, spelling: str) -> None:
    plain = _answer(run, tiny, tmp_path / "text", "Where was Rotherham born?", _TEXT.format("Rotherham"))
    other = _answer(run, tiny, tmp_path / "text", "Where was Rotherham born?", _TEXT.format(spelling))
    assert other["confidence"] == pytest.approx(plain["confidence"], abs=0.02)


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_word_divided_at_the_end_of_a_line_is_found(run, tiny: Path, tmp_path: Path, newline: str) -> None:
    plain = _answer(run, tiny, tmp_path / "text", "Where was Rotherham born?", _DIVIDED.replace("-\n", ""))
    text = _DIVIDED.replace("\n", newline)
    for question in ("Where was Rotherham born?", "Where was Rother-ham born?"):
        answer = _answer(run, tiny, tmp_path / "text", question, text)
        assert "was born in the mill house" in answer["text"]
    answer = _answer(run, tiny, tmp_path / "text", "Where was Rotherham born?", text)
    assert answer["confidence"] == pytest.approx(plain["confidence"], abs=0.02)


def test_nothing_that_stands_in_the_text_is_called_absent(run, tiny: Path, tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text(
        "The surveyor Rother-\nham met Pen\u0303arol and Jean-\nPaul in the Stra\u00dfe. " * 3, encoding="utf-8"
    )
    question = "Why did Rotherham, Pe\u00f1arol, Jean-Paul and Quagga leave the Strasse?"
    values = json.loads(run("ask", question, "-f", path, "-m", tiny, "--json").stdout)
    assert values["answers"][0]["missing"] == ["Quagga"]
