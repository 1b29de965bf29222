"""What was decided stands below a heading that says so, or behind such a word; others have the words in discussion."""

from __future__ import annotations

from pathlib import Path

import pytest

from famcli.tasks.summarize.document_kind import is_outcome_title
from famcli.tasks.summarize.summarize import SummaryResult, summarize
from tests.tasks.support import byte_model, write

TALK = "".join(
    f"ABC: I am not sure that we agreed on the {thing} of the mill, and a decision would need more consensus.\n\n"
    f"DEF: We could have voted on the {thing}, but nobody approved of the motion at that time.\n\n"
    for thing in ("roof", "door", "wheel", "yard", "gate", "well", "barn", "road", "sign", "lamp")
)
NOTES = f"""# June 4, 2020 Mill Notes of the Meeting

Attendees: Ann Bell, Bo Carr

## The roof

{TALK}
### Conclusion/Resolution

- Stage 2
- The roof is mended by the smith in May
- Consensus on
  - <https://example.org/roof>

## The wheel

{TALK}
[RESOLVED: WHEEL => OAK]

Action item: Bo writes to the joiner about oak.

### Conclusion

ABC: Thanks to all of you, that was a long evening.
"""


def quotes(result: SummaryResult) -> list[str]:
    return [one.text.lstrip("- ") for one in result.sentences]


def test_outcomes_come_before_discussion(tmp_path: Path) -> None:
    result = summarize(byte_model(), [write(tmp_path, NOTES, "notes.md")])
    assert result.kind == "minutes"
    found = quotes(result)
    assert {
        "Stage 2",
        "The roof is mended by the smith in May",
        "[RESOLVED: WHEEL => OAK]",
        "Action item: Bo writes to the joiner about oak.",
    } <= set(found)
    assert not any(one.startswith(("ABC: Thanks", "Consensus on")) for one in found)
    # They stand under what was spoken of.
    assert [section.title for section in result.sections if "Conclusion" in (section.title or "")] == []


def test_notes_of_many_meetings_are_minutes(tmp_path: Path) -> None:
    actions = ("Bo asks the smith for nails", "Ann paints it green", "Cy orders three oak planks from the port")
    meetings = "".join(
        f"## May {day}, 2021\n\n### Agenda\n\n- The mill\n\nAnn: It is old.\n\nBo: It is.\n\n- Action: {one}\n\n"
        for day, one in enumerate(actions, start=3)
    )
    result = summarize(byte_model(), [write(tmp_path, meetings, "2021.md")])
    assert result.kind == "minutes"
    assert {f"Action: {one}" for one in actions} <= set(quotes(result))
    # A list of changes has dates, too.
    changes = "".join(
        f"## 1.{one}.0 - 2021-05-0{one}\n\n- Add a command that merges {one} tables.\n\n" for one in (4, 3, 2, 1)
    )
    assert summarize(byte_model(), [write(tmp_path, changes, "log.md")]).kind == "changes"


@pytest.mark.parametrize("name", ["minutes", "2021-03-16-minutes", "meeting_notes"])
def test_the_name_of_a_file_may_say_that_it_holds_minutes(name: str, tmp_path: Path) -> None:
    text = "# Mill\n\n## Attendees\n\n* Ann Bell\n* Bo Carr\n\n## The roof\n\nThe roof leaks. It is old and of straw.\n"
    assert summarize(byte_model(), [write(tmp_path, text, f"{name}.md")]).kind == "minutes"
    assert summarize(byte_model(), [write(tmp_path, text, "mill.md")]).kind != "minutes"


@pytest.mark.parametrize(
    ("title", "is_one"),
    [
        ("Conclusion", True),
        ("Conclusion/Resolution", True),
        ("Decisions and action items", True),
        ("Next steps", True),
        ("Conclusion of the war", False),
        ("The decision", True),
        ("How decisions are made", False),
    ],
)
def test_headings_of_outcomes(title: str, is_one: bool) -> None:
    assert is_outcome_title(title) == is_one
