from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from famcli.errors import UsageError
from famcli.nn import FamConfig
from famcli.tasks.candidates import MAX_SECTIONS, PER_SECTION, Candidate, Candidates, choose
from famcli.tasks.common import Advance
from famcli.tasks.quality import is_quotable, num_words, similarity, word_set
from famcli.tasks.salience import AttentionProfile, Average, TokenValues
from famcli.tasks.sentences import Sentence
from famcli.tasks.summarize import SummarizeConfig, Summarizer, summarize
from tests.reading.support import pipe
from tests.tasks.support import LARGE, byte_model, prose, with_sidecar, write


def sentence(text: str, start: int = 0) -> Sentence:
    return Sentence(text, start, start + len(text.encode()), 1, " ", True)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1", "utf-16"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_every_line_is_a_quote_with_its_place(encoding: str, newline: str, tmp_path: Path) -> None:
    text = prose(60).replace("ko", "k\u00f6").replace("\n", newline)
    path = write(tmp_path, text.encode(encoding))
    result = summarize(byte_model(LARGE), [path], SummarizeConfig(num_sentences=7))
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
    config = SummarizeConfig(num_sentences=5)
    from_file = summarize(model, [write(tmp_path, text)], config).sentences
    for sizes in ([1], [100, 3, 17], [1 << 16]):
        from_pipe = summarize(model, [pipe(text.encode(), sizes=sizes)], config).sentences
        assert [quote.span for quote in from_pipe] == [quote.span for quote in from_file]
        assert [quote.score for quote in from_pipe] == pytest.approx([quote.score for quote in from_file], abs=1e-3)


def test_the_summary_is_spread_over_the_document(tmp_path: Path) -> None:
    path = write(tmp_path, prose(200))
    result = summarize(byte_model(LARGE), [path], SummarizeConfig(num_sentences=6))
    size = path.stat().st_size
    places = [0, *(quote.span[0] for quote in result.sentences), size]
    assert len(places) == 8
    assert max(after - before for before, after in pairwise(places)) <= 2 * size / 6 + 200


@pytest.mark.parametrize(
    ("mode", "options", "signal", "reason"),
    [
        ("on", {}, "attention", ""),
        ("frozen", {}, "surprise", "the memory mode is 'frozen'"),
        ("none", {}, "surprise", "the memory mode is 'none'"),
        ("on", {"memory_trained": False}, "surprise", "not trained"),
        (None, {"memory_trained": False}, "surprise", "the memory mode is 'none'"),
    ],
)
def test_it_says_what_scored(
    mode: str | None, options: dict[str, bool], signal: str, reason: str, tmp_path: Path
) -> None:
    model = with_sidecar(byte_model(LARGE), **options)
    result = summarize(model, [write(tmp_path, prose(20))], SummarizeConfig(memory_mode=mode))  # type: ignore[arg-type]
    assert result.signal == signal
    assert reason in result.scored_by
    assert result.sentences


def test_a_network_without_memory_uses_surprise(tmp_path: Path) -> None:
    model = byte_model(FamConfig(block_size=64, memory_segments=2, fam_length=0))
    result = summarize(model, [write(tmp_path, prose(20))])
    assert "has no memory" in result.scored_by


def test_a_text_within_the_first_block_is_scored_by_surprise(tmp_path: Path) -> None:
    model = byte_model(FamConfig(block_size=4096, memory_segments=1, fam_length=4))
    paths = [write(tmp_path, prose(8, seed), f"{seed}.txt") for seed in (1, 2)]
    result = summarize(model, paths, SummarizeConfig(num_sentences=4))
    assert result.signal == "surprise"
    assert "first block of 4096" in result.scored_by
    assert {quote.source for quote in result.sentences} == {str(path) for path in paths}
    assert any(quote.score for quote in result.sentences)


def test_the_first_block_counts_once_it_closes(tmp_path: Path) -> None:
    result = summarize(byte_model(FamConfig(512, 1, 4)), [write(tmp_path, prose(10))], SummarizeConfig(num_sentences=3))
    assert result.signal == "attention"
    assert result.sentences[0].score != 0
    assert result.num_sentences_seen == 10


def test_several_documents_are_one_text(tmp_path: Path) -> None:
    paths = [write(tmp_path, prose(30, seed), f"{seed}.txt") for seed in (1, 2, 3)]
    result = summarize(byte_model(LARGE), paths, SummarizeConfig(num_sentences=6))
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
    result = summarize(byte_model(LARGE), [write(tmp_path, text)], SummarizeConfig(num_sentences=10))
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
        ("我们今天一起去公园看花然后回家吃饭。", True),
    ],
)
def test_what_may_be_quoted(text: str, expected: bool) -> None:
    assert is_quotable(sentence(text)) == expected


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
        assert len(candidates) <= MAX_SECTIONS * PER_SECTION
    kept = candidates.all()
    assert len(kept) > MAX_SECTIONS * PER_SECTION // 2 - PER_SECTION
    assert [c.place for c in kept] == sorted(c.place for c in kept)
    assert max(c.score for c in kept) == scores.max()
    candidates.forget(10_000_000)
    assert all(c.place < 10_000_000 for c in candidates.all())
    assert candidates.all()


def test_repetitions_are_chosen_once() -> None:
    same = [Candidate(sentence("The very same words are here."), "x", place, 5.0) for place in range(0, 1000, 10)]
    other = [Candidate(sentence("Another thought stands alone."), "x", 995, 0.0)]
    assert len(choose(same, 5)) == 1
    assert [c.sentence.text for c in choose(same + other, 3)].count("Another thought stands alone.") == 1
    assert choose([], 3) == []


def test_the_profile_takes_out_where_in_a_block_a_token_stands() -> None:
    profile, block = AttentionProfile(), 64
    shape = np.repeat(np.linspace(0.1, 3.0, 32), 2)
    for _ in range(500):
        salience = profile.salience(shape / shape.sum(), 0, block)
    assert np.abs(salience).max() < 0.1
    odd = shape / shape.sum()
    odd[10] *= 8
    assert profile.salience(odd, 0, block).argmax() == 10
    assert len(profile.salience(shape[-5:] / shape.sum(), block - 5, block)) == 5


def test_values_are_asked_for_by_place_and_forgotten() -> None:
    values = TokenValues(Average())
    places = np.arange(0, 1000, 10)
    values.add(places, places + 10, np.where(places >= 500, 2.0, 0.0))
    assert values.salience(500, 1000) == pytest.approx((2.0 - 1.0) * 50 / 66)
    assert values.salience(505, 506) == pytest.approx(1 / 17)
    assert values.salience(2000, 2001) == 0.0
    values.forget(900)
    assert values.end == 1000
    assert values.salience(0, 100) == 0.0
    values.add(np.array([1000]), np.array([1010]), np.array([np.nan]))
    assert values.salience(1000, 1010) == 0.0


@pytest.mark.parametrize("text", ["", "\n\n", "no end", "A title\n\nAnother"])
def test_what_has_no_sentences_has_no_summary(text: str, tmp_path: Path) -> None:
    result = summarize(byte_model(), [write(tmp_path, text)])
    assert result.sentences == ()
    assert result.counts.num_bytes == len(text)
    assert json.dumps(result.to_json(), allow_nan=False)


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


def test_a_summary_has_at_least_one_sentence() -> None:
    with pytest.raises(UsageError, match="at least 1"):
        SummarizeConfig(num_sentences=0)


def test_the_default_length_follows_the_document(tmp_path: Path) -> None:
    model = byte_model(FamConfig(block_size=512, memory_segments=1, fam_length=4))
    assert len(summarize(model, [write(tmp_path, prose(6))]).sentences) == 2
    assert len(summarize(model, [write(tmp_path, prose(100))]).sentences) == 5
    assert len(summarize(model, [write(tmp_path, prose(500))]).sentences) == 7
