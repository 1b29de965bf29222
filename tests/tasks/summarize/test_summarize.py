from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from famcli.errors import UsageError
from famcli.nn import FamConfig
from famcli.plain import to_json
from famcli.tasks.report.record import Recorder
from famcli.tasks.summarize.candidates import MAX_BINS, PER_BIN, Budget, Candidate, Candidates, choose
from famcli.tasks.summarize.quotable import is_line, is_quotable, repetition_key
from famcli.tasks.summarize.sentence_score import Scorer
from famcli.tasks.summarize.summarize import Summarizer, summarize
from famcli.tasks.summarize.summary_result import SummarizeConfig, parse_length, sentence_budget
from famcli.tasks.task import Advance
from famcli.text.context import context_dependence, is_spoken
from famcli.text.sentences import Sentence, SentenceSplitter
from famcli.text.words import num_words, similarity, word_set
from tests.reading.support import pipe
from tests.tasks.support import LARGE, byte_model, prose, write


def sentence(text: str, start: int = 0) -> Sentence:
    return Sentence(text, start, start + len(text.encode()), 1, " ", True)


def sentences(count: int) -> Budget:
    return Budget(count)


def scored(candidates: list[Candidate]) -> dict[Candidate, float]:
    return {one: one.score for one in candidates}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1", "utf-16"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_every_line_is_a_quote_with_its_place(encoding: str, newline: str, tmp_path: Path) -> None:
    text = prose(60).replace("ko", "k\u00f6").replace("\n", newline)
    path = write(tmp_path, text.encode(encoding))
    result = summarize(byte_model(LARGE), [path], SummarizeConfig(length=sentences(7)))
    assert len(result.sentences) == 7
    raw, codec = path.read_bytes(), {"utf-8-sig": "utf-8", "utf-16": "utf-16-le"}.get(encoding, encoding)
    for quote in result.sentences:
        start, end = quote.span
        assert raw[start:end].decode(codec) == quote.text
        assert quote.text in text
        mark = len(raw) - len(text.encode(codec))
        assert quote.line == 1 + raw[mark:start].decode(codec).count("\n")
    assert all(one.span[1] <= other.span[0] for one, other in pairwise(result.sentences))
    assert result.counts.num_bytes == len(raw)
    assert not result.partial


def test_it_does_not_depend_on_how_the_text_comes(tmp_path: Path) -> None:
    model, text = byte_model(LARGE), prose(60)
    config = SummarizeConfig(length=sentences(5))
    from_file = summarize(model, [write(tmp_path, text)], config).sentences
    for sizes in ([1], [100, 3, 17], [1 << 16]):
        from_pipe = summarize(model, [pipe(text.encode(), sizes=sizes)], config).sentences
        assert [quote.span for quote in from_pipe] == [quote.span for quote in from_file]
        assert [quote.score for quote in from_pipe] == [quote.score for quote in from_file]


def test_only_a_report_is_read_with_the_network_and_tells_what_the_memory_takes(tmp_path: Path) -> None:
    path = write(tmp_path, prose(60))
    without = Summarizer(byte_model(LARGE))
    plain = [one for one in without.events([path]) if isinstance(one, Advance)]
    assert [one.num_tokens for one in plain] == [0] * len(plain)
    assert sum(one.num_bytes for one in plain) == path.stat().st_size == without.result().counts.num_bytes
    with Recorder() as recorder:
        with_report = Summarizer(byte_model(LARGE), recorder=recorder)
        shares = [one.memory_share for one in with_report.events([path]) if isinstance(one, Advance)]
    assert with_report.result().counts.num_tokens == path.stat().st_size
    assert (without.result().memory_mode, with_report.result().memory_mode) == (None, "on")
    assert without.result().sentences == with_report.result().sentences
    assert all(share is None or 0 < share <= 1 for share in shares)
    assert sum(share is not None for share in shares) >= 3


def test_the_summary_is_spread_over_the_document(tmp_path: Path) -> None:
    path = write(tmp_path, prose(200))
    result = summarize(byte_model(LARGE), [path], SummarizeConfig(length=sentences(6)))
    size = path.stat().st_size
    places = [0, *(quote.span[0] for quote in result.sentences), size]
    assert len(places) == 8
    assert max(after - before for before, after in pairwise(places)) <= 2 * size / 6 + 200


def test_several_documents_are_one_text(tmp_path: Path) -> None:
    paths = [write(tmp_path, prose(30, seed), f"{seed}.txt") for seed in (1, 2, 3)]
    result = summarize(byte_model(LARGE), paths, SummarizeConfig(length=sentences(6)))
    assert [quote.source for quote in result.sentences] == sorted(quote.source for quote in result.sentences)
    assert len({quote.source for quote in result.sentences}) == 3
    for quote in result.sentences:
        assert Path(quote.source).read_bytes()[slice(*quote.span)].decode() == quote.text


def test_boilerplate_does_not_win(tmp_path: Path) -> None:
    licence = "You may copy this book and give it away under the terms of this licence to all people. " * 10
    text = (
        f"{licence}\n\n*** START OF THE PROJECT GUTENBERG EBOOK X ***\n\nCONTENTS\n\nI. THE FIRST CHAPTER OF IT\n\n"
        f"{prose(40)}\n\n*** END OF THE PROJECT GUTENBERG EBOOK X ***\n\n{licence}"
    )
    result = summarize(byte_model(LARGE), [write(tmp_path, text)], SummarizeConfig(length=sentences(10)))
    assert len(result.sentences) > 5
    assert not any("licence" in quote.text or "CHAPTER" in quote.text for quote in result.sentences)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("This is a sentence that can stand alone.", True),
        ("Too short for one.", False),
        ("no end mark in this one at all", False),
        ("WORDS IN CAPITALS LIKE A HEADING DO NOT COUNT.", False),
        ("12 34 56 78 90 12 34 56 and 78 90.", False),
        ("You can read more of this at www.example.org today.", False),
        ("\u201cA quotation that is opened here and never closed again.", False),
        ("\u201cA quotation that is opened and closed again,\u201d she said.", True),
        ("word " * 70 + "end.", False),
        ('The software is provided "as is" and nobody answers for what it does.', False),
        ("| `--jobs N` | how many of the files are copied at the same time. |", False),
        ("我们今天一起去公园看花然后回家吃饭。", True),
    ],
)
def test_what_may_be_quoted(text: str, expected: bool) -> None:
    assert is_quotable(sentence(text)) == expected


def test_code_is_not_quoted() -> None:
    text = "It is:\n\n```python\n# This comment says what the function below does to the tree.\n```\n\n    print(2.)\n"
    splitter = SentenceSplitter()
    found = splitter.feed(text, np.arange(len(text) + 1)) + splitter.flush()
    assert [one.is_code for one in found] == [False, False, True, True, True]
    assert not any(is_quotable(one) for one in found)


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ("The miller of Oakdale lost the key in the storm.", "\u201cI never lost the key in the storm,\u201d he said."),
        ("The miller of Oakdale lost the key in the storm.", "He lost the key to the granary in the storm."),
        ("The miller of Oakdale lost the key in the storm.", "But the miller of Oakdale lost the key in the storm."),
        ("The miller of Oakdale lost the key in the storm.", "Who of all the people in Oakdale lost the key then?"),
        ("The method of the miller is a good one.", "This is the method of the miller in Oakdale."),
        ("東京は日本の首都である。", "「この街は眠らない」と彼は言った。"),
    ],
)
def test_a_sentence_that_stands_alone_leans_on_nothing(better: str, worse: str) -> None:
    assert context_dependence(better) == 0 < context_dependence(worse)


def test_a_term_in_quotation_marks_is_no_speech() -> None:
    assert not is_spoken("The so-called \u201cdark matter\u201d has never been seen by anybody.")
    assert is_spoken("The miller laughed: \u201cNobody needs a key to that.\u201d")


def test_narration_is_quoted_rather_than_speech(tmp_path: Path) -> None:
    told = [prose(1, number).strip() for number in range(40)]
    said = [f"\u201c{prose(1, number).strip('. ')},\u201d she said." for number in range(40, 80)]
    path = write(tmp_path, "\n\n".join(line for pair in zip(said, told, strict=True) for line in pair))
    result = summarize(byte_model(LARGE), [path], SummarizeConfig(length=sentences(5)))
    assert len(result.sentences) == 5
    assert all(quote.text in told for quote in result.sentences)


def test_where_no_sentence_stands_alone_lines_are_quoted(tmp_path: Path) -> None:
    rows = [f"2026-11-20T10:00:{n % 60:02} ERROR worker {n} lost the connection to node-{n * 7}" for n in range(60)]
    path = write(tmp_path, "\n".join(rows))
    result = summarize(byte_model(LARGE), [path], SummarizeConfig(length=sentences(3), kind="prose"))
    assert result.num_quotable == 0
    assert result.sentences
    assert all(quote.text in rows for quote in result.sentences)
    assert result.warnings == ("no sentence of the text can stand alone: what is quoted are lines of it",)
    assert not is_line(sentence("| a | table | row |"))
    assert not is_line(sentence("0 1 2 3 4 5"))


def test_words_and_likeness() -> None:
    assert num_words("don't count-this twice, 42") == 4
    assert similarity(word_set("red house"), word_set("Red houses")) == pytest.approx(1.0)
    assert similarity(word_set("red house"), word_set("blue sky")) == 0.0
    assert similarity(frozenset(), frozenset("a")) == 0.0


def test_candidates_are_bounded_and_keep_the_best() -> None:
    candidates, draw = Candidates(), np.random.default_rng(0)
    scores = draw.normal(size=20_000)
    for place, score in enumerate(scores):
        candidates.add(Candidate(sentence(f"Sentence {place}."), "x", place * 1000, float(score)))
        assert len(candidates) <= MAX_BINS * PER_BIN
    kept = candidates.all()
    assert len(kept) > MAX_BINS * PER_BIN // 2 - PER_BIN
    assert [c.place for c in kept] == sorted(c.place for c in kept)
    assert max(c.score for c in kept) == scores.max()
    candidates.forget(10_000_000)
    assert all(c.place < 10_000_000 for c in candidates.all())
    assert candidates.all()


def test_repetitions_are_chosen_once() -> None:
    same = [Candidate(sentence("The very same words are here."), "x", place, 5.0) for place in range(0, 1000, 10)]
    other = [Candidate(sentence("Another thought stands alone."), "x", 995, 0.0)]
    assert len(choose(same, scored(same), Budget(5))) == 1
    chosen = choose(same + other, scored(same + other), Budget(3))
    assert [c.sentence.text for c in chosen].count("Another thought stands alone.") == 1
    assert choose([], {}, Budget(3)) == []


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (
            "17:45:03 <anna> let's ask Tom for the speakers",
            "[18:02] Bert Meyer: Let\u2019s ask Tom for the speakers!",
            True,
        ),
        ("17:45:03 <anna> let's ask Tom for the speakers", "[18:02] Bert Meyer: Let's ask Tom for the speakers!", True),
        ("2026-05-01T09:17:00Z cora: the hall is free", "4.1 The hall is free.", True),
        ("The hall has 3 doors of oak", "The hall has 4 doors of oak", False),
        ("eth0: link up", "eth1: link up", False),
        ("...", "!!!", False),
    ],
)
def test_what_is_said_is_told_by_the_words(one: str, other: str, same: bool) -> None:
    assert (repetition_key(one) == repetition_key(other)) is same


def test_the_same_words_are_chosen_once_whoever_says_them() -> None:
    texts = [f"17:4{n}:0{n} <{name}> let's ask Tom for the speakers" for n, name in enumerate(["anna", "bert", "cora"])]
    texts.append("17:49:59 <dirk> the bakery gives us forty loaves of bread")
    lines = [Candidate(sentence(text), "x", 3000 * place, 1.0) for place, text in enumerate(texts)]
    assert [one.sentence.text for one in choose(lines, scored(lines), Budget(4))] == [texts[0], texts[3]]


@pytest.mark.parametrize(("times", "less"), [(1, 0), (2, 0), (8, 2)])
def test_what_stands_everywhere_is_marked_down(times: int, less: int) -> None:
    notice, scorer = sentence("Always disconnect the machine before you open its cover."), Scorer()
    candidates = [scorer.candidate(notice, "x", 1000 * place) for place in range(times)]
    plain = scorer.final_scores(candidates[:1])[candidates[0]]
    scores = scorer.final_scores(candidates)
    (chosen,) = choose(candidates, scores, Budget(4))
    assert scores[chosen] == pytest.approx(plain - less)


@pytest.mark.parametrize("text", ["", "\n\n", "no end", "A title\n\nAnother"])
def test_what_has_no_sentences_has_no_summary(text: str, tmp_path: Path) -> None:
    result = summarize(byte_model(), [write(tmp_path, text)])
    assert result.sentences == ()
    assert result.counts.num_bytes == len(text)
    assert not any("lines of it" in warning for warning in result.warnings)
    assert json.dumps(to_json(result), allow_nan=False)


def test_an_interrupted_reading_is_summarized_so_far(tmp_path: Path) -> None:
    task, num_bytes = Summarizer(byte_model(LARGE)), 0
    for event in task.events([write(tmp_path, prose(200))]):
        num_bytes += event.num_bytes if isinstance(event, Advance) else 0
        if num_bytes > 5000:
            break
    result = task.result()
    assert result.partial
    assert result.sentences
    assert max(quote.span[1] for quote in result.sentences) <= num_bytes == result.counts.num_bytes


def test_a_budget_of_words_is_met_as_nearly_as_sentences_allow(tmp_path: Path) -> None:
    path = write(tmp_path, prose(200))
    result = summarize(byte_model(LARGE), [path], SummarizeConfig(length=parse_length("80 words")))
    total = sum(num_words(quote.text) for quote in result.sentences)
    assert abs(total - 80) <= 14
    assert max(quote.span[0] for quote in result.sentences) > path.stat().st_size // 2


@pytest.mark.parametrize(("encoding", "guessed"), [("utf-8", False), ("utf-16", False), ("latin-1", True)])
def test_a_guessed_encoding_is_named(encoding: str, guessed: bool, tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes((prose(20) + "Où est le café de la gare ? Il est fermé. " * 20).encode(encoding))
    result = summarize(byte_model(), [path])
    said = f"{path} is not UTF-8; it is read as cp1252, which is a guess: name the encoding if it is wrong"
    assert result.warnings == ((said,) if guessed else ())


def test_fewer_sentences_than_were_asked_for_are_explained(tmp_path: Path) -> None:
    path = write(tmp_path, "Anna walked to the market in the morning. She bought apples. " + prose(3))
    asked = summarize(byte_model(), [path], SummarizeConfig(length=sentences(9)))
    assert 0 < len(asked.sentences) < 9
    (warning,) = asked.warnings
    assert warning == f"9 sentences were asked for; the text has {len(asked.sentences)} that stand alone and differ"
    enough = summarize(byte_model(), [path], SummarizeConfig(length=sentences(len(asked.sentences))))
    assert enough.sentences == asked.sentences
    assert enough.warnings == ()


@pytest.mark.parametrize(
    ("count", "warning"),
    [
        (1, "1 word was asked for; sentences are quoted whole, {} words in all"),
        (3, "3 words were asked for; sentences are quoted whole, {} words in all"),
        (20, None),
        (500, "500 words were asked for; the text has {} in sentences that stand alone and differ"),
    ],
)
def test_far_from_as_many_words_as_were_asked_for_is_said(count: int, warning: str | None, tmp_path: Path) -> None:
    path = write(tmp_path, "Anna walked to the market in the morning. " + prose(9))
    result = summarize(byte_model(), [path], SummarizeConfig(length=Budget(count, "words")))
    words = sum(len(quote.text.split()) for quote in result.sentences)
    assert result.warnings == (() if warning is None else (warning.format(words),))


@pytest.mark.parametrize(
    ("text", "budget"),
    [("7", Budget(7)), ("7 sentences", Budget(7)), ("150w", Budget(150, "words")), ("150 Words", Budget(150, "words"))],
)
def test_a_length_is_a_name_or_a_number(text: str, budget: Budget) -> None:
    assert parse_length(text) == budget
    assert parse_length("long") == "long"


@pytest.mark.parametrize("text", ["0", "-3", "tiny", "", "7 pages", "1e9", "9999999"])
def test_what_is_no_length_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"is no length.*1 to 999999"):
        parse_length(text)


def test_short_is_half_and_long_double() -> None:
    lengths = [sentence_budget(parse_length(name), 28_000, 1000).count for name in ("short", "medium", "long")]
    assert lengths == [3, 5, 10]


def test_a_focus_chooses_sentences_about_it(tmp_path: Path) -> None:
    needle = "The old lighthouse keeper polished the great lamp of the tower every evening."
    path = write(tmp_path, f"{prose(60, 1)}{needle} {prose(60, 2)}")
    config = SummarizeConfig(length=sentences(5), focus="lighthouse lamp")
    result = summarize(byte_model(LARGE), [path], config)
    assert [quote.text for quote in result.sentences] == [needle]
    assert result.focus == "lighthouse lamp"
    assert result.warnings == (
        "5 sentences were asked for; the text has 1 that stand alone and differ and are about the focus",
    )
    elsewhere = summarize(byte_model(LARGE), [path], SummarizeConfig(length=sentences(5), focus="zeppelin"))
    assert len(elsewhere.sentences) == 5
    (warning,) = elsewhere.warnings
    assert warning == "no sentence has enough of the words of 'zeppelin', so this is the summary without a focus"
    with pytest.raises(UsageError, match="focus is empty"):
        SummarizeConfig(focus=" ")


def test_sections_follow_the_headings(tmp_path: Path) -> None:
    text = f"# One\n\n{prose(20, 1)}\n\n## Two\n\n{prose(20, 2)}\n\n# Three\n\n{prose(20, 3)}"
    config = SummarizeConfig(length=parse_length("short"), sections=True)
    result = summarize(byte_model(LARGE), [write(tmp_path, text)], config)
    assert [(part.title, part.level) for part in result.sections] == [("One", 1), ("Two", 2), ("Three", 1)]
    lines = [1 + text[: text.index(f"# {name}")].count("\n") for name in ("One", "Two", "Three")]
    assert [part.line for part in result.sections] == lines
    assert [quote.section for quote in result.sentences] == ["One", "Two", "Three"]
    assert [part.sentences for part in result.sections] == [(0,), (1,), (2,)]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_summary_does_not_depend_on_the_encoding(encoding: str, tmp_path: Path) -> None:
    text = "".join(prose(3, seed) + "Ты \u201cбыл\u201d там где никого не было тогда зимой. " for seed in range(60))
    summaries = []
    for name in ("utf-8", encoding):
        paths = [write(tmp_path, part.encode(name), f"{i}.txt") for i, part in enumerate((text, text[::-1]))]
        summaries.append(summarize(byte_model(LARGE), paths, SummarizeConfig(length=sentences(9))).sentences)
    assert [(one.text, one.score) for one in summaries[0]] == [(one.text, one.score) for one in summaries[1]]


def test_without_headings_sections_are_equal_parts(tmp_path: Path) -> None:
    result = summarize(byte_model(LARGE), [write(tmp_path, prose(200))], SummarizeConfig(sections=True))
    assert [part.title for part in result.sections] == [f"Part {number} of 10" for number in range(1, 11)]
    assert all(len(part.sentences) == 2 for part in result.sections)


def test_pages_are_counted_where_there_are_form_feeds(tmp_path: Path) -> None:
    text = f"{prose(20, 1)}\f{prose(20, 2)}\f{prose(20, 3)}"
    result = summarize(byte_model(LARGE), [write(tmp_path, text)], SummarizeConfig(length=sentences(6)))
    assert {quote.page for quote in result.sentences} == {1, 2, 3}
    for quote in result.sentences:
        assert quote.page == 1 + text.encode()[: quote.span[0]].count(b"\f")
    plain = summarize(byte_model(LARGE), [write(tmp_path, prose(20))])
    assert {quote.page for quote in plain.sentences} == {None}


def test_the_default_length_follows_the_document(tmp_path: Path) -> None:
    model = byte_model(FamConfig(block_size=512, memory_segments=1, fam_length=4))
    assert len(summarize(model, [write(tmp_path, prose(6))]).sentences) == 2
    assert len(summarize(model, [write(tmp_path, prose(100))]).sentences) == 5
    assert len(summarize(model, [write(tmp_path, prose(1800))]).sentences) == 7


def test_sections_belong_to_their_own_file(tmp_path: Path) -> None:
    first = write(tmp_path, f"# The harbour\n\n{prose(3, 1)}", "first.md")
    plain = write(tmp_path, f"The mill\n\n{prose(3, 2)}\n\nThe weir\n\n{prose(3, 3)}", "plain.txt")
    last = write(tmp_path, f"# The orchard\n\n{prose(3, 4)}\n\n# The well\n\n{prose(3, 5)}", "last.md")
    result = summarize(byte_model(LARGE), [first, plain, last], SummarizeConfig(sections=True))
    assert [(section.title, Path(section.source).name) for section in result.sections] == [
        ("The harbour", "first.md"),
        ("The mill", "plain.txt"),
        ("The weir", "plain.txt"),
        ("The orchard", "last.md"),
        ("The well", "last.md"),
    ]
    for section in result.sections:
        assert {result.sentences[index].source for index in section.sentences} == {section.source}
