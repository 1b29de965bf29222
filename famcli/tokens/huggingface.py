"""tokenizer.json files of pretrained decoders, through the `tokenizers` library (the `hf` extra, imported on use).

The file is rearranged before the library sees it. Control tokens leave the added tokens and, renamed, the vocabulary,
so that no text can become one. What is added in front of a text is taken out, to be added once at the start of a
stream. The bytes of each id are worked out here.
"""

from __future__ import annotations

import json
import os
import re
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal

import numpy as np

from famcli.errors import TokenizerError
from famcli.tokens.bounds import check_growth, check_patterns, no_panic, silent_stderr
from famcli.tokens.tokenizer import (
    CONFIG_FILE,
    JSON_FILE,
    AddedToken,
    Ids,
    Offsets,
    Tokenizer,
    added_token,
    fingerprint_of,
    parse_object,
    read_bytes,
    token_name,
    without_surrogates,
)

SPACE = "\u2581"  # what sentencepiece writes for a space
# Split patterns of widely used byte-level tokenizers, for which the proof in HuggingFaceTokenizer.safe_cut holds.
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
O200K = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+{_CONTRACTIONS}?|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*{_CONTRACTIONS}?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LLAMA3 = _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}" + _REST
QWEN2 = _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}" + _REST
# LLAMA3 is cl100k's too.
KNOWN_PATTERNS = {GPT2, LLAMA3, QWEN2, O200K, r"\p{N}{1,3}", r"\p{N}", r"[0-9]", r"[0-9][0-9][0-9]"}
_KNOWN_NORMALIZERS = {"NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents"}


class HuggingFaceTokenizer(Tokenizer):
    """A byte-level or sentencepiece-like tokenizer.json.

    `bos_id` and `eos_id` are those that tokenizer_config.json beside it names; a BOS only where the tokenizer puts it
    before a text, as its post-processor or the configuration's `add_bos_token` says. converted: the contents of both
    files, when they were made from another one, `path`. Raises TokenizerError when the file is missing, damaged, of
    another kind, or the `tokenizers` package is not installed.
    """

    def __init__(self, path: str | os.PathLike[str], converted: tuple[bytes, bytes] | None = None) -> None:
        self.path = Path(path)
        try:
            import tokenizers
        except ImportError as error:
            raise TokenizerError(f"{self.path} needs the `tokenizers` package: install famcli[hf]") from error
        config_file = self.path.with_name(CONFIG_FILE)
        if converted is not None:
            self.files = dict(zip((JSON_FILE, CONFIG_FILE), converted, strict=True))
        else:
            self.files = {file.name: file for file in (self.path, config_file) if file is self.path or file.is_file()}
        contents = [file if isinstance(file, bytes) else read_bytes(file) for file in self.files.values()]
        data = parse_object(contents[0], self.path)
        try:
            begins_with = _begins_with(data.get("post_processor"))
            self._token_bytes, self.control_tokens = _rearrange(data, str(self.path))
            # A text is preceded by a space, unless (_unless_space) it begins with one, and so is every part of a prompt
            # (_opens_each).
            self._opens, self._unless_space, self._opens_each = _take_opening(data)
            self._may_panic = _has_unknown_pattern(data)
            self._cuts_before_spaces, self._cuts_before_newlines = _cuts(data)
        except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
            if isinstance(error, TokenizerError):
                raise
            lacks = isinstance(error, KeyError)
            problem = f"it lacks '{error.args[0]}'" if lacks else "a part of it is of another kind than belongs there"
            raise TokenizerError(f"{self.path} is no tokenizer: {problem}; fetch or copy the file again") from error
        try:
            with no_panic(str(self.path)):
                self._tokenizer = tokenizers.Tokenizer.from_str(json.dumps(data, ensure_ascii=False))
        except TokenizerError:
            raise
        except Exception as error:
            # The library raises Exception itself.
            reason = " ".join(str(error).split())[:200]
            raise TokenizerError(f"{self.path} cannot be read by `tokenizers` ({reason}); fetch it again") from error
        # Otherwise the library would find control tokens in text.
        self._tokenizer.encode_special_tokens = True
        if self._may_panic:
            check_patterns(self._encoded, str(self.path))
        self.vocab_size = max(self._token_bytes, default=-1) + 1
        self.fingerprint = fingerprint_of(*contents)
        config = parse_object(contents[1], config_file) if len(contents) > 1 else {}
        ids = {name: token.id for name, token in self.control_tokens.items()}
        bos = token_name(config, "bos_token") or ""
        adds = config.get("add_bos_token")
        self.bos_id = ids.get(bos) if (adds if isinstance(adds, bool) else begins_with == bos) else None
        self.eos_id = ids.get(token_name(config, "eos_token") or "")

    def encode(self, text: str) -> list[int]:
        """Ids of `text` as a part of a longer text."""
        ids: list[int] = self._encoded(text).ids
        return ids

    def encode_offsets(self, text: str) -> tuple[Ids, Offsets]:
        """Ids [n] and the character where each ends [n], in the text before any normalisation."""
        encoding = self._encoded(text)
        ids = np.array(encoding.ids, dtype=np.int32)
        if not len(ids):
            return ids, np.empty(0, dtype=np.int64)
        ends = np.array(encoding.offsets, dtype=np.int64)[:, 1]
        # What a normaliser drops at the end belongs to the last token.
        ends[-1] = len(text)
        # Tokens the normaliser made of nothing have no place, and may report an earlier one.
        return ids, np.maximum.accumulate(ends)

    def _encoded(self, text: str) -> Any:
        # A pattern that nobody knows may make the library panic.
        with silent_stderr() if self._may_panic else nullcontext(), no_panic(str(self.path)):
            return self._tokenizer.encode(without_surrogates(text), add_special_tokens=False)

    def opening(self, text: str) -> str:
        """The space that many sentencepiece-like tokenizers put in front of a text."""
        if not self._opens or not text:
            return ""
        return "" if text[0] == " " and self._unless_space else " "

    def section_opening(self, text: str) -> str:
        """The same space again, in tokenizers that put one before each part."""
        return self.opening(text) if self._opens_each else ""

    def token_bytes(self, token: int) -> bytes:
        """UTF-8 bytes of one id; empty for control tokens, and for unused ids."""
        return self._token_bytes.get(token, b"")

    def safe_cut(self, text: str, low: int = 0) -> int:
        """The last space after a visible ASCII character, in tokenizers known to split there.

        Proof. What the normalisers known here make of a character does not depend on a space beside it, and nothing
        composes with a space. Then either a pre-tokenizer is known to end a part between such a character and a space
        whatever surrounds them: the patterns accepted match from left to right, look behind nowhere and ahead past
        whitespace only, and no alternative holds a visible character followed by a space; the next match begins at
        the space either way, and parts become tokens one by one. Or none of them splits there, and no piece of the
        byte-pair vocabulary holds a visible character followed by a space: then no merge joins the two sides (see
        `SentencePieceTokenizer.safe_cut`). The same holds for a newline after a letter or digit under the patterns;
        after punctuation it does not. Any other tokenizer is given no cut.
        """
        if not self._cuts_before_spaces:
            return 0
        newlines = self._cuts_before_newlines
        for place in range(len(text) - 1, low, -1):
            character, before = text[place], text[place - 1]
            if character == " " and "!" <= before <= "~":
                return place
            if newlines and character == "\n" and before.isascii() and before.isalnum():
                return place
        return 0


def _rearrange(data: dict[str, Any], name: str) -> tuple[dict[int, bytes], dict[str, AddedToken]]:
    """Take control tokens out of the content of a tokenizer.json, and what is added to a text or cut off.

    Returns the UTF-8 bytes of every id, and the control tokens by name. Raises TokenizerError for kinds that are not
    read here.
    """
    model, added = data["model"], data.get("added_tokens") or []
    byte_level = any(part["type"] == "ByteLevel" for part in _parts(data.get("decoder"), "decoders"))
    vocabulary = _vocabulary(model)
    sentencepiece_like = any(token.startswith(SPACE) for token in vocabulary)
    if model.get("type", "BPE") not in ("BPE", "Unigram") or not (byte_level or sentencepiece_like):
        raise TokenizerError(f"{name} is neither a byte-level nor a sentencepiece-like tokenizer: it cannot be read")
    spell = _spell_byte_level if byte_level else _spell_sentencepiece
    token_bytes = {index: spell(token) for token, index in vocabulary.items()}
    for token in added:
        token_bytes[token["id"]] = b"" if token["special"] else token["content"].encode()
    unigram = model.get("type") == "Unigram"
    unknown = model.get("unk_id") if unigram else vocabulary.get(model.get("unk_token") or "")
    if unknown is not None:
        token_bytes[unknown] = "\ufffd".encode()
    controls = {token["content"]: added_token(token, token["id"]) for token in added if _is_control(token)}
    # The library finds added tokens in text, whatever else is set.
    data["added_tokens"] = [token for token in added if not _is_control(token)]
    _rename_controls(model, vocabulary, set(controls))
    check_growth(_parts(data.get("normalizer"), "normalizers"), name)
    data["post_processor"] = data["truncation"] = data["padding"] = None
    # Merges left out at random would make the same text other tokens each time.
    model["dropout"] = None
    return token_bytes, controls


def _begins_with(processor: dict[str, Any] | None) -> str | None:
    """The control token that a template of the library's puts before a text."""
    for part in _parts(processor, "processors"):
        if part["type"] == "TemplateProcessing" and part["single"] and "SpecialToken" in part["single"][0]:
            return str(part["single"][0]["SpecialToken"]["id"])
    return None


def _vocabulary(model: dict[str, Any]) -> dict[str, int]:
    if model.get("type") == "Unigram":
        return {entry[0]: index for index, entry in enumerate(model["vocab"])}
    return dict(model["vocab"])


def _is_control(token: dict[str, Any]) -> bool:
    """True for all added tokens but runs of whitespace, which some vocabularies hold that way."""
    return bool(token["special"] or not token["content"].isspace())


def _rename_controls(model: dict[str, Any], vocabulary: dict[str, int], controls: set[str]) -> None:
    """Give control tokens in the vocabulary names that no text can spell, and drop merges that would spell them."""
    renamed = {token: f"\uffff\ufffe{index}\uffff" for token, index in vocabulary.items() if token in controls}
    if model.get("type") == "Unigram":
        model["vocab"] = [[renamed.get(token, token), score] for token, score in model["vocab"]]
        return
    model["vocab"] = {renamed.get(token, token): index for token, index in vocabulary.items()}
    if model.get("unk_token") in renamed:
        model["unk_token"] = renamed[model["unk_token"]]
    # The library refuses merges of pieces that the vocabulary lacks.
    merges = []
    for pair in model["merges"]:
        first, second = pair.split(" ") if isinstance(pair, str) else pair
        if not renamed.keys() & {first, second, first + second}:
            merges.append(pair)
    model["merges"] = merges


def _parts(component: dict[str, Any] | None, key: str) -> list[dict[str, Any]]:
    if component is None:
        return []
    if component["type"] != "Sequence":
        return [component]
    return [part for member in component[key] for part in _parts(member, key)]


def _take_opening(data: dict[str, Any]) -> tuple[bool, bool, bool]:
    """Take out what puts a space in front of a text. Returns opens_with_space, opens_unless_space and opens_each."""
    opens = unless = each = False
    kept = []
    for part in _parts(data.get("normalizer"), "normalizers"):
        if part["type"] == "Prepend" and part["prepend"] in (SPACE, " "):
            opens = each = True
        else:
            kept.append(part)
    data["normalizer"] = {"type": "Sequence", "normalizers": kept} if kept else None
    for part in _parts(data.get("pre_tokenizer"), "pretokenizers"):
        if part["type"] == "ByteLevel" and part.get("add_prefix_space", True):
            part["add_prefix_space"] = False
            opens = unless = each = True
        elif part["type"] == "Metaspace":
            scheme = part.get("prepend_scheme", "always" if part.pop("add_prefix_space", True) else "never")
            part["prepend_scheme"] = "never"
            if scheme != "never":
                opens = unless = True
                each = each or scheme == "always"
    return opens, unless, each


def _has_unknown_pattern(data: dict[str, Any]) -> bool:
    """True if the tokenizer has an expression that is not known to be quick."""
    parts = [*_parts(data.get("normalizer"), "normalizers"), *_parts(data.get("pre_tokenizer"), "pretokenizers")]
    expressions = [part["pattern"].get("Regex") for part in parts if isinstance(part.get("pattern"), dict)]
    return any(found is not None and found not in KNOWN_PATTERNS for found in expressions)


def _cuts(data: dict[str, Any]) -> tuple[bool, bool]:
    """True where the proof in HuggingFaceTokenizer.safe_cut holds for this tokenizer: for spaces, for newlines."""
    normalizers = _parts(data.get("normalizer"), "normalizers")
    splitters = _parts(data.get("pre_tokenizer"), "pretokenizers")
    known = [_replaces_spaces(part) or part["type"] in _KNOWN_NORMALIZERS for part in normalizers]
    # Where spaces are replaced before, splitting at a space splits nothing.
    if any(_replaces_spaces(part) for part in normalizers):
        splitters = [part for part in splitters if part.get("pattern") != {"String": " "}]
    ends = [_ends_words(part) for part in splitters]
    if not all(known) or None in ends or any(token["single_word"] for token in data["added_tokens"]):
        return False, False
    return bool(any(ends) or _no_merge_joins_words(data["model"])), "newlines" in ends


def _replaces_spaces(part: dict[str, Any]) -> bool:
    return bool(part["type"] == "Replace" and part["pattern"] == {"String": " "} and part["content"] == SPACE)


def _ends_words(part: dict[str, Any]) -> Literal["newlines", "spaces", ""] | None:
    """Where a pre-tokenizer is known to end a part: before newlines too, as those that match words and runs of
    whitespace do (GPT-2 and its successors), between a visible character and a space, or neither. None: not known."""
    if part["type"] == "Split":
        regex, is_space = part["pattern"].get("Regex", ""), part["pattern"] == {"String": " "}
        if part["behavior"] != "Isolated" or part.get("invert", False) or not (is_space or regex in KNOWN_PATTERNS):
            return None
        return "newlines" if r"\s+(?!\S)" in regex else "spaces" if is_space else ""
    if part["type"] == "Metaspace":
        return None if part.get("replacement", SPACE) != SPACE else "spaces" if part.get("split", True) else ""
    if part["type"] == "ByteLevel":
        return "newlines" if part.get("use_regex", True) else ""
    return "" if part["type"] in ("Digits", "Punctuation") else None


def _no_merge_joins_words(model: dict[str, Any]) -> bool:
    """True if byte-pair encoding without pre-tokenizer treats what ends before a space as if the text ended there."""
    unlike = ("ignore_merges", "end_of_word_suffix", "continuing_subword_prefix")
    if model.get("type", "BPE") != "BPE" or any(model.get(key) for key in unlike):
        return False
    vocabulary = _vocabulary(model)
    # Without a piece for the space, unknown characters could fuse across it.
    knows_space = SPACE in vocabulary or "\u0120" in vocabulary
    return knows_space and not any(SPACE in token.replace("\u0120", SPACE).lstrip(SPACE) for token in vocabulary)


def _spell_sentencepiece(token: str) -> bytes:
    if match := re.fullmatch("<0x([0-9A-F]{2})>", token):
        return bytes([int(match[1], 16)])
    return token.replace(SPACE, " ").encode()


def _spell_byte_level(token: str) -> bytes:
    return b"".join(_BYTE_OF.get(character, character.encode()) for character in token)


# GPT-2's printable stand-ins: visible Latin-1 is itself, the other bytes follow from U+0100 on.
_VISIBLE = [*range(33, 127), *range(161, 173), *range(174, 256)]
_MOVED = [byte for byte in range(256) if byte not in _VISIBLE]
_BYTE_OF = {chr(byte): bytes([byte]) for byte in _VISIBLE}
_BYTE_OF |= {chr(256 + place): bytes([byte]) for place, byte in enumerate(_MOVED)}
