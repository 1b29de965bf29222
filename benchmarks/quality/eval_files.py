"""`python -m benchmarks.quality files`: questions about real files, and about encyclopedia passages under titles."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from famcli.cli.options import CommonOptions
from famcli.cli.work import Work

if TYPE_CHECKING:
    from benchmarks.quality.qa_rankers import Ranker
    from benchmarks.quality.real_files import FileOutcome
    from famcli.tasks.ask.passage_index import PassageIndex


def files(
    *,
    folder: Annotated[Path, typer.Argument(help="Where the files are, or are put after fetching them with git.")],
    half: Annotated[
        Literal["tuning", "held-out", "fresh", "both"], typer.Option("--half", help="Whose questions.")
    ] = "both",
    origin: Annotated[
        str, typer.Option("--origin", metavar="URL", help="Of repositories, with {} for owner/name.")
    ] = "https://github.com/{}",
    titled: Annotated[
        Path | None,
        typer.Option(
            "--titled", metavar="FILE", help="Ask 180 questions of a set over 200 passages under titles instead."
        ),
    ] = None,
    embedding: Annotated[
        Path | None, typer.Option("--embedding", metavar="FOLDER", help="A sentence encoder for transformers, beside.")
    ] = None,
    details: Annotated[bool, typer.Option("--details", help="A line for each question.")] = False,
    common: CommonOptions,
) -> None:
    """Ask 230 questions about 29 real files, or 61 about nine fresh ones that nothing was chosen on.

    A quarter of them have no answer in their file. Beside `famcli ask` are BM25 of a library over the same passages,
    with and without the headings above them.
    """
    with Work(common) as work:
        model = work.open_model()
        from benchmarks.quality.qa_rankers import Embedding, LibraryBM25
        from benchmarks.quality.real_files import get_file, judge_file, read_set, titled_file

        rankers: dict[str, Callable[[PassageIndex], Ranker]] = {
            "bm25": LibraryBM25,
            "bm25, headings": partial(LibraryBM25, headings=True),
        }
        if embedding is not None:
            rankers["embedding"] = partial(Embedding, folder=embedding)
        outcomes = list["FileOutcome"]()
        with tempfile.TemporaryDirectory(prefix="famcli-") as temporary:
            if titled is not None:
                wanted = [(file := titled_file(titled, Path(temporary)), Path(temporary) / file.name)]
            else:
                halves = ("tuning", "held-out") if half == "both" else (half,)
                chosen = [file for file in read_set() if file.half in halves]
                wanted = [(file, get_file(file, folder, origin)) for file in chosen]
            for file, path in wanted:
                work.progress.stage(file.name)
                outcomes += judge_file(model, file, path, rankers)
        work.make_room()
        for name in dict.fromkeys(one.file.half for one in outcomes):
            _show(work, name, [one for one in outcomes if one.file.half == name])
        if details:
            for one in outcomes:
                _show_question(work, one)


def _show(work: Work, half: str, outcomes: Sequence[FileOutcome]) -> None:
    answerable = [one for one in outcomes if one.question.quote]
    others = [one for one in outcomes if not one.question.quote]
    work.output.line(f"{half}: {len(answerable)} questions with an answer, {len(others)} without", "bold")
    for name in answerable[0].ranks:
        places = [one.ranks[name] for one in answerable]
        shares = [sum(place is not None and place < k for place in places) / len(places) for k in (1, 3, 10)]
        work.output.line(
            f"  {name:22} right passage first {shares[0]:.1%}, in three {shares[1]:.1%}, in ten {shares[2]:.1%}"
        )
    _share(work, "right answers", answerable, lambda one: bool(one.right))
    _share(work, "not sure, with the right passage", answerable, lambda one: _is_near(one) and one.ranks["famcli"] == 0)
    _share(work, "not sure, with another", answerable, lambda one: _is_near(one) and one.ranks["famcli"] != 0)
    _share(work, "not found", answerable, lambda one: one.answer.kind == "none")
    _share(work, "answers where there is none", others, lambda one: one.answer.found)
    _share(work, "not sure where there is none", others, _is_near)


def _is_near(one: FileOutcome) -> bool:
    return one.answer.kind == "nearest"


def _share(work: Work, name: str, outcomes: Sequence[FileOutcome], test: Callable[[FileOutcome], bool]) -> None:
    if outcomes:
        count = sum(map(test, outcomes))
        work.output.line(f"  {name:32} {count:3} of {len(outcomes)}, {count / len(outcomes):.1%}")


def _show_question(work: Work, one: FileOutcome) -> None:
    mark = "without" if not one.question.quote else "right" if one.right else "wrong"
    place, text = one.ranks.get("famcli"), " ".join(one.answer.text.split())
    told = (
        f"{one.file.name} | {one.question.ask} | {place} | {one.answer.confidence:.2f} {one.answer.kind} | {text[:160]}"
    )
    work.output.line(f"{mark:8}{told}")
