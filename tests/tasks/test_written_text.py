"""What of a written text is shown: whole sentences, each once, that say something of the text."""

from __future__ import annotations

import pytest

from famcli.tasks.written_text import _sentences


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("Syme went home. He slept. Syme went home. He woke.", ["Syme went home.", "He slept."]),
        ("Here is a summary:\n\n- **Syme** went home.\n- He slept.", ["Syme went home.", "He slept."]),
        ("I'm sorry, I can't help. Syme went home.", ["Syme went home."]),
        ("As an AI, I do not know. Sure! Syme went", ["Syme went"]),
        ("Syme went home. He was about to", ["Syme went home."]),
        ("The chairman of the panel, who was the chairman of the panel, rose. He spoke.", ["He spoke."]),
        ("The man was Gregory Gregory. He had had enough.", ["He had had enough."]),
        ("One of the men saw one of the boats.", ["One of the men saw one of the boats."]),
        ("See [the *mill*](http://a.b/mill). Call `__init__`.", ["See the mill.", "Call `__init__`."]),
        ("", []),
    ],
)
def test_sentences_come_once_and_say_something(written: str, shown: list[str]) -> None:
    assert list(_sentences(iter([written]))) == shown
    assert list(_sentences(iter(written))) == shown  # in pieces of any size
