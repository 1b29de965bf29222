"""SmolLM2-135M-Instruct, from the package that carries it: the same numbers as with transformers, and what it writes.

In float32, so that what it writes is the same on every machine that computes alike.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from famcli.checkpoint.chat_template import Message, open_chat_template
from famcli.checkpoint.inspect import inspect_checkpoint
from famcli.checkpoint.locate import list_models, resolve
from famcli.checkpoint.model import Model
from famcli.checkpoint.open import open_model
from famcli.checkpoint.recommended import recommended
from famcli.nn import MEMORY_MODES
from famcli.nn.kernels import native
from famcli.reading.engine import read_calls, start_state
from famcli.reading.generating import GenerationConfig, GenerationEnd, generate
from famcli.tasks.ask.ask import ask
from famcli.tasks.summarize.summarize import summarize
from famcli.tasks.summarize.summary_result import SummarizeConfig, parse_length

SMOLLM2 = recommended("smollm2")
assert SMOLLM2 is not None
assert SMOLLM2.carried is not None
pytestmark = pytest.mark.skipif(SMOLLM2.carried.path() is None, reason=f"needs {SMOLLM2.carried.install}")

LIGHTHOUSE = """\
The lighthouse at Kerrow Point was built in 1874 by the engineer Thomas Aldous. It is 31 metres tall and stands on the
northern cliff. Before it was built, forty ships were lost on the reef below the cliff in twenty years.

The first keeper was Martha Vance, who lived there with her brother Daniel. Every evening she climbed the 142 steps to
light the lamp, which burned whale oil. In the storm of November 1881 she kept the lamp burning for three nights and
saved the crew of the schooner Petrel. The harbour office in Lowick gave her a silver medal.

The lamp was replaced by an electric one in 1936. Since 1988 nobody has lived at Kerrow Point: the light is
controlled from Lowick by radio. The keeper's house is now a small museum, which is open from April to October.
"""
KEYS = (39_417, 80_562, 17_948, 62_305, 94_271, 51_836)
TALK = [Message("user", "Who built it?"), Message("assistant", "Thomas Aldous."), Message("user", "When?\n\nSay it.")]


@pytest.fixture(scope="module")
def model() -> Model:
    return open_model(resolve("smollm2-plain", {}), device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("smollm2") / "lighthouse.txt"
    path.write_text(LIGHTHOUSE, encoding="utf-8")
    return path


def test_it_gives_the_numbers_that_transformers_gives(model: Model) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder, name = model.path.parent, model.path.name
    theirs = AutoTokenizer.from_pretrained(folder, gguf_file=name)
    for sample in (LIGHTHOUSE, "caf\u00e9 \u2014 12,345 \U0001f600\n\n\tif x:  y", "  two  blanks "):
        assert model.tokenizer.encode(sample) == theirs(sample)["input_ids"]
    chat = open_chat_template(model.path, model.tokenizer)
    assert chat is not None
    plain = [{"role": one.role, "content": one.content} for one in TALK]
    expected = theirs.apply_chat_template(plain, add_generation_prompt=True, tokenize=True, return_dict=False)
    prompt = chat.encode(TALK)
    assert prompt == list(expected)
    assert chat.end_ids <= model.end_ids
    network = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32).eval()
    ids = torch.tensor([prompt])
    with torch.inference_mode():
        [(_, hidden, _)] = read_calls(model.network, ids, start_state(model.network, "none"))
        ours, reference = model.network.logits(hidden), network(ids).logits
        assert (ours.log_softmax(-1) - reference.log_softmax(-1)).abs().max() < 1e-3
        continued = network.generate(ids, max_new_tokens=16, do_sample=False)[0, len(prompt) :].tolist()
    *_, end = generate(model, start_state(model.network, "none"), prompt, GenerationConfig(max_tokens=16))
    assert isinstance(end, GenerationEnd)
    assert [*end.tokens, *sorted(model.end_ids)][: len(continued)] == continued or list(end.tokens) == continued


@pytest.mark.skipif(native.library() is None, reason="needs a C compiler")
@pytest.mark.parametrize("name", ["smollm2-plain", "smollm2"])
def test_it_writes_by_the_bits_of_its_file(name: str, model: Model) -> None:
    """In bfloat16 single tokens are computed by the file's own numbers, an adapter beside them, and not by rounded
    ones: what it writes is what float32 writes."""
    exact = model if name == "smollm2-plain" else open_model(resolve(name, {}), device="cpu", dtype="float32")
    narrow = open_model(resolve(name, {}), device="cpu", dtype="bfloat16")
    chat = open_chat_template(model.path, model.tokenizer)
    assert chat is not None
    ids, config = torch.tensor([chat.encode(TALK)]), GenerationConfig(max_tokens=16)
    written, texts = list[torch.Tensor](), list[tuple[int, ...]]()
    with torch.inference_mode():
        [(_, hidden, _)] = read_calls(exact.network, ids, start_state(exact.network, "none"))
        expected = exact.network.logits(hidden).log_softmax(-1)
        [(_, hidden, _)] = read_calls(narrow.network, ids, start_state(narrow.network, "none"))
        read = narrow.network.logits(hidden).float().log_softmax(-1)
        state = start_state(narrow.network, "none")
        for token in ids[0]:
            hidden, state = narrow.network.write(token.view(1, 1), state)
            written.append(narrow.network.logits(hidden).log_softmax(-1))
    errors = [float((each - expected).abs().mean()) for each in (torch.cat(written, dim=1), read)]
    assert errors[0] < errors[1] / 2, errors
    for one in (exact, narrow):
        *_, end = generate(one, start_state(one.network, "none"), ids[0].tolist(), config)
        assert isinstance(end, GenerationEnd)
        texts.append(tuple(end.tokens))
    assert texts[0] == texts[1]


def _names(written: str) -> set[str]:
    """Capitalised words within sentences, and numbers: found in another way than the check that is tested."""
    inner = re.findall(r"(?<=[a-z,;] )[A-Z][a-z]+", written)
    return {*inner, *re.findall(r"\d+", re.sub(r"\[\d+\]", "", written))}


def test_a_summary_is_grounded_and_ends(model: Model, text: Path) -> None:
    result = summarize(model, [text], SummarizeConfig(length=parse_length("60w")))
    assert result.written is not None, result.warnings
    written = result.written.text
    assert {name for name in _names(written) if name not in LIGHTHOUSE} == set()
    sentences = re.split(r"(?<=[.!?])(?: \[\d+\])? +", re.sub(r" \[\d+\]", "", written))
    assert len(sentences) == len(set(sentences))
    assert re.search(r"[.!?\u201d\"](?: \[\d+\])?$", written)
    source = text.read_bytes()
    assert result.sentences
    for number, quote in enumerate(result.sentences, start=1):
        assert f"[{number}]" in written
        assert source[slice(*quote.span)].decode() == quote.text


QUESTIONS = {
    "Who built the lighthouse at Kerrow Point?": "Aldous",
    "How tall is the lighthouse?": "31",
    "Who was the first keeper of the lighthouse?": "Vance",
    "When was the lamp replaced by an electric one?": "1936",
    "What colour is the submarine of Captain Nemo?": None,
}


def test_answers_are_short_grounded_and_cited(model: Model, text: Path) -> None:
    result = ask(model, list(QUESTIONS), [text])
    right = 0
    for answer, expected in zip(result.answers, QUESTIONS.values(), strict=True):
        if expected is None:
            assert not answer.found
            continue
        assert answer.kind in ("written", "extracted")
        assert {name for name in _names(answer.text) if name not in LIGHTHOUSE + answer.question} == set()
        assert answer.citations
        assert not re.search(r"<\||</?think>|as an AI|I'm sorry", answer.text)
        right += expected in answer.text
    assert right >= 3, [answer.text for answer in result.answers]


@pytest.mark.slow
@torch.no_grad()
def test_a_number_comes_back_by_the_tokens_that_were_kept() -> None:
    """Six keys, each told 7 blocks before it is asked for, beyond the window of 4: with the kept tokens the digits that
    follow are right, without them hardly any."""
    kept = open_model(resolve("smollm2", {}), device="cpu")
    novel = (Path(__file__).parents[2] / "examples" / "the-man-who-was-thursday.txt").read_text(encoding="utf-8")[
        20_000:40_000
    ]
    size = 7 * kept.network.fam.block_size
    told = [kept.tokenizer.encode(f" The pass key is {key}. Remember it. {key} is the pass key.") for key in KEYS]
    filler = kept.tokenizer.encode(novel)
    rows = [[*filler[:30], *words, *filler[30:]][:size] for words in told]
    asked = [kept.tokenizer.encode(f" What is the pass key? The pass key is {key}") for key in KEYS]
    right = {}
    for mode in MEMORY_MODES[:2]:
        _, state = kept.network.read(torch.tensor(rows), kept.network.start(len(KEYS), mode))
        hidden, _ = kept.network.read(torch.tensor(asked), state)
        best = kept.network.logits(hidden[:, -6:-1]).argmax(-1)
        right[mode] = int((best == torch.tensor(asked)[:, -5:]).sum())
    assert right["on"] >= 28, right
    assert right["frozen"] <= 10, right


def test_inspect_shows_the_checkpoint_as_it_is_opened() -> None:
    info, model = inspect_checkpoint(resolve("smollm2", {})), open_model(resolve("smollm2", {}), device="cpu")
    assert model.adapter is not None
    assert (info.adapter, info.fingerprints) == (model.adapter.folder, model.fingerprints)
    assert info.sidecar == model.sidecar
    assert {one.name: one.memory for one in list_models({})}["smollm2"] == "trained"
    plain = inspect_checkpoint(resolve("smollm2-plain", {}))
    assert plain.adapter is None
    assert plain.fingerprints.weights != info.fingerprints.weights


def test_the_adapter_that_ships_answers_in_a_few_words_of_the_text(text: Path) -> None:
    model = open_model(resolve("smollm2", {}), device="cpu", dtype="bfloat16")
    assert model.name == "smollm2 with fam-smollm2"
    questions = [
        "Who built the lighthouse?",
        "How many steps did the keeper climb?",
        "When was the electric lamp put in?",
    ]
    answers = ask(model, questions, [text]).answers
    for answer, right in zip(answers, ("Thomas Aldous", "142", "1936"), strict=True):
        assert answer.found
        assert answer.kind == "written"
        assert right in answer.text
        assert len(answer.text) < 40
