"""Which language a text is in, as far as its most frequent words tell; no more than that is needed to say that it is
not English."""

from __future__ import annotations

import re

from famcli.text.words import compounds

# Words of which running text has many, and which few other languages here share.
_FREQUENT = {
    language: frozenset(words.split())
    for language, words in {
        "English": "the of and to is that for with was on as by it be are this not have from or you he she they",
        "German": "der die das und ist nicht den von mit sich des auf für ein eine dem im als auch es zu wird sie wir",
        "French": "le la les des et est une dans que qui pour pas du au sur avec ce il elle par ne se vous nous son",
        "Spanish": "el la los las que y en un una por con para su se del es lo al como más no usted nuestro",
        "Italian": "il di che la e per un una non sono con del della si le gli nel da più è anche come dei",
        "Portuguese": "o que e do da em um uma para com não os as no na por se dos mais ao como você das",
        "Dutch": "de het een en van ik te dat die in is niet op aan met als voor er maar om ook door",
        "Swedish": "och att det som en är på för av med den till inte han var ett jag om har de",
        "Polish": "i w nie na się z że do to jest jak po od za przez ale dla są być",
    }.items()
}
_SCRIPTS = {
    "Greek": "\u0370-\u03ff",
    "Cyrillic script": "\u0400-\u04ff",
    "Hebrew": "\u0590-\u05ff",
    "Arabic script": "\u0600-\u06ff",
    "Devanagari": "\u0900-\u097f",
    "Thai": "\u0e00-\u0e7f",
    "Korean": "\uac00-\ud7af",
    "Japanese": "\u3040-\u30ff",
    "Chinese": "\u4e00-\u9fff",
}
_LETTER = re.compile(r"[^\W\d_]")
_FEWEST, _FEWEST_LETTERS = 30, 40  # words and letters that tell anything
_SHARE, _TIMES = 0.14, 1.3  # of running text, and more than of any other language
_OF_SCRIPT = 0.3  # of the letters


def language_of(text: str) -> str | None:
    """The language of running text, or its script where that is not Latin; None where neither can be told, as of
    tables, code and short texts."""
    letters = _LETTER.findall(text)
    for name, codes in _SCRIPTS.items():
        if len(letters) >= _FEWEST_LETTERS and len(re.findall(f"[{codes}]", text)) > _OF_SCRIPT * len(letters):
            return name
    words = compounds(text)
    if len(words) < _FEWEST:
        return None
    shares = sorted(
        ((sum(word in known for word in words) / len(words), name) for name, known in _FREQUENT.items()), reverse=True
    )
    (best, name), (second, _) = shares[:2]
    return name if best >= _SHARE and best >= _TIMES * second else None
