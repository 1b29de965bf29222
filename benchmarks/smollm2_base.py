"""What benchmarks/recipes/adapt-smollm2.toml reads: SmolLM2's weights as a folder, and its training texts in one.

    python -m benchmarks.smollm2_base SmolLM2-135M-Instruct.Q4_1.gguf ../shared/corpus [--out runs]

Writes `OUT/smollm2`, a Hugging Face folder with the GGUF file's weights in bfloat16, and `OUT/smollm2-data`: links to
the corpora, and `notes.jsonl`, the summary sets' training parts in the form of questions. Nothing that the corpora's
README holds out goes into it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from famcli.checkpoint.convert import save_unpacked
from famcli.documents.records import read_objects

ASKED = "What does this text say, in a few sentences?"
"""How a note is asked for. The checkpoint's own idiom was not searched for yet."""

_SETS = ("sum_openstax_sections", "sum_tech_proposals", "sum_scitldr_abstract")
_NOT_FOR_TRAINING = ("books_heldout", "qa_covidqa", "qa_pubmedqa")
_HELD_OUT_BELOW = 26  # first byte of sha256(id), in sets without a split


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gguf", type=Path)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs"))
    arguments = parser.parse_args()
    save_unpacked(arguments.gguf, arguments.out / "smollm2")
    write_data(arguments.corpus, arguments.out / "smollm2-data")


def write_data(corpus: Path, folder: Path) -> None:
    """Links to the files of `corpus`, and notes.jsonl."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(corpus.glob("*.jsonl.zst")):
        link = folder / path.name
        if not link.exists() and path.name.split(".")[0] not in _NOT_FOR_TRAINING:
            link.symlink_to(path.resolve())
    with (folder / "notes.jsonl").open("w", encoding="utf-8") as file:
        for record in _notes(corpus):
            file.write(json.dumps(record, ensure_ascii=False) + "\n")


def _notes(corpus: Path) -> Iterator[dict[str, Any]]:
    """Texts with their summaries as `questions` has them, training parts only."""
    for name in _SETS:
        for _, record in read_objects(corpus / f"{name}.jsonl.zst"):
            held_out = hashlib.sha256(record["id"].encode()).digest()[0] < _HELD_OUT_BELOW
            if record["split"] != "train" if "split" in record else held_out:
                continue
            yield {"id": record["id"], "context": record["text"], "question": ASKED, "answers": record["summary"][:1]}


if __name__ == "__main__":
    main()
