"""Lists of people, one a line or between commas."""

from __future__ import annotations

import pytest

from famcli.text.name_lists import is_people, may_be_name, names_of
from tests.text.test_sentences import split


@pytest.mark.parametrize(
    "line", ["Cllr Ann Bell (Chair)", "Carl van Dunn, treasurer", "ann42", "D. O'Malley Jr.", "- Eva Frost - remote"]
)
def test_a_line_may_name_somebody(line: str) -> None:
    assert may_be_name(line)


@pytest.mark.parametrize(
    "line", ["Old Business", "Guests:", "The path was discussed", "Treasurer's Report", "We met at nine.", "", "3.2"]
)
def test_a_line_may_name_nobody(line: str) -> None:
    assert not may_be_name(line)


def test_a_list_of_people_has_lines_of_one_kind() -> None:
    assert is_people(split("Heading\nAnn Bell\nCarl Dunn\nEva Frost")[1:])
    assert is_people(split("Heading\n\nAnn Bell\n\nCarl Dunn\n\nEva Frost")[1:])
    assert not is_people(split("Heading\n\nAnn Bell\nCarl Dunn\n\nEva Frost")[1:])
    assert not is_people(split("Heading\n\n- Ann Bell\nCarl Dunn")[1:])


def test_a_role_after_a_comma_is_no_name() -> None:
    assert names_of("Ann Bell, Carl Dunn and Eva Frost") == ["Ann Bell", "Carl Dunn", "Eva Frost"]
    assert names_of("Ann Bell, chair", is_entry=True) == ["Ann Bell, chair"]
    assert names_of("Ann, Carl", is_entry=True) == ["Ann", "Carl"]
