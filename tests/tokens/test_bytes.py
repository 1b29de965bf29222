"""The tokenizer without a file."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given

from famcli.tokens import ByteTokenizer, open_tokenizer
from tests.tokens.texts import texts


@given(text=texts)
def test_bytes_are_the_text(text: str) -> None:
    tokenizer = ByteTokenizer()
    ids, ends = tokenizer.encode_offsets(text)
    assert bytes(ids.tolist()) == text.encode()
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert [text[:end].encode()[-1:] != b"" for end in ends.tolist()] == [True] * len(ids)


def test_saving_and_opening_again(tmp_path: Path) -> None:
    ByteTokenizer().save(tmp_path)
    again = open_tokenizer(tmp_path)
    assert isinstance(again, ByteTokenizer)
    assert again.fingerprint == ByteTokenizer().fingerprint
    assert [path.name for path in tmp_path.iterdir()] == ["tokenizer.bytes"]
