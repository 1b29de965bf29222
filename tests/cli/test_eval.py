"""`famcli eval`: tables, JSON, pictures, modes, a twin, and what is refused before any work is done."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path
from typing import Any

import pytest

from famcli.cli.eval import parse_lengths
from famcli.errors import UsageError
from famcli.nn import FamConfig
from tests.helpers import make_random_checkpoint


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint without memory rows, with the same tokenizer."""
    fam = FamConfig(block_size=128, memory_segments=1, fam_length=0)
    return make_random_checkpoint(tmp_path_factory.mktemp("models") / "twin", fam=fam, memory_trained=False)


def result(run: Any, *arguments: object) -> dict[str, Any]:
    done = run("eval", *arguments, "--json", "--quiet")
    assert done.exit_code == 0, done.output
    values: dict[str, Any] = json.loads(done.stdout)
    return values


def test_lengths_are_powers_of_two() -> None:
    assert parse_lengths("0k, 300,4k,1.5k,10M") == [0, 300, 4096, 1536, 10 * 1024**2]
    for text in ("", "4g", "k", "-1", "1e3"):
        with pytest.raises(UsageError, match="is no length"):
            parse_lengths(text)


def test_passkey_compares_modes_and_a_twin(run: Any, tiny: Path, twin: Path, story: Path, tmp_path: Path) -> None:
    arguments = ["passkey", "--lengths", "200,400", "--streams", 3, "--filler", story, "--model", tiny, "--twin", twin]
    values = result(run, *arguments, "--memory-mode", "compare", "--seed", 5)
    assert (values["benchmark"], values["streams"], values["seed"], values["depth"]) == ("passkey", 3, 5, "random")
    assert values["filler"] == [str(story)]
    assert [(cell["memory_mode"], cell["length"]) for cell in values["cells"]] == [
        (mode, length) for mode in ("on", "frozen", "none") for length in (200, 400)
    ]
    assert [cell["model"] for cell in values["cells"]] == [str(tiny)] * 4 + [str(twin)] * 2
    assert all((cell["right"], cell["total"], cell["streams"]) == (0, 3, 3) for cell in values["cells"])
    assert [cell["blocks"] for cell in values["cells"][:2]] == [1, 3]
    assert values["tokens"] == 3 * 3 * 600
    again = result(run, *arguments, "--memory-mode", "compare", "--seed", 5, "--batch", 1)
    for one, other in zip(values["cells"], again["cells"], strict=True):
        assert one | {"nats_per_token": 0} == other | {"nats_per_token": 0}
        assert one["nats_per_token"] == pytest.approx(other["nats_per_token"], rel=1e-3)


def test_the_table_and_the_picture(run: Any, tiny: Path, story: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    picture = tmp_path / "out.png"
    done = run(
        *("eval", "passkey", "--lengths", "200,1k", "--streams", 2, "--depth", "start", "--filler", story),
        *("--model", tiny, "--plot", picture),
    )
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["task", "model", "memory", "tokens", "blocks", "right", "share", "95", "%", "interval"]
    assert re.search(r"on +200 +1 +0 of 2 +0\.0 % +0\.0 - 65\.8 %$", lines[1])
    assert re.search(r"on +1,024 +8 +0 of 2", lines[2])
    assert lines[3].startswith("Sentences stand in filler")
    assert lines[4].startswith("Read 2,048 tokens in ")  # one reading for both lengths
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_needle_is_a_grid(run: Any, tiny: Path, story: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    arguments = ["needle", "--lengths", "300,500", "--depths", "0,1", "--streams", 2, "--needles", 2]
    arguments += ["--filler", story, "--model", tiny]
    cells = result(run, *arguments)["cells"]
    assert {(cell["length"], cell["depth"]): cell["total"] for cell in cells} == {
        (length, depth): 2 for length in (300, 500) for depth in (0.0, 1.0)
    }
    done = run("eval", *arguments, "--quiet", "--plot", tmp_path / "grid.png")
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines[1] == ["300", "500"]
    assert lines[2:4] == [["0", "%", "0.0", "%", "0.0", "%"], ["100", "%", "0.0", "%", "0.0", "%"]]
    assert (tmp_path / "grid.png").read_bytes().startswith(b"\x89PNG")


def test_babi_asks_all_that_a_story_answers(run: Any, tiny: Path, story: Path) -> None:
    values = result(
        run, "babi", "--tasks", "qa1,qa4", "--lengths", "0k,1k", "--streams", 3, "--filler", story, "--model", tiny
    )
    cells = {(cell["task"], cell["length"]): cell for cell in values["cells"]}
    assert set(cells) == {(task, length) for task in ("qa1", "qa4") for length in (0, 1024)}
    assert all(cell["total"] > cell["streams"] == 3 for cell in cells.values())
    assert all(cell["stream_interval"] is not None for cell in cells.values())
    assert cells["qa1", 1024]["blocks"] == 8


def test_jsonl_gives_cells_then_the_result(run: Any, tiny: Path, story: Path) -> None:
    done = run(
        *("eval", "passkey", "--lengths", "200", "--streams", 1, "--filler", story, "--model", tiny),
        *("--memory-mode", "compare", "--jsonl", "--progress", "json"),
    )
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [event["event"] for event in events] == ["cell", "cell", "result"]
    assert "cells" not in events[-1]
    progress = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    assert progress[-1]["stage"].endswith("memory frozen")
    assert (progress[-1]["num_tokens"], progress[-1]["total_tokens"]) == (200, 200)


def test_ppl_by_position(run: Any, tiny: Path, twin: Path, story: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    other = tmp_path / "other.jsonl"
    text = story.read_text()
    other.write_text("".join(json.dumps({"id": str(n), "text": text[: 900 + 100 * n]}) + "\n" for n in range(3)))
    arguments = ["ppl", story, other, "--model", tiny, "--twin", twin, "--memory-mode", "compare"]
    values = result(run, *arguments, "--plot", tmp_path / "ppl.svg")
    assert (values["benchmark"], values["documents"], values["files"]) == ("ppl", 4, [str(story), str(other)])
    assert values["bytes"] == len(text) + 900 + 1000 + 1100
    assert [subject["memory_mode"] for subject in values["subjects"]] == ["on", "frozen", "none"]
    assert values["positions"][:4] == [0, 128, 256, 512]
    assert [(gap["other_mode"], gap["from_position"], gap["documents"]) for gap in values["differences"]] == [
        ("frozen", 256, 4),
        ("none", 256, 4),
    ]
    assert (tmp_path / "ppl.svg").stat().st_size > 1000
    whole = json.loads(run("ppl", story, "--model", tiny, "--json", "--quiet").stdout)
    alone = result(run, "ppl", story, "--model", tiny)["subjects"][0]
    assert alone["bits_per_byte"] == pytest.approx(whole["total"][0]["bits_per_byte"], rel=1e-4)
    shown = run("eval", *arguments, "--max-tokens", "1k").stdout
    assert "bits/byte by position" in shown
    assert re.search(r"\(frozen\) minus .* \(on\), from token 256: [+-]\d", shown)


def test_what_makes_no_sense_is_refused(run: Any, tiny: Path, story: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("")
    for arguments, code, words in (
        (["passkey", "--lengths", "many"], 2, "'many' is no length"),
        (["passkey", "--lengths", "20"], 2, "has no room"),
        (["passkey", "--depth", "2"], 2, "--depth 2"),
        (["passkey", "--filler", tmp_path / "none.txt"], 2, "is no file"),
        (["passkey", "--filler", tmp_path / "empty.txt"], 1, "there is no text"),
        (["passkey", "--plot", tmp_path / "out.doc"], 2, "must end in one of .png"),
        (["needle", "--depths", "0,x"], 2, "--depths 0,x"),
        (["babi", "--tasks", "qa1,qa7"], 2, "unknown tasks: qa7"),
        (["ppl", story, "--max-tokens", "0"], 2, "--max-tokens is 0"),
        (["ppl", tmp_path / "none.txt"], 2, "is no file"),
    ):
        done = run("eval", *arguments, "--model", tiny, "--quiet")
        assert (done.exit_code, done.stdout) == (code, ""), arguments
        assert words in done.stderr
        assert done.stderr.count("\n") == 1


def test_a_twin_with_another_tokenizer_is_refused(run: Any, tiny: Path, story: Path) -> None:
    done = run("eval", "passkey", "--model", tiny, "--twin", "fam-tiny", "--filler", story)
    assert done.exit_code == 2
    assert "has another tokenizer" in done.stderr


def test_ctrl_c_prints_what_there_is(spawn: Any, tiny: Path, story: Path) -> None:
    process = spawn(
        *("eval", "passkey", "--lengths", "200,10M", "--streams", 1, "--filler", story, "--model", tiny),
        *("--json", "--progress", "json"),
    )
    for line in process.stderr:
        if line.startswith("{") and json.loads(line)["num_tokens"] > 200 and "passkey" in line:
            break
    process.send_signal(signal.SIGINT)
    stdout, _ = process.communicate(timeout=60)
    values = json.loads(stdout)
    assert process.returncode == 130
    assert values["partial"]
    assert [cell["length"] for cell in values["cells"]] == [200]


def test_ctrl_c_prints_the_documents_that_were_scored(
    run: Any, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from famcli.evaluation import positions

    def interrupted(*arguments: Any, **options: Any) -> Any:
        yield next(document_figures(*arguments, **options))
        raise KeyboardInterrupt

    document_figures = positions.document_figures
    texts = tmp_path / "texts.jsonl"
    texts.write_text("".join(json.dumps({"id": str(n), "text": "abc " * (40 + n)}) + "\n" for n in range(12)))
    monkeypatch.setattr(positions, "document_figures", interrupted)
    done = run("eval", "ppl", texts, "--model", tiny)
    assert done.exit_code == 130
    assert "Scored 8 documents" in done.stdout
    assert done.stdout.endswith("Partial: interrupted before all documents were scored.\n")
