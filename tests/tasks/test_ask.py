from __future__ import annotations

import json
from pathlib import Path

import pytest

from famcli.documents.document import open_document
from famcli.errors import UsageError
from famcli.tasks.ask import NOTHING_FOUND, SOURCE_GONE, Answer, AnswerText, Ask, AskConfig, AskResult, ask
from famcli.tasks.common import Advance, Notice
from famcli.tasks.likelihood import QuestionLikelihood
from famcli.tasks.read import ReadConfig, read
from tests.reading.support import pipe
from tests.tasks.support import LARGE, byte_model, collect, prose, with_sidecar, without_bos, write

FACT = "The golden key of Queen Isolde lies \u201cbeneath\u201d the third oak tree."
QUESTION = "Where is the golden key of Queen Isolde?"
OTHER = "Who sells whale oil in Nantucket?"


def planted(place: float = 0.5, num_sentences: int = 60) -> str:
    """Prose with the fact in it, as a share of its length."""
    sentences = prose(num_sentences).split(". ")
    sentences.insert(int(place * len(sentences)), FACT.removesuffix("."))
    return ". ".join(sentences)


def check_citations(result: AskResult, raw: bytes, encoding: str = "utf-8") -> None:
    """Every citation stands in the source where it says."""
    for answer in result.answers:
        assert answer.cited == (bool(answer.citations) and answer.kind == "extracted")
        for citation in answer.citations:
            assert raw[slice(*citation.span)].decode(encoding) == citation.text
            assert citation.line == 1 + raw[: citation.span[0]].decode(encoding).count("\n")


@pytest.mark.parametrize("place", [0.0, 0.5, 0.99])
def test_it_finds_a_planted_sentence_and_quotes_it(place: float, tmp_path: Path) -> None:
    path = write(tmp_path, planted(place))
    result = ask(byte_model(LARGE), QUESTION, [path])
    answer = result.answers[0]
    assert answer.found
    assert answer.kind == "extracted"
    assert FACT.removesuffix(".") in answer.text
    assert FACT.removesuffix(".") in answer.citations[0].text
    assert answer.citations[0].checked_against == "source"
    check_citations(result, path.read_bytes())
    assert result.counts.num_bytes == path.stat().st_size
    assert json.dumps(result.to_json(), allow_nan=False)


@pytest.mark.parametrize(("encoding", "newline"), [("utf-8", "\r\n"), ("cp1252", "\n"), ("utf-16-le", "\n")])
def test_places_are_right_in_any_encoding(encoding: str, newline: str, tmp_path: Path) -> None:
    raw = planted().replace("\n", newline).encode(encoding)
    path = write(tmp_path, raw)
    result = ask(byte_model(LARGE), QUESTION, [open_document(path, encoding=encoding)])
    assert FACT.removesuffix(".") in result.answers[0].text
    check_citations(result, raw, encoding)


def test_one_reading_serves_several_questions(tmp_path: Path) -> None:
    path = write(tmp_path, planted())
    task = Ask(byte_model(LARGE), [QUESTION, OTHER, "Is there an oak tree?"])
    events = list(task.events([path]))
    result = task.result()
    assert collect(events, Answer) == list(result.answers)
    assert [answer.found for answer in result.answers] == [True, False, True]
    assert result.answers[1].text == NOTHING_FOUND
    assert result.answers[1].citations == ()
    assert sum(event.num_bytes for event in collect(events, Advance)) == path.stat().st_size
    assert not result.partial


def test_a_pipe_is_checked_against_what_was_read() -> None:
    text = planted()
    result = ask(byte_model(LARGE), QUESTION, [pipe(text.encode(), sizes=[700])])
    assert {citation.checked_against for citation in result.answers[0].citations} == {"text read"}
    check_citations(result, text.encode())


def test_several_documents(tmp_path: Path) -> None:
    paths = [write(tmp_path, prose(20, 1), "a.txt"), write(tmp_path, planted(), "b.txt"), write(tmp_path, "", "c.txt")]
    result = ask(byte_model(LARGE), QUESTION, paths)
    assert result.answers[0].citations[0].source == str(paths[1])
    assert len(result.counts.sources) == 3


def test_what_no_longer_stands_in_the_source_is_not_cited(tmp_path: Path) -> None:
    path = write(tmp_path, planted())
    task = Ask(byte_model(LARGE), [QUESTION])
    answers = []
    for event in task.events([path]):
        if getattr(event, "name", "") == "answering":
            path.write_text(prose(200, 9))
        if isinstance(event, Answer):
            answers.append(event)
    assert [answer.found for answer in answers] == [False]
    assert "changed while it was read" in task.result().warnings[0]


@pytest.mark.parametrize("mode", ["on", "frozen", "none"])
def test_every_memory_mode_answers(mode: str, tmp_path: Path) -> None:
    config = AskConfig(memory_mode=mode)  # type: ignore[arg-type]
    result = ask(byte_model(LARGE), QUESTION, [write(tmp_path, planted(num_sentences=20))], config)
    assert result.memory_mode == mode
    assert result.answers[0].found


@pytest.mark.parametrize("text", ["", "\n", "no sentences at all"])
def test_an_empty_document_answers_nothing(text: str, tmp_path: Path) -> None:
    result = ask(byte_model(), QUESTION, [write(tmp_path, text)])
    assert not result.answers[0].found
    assert result.counts.num_bytes == len(text)


@pytest.mark.parametrize("questions", [[], [""], ["  \n"], ["Fine?", ""]])
def test_an_empty_question_is_a_usage_error(questions: list[str]) -> None:
    with pytest.raises(UsageError, match="question is empty"):
        Ask(byte_model(), questions)


def test_numbers_that_make_no_sense_are_refused() -> None:
    with pytest.raises(UsageError, match="max_passages"):
        AskConfig(max_passages=0)


def test_written_answers_cite_the_evidence_and_come_as_they_are_written(tmp_path: Path) -> None:
    path, config = write(tmp_path, planted()), AskConfig(generate=True, max_answer_tokens=12)
    task = Ask(byte_model(LARGE), [QUESTION, OTHER], config)
    events = list(task.events([path]))
    written, none = task.result().answers
    assert (written.kind, none.kind, none.found) == ("written", "none", False)
    assert written.citations
    assert "".join(event.text for event in collect(events, AnswerText)).rstrip() == written.text
    assert not written.cited
    assert [event.text for event in collect(events, Notice)] == list(task.result().warnings)
    assert "not known to follow instructions" in task.result().warnings[0]
    check_citations(task.result(), path.read_bytes())


def test_the_sidecar_says_whether_to_write(tmp_path: Path) -> None:
    model = with_sidecar(byte_model(LARGE), tasks={"ask": "write"}, prompts={"ask": "{passages} {question} ="})
    assert Ask(model, [QUESTION]).writes
    assert not Ask(model, [QUESTION], AskConfig(generate=False)).writes
    assert not Ask(byte_model(), [QUESTION]).writes
    result = ask(model, QUESTION, [write(tmp_path, planted(num_sentences=10))], AskConfig(max_answer_tokens=3))
    assert result.answers[0].kind == "written"
    assert not any("instructions" in warning for warning in result.warnings)


def test_interrupted_it_answers_from_what_was_read(tmp_path: Path) -> None:
    path = write(tmp_path, planted(0.1, 300))
    task, num_bytes = Ask(byte_model(LARGE), [QUESTION]), 0
    for event in task.events([path]):
        num_bytes += event.num_bytes if isinstance(event, Advance) else 0
        if num_bytes > 5000:
            break
    result = task.result()
    assert result.partial
    assert FACT.removesuffix(".") in result.answers[0].text
    check_citations(result, path.read_bytes())


def test_from_memory_it_quotes_the_source_that_is_still_there(tmp_path: Path) -> None:
    model, path, memory = byte_model(LARGE), write(tmp_path, planted()), tmp_path / "text.fam"
    read(model, [path], ReadConfig(save=memory))
    path.write_bytes(path.read_bytes() + b" The golden key of Queen Isolde is a later addition.")
    task = Ask(model, [QUESTION])
    list(task.events_from_memory(memory))
    result = task.result()
    assert FACT.removesuffix(".") in result.answers[0].text
    assert not any("later addition" in citation.text for citation in result.answers[0].citations)
    check_citations(result, path.read_bytes())
    assert result.warnings == ()
    assert not result.partial
    assert result.counts.num_tokens == result.counts.num_bytes


@pytest.mark.parametrize("what", ["gone", "changed", "pipe"])
def test_from_memory_without_its_source_nothing_is_cited(what: str, tmp_path: Path) -> None:
    model, path, memory = byte_model(LARGE), write(tmp_path, planted(num_sentences=20)), tmp_path / "text.fam"
    read(model, [pipe(path.read_bytes()) if what == "pipe" else path], ReadConfig(save=memory))
    if what == "gone":
        path.unlink()
    elif what == "changed":
        path.write_bytes(path.read_bytes().replace(b"golden", b"silver"))
    quoted = Ask(model, [QUESTION])
    list(quoted.events_from_memory(memory))
    answer = quoted.result().answers[0]
    assert (answer.found, answer.text, answer.cited) == (False, SOURCE_GONE, False)
    assert "nothing of it can be quoted" in quoted.result().warnings[0]
    written = Ask(model, [QUESTION], AskConfig(generate=True, max_answer_tokens=4))
    list(written.events_from_memory(memory))
    answer = written.result().answers[0]
    assert (answer.kind, answer.cited, answer.citations) == ("written", False, ())


def test_the_gain_of_a_passage_is_its_effect_on_the_question() -> None:
    model = byte_model(LARGE)
    likelihood = QuestionLikelihood(model, [QUESTION, OTHER], "on")
    assert len(likelihood.at_start) == 2
    assert likelihood.gain(0, "") == pytest.approx(0.0, abs=1e-5)
    alone = QuestionLikelihood(model, [OTHER], "on")
    assert likelihood.at_start[1] == pytest.approx(alone.at_start[0], rel=1e-5)
    assert likelihood.gain(1, FACT * 3) == pytest.approx(alone.gain(0, FACT * 3), rel=1e-4)


def test_a_question_may_be_longer_than_a_block(tmp_path: Path) -> None:
    question = " ".join([QUESTION] * 5)
    assert ask(byte_model(), question, [write(tmp_path, FACT)]).answers[0].found


def test_a_model_without_bos_answers(tmp_path: Path) -> None:
    assert ask(without_bos(byte_model(LARGE)), QUESTION, [write(tmp_path, planted())]).answers[0].found
