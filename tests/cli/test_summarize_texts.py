"""`famcli summarize` on small texts, each of which was read wrongly once: see tests/cli/texts."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import pytest

TEXTS = Path(__file__).parent / "texts"
TAMIL = """அரசன் கேட்டான் என்று எல்லைக்கு அருகில் உள்ள கிராமங்களில் வறட்சியால் பயிர்கள் அழிந்துவிட்டன என்று மக்கள் கூறினார்கள். \
அமைச்சர் பணிவுடன் பதில் சொன்னார் களஞ்சியத்தில் இரண்டு மாதங்களுக்கு மட்டுமே தானியம் உள்ளது என்று எல்லோரும் அறிவார்கள். \
அரசன் நீண்ட நேரம் சிந்தித்த பிறகு பக்கத்து நாட்டிலிருந்து தானியம் வாங்க பாதி பொன்னை அனுப்பும்படி கட்டளையிட்டான்.
"""
HEBREW = """הַמֶּלֶךְ שָׁמַע כִּי הַכְּפָרִים הַקְּרוֹבִים לַגְּבוּל סוֹבְלִים מִבַּצֹּרֶת קָשָׁה מְאֹד. \
הַשַּׂר הֵשִׁיב בַּעֲנָוָה כִּי נוֹתְרָה תְּבוּאָה לְחָדְשַׁיִם בִּלְבַד בָּאָסָם הַגָּדוֹל שֶׁל הָעִיר. \
הַמֶּלֶךְ חָשַׁב זְמַן רַב וְצִוָּה לִקְנוֹת תְּבוּאָה מִן הַמְּדִינָה הַשְּׁכֵנָה בְּכֶסֶף רַב.
"""
VIETNAMESE = """Nhà vua nghe nói rằng các làng gần biên giới bị mất mùa vì hạn hán kéo dài. \
Quan đại thần khiêm tốn trả lời rằng kho chỉ còn đủ lương thực cho hai tháng nữa. \
Sau khi suy nghĩ rất lâu nhà vua ra lệnh mua lương thực của nước láng giềng.
"""


def _sentences(run, model: Path, path: Path, *options: object) -> list[str]:
    result = run("summarize", path, "-m", model, "--json", *options)
    assert result.exit_code == 0
    sentences = json.loads(result.stdout)["sentences"]
    raw = path.read_bytes()
    for one in sentences:
        start, end = one["span"]
        assert raw[start:end].decode() == one["text"]
    return [" ".join(one["text"].split()) for one in sentences]


def _written(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path


def test_two_of_three_sentences_of_hindi(run, tiny: Path) -> None:
    assert len(_sentences(run, tiny, TEXTS / "hindi.txt", "-n", 2)) == 2
    assert len(_sentences(run, tiny, TEXTS / "hindi.txt", "-n", "30w")) == 2


@pytest.mark.parametrize("text", [TAMIL, HEBREW, VIETNAMESE, unicodedata.normalize("NFD", VIETNAMESE)])
def test_combining_marks_do_not_hide_sentences(run, tiny: Path, tmp_path: Path, text: str) -> None:
    assert len(_sentences(run, tiny, _written(tmp_path / "text", text), "-n", 2)) == 2
    assert len(_sentences(run, tiny, _written(tmp_path / "text", text), "-n", 3)) == 3


def test_a_heading_after_a_byte_order_mark_is_one(run, tiny: Path) -> None:
    lines = run("summarize", TEXTS / "bom-in-the-middle.txt", "-m", tiny, "--format", "outline").stdout.splitlines()
    assert [line for line in lines if "The orchard" in line and "keeper" not in line]
    assert [line for line in lines if line.strip("\ufeff# ").startswith("The well")]


def test_lines_that_end_with_a_carriage_return_are_lines(run, tiny: Path, tmp_path: Path) -> None:
    text = (TEXTS / "lf.txt").read_bytes()
    outlines = []
    for newline in (b"\n", b"\r", b"\r\n"):
        (tmp_path / "text").write_bytes(text.replace(b"\n", newline))
        outlines.append(run("summarize", tmp_path / "text", "-m", tiny, "--format", "outline").stdout)
    assert outlines[0].partition("Read ")[0] == outlines[1].partition("Read ")[0]
    assert outlines[0].partition("Read ")[0] == outlines[2].partition("Read ")[0]
    assert "CHAPTER TWO" in outlines[0]


def test_japanese_mail_is_read_and_named_as_a_guess(run, tiny: Path, tmp_path: Path) -> None:
    text = (
        "村の商人たちは川のほとりで市を開き、遠くから商人が集まりました。最近は洪水のために市を開くことができず、"
        "商人たちは大きな損をしました。村長は新しい橋のために寄付を集めました。"
    )
    (tmp_path / "mail").write_bytes(text.encode("iso2022_jp"))
    result = run("summarize", tmp_path / "mail", "-m", tiny, "-n", 3)
    assert result.exit_code == 0
    assert "村長は新しい橋のために寄付を集めました。" in result.stdout
    assert "iso2022-jp" in result.stderr + result.stdout


def test_sentences_without_blanks_between_them(run, tiny: Path) -> None:
    found = _sentences(run, tiny, TEXTS / "no-blank-after-stops.txt", "-n", 3)
    assert len(found) == 3
    assert all(one.count(".") == 1 and one.endswith(".") for one in found)


def test_the_width_of_lines_changes_nothing(run, tiny: Path) -> None:
    narrow, wide = (_sentences(run, tiny, TEXTS / f"wrapped-at-{width}.txt", "-n", 3) for width in (38, 60))
    assert narrow == wide
    assert len(narrow) == 3


def test_legal_abbreviations_end_no_sentence(run, tiny: Path) -> None:
    found = _sentences(run, tiny, TEXTS / "legal-abbreviations.txt", "-n", 5)
    assert len(found) == 5
    assert found[1].startswith("Under Fed. R. Civ. P. 12(c), the court may grant ")
    assert found[3].startswith("Brig. Gen. Harold Stone testified ")
