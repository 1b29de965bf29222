"""What benchmarks/recipes/adapt-smollm2.toml reads: SmolLM2's weights as a folder, and its training texts in one.

    python -m benchmarks.smollm2_base SmolLM2-135M-Instruct.Q4_1.gguf ../shared/corpus [--out runs]

Writes `OUT/smollm2`, a Hugging Face folder with the GGUF file's weights dequantised to float32 (the numbers that famcli
and transformers read from the file itself), and `OUT/smollm2-data`: links to the corpora, and `notes.jsonl`, the
summary sets' training parts in the form of questions. Nothing that the corpora's README holds out goes into it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from famcli.checkpoint.gguf import config_values, open_tensors
from famcli.checkpoint.save import save_tensors
from famcli.checkpoint.weights import check_folder
from famcli.documents.records import read_objects
from famcli.tokens.gguf_file import read_gguf

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
    write_folder(arguments.gguf, arguments.out / "smollm2")
    write_data(arguments.corpus, arguments.out / "smollm2-data")


def write_folder(gguf: Path, folder: Path) -> None:
    """The checkpoint in `gguf` as a folder that famcli and transformers open."""
    checked, file, tensors = check_folder(gguf), read_gguf(gguf), open_tensors(gguf)
    names = sorted({tensor.name for tensor in checked.weights.values()})
    folder.mkdir(parents=True, exist_ok=True)
    save_tensors(folder / "model.safetensors", {name: tensors.get_tensor(name).to(torch.float32) for name in names})
    checked.tokenizer.save(folder)
    _complete_tokenizer(folder / "tokenizer.json")
    template = file.value("tokenizer.chat_template", str, "")
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    ids = {f"{name}_token_id": file.value(f"tokenizer.ggml.{name}_token_id", int, 0) for name in ("bos", "eos")}
    more = {"architectures": ["LlamaForCausalLM"], "hidden_act": "silu", "dtype": "float32", **ids}
    _write_json(folder / "config.json", config_values(gguf) | more)
    _write_json(folder / "generation_config.json", ids)


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


def _complete_tokenizer(path: Path) -> None:
    """Keys without which the tokenizers library does not open a file."""
    data = json.loads(path.read_text(encoding="utf-8"))
    for token in data["added_tokens"]:
        token |= {"lstrip": False, "rstrip": False}
    whole = {"version": "1.0", "truncation": None, "padding": None, "post_processor": None} | data
    path.write_text(json.dumps(whole, ensure_ascii=False), encoding="utf-8")


def _write_json(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
