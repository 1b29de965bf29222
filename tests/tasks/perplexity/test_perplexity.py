from __future__ import annotations

import json
import math
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from famcli.checkpoint.model import Model
from famcli.documents.opening import open_source
from famcli.errors import DocumentError, UsageError
from famcli.nn import FamConfig
from famcli.plain import to_json
from famcli.tasks.perplexity.perplexity import FileScore, Perplexity, PerplexityConfig, perplexity
from famcli.tasks.perplexity.scores import Batches
from famcli.tasks.perplexity.units import UnitScore
from famcli.tasks.task import Advance, Notice, Stage
from tests.reading.support import pipe, tiny_model
from tests.tasks.support import byte_model, collect, with_sidecar, without_bos, write

TEXT = "Some abc text, a \u20ac sign,\nCRLF here\r\n\nand a last line without its newline: abcabcab"


def log_probabilities(model: Model, ids: list[int]) -> torch.Tensor:
    """Of each next token after the ones before it, in one call: [len(ids) - 1, v]."""
    with torch.inference_mode():
        hidden, _ = model.network.read(torch.tensor([ids]), model.network.start())
        return functional.log_softmax(model.network.logits(hidden)[0, :-1].double(), -1)


def test_equals_full_attention_over_the_whole_text(tmp_path: Path) -> None:
    streamed = byte_model(FamConfig(block_size=8, memory_segments=100, fam_length=0))
    whole = byte_model(FamConfig(block_size=1000, memory_segments=0, fam_length=0))
    ids = list(TEXT.encode())
    logs = log_probabilities(whole, [256, *ids])
    nll = -logs[torch.arange(len(ids)), torch.tensor(ids)].sum()
    correct = int((logs.argmax(-1) == torch.tensor(ids)).sum())
    total = perplexity(streamed, [write(tmp_path, TEXT)], PerplexityConfig(memory_mode="none")).total[0]
    assert total.nll == pytest.approx(float(nll), rel=1e-5)
    assert (total.num_tokens, total.num_bytes, total.num_correct) == (len(ids), len(ids), correct)
    assert total.perplexity == pytest.approx(math.exp(float(nll) / len(ids)), rel=1e-5)
    assert total.bits_per_byte == pytest.approx(float(nll) / math.log(2) / len(ids), rel=1e-5)


def test_without_bos_the_first_token_and_its_bytes_are_not_counted(tmp_path: Path) -> None:
    model = without_bos(byte_model(FamConfig(block_size=1000, memory_segments=0, fam_length=0)))
    text = "\u20ac and so on"
    ids = list(text.encode())
    logs = log_probabilities(model, ids)
    nll = -logs[torch.arange(len(ids) - 1), torch.tensor(ids[1:])].sum()
    result = perplexity(model, [write(tmp_path, text)])
    assert result.total[0].nll == pytest.approx(float(nll), rel=1e-5)
    assert result.total[0].num_tokens == len(ids) - 1
    assert result.total[0].num_bytes == len(ids) - 3  # the first byte token stands for the whole character
    assert "not counted" in result.definition
    assert result.counts.num_tokens == len(ids)


@pytest.mark.parametrize("per", [None, "block", "token", "line"])
def test_the_total_does_not_depend_on_how_the_text_comes(per: str | None, tmp_path: Path) -> None:
    model = byte_model()
    config = PerplexityConfig(per=per)  # type: ignore[arg-type]
    expected = perplexity(model, [write(tmp_path, TEXT)], config).total[0]
    for sizes in ([1], [3, 11, 2], [1000]):
        total = perplexity(model, [pipe(TEXT.encode(), sizes=sizes)], config).total[0]
        assert total.nll == pytest.approx(expected.nll, rel=1e-5)
        assert (total.num_tokens, total.num_bytes) == (expected.num_tokens, expected.num_bytes)
        assert total.standard_error == pytest.approx(expected.standard_error, rel=1e-3)


@pytest.mark.parametrize("per", ["line", "block", "token"])
def test_units_add_up_to_the_total(per: str, tmp_path: Path) -> None:
    task = Perplexity(byte_model(), PerplexityConfig(per=per, memory_mode="compare"))  # type: ignore[arg-type]
    units = collect(task.events([write(tmp_path, TEXT)]), UnitScore)
    total = task.result().total
    for mode in (0, 1):
        assert sum(unit.scores[mode].nll for unit in units) == pytest.approx(total[mode].nll)
        assert sum(unit.scores[mode].num_tokens for unit in units) == total[mode].num_tokens
        assert sum(unit.scores[mode].num_bytes for unit in units) == total[mode].num_bytes
        assert sum(unit.scores[mode].num_correct for unit in units) == total[mode].num_correct
        assert units[-1].running[mode].nll == pytest.approx(total[mode].nll)
    assert [unit.index for unit in units] == list(range(len(units)))
    if per != "token":  # the bytes of one character are several tokens
        assert [unit.span[0] for unit in units[1:]] == [unit.span[1] for unit in units[:-1]]
    else:
        assert "".join(unit.text for unit in units) == TEXT


def test_lines_have_their_text_and_place(tmp_path: Path) -> None:
    units = collect(Perplexity(byte_model(), PerplexityConfig(per="line")).events([write(tmp_path, TEXT)]), UnitScore)
    assert [unit.text for unit in units] == [line.rstrip("\r") for line in TEXT.split("\n")]
    assert [unit.line for unit in units] == [1, 2, 3, 4]
    raw = TEXT.encode()
    assert b"".join(raw[unit.span[0] : unit.span[1]] for unit in units) == raw
    assert raw[units[1].span[0] : units[1].span[1]] == b"CRLF here\r\n"


def test_a_line_is_reported_as_soon_as_its_newline_has_come() -> None:
    seen: list[str] = []
    lines = [b"first abc\n", b"second", b" half\nthi", b"rd\n"]

    class Watched:
        def __init__(self) -> None:
            self.reads = iter(lines)
            self.asked_at: list[int] = []

        def read(self, size: int = -1) -> bytes:
            self.asked_at.append(len(seen))
            return next(self.reads, b"")

    source = Watched()
    document = open_source("-", encoding="utf-8", stdin=source)  # type: ignore[arg-type]
    task = Perplexity(tiny_model(), PerplexityConfig(per="line"))
    for event in task.events([document]):
        if isinstance(event, UnitScore):
            assert event.text is not None
            seen.append(event.text)
    assert seen == ["first abc", "second half", "third"]
    # Before each read for more, every line whose newline had come was out. (Opening reads the first part.)
    assert source.asked_at[1:5] == [1, 1, 2, 3]


def test_tokens_do_not_cross_newlines_in_line_mode(tmp_path: Path) -> None:
    path = write(tmp_path, "ab\r\nabc\r\n")  # the tokenizer has a token for CRLF, and none across lines
    model = tiny_model()
    by_line = perplexity(model, [path], PerplexityConfig(per="line"))
    assert by_line.total[0].num_tokens == perplexity(model, [path]).total[0].num_tokens
    assert "cut after each newline" in by_line.definition
    assert "newline" not in perplexity(model, [path]).definition


def test_compare_is_the_two_runs(tmp_path: Path) -> None:
    model, path = byte_model(), write(tmp_path, TEXT * 3)
    both = perplexity(model, [path], PerplexityConfig(memory_mode="compare"))
    on = perplexity(model, [path], PerplexityConfig(memory_mode="on")).total[0]
    frozen = perplexity(model, [path], PerplexityConfig(memory_mode="frozen")).total[0]
    assert [score.memory_mode for score in both.total] == ["on", "frozen"]
    assert both.total[0].nll == pytest.approx(on.nll, rel=1e-6)
    assert both.total[1].nll == pytest.approx(frozen.nll, rel=1e-6)
    assert on.nll != pytest.approx(frozen.nll, rel=1e-6)
    assert both.difference is not None
    assert both.difference.nll_per_token == pytest.approx((on.nll - frozen.nll) / on.num_tokens)
    assert both.difference.standard_error is not None


def test_each_file_starts_afresh(tmp_path: Path) -> None:
    model = byte_model()
    paths = [write(tmp_path, TEXT, "a.txt"), write(tmp_path, "other text", "b.txt")]
    alone = [perplexity(model, [path]).total[0] for path in paths]
    task = Perplexity(model)
    files = collect(task.events(paths), FileScore)
    assert [file.scores[0].nll for file in files] == pytest.approx([score.nll for score in alone])
    result = task.result()
    assert result.files == tuple(files)
    assert result.total[0].nll == pytest.approx(sum(score.nll for score in alone))
    assert result.total[0].num_tokens == sum(score.num_tokens for score in alone)
    assert result.counts.num_bytes == sum(path.stat().st_size for path in paths)
    assert not result.partial


def test_the_standard_error_is_that_of_blocks_as_batches(tmp_path: Path) -> None:
    task = Perplexity(byte_model(), PerplexityConfig(per="block"))
    units = collect(task.events([write(tmp_path, TEXT)]), UnitScore)
    x = np.array([unit.scores[0].nll for unit in units])
    n = np.array([unit.scores[0].num_tokens for unit in units])
    ratio = x.sum() / n.sum()
    expected = math.sqrt(len(x) / (len(x) - 1) * ((x - ratio * n) ** 2).sum()) / n.sum()
    assert task.result().total[0].standard_error == pytest.approx(expected)


def test_batches_merge_and_need_two() -> None:
    one, other, both = Batches(), Batches(), Batches()
    for batches, x, n in ((one, 3.0, 2), (other, 5.0, 4), (other, 1.0, 1)):
        batches.add(x, n)
        both.add(x, n)
    assert one.standard_error is None
    one.merge(other)
    assert one.standard_error == pytest.approx(both.standard_error)


def test_bytes_are_those_of_the_source(tmp_path: Path) -> None:
    text = "Ünïcode text in two bytes a character"
    utf16 = write(tmp_path, text.encode("utf-16"), "wide.txt")  # with a byte-order mark
    utf8 = write(tmp_path, text, "narrow.txt")
    wide, narrow = (perplexity(byte_model(), [path]).total[0] for path in (utf16, utf8))
    assert wide.nll == pytest.approx(narrow.nll)
    assert wide.num_bytes == 2 * len(text)
    assert narrow.num_bytes == len(text.encode())


def test_an_empty_file_scores_nothing(tmp_path: Path) -> None:
    for per in (None, "line", "block", "token"):
        result = perplexity(byte_model(), [write(tmp_path, "")], PerplexityConfig(per=per))  # type: ignore[arg-type]
        total = result.total[0]
        assert (total.num_tokens, total.nll, total.perplexity, total.bits_per_byte) == (0, 0.0, None, None)
        assert json.dumps(to_json(result), allow_nan=False)


def test_invalid_bytes_are_counted_and_reported(tmp_path: Path) -> None:
    task, path = Perplexity(byte_model()), write(tmp_path, b"good \xff\xfe bad \xc3")
    notices = collect(task.events([open_source(path, encoding="utf-8")]), Notice)
    result = task.result()
    assert result.counts.num_replaced == 3
    assert len(notices) == 1
    assert result.warnings == (notices[0].text,)
    assert result.counts.num_bytes == 13


def test_it_warns_past_the_validated_length(tmp_path: Path) -> None:
    path = write(tmp_path, TEXT)
    assert perplexity(byte_model(validated=1000), [path]).warnings == ()
    assert "validated" in perplexity(byte_model(validated=20), [path, path]).warnings[0]
    assert len(perplexity(byte_model(validated=20), [path, path]).warnings) == 1


@pytest.mark.parametrize("per", [None, "line"])
def test_an_interrupted_run_gives_what_was_scored(per: str | None, tmp_path: Path) -> None:
    task = Perplexity(byte_model(), PerplexityConfig(per=per))  # type: ignore[arg-type]
    tokens = 0
    for event in task.events([write(tmp_path, TEXT, "a"), write(tmp_path, TEXT * 9, "b")]):
        tokens += event.num_tokens if isinstance(event, Advance) else 0
        if tokens > 150:
            break
    result = task.result()
    assert result.partial
    assert [file.partial for file in result.files] == [False, True]
    assert result.total[0].num_tokens == tokens == result.counts.num_tokens
    assert result.total[0].nll == pytest.approx(sum(file.scores[0].nll for file in result.files))


def test_progress_adds_up(tmp_path: Path) -> None:
    path = write(tmp_path, b"\xef\xbb\xbf" + TEXT.encode())
    events = list(Perplexity(byte_model()).events([path]))
    assert collect(events, Stage)[0].total_bytes == path.stat().st_size
    assert sum(event.num_bytes for event in collect(events, Advance)) == path.stat().st_size


def test_the_untrained_memory_is_left_out_unless_asked_for(tmp_path: Path) -> None:
    model = with_sidecar(byte_model(), memory_trained=False)
    path = write(tmp_path, TEXT)
    result = perplexity(model, [path])
    assert result.total[0].memory_mode == "none"
    assert "not trained" in result.warnings[0]
    assert "memory mode 'on'" in result.warnings[0]
    result = perplexity(model, [path], PerplexityConfig(memory_mode="on"))
    assert result.total[0].memory_mode == "on"
    assert result.warnings == ("the memory of tiny-0 is not trained, and what it adds means nothing yet",)


def test_alerts_find_the_odd_line(tmp_path: Path) -> None:
    text = "".join(f"abcabcabcabc {number % 7}\n" for number in range(60)) + "\n" * 5 + "abcabcabcabc 3\n"
    task = Perplexity(byte_model(), PerplexityConfig(per="line", alert=1e6))
    units = collect(task.events([write(tmp_path, text)]), UnitScore)
    assert [unit.alert for unit in units] == [None] * len(units)
    assert task.result().num_alerts == 0
    task = Perplexity(byte_model(), PerplexityConfig(per="line", alert=0.5))
    units = collect(task.events([write(tmp_path, text)]), UnitScore)
    alerts = [unit for unit in units if unit.alert is not None]
    assert task.result().num_alerts == len(alerts) > 0
    assert all(unit.text for unit in alerts)  # blank lines are not judged
    for unit in alerts:
        assert unit.scores[0].bits_per_byte == unit.alert.bits_per_byte > unit.alert.limit


@pytest.mark.parametrize(
    "options",
    [
        {"alert": 4.0},
        {"alert": 4.0, "per": "block"},
        {"alert": 0.0, "per": "line"},
        {"per": "word"},
        {"memory_mode": "x"},
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        PerplexityConfig(**options)  # type: ignore[arg-type]


def test_a_missing_file_is_one_error_and_what_was_scored_stays(tmp_path: Path) -> None:
    task = Perplexity(byte_model())
    with pytest.raises(DocumentError, match="does not exist"):
        list(task.events([write(tmp_path, TEXT), tmp_path / "missing"]))
    assert len(task.result().files) == 1


def test_events_and_results_are_json(tmp_path: Path) -> None:
    for per in ("line", "block", "token"):
        task = Perplexity(byte_model(), PerplexityConfig(per=per, memory_mode="compare"))  # type: ignore[arg-type]
        for number, event in zip(count(), task.events([write(tmp_path, TEXT)]), strict=False):
            assert json.dumps(to_json(event), allow_nan=False), number
        assert json.dumps(to_json(task.result()), allow_nan=False)
