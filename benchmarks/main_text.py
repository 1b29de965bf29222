"""How well the main text of web pages is found: `python -m benchmarks.main_text FOLDER`.

FOLDER is a copy of scrapinghub's article-extraction-benchmark (MIT): `html/*.html.gz` and `ground-truth.json`, 181
pages of news and the like whose articles were marked by hand. Rows: famcli as it is, famcli without trafilatura, and
what trafilatura writes by itself. Precision and recall are means over pages, of runs of four words, each as often as it
occurs.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from statistics import mean

import trafilatura

from benchmarks.common import print_table
from famcli.documents import open_source

_WORD = re.compile(r"\w+")


def by_famcli(page: Path) -> str:
    """The text of a page as every command reads it."""
    with open_source(page) as source:
        return "".join(piece.text for piece in source.pieces())


def without_trafilatura(page: Path) -> str:
    """The same where the package is not installed."""
    modules = sys.modules
    kept = modules["trafilatura"]
    modules["trafilatura"] = None  # type: ignore[assignment]  # an import of it fails
    try:
        return by_famcli(page)
    finally:
        modules["trafilatura"] = kept


def by_trafilatura(page: Path) -> str:
    """What the package gives as text."""
    return trafilatura.extract(page.read_bytes(), include_comments=False) or ""


def main() -> None:
    """Read each page in each way, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    truth = json.loads((folder / "ground-truth.json").read_text(encoding="utf-8"))
    ways: dict[str, Callable[[Path], str]] = {
        "famcli": by_famcli,
        "famcli without trafilatura": without_trafilatura,
        "trafilatura": by_trafilatura,
    }
    rows = []
    for name, way in ways.items():
        shares, began = list[tuple[float, float]](), time.process_time()
        with tempfile.TemporaryDirectory() as place:
            for key, article in truth.items():
                page = Path(place) / f"{key}.html"
                page.write_bytes(gzip.decompress((folder / "html" / f"{key}.html.gz").read_bytes()))
                shares.append(precision_and_recall(runs(way(page)), runs(article.get("articleBody", ""))))
        precision, recall = (mean(values) for values in zip(*shares, strict=True))
        f1 = 2 * precision * recall / (precision + recall)
        seconds = (time.process_time() - began) / len(truth)
        rows.append((name, f"{precision:.3f}", f"{recall:.3f}", f"{f1:.3f}", f"{1000 * seconds:.0f} ms"))
    print_table(f"Main text of {len(truth)} pages", ("", "precision", "recall", "F1", "a page"), rows)


def runs(text: str, length: int = 4) -> Counter[tuple[str, ...]]:
    """Each run of so many words, and how often it occurs."""
    words = _WORD.findall(text)
    return Counter(tuple(words[first : first + length]) for first in range(max(1, len(words) - length + 1)))


def precision_and_recall(made: Counter[tuple[str, ...]], true: Counter[tuple[str, ...]]) -> tuple[float, float]:
    """The shares of what was made that is right, and of what is right that was made."""
    common = (made & true).total()
    return common / max(1, made.total()), common / max(1, true.total())


if __name__ == "__main__":
    main()
