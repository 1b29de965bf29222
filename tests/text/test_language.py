"""Which language a text is in."""

from __future__ import annotations

import pytest

from famcli.text.language import language_of


@pytest.mark.parametrize(
    ("language", "text"),
    [
        (
            "English",
            "The keeper of the lamp was asleep for the whole night, and nobody knew that it was dark on the pier.",
        ),
        (
            "German",
            "Der Wärter der Lampe schlief die ganze Nacht, und niemand wusste, dass es auf dem Steg dunkel war.",
        ),
        (
            "Spanish",
            "El guardián de la lámpara durmió toda la noche y nadie sabía que en el muelle no se veía nada.",
        ),
        (
            "French",
            "Le gardien de la lampe a dormi toute la nuit et les gens ne savaient pas que la jetée est dans le noir.",
        ),
        (
            "Cyrillic script",
            "Смотритель спал всю ночь, и никто не знал об этом.",
        ),
        (None, "id: 1; name: lamp; height: 3; id: 2; name: pier; height: 4; " * 9),
        (None, "2024-03-05 10:00:00 INFO [worker] session closed after timeout 3000ms " * 9),
        (None, "Lamp"),
        (None, ""),
    ],
)
def test_the_language_is_told_by_frequent_words(language: str | None, text: str) -> None:
    assert language_of(" ".join([text] * 3)) == language
