"""The sentence encoder: what it computes, and what it is good for. Only where its package is installed."""

from __future__ import annotations

import pytest
import torch

from famcli.text.sentence_encoder import folder, likeness

QUESTION = "Who insures my teeth?"
TEXTS = ["Dental insurance is provided through MetLife. Ask for a card.", "The ship left at noon.", "x " * 400]

pytestmark = pytest.mark.skipif(folder() is None, reason="the encoder's package is not installed")


def test_passages_and_their_sentences_are_as_near_as_the_original_says() -> None:
    """In one batch with others, and in any order, a text has the vector that transformers gives it alone."""
    transformers = pytest.importorskip("transformers")
    network = transformers.AutoModel.from_pretrained(folder()).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder())

    @torch.inference_mode()
    def rows(text: str) -> torch.Tensor:
        found = tokenizer(text, return_tensors="pt", truncation=True, max_length=256)
        return network(**found).last_hidden_state[0]

    def near(one: torch.Tensor, other: torch.Tensor) -> float:
        return float(torch.cosine_similarity(one.mean(0), other.mean(0), 0))

    first = TEXTS[0].index(" Ask")
    found = likeness(QUESTION, TEXTS, [[(0, first), (first + 1, len(TEXTS[0]))], [], [(700, 800)]])
    assert found is not None
    asked = rows(QUESTION)
    assert [one.whole for one in found] == pytest.approx([near(asked, rows(text)) for text in TEXTS], abs=1e-4)
    offsets = tokenizer(TEXTS[0], return_offsets_mapping=True)["offset_mapping"]
    within = torch.tensor([start < first and end > 0 for start, end in offsets])
    assert found[0][1][0] == pytest.approx(near(asked, rows(TEXTS[0])[within]), abs=1e-4)
    # What lies behind the longest text that it reads is as near as the whole.
    assert found[2].parts == (found[2].whole,)


def test_it_finds_what_no_word_tells() -> None:
    found = likeness(QUESTION, TEXTS[:2], [[(0, 45), (46, 61)], []])
    assert found is not None
    assert found[0][0] > found[1][0] + 0.2
    assert found[0][1][0] > found[0][1][1]
    assert likeness(QUESTION, [], []) == []
    broken = likeness(QUESTION, [TEXTS[0] + " \udce9\x00", ""], [[(0, 45)], [(0, 0)]])
    assert broken is not None
    assert broken[0][1][0] > 0.3
