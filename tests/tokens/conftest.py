"""Tokenizers for the tests: the one that ships, and small ones trained on the spot."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import sentencepiece

from famcli.tokens.huggingface import HuggingFaceTokenizer
from famcli.tokens.sentencepiece import SentencePieceTokenizer, train_sentencepiece

SHIPPED = Path(__file__).parents[2] / "models" / "fam-tiny"

SENTENCES = [
    "It was the best of times, it was the worst of times, it was the age of wisdom.",
    "The quick brown fox jumps over the lazy dog; the dog's owner wasn't amused!",
    'She said: "12 cafés and 345 naïve waiters" (and that was all).',
    "    indented lines    keep their spaces, don't they?",
    "Call me Ishmael. Some years ago, never mind how long precisely, I went to sea.",
    "the theatre thereof, other others, another brother; in inning winning beginning",
]
CONTROLS = ["<s>", "</s>", "<|user|>"]


@pytest.fixture(scope="session")
def shipped() -> SentencePieceTokenizer:
    return SentencePieceTokenizer(SHIPPED / "tokenizer.model")


@pytest.fixture(scope="session")
def small_bpe(tmp_path_factory: pytest.TempPathFactory) -> SentencePieceTokenizer:
    folder = tmp_path_factory.mktemp("bpe")
    return SentencePieceTokenizer(train_sentencepiece(SENTENCES * 3, 420, folder))


def _foreign(folder: Path, **settings: object) -> SentencePieceTokenizer:
    """A model as other projects train them, with the library's defaults but for `settings`."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES * 3), model_writer=model, minloglevel=2, hard_vocab_limit=False, **settings
    )
    path = folder / "tokenizer.model"
    path.write_bytes(model.getvalue())
    return SentencePieceTokenizer(path)


@pytest.fixture(scope="session")
def llama_like(tmp_path_factory: pytest.TempPathFactory) -> SentencePieceTokenizer:
    """Byte-pair, byte fallback, a space in front, and a control token among the user-defined symbols."""
    return _foreign(
        tmp_path_factory.mktemp("llama"),
        vocab_size=420,
        model_type="bpe",
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        user_defined_symbols=["<|user|>", "\n"],
    )


@pytest.fixture(scope="session")
def normalising_unigram(tmp_path_factory: pytest.TempPathFactory) -> SentencePieceTokenizer:
    """Unigram, no byte fallback, NFKC: everything a foreign model can do to a text."""
    return _foreign(tmp_path_factory.mktemp("unigram"), vocab_size=150, model_type="unigram")


@pytest.fixture(scope="session")
def exact_unigram(tmp_path_factory: pytest.TempPathFactory) -> SentencePieceTokenizer:
    """Unigram with byte fallback and nothing normalised."""
    return _foreign(
        tmp_path_factory.mktemp("exact"),
        vocab_size=420,
        model_type="unigram",
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True,
    )


@pytest.fixture(scope="session")
def byte_level(tmp_path_factory: pytest.TempPathFactory) -> HuggingFaceTokenizer:
    """As GPT-2 and Llama 3: byte-level byte-pair encoding of words found by a pattern."""
    import tokenizers as hf

    tokenizer = hf.Tokenizer(hf.models.BPE())
    tokenizer.pre_tokenizer = hf.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = hf.decoders.ByteLevel()
    tokenizer.post_processor = hf.processors.ByteLevel(trim_offsets=True)
    alphabet = hf.pre_tokenizers.ByteLevel.alphabet()
    trainer = hf.trainers.BpeTrainer(
        vocab_size=500, special_tokens=CONTROLS, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(SENTENCES * 3, trainer)
    tokenizer.add_tokens([hf.AddedToken("    ", normalized=False)])
    return _saved(tokenizer, tmp_path_factory.mktemp("bytelevel"))


@pytest.fixture(scope="session")
def metaspace(tmp_path_factory: pytest.TempPathFactory) -> HuggingFaceTokenizer:
    """As converted sentencepiece models: words begin with U+2581, bytes are the fallback, text is normalised."""
    import tokenizers as hf

    tokenizer = hf.Tokenizer(hf.models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = hf.normalizers.NFKC()
    tokenizer.pre_tokenizer = hf.pre_tokenizers.Metaspace()
    tokenizer.decoder = hf.decoders.Sequence([hf.decoders.ByteFallback(), hf.decoders.Metaspace()])
    trainer = hf.trainers.BpeTrainer(
        vocab_size=480,
        special_tokens=["<unk>", *CONTROLS, *(f"<0x{byte:02X}>" for byte in range(256))],
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES * 3, trainer)
    return _saved(_bytes_as_pieces(tokenizer), tmp_path_factory.mktemp("metaspace"))


@pytest.fixture(scope="session")
def llama2_json(metaspace: HuggingFaceTokenizer, tmp_path_factory: pytest.TempPathFactory) -> HuggingFaceTokenizer:
    """As Llama 2 was converted: no pre-tokenizer, spaces replaced and one prepended by the normaliser."""
    import tokenizers as hf

    data = json.loads(metaspace.path.read_text())
    data["pre_tokenizer"] = None
    tokenizer = hf.Tokenizer.from_str(json.dumps(data))
    tokenizer.normalizer = hf.normalizers.Sequence(
        [hf.normalizers.Prepend("\u2581"), hf.normalizers.Replace(" ", "\u2581")]
    )
    return _saved(tokenizer, tmp_path_factory.mktemp("llama2"))


def _bytes_as_pieces(tokenizer: object) -> object:
    """The byte pieces are ordinary entries of the vocabulary, not added tokens."""
    import tokenizers as hf

    data = json.loads(tokenizer.to_str())
    data["added_tokens"] = [token for token in data["added_tokens"] if not token["content"].startswith("<0x")]
    return hf.Tokenizer.from_str(json.dumps(data))


def _saved(tokenizer: object, folder: Path) -> HuggingFaceTokenizer:
    path = folder / "tokenizer.json"
    tokenizer.save(str(path))
    (folder / "tokenizer_config.json").write_text(
        '{"bos_token": {"content": "<s>"}, "eos_token": "</s>", "add_bos_token": true}'
    )
    return HuggingFaceTokenizer(path)
