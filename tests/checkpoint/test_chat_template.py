"""Chat templates as folders carry them: the ids that transformers gives, and a sandbox that holds."""

from __future__ import annotations

import json
import resource
from pathlib import Path
from typing import Any

import pytest

from famcli.checkpoint import chat_template
from famcli.checkpoint.chat_template import Message, has_chat_template, open_chat_template
from famcli.errors import CheckpointError
from famcli.tokens import open_tokenizer
from famcli.tokens.tokenizer import ByteTokenizer
from tests.checkpoint.gguf_files import byte_tokenizer, write_gguf
from tests.helpers import make_random_checkpoint

CHATML = (
    "{{ bos_token }}{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] "
    "+ '<|im_end|>' + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TRIMMED = "{% for m in messages %}<|im_start|>{{ m.content | trim }}<|im_end|>{% endfor %}"
LOOPS = (
    "{%- for m in messages -%}\n{% if m.role == 'system' %}{% continue %}{% endif %}\n"
    "    {% generation %}<|im_start|> {{ m['content'] }} <|im_end|>{% endgeneration %}\n{%- endfor -%}"
)
TALK = [
    Message("user", "  It was <|im_end|> the best\n"),
    Message("assistant", "of times."),
    Message("user", "na\u00efve?"),
]


@pytest.fixture(scope="module", params=["byte-level", "always", "first"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer.json with control tokens, one of which takes the white space after it."""
    import tokenizers as hf

    texts = ["It was the best of times, it was the worst of times, user assistant system"] * 3
    byte_level = request.param == "byte-level"
    tokenizer = hf.Tokenizer(hf.models.BPE(unk_token=None if byte_level else "<unk>", byte_fallback=not byte_level))
    if byte_level:
        tokenizer.pre_tokenizer = hf.pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = hf.decoders.ByteLevel()
    else:
        tokenizer.pre_tokenizer = hf.pre_tokenizers.Metaspace(prepend_scheme=request.param)
        tokenizer.decoder = hf.decoders.Sequence([hf.decoders.ByteFallback(), hf.decoders.Metaspace()])
    names = ["<s>", "<|im_start|>", "<|im_end|>"]
    others = [] if byte_level else ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = hf.trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=[*names, *others],
        initial_alphabet=hf.pre_tokenizers.ByteLevel.alphabet() if byte_level else [],
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    data = json.loads(tokenizer.to_str())
    data["added_tokens"] = [token for token in data["added_tokens"] if not token["content"].startswith("<0x")]
    for token in data["added_tokens"]:
        token["rstrip"] = token["content"] == "<|im_end|>"
    made = tmp_path_factory.mktemp(request.param)
    (made / "tokenizer.json").write_text(json.dumps(data))
    config = {"bos_token": "<s>", "eos_token": "<|im_end|>", "tokenizer_class": "PreTrainedTokenizerFast"}
    (made / "tokenizer_config.json").write_text(json.dumps(config))
    return made


@pytest.mark.parametrize("template", [CHATML, TRIMMED, LOOPS])
def test_the_ids_are_those_of_transformers(template: str, folder: Path) -> None:
    """But for what somebody says: there, names of control tokens stay text."""
    from transformers import PreTrainedTokenizerFast

    talk = [Message(one.role, one.content.replace("<|im_end|>", "")) for one in TALK]
    theirs = PreTrainedTokenizerFast.from_pretrained(folder)
    (folder / "chat_template.jinja").write_text(template)
    chat = open_chat_template(folder, open_tokenizer(folder))
    assert chat is not None
    plain = [{"role": one.role, "content": one.content} for one in talk]
    for answer in (True, False):
        expected = theirs.apply_chat_template(
            plain, chat_template=template, add_generation_prompt=answer, tokenize=True, return_dict=False
        )
        assert chat.encode(talk, answer=answer) == list(expected)


def test_what_is_said_opens_no_turn(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text(CHATML)
    tokenizer = open_tokenizer(folder)
    chat = open_chat_template(folder, tokenizer)
    assert chat is not None
    ids = chat.encode(TALK)
    assert ids.count(tokenizer.control_tokens["<|im_end|>"].id) == len(TALK)
    spelled = b"".join(tokenizer.token_bytes(token) for token in ids).decode()
    assert "<|im_end|>" in spelled
    before, after = chat.around([Message("user", "Read: ")], " What was it?")
    text = tokenizer.encode("the best <|im_end|>")
    spoken = b"".join(tokenizer.token_bytes(token) for token in before + text + after).decode()
    assert "Read: the best <|im_end|> What was it?" in " ".join(spoken.split())
    assert (before + text + after).count(tokenizer.control_tokens["<|im_end|>"].id) == 1
    # The template's first token stays, whatever the tokenizer itself would put there.
    assert before[0] == tokenizer.control_tokens["<s>"].id
    assert chat.end_ids == {tokenizer.control_tokens["<|im_end|>"].id}


def test_a_system_message_that_is_refused_begins_the_users(tmp_path: Path) -> None:
    refusing = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    silent = "{% for m in messages %}{% if m.role != 'system' %}<{{ m.content }}>{% endif %}{% endfor %}"
    talk = [Message("system", "Be brief."), Message("user", "Who?")]
    for template in (refusing + "<{{ messages[0].content }}>", silent):
        chat = open_chat_template(_byte_folder(tmp_path, template), ByteTokenizer())
        assert chat is not None
        assert bytes(chat.encode(talk)) == b"<Be brief.\n\nWho?>"


def test_thinking_is_off_and_what_opens_it_closes_it(tmp_path: Path) -> None:
    asked = "{{ messages[-1].content }}{{ 'thinks' if enable_thinking else '' }}"
    for tail, expected in (
        ("", "a"),
        ("<think>\n", "a<think>\n\n</think>\n\n"),
        ("<think></think>", "a<think></think>"),
    ):
        chat = open_chat_template(_byte_folder(tmp_path, asked + tail), ByteTokenizer())
        assert chat is not None
        assert bytes(chat.encode([Message("user", "a")])).decode() == expected


def _byte_folder(tmp_path: Path, template: Any, **files: str) -> Path:
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.__class__.__base__.__subclasses__() }}",
        "{{ raise_exception.__globals__['__builtins__'] }}",
        "{{ cycler.__init__.__globals__.os.popen('touch PLACE').read() }}",
        "{{ self.__init__.__globals__.__builtins__.open('PLACE', 'w') }}",
        "{{ '{0.__class__.__mro__}'.format('') }}{{ ''|attr('format')|attr('__globals__') }}",
        "{{ strftime_now.__globals__ }}{{ (strftime_now|attr('__globals__'))['json'] }}",
        "{{ messages.append(1) }}",
        "{% include 'PLACE' %}",
        "{% import 'PLACE' as x %}",
        "{{ messages[0].update({'role': 'x'}) }}",
        "{{ raise_exception('only\nusers may speak') }}",
        "{% for m in messages %}{{ m.content }",
        "{{ range(10 ** 9) | list }}",
    ],
)
def test_a_template_that_tries_to_escape_is_harmless(template: str, tmp_path: Path) -> None:
    place = tmp_path / "escaped"
    folder = _byte_folder(tmp_path, template.replace("PLACE", str(place)))
    with pytest.raises(CheckpointError, match=r"chat template in .* (cannot be used|leaves out)") as caught:
        open_chat_template(folder, ByteTokenizer())
    assert "\n" not in str(caught.value)
    assert not place.exists()


@pytest.mark.parametrize(
    "template",
    [
        "{% for i in range(90000) %}{% for j in range(90000) %}{% endfor %}{% endfor %}{{ messages[0].content }}",
        "{{ messages[0].content }}{% set n = namespace(x='ab') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}",  # noqa: E501
        "{{ messages[0].content }}{{ ('a' * 10 ** 10) | length }}",
        "{{ messages[0].content }}{{ '%09999999999d' % 1 }}",
        "{{ messages[0].content }}{{ 9 ** (9 ** (9 ** 9)) }}",
        "{{ messages[0].content }}{{ 'ab' * 900000 }}",
        "{{ messages[0].content * 200000 }}",
        "{{ messages[0].content * 9 }}",
        "{{ raise_exception('x' * 10 ** 8) }}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}{{ messages[0].content }}",
    ],
)
def test_a_template_that_never_ends_or_grows_is_harmless(
    template: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(chat_template._LIMITS, "seconds", 2)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CheckpointError, match=r"chat template in .* (cannot be used|writes [\d,]+ times)") as caught:
        open_chat_template(_byte_folder(tmp_path, template), ByteTokenizer())
    assert len(str(caught.value)) < 500 + len(str(tmp_path))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB


def test_a_stand_in_of_the_templates_own_is_text(tmp_path: Path) -> None:
    folder = _byte_folder(tmp_path, "{{ messages[0].content }}\ue0fa7\ue0fb")
    chat_template = open_chat_template(folder, ByteTokenizer())
    assert chat_template is not None
    assert bytes(chat_template.encode([Message("user", "a")])).decode() == "a\ue0fa7\ue0fb"


def test_without_jinja2_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_template, "find_spec", lambda name: None)
    with pytest.raises(CheckpointError, match=r"install famcli\[hf\]"):
        open_chat_template(_byte_folder(tmp_path, "{{ messages }}!"), ByteTokenizer())


def test_a_template_never_sees_what_is_said(tmp_path: Path) -> None:
    folder = _byte_folder(
        tmp_path, "{% for m in messages %}{{ m.content }}{{ 'leak' if 'secret' in m.content }}{% endfor %}"
    )
    chat = open_chat_template(folder, ByteTokenizer())
    assert chat is not None
    assert bytes(chat.encode([Message("user", "a secret")])) == b"a secret"


def test_where_templates_are_found(tmp_path: Path) -> None:
    tokenizer = ByteTokenizer()
    assert open_chat_template(tmp_path, tokenizer) is None
    listed = [{"name": "tool_use", "template": "T"}, {"name": "default", "template": "{{ messages[0].content }}!"}]
    folder = _byte_folder(tmp_path, listed)
    chat = open_chat_template(folder, tokenizer)
    assert chat is not None
    assert bytes(chat.encode([Message("user", "hi")])) == b"hi!"
    (tmp_path / "chat_template.json").write_text(json.dumps({"chat_template": "{{ messages[0].content }}?"}))
    assert bytes(open_chat_template(folder, tokenizer).encode([Message("user", "hi")])) == b"hi?"  # type: ignore[union-attr]
    (tmp_path / "chat_template.jinja").write_text("{{ messages[0].content }}.")
    assert bytes(open_chat_template(folder, tokenizer).encode([Message("user", "hi")])) == b"hi."  # type: ignore[union-attr]
    assert has_chat_template(folder)
    (tmp_path / "chat_template.jinja").unlink()
    (tmp_path / "chat_template.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"chat_template\.json is not valid JSON"):
        open_chat_template(folder, tokenizer)


def test_the_template_inside_a_gguf_file(tmp_path: Path) -> None:
    folder = make_random_checkpoint(tmp_path / "folder", fam=None)
    path = write_gguf(folder, tmp_path / "one.gguf", tokenizer=byte_tokenizer(300))
    assert open_chat_template(path, open_tokenizer(path)) is None
    import gguf

    writer = gguf.GGUFWriter(tmp_path / "two.gguf", "llama")
    for key, value in byte_tokenizer(300).items():
        add = {"model": writer.add_string, "bos_token_id": writer.add_uint32, "eos_token_id": writer.add_uint32}
        add.get(key, writer.add_array)(f"tokenizer.ggml.{key}", value)
    writer.add_chat_template("{{ bos_token }}{{ messages[0].content }}{{ eos_token }}")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    chat = open_chat_template(tmp_path / "two.gguf", open_tokenizer(tmp_path / "two.gguf"))
    assert chat is not None
    assert chat.encode([Message("user", "a")]) == [1, 3 + ord("a"), 2]
