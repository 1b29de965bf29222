"""A table is summed up by its columns."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import jsonschema

from famcli.plain import to_json
from famcli.tasks.summarize.summarize import summarize
from famcli.tasks.summarize.summary_format import format_summary
from famcli.tasks.summarize.summary_result import SummarizeConfig, SummaryResult
from famcli.tasks.summarize.table_digest import TableDigest
from tests.tasks.support import LARGE, byte_model

SCHEMA = json.loads((Path(__file__).parents[3] / "docs" / "schemas" / "summarize.json").read_text(encoding="utf-8"))
NAMES = ["Town", "Region", "People", "Code", "World", "Note"]


def row(number: int) -> list[str]:
    region = ["North", "S\u00fcd; south", "East"][number % 3 if number % 4 else 0]
    note = "x" if number in (3, 5) else ""
    return [f"Town \u00c5{number}", region, f"{1000 * number:,}", f"{number:03}", "Earth", note]


def table(
    tmp_path: Path, rows: list[list[str]], names: list[str] = NAMES, config: SummarizeConfig | None = None
) -> SummaryResult:
    text = io.StringIO()
    csv.writer(text).writerows([names, *rows])
    path = tmp_path / "towns.csv"
    path.write_text(text.getvalue(), encoding="utf-8")
    return summarize(byte_model(LARGE), [path], config)


def lines(result: SummaryResult) -> list[str]:
    return [f"{mark}{text}" for mark, text in format_summary(result, "bullets")]


def test_columns_are_told_by_what_they_hold(tmp_path: Path) -> None:
    result = table(tmp_path, [row(number) for number in range(1, 3001)])
    assert (result.kind, result.sentences, result.counts.num_tokens) == ("table", (), 0)
    assert lines(result) == [
        "3,000 rows of 6 columns.",
        "The same in all rows: World Earth.",
        "Town: very many different values, such as Town \u00c51, Town \u00c52, Town \u00c53.",
        "Region: North in 1,500 rows, S\u00fcd; south in 750, East in 750.",
        "People: 1,000 to 3,000,000, mean 1.5005e+06.",
        "Code: very many different values, such as 001, 002, 003.",
        "Note: x (in 2 rows).",
    ]
    jsonschema.validate(json.loads(json.dumps(to_json(result))), SCHEMA)


def test_years_have_no_comma(tmp_path: Path) -> None:
    rows = [[f"Town {number}", str(1900 + number), str(1900 + 99 * number)] for number in range(30)]
    assert lines(table(tmp_path, rows, ["Town", "Founded", "People"]))[2:] == [
        "Founded: 1900 to 1929, mean 1914.5.",
        "People: 1,900 to 4,771, mean 3,335.5.",
    ]


def test_a_table_with_prose_is_quoted_too(tmp_path: Path) -> None:
    said = "The keeper of the lamp number {} was asleep for the whole night."
    rows = [[str(number), ("Ann", "Bo")[number % 2], said.format(number)] for number in range(40)]
    result = table(tmp_path, rows, ["id", "author", "message"])
    assert (
        lines(result)[:3] == ["40 rows of 2 columns.", "id: 0 to 39, mean 19.5.", "author: Bo in 20 rows, Ann in 20."]
        or lines(result)[2] == "author: Ann in 20 rows, Bo in 20."
    )
    assert result.sentences
    assert all("keeper of the lamp" in quote.text and quote.location is not None for quote in result.sentences)


def test_a_table_whose_columns_have_names_is_no_log(tmp_path: Path) -> None:
    rows = [[f"2024-01-01 10:00:{n:02}", ("INFO", "ERROR")[n % 2], f"pier {n}"] for n in range(30)]
    result = table(tmp_path, rows, ["time", "level", "where"])
    assert (result.kind, result.log) == ("table", None)
    assert "level: INFO in 15 rows, ERROR in 15." in lines(result)


def test_a_table_can_be_read_as_prose_and_several_documents_are(tmp_path: Path) -> None:
    rows = [row(number) for number in range(1, 30)]
    for config in (SummarizeConfig(kind="prose"), SummarizeConfig(focus="North")):
        result = table(tmp_path, rows, config=config)
        assert (result.kind, result.table) == ("prose", None)
    path = tmp_path / "towns.csv"
    assert summarize(byte_model(LARGE), [path, path]).table is None


def test_what_is_kept_of_a_table_is_bounded() -> None:
    digest = TableDigest()
    for number in range(3000):
        digest._take("; ".join(f"name {column}: {number}-{column}" for column in range(100)))
    columns = digest.summary().columns
    assert len(columns) == 64
    assert all(column.num_different is None and column.num_filled == 3000 for column in columns)
    assert all(column.values is None for column in digest._columns.values())
