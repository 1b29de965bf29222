"""Adapters in PEFT's layout: what peft writes is read, what is written peft reads, and what does not fit is named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from famcli.checkpoint.adapter import fit, read_adapter
from famcli.checkpoint.convert import save_quantized
from famcli.checkpoint.families.pretrained import read_config
from famcli.checkpoint.folder import shown
from famcli.checkpoint.locate import Located
from famcli.checkpoint.open import open_model
from famcli.checkpoint.save import load_updates, merge, save_adapter
from famcli.checkpoint.sidecar import Sidecar
from famcli.checkpoint.weights import checked_weights
from famcli.errors import CheckpointError
from famcli.nn import FamConfig
from famcli.nn.lora import LoraConfig, LowRank, add_lora, lora_updates
from famcli.tokens.tokenizer import ByteTokenizer
from tests.helpers import TINY_CONFIG, TINY_FAM, change_json, make_random_checkpoint, read_json, write_json

peft = pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")

# the two libraries are of one day and yet one calls what the other is about to drop
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

FULL = FamConfig(block_size=64, memory_segments=0, fam_length=0)
TOKENS = torch.randint(0, TINY_CONFIG.vocab_size, (2, 40), generator=torch.Generator().manual_seed(5))


def our_logits(folder: Path, adapter: Path | None = None) -> torch.Tensor:
    """Logits [2, 40, v] of plain full attention, the window at once."""
    network = open_model(folder, adapter=adapter, block_size=64, memory_segments=0, dtype="float32").network
    with torch.no_grad():
        hidden, _ = network.read(TOKENS, network.start(2, "none"))
        return network.logits(hidden)


def drawn_updates(folder: Path, lora: LoraConfig) -> dict[str, LowRank]:
    network = open_model(folder, dtype="float32").network
    add_lora(network, lora, seed=1)
    generator = torch.Generator().manual_seed(2)
    return {
        name: LowRank(update.a, 0.3 * torch.randn(update.b.shape, generator=generator), update.scale)
        for name, update in lora_updates(network).items()
    }


def write_ours(folder: Path, base: Path, lora: LoraConfig, sidecar: Sidecar, prompt: torch.Tensor | None) -> Path:
    stored = checked_weights(base, read_config(base))
    own = {} if prompt is None else {"memory_prompt": prompt}
    return save_adapter(folder, drawn_updates(base, lora), lora, stored, base=str(base), sidecar=sidecar, own=own)


def their_logits(base: Path, adapter: Path) -> torch.Tensor:
    model = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    with torch.no_grad():
        logits: torch.Tensor = peft.PeftModel.from_pretrained(model, adapter).eval()(TOKENS).logits
    return logits


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return make_random_checkpoint(tmp_path / "base", fam=FULL)


@pytest.fixture
def adapter(base: Path, tmp_path: Path) -> Path:
    lora = LoraConfig(rank=3, alpha=6.0)
    return write_ours(tmp_path / "adapter", base, lora, Sidecar(FULL, memory_trained=True), None)


@pytest.mark.parametrize("targets", [("q_proj", "v_proj"), LoraConfig().targets])
def test_peft_opens_what_we_write(base: Path, tmp_path: Path, targets: tuple[str, ...]) -> None:
    lora = LoraConfig(rank=4, alpha=6.0, targets=targets)
    sidecar = Sidecar(TINY_FAM, memory_trained=True)
    prompt = torch.randn(TINY_FAM.fam_length, TINY_CONFIG.hidden_size)
    folder = write_ours(tmp_path / "ours", base, lora, sidecar, prompt)
    assert {path.name for path in folder.iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "fam.json",
        "fam.safetensors",
    }
    ours = our_logits(base, folder)
    torch.testing.assert_close(ours, their_logits(base, folder), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(ours, our_logits(base), atol=1e-2)
    model = open_model(base, adapter=folder)
    assert replace(model.sidecar, base_weights=None) == sidecar
    assert torch.equal(model.network.memory_prompt, prompt)


@pytest.mark.parametrize(
    "options",
    [
        {"target_modules": ["q_proj", "down_proj"]},
        {"target_modules": "all-linear", "use_rslora": True},
        {"target_modules": ["v_proj", "up_proj"], "rank_pattern": {"v_proj": 5}, "alpha_pattern": {"up_proj": 2}},
        {"target_modules": ["q_proj"], "layers_to_transform": [1]},
    ],
)
def test_we_open_what_peft_writes(base: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    model = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    config = peft.LoraConfig(r=2, lora_alpha=5, task_type="CAUSAL_LM", init_lora_weights=False, **options)
    torch.manual_seed(3)
    made = peft.get_peft_model(model, config)
    made.save_pretrained(tmp_path / "theirs")
    with torch.no_grad():
        wanted = made.eval()(TOKENS).logits
    torch.testing.assert_close(our_logits(base, tmp_path / "theirs"), wanted, atol=1e-4, rtol=1e-4)


def phi3(folder: Path) -> None:
    transformers.Phi3ForCausalLM(
        transformers.Phi3Config(
            **SMALL, num_key_value_heads=2, pad_token_id=0, bos_token_id=0, eos_token_id=0, resid_pdrop=0.0
        )
    ).save_pretrained(folder)


def gpt_neox(folder: Path) -> None:
    transformers.GPTNeoXForCausalLM(transformers.GPTNeoXConfig(**SMALL)).save_pretrained(folder)


SMALL: dict[str, Any] = {
    "vocab_size": TINY_CONFIG.vocab_size,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
}


@pytest.mark.parametrize("make", [phi3, gpt_neox])
@pytest.mark.parametrize("targets", [("v_proj", "up_proj"), LoraConfig().targets])
def test_matrices_that_a_family_keeps_together(
    tmp_path: Path, make: Callable[[Path], None], targets: tuple[str, ...]
) -> None:
    torch.manual_seed(0)
    base = tmp_path / "fused"
    make(base)
    ByteTokenizer().save(base)
    write_json(base / "fam.json", Sidecar(FULL, memory_trained=True).to_json())
    lora = LoraConfig(rank=4, alpha=6.0, targets=targets)
    folder = write_ours(tmp_path / "ours", base, lora, Sidecar(FULL, memory_trained=True), None)
    torch.testing.assert_close(our_logits(base, folder), their_logits(base, folder), atol=1e-4, rtol=1e-4)
    config = read_config(base)
    stored = checked_weights(base, config)
    read = read_adapter(folder)
    found = load_updates(read, fit(read, config, stored, "fused"))
    for name, update in drawn_updates(base, lora).items():
        zero = torch.zeros(update.b.shape[0], update.a.shape[1])
        torch.testing.assert_close(found[name].added_to(zero, torch.float32), update.added_to(zero, torch.float32))


def test_what_is_quantized_is_the_sum(base: Path, adapter: Path) -> None:
    network = open_model(base, adapter=adapter, quantize="int8", block_size=64, memory_segments=0).network
    with torch.no_grad():
        logits = network.logits(network.read(TOKENS, network.start(2, "none"))[0]).float()
    near, far = our_logits(base, adapter), our_logits(base)
    assert (logits - near).norm() < 0.3 * (logits - far).norm()


def test_the_weights_fingerprint_tells_adapters_apart(base: Path, adapter: Path) -> None:
    plain, adapted = open_model(base).fingerprints, open_model(base, adapter=adapter).fingerprints
    assert plain.weights != adapted.weights
    change_json(adapter / "adapter_config.json", lora_alpha=7.0)
    assert open_model(base, adapter=adapter).fingerprints.weights != adapted.weights


def test_the_adapter_that_ships_is_added_unless_another_is_named(base: Path, adapter: Path, tmp_path: Path) -> None:
    located = Located(base, "known", "model", "hub cache", adapter)
    shipped, plain = open_model(located), open_model(replace(located, adapter=None))
    assert (shipped.name, plain.name) == ("known with adapter", "known")
    assert shipped.fingerprints == open_model(base, adapter=adapter).fingerprints != plain.fingerprints
    other = write_ours(tmp_path / "other", base, LoraConfig(rank=2, alpha=2.0), Sidecar(FULL), None)
    assert open_model(located, adapter=other).fingerprints == open_model(base, adapter=other).fingerprints


def test_an_adapter_of_another_shape_is_named(adapter: Path, tmp_path: Path) -> None:
    other = make_random_checkpoint(tmp_path / "other", config=replace(TINY_CONFIG, intermediate_size=64), fam=FULL)
    with pytest.raises(CheckpointError, match=r"is for another checkpoint: its 'model\.layers\.0\.mlp.* is \["):
        open_model(other, adapter=adapter)
    fewer = make_random_checkpoint(tmp_path / "fewer", config=replace(TINY_CONFIG, num_layers=1), fam=FULL)
    with pytest.raises(CheckpointError, match=r"has no 'model\.layers\.1\..*; it was made for "):
        open_model(fewer, adapter=adapter)
    more = make_random_checkpoint(tmp_path / "more", config=replace(TINY_CONFIG, num_layers=3), fam=FULL)
    with pytest.raises(CheckpointError, match=r"no update for 'model\.layers\.2\..* is for another checkpoint than"):
        open_model(more, adapter=adapter)


def test_another_width_is_named_before_the_prompts(base: Path, tmp_path: Path) -> None:
    prompt = torch.randn(TINY_FAM.fam_length, TINY_CONFIG.hidden_size)
    adapter = write_ours(tmp_path / "ours", base, LoraConfig(rank=2, alpha=2.0), Sidecar(TINY_FAM), prompt)
    wide = make_random_checkpoint(tmp_path / "wide", config=replace(TINY_CONFIG, hidden_size=40), fam=FULL)
    with pytest.raises(CheckpointError, match="is for another checkpoint: its 'model"):
        open_model(wide, adapter=adapter)


def test_an_adapter_for_other_weights_is_told_of(base: Path, adapter: Path, tmp_path: Path) -> None:
    assert open_model(base, adapter=adapter).warnings == open_model(base).warnings == ()
    assert open_model(base, adapter=adapter, quantize="int8").warnings == ()
    other = make_random_checkpoint(tmp_path / "other", fam=FULL, seed=1)
    merged = tmp_path / "merged"
    merge(base, adapter, merged)
    assert "base_weights" not in read_json(merged / "fam.json")
    for folder in (other, merged, save_quantized(base, tmp_path / "int8")):
        [warning] = open_model(folder, adapter=adapter).warnings
        assert f"was made for other weights than those of {folder}" in warning
        assert warning.endswith(f"it was made for {shown(base)}")
    assert merge(base, adapter, tmp_path / "again") == ()
    assert len(merge(other, adapter, tmp_path / "wrong")) == 1
    (adapter / "fam.json").unlink()  # as peft writes it
    assert open_model(other, adapter=adapter).warnings == ()


def broken(change: Callable[[dict[str, torch.Tensor]], None], adapter: Path) -> None:
    tensors = load_file(adapter / "adapter_model.safetensors")
    change(tensors)
    save_file(tensors, adapter / "adapter_model.safetensors")


A_OF_Q = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"


def drop(part: str) -> Callable[[dict[str, torch.Tensor]], None]:
    def change(tensors: dict[str, torch.Tensor]) -> None:
        for name in [name for name in tensors if part in name]:
            del tensors[name]

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop(A_OF_Q), r"layers\.0\.self_attn\.q_proj\.lora_A\.weight' is missing"),
        (drop("layers.1.mlp.up_proj"), r"has no update for 'model\.layers\.1\.mlp\.up_proj': .*its two files"),
        (lambda tensors: tensors.update({A_OF_Q: torch.zeros(4, 32)}), "has rank 4 in A and 3 in B.*says 3"),
        (lambda tensors: tensors.update({"extra.weight": torch.zeros(1, 1)}), "'extra.weight', which is no part"),
        (lambda tensors: tensors.update({A_OF_Q: torch.full((3, 32), float("nan"))}), "is not finite"),
        (lambda tensors: tensors.clear(), "holds no update"),
    ],
)
def test_weights_that_are_not_those_of_the_configuration(
    base: Path, adapter: Path, change: Callable[[dict[str, torch.Tensor]], None], message: str
) -> None:
    broken(change, adapter)
    with pytest.raises(CheckpointError, match=message):
        open_model(base, adapter=adapter)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"r": 5}, "has rank 3 in A and 3 in B.*says 5"),
        ({"r": 0}, "'r' must be between 1"),
        ({"lora_alpha": "x"}, "'lora_alpha' must be a number"),
        ({"peft_type": "IA3"}, "'peft_type' is 'IA3'; famcli reads LORA"),
        ({"use_dora": True}, "'use_dora' is set, which famcli does not apply"),
        ({"modules_to_save": ["lm_head"]}, "'modules_to_save' is set"),
        ({"bias": "all"}, "'bias' is not 'none'"),
        ({"init_lora_weights": "pissa_niter_4"}, "changes the base checkpoint's weights"),
        ({"target_modules": ["q_proj"]}, "does not target, but has an update for,"),
        ({"target_modules": [3]}, "'target_modules' must be a list of names"),
        ({"rank_pattern": {"(a+)+$": 2}}, "has the pattern"),
        ({"alpha_pattern": {"q_proj": "x"}}, "must give numbers above 0"),
    ],
)
def test_configurations_that_are_refused(base: Path, adapter: Path, changes: dict[str, Any], message: str) -> None:
    change_json(adapter / "adapter_config.json", **changes)
    with pytest.raises(CheckpointError, match=message):
        open_model(base, adapter=adapter)


def test_a_pickled_adapter_is_never_opened(base: Path, adapter: Path) -> None:
    (adapter / "adapter_model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="has no adapter_model"):
        open_model(base, adapter=adapter)
    (adapter / "adapter_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(CheckpointError, match="only as a pickle"):
        open_model(base, adapter=adapter)


def test_folders_that_are_no_adapter(base: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is not a folder"):
        open_model(base, adapter=tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match=r"is no adapter's folder: it has no adapter_config\.json"):
        open_model(base, adapter=base)


def test_an_adapter_beside_the_weights_is_applied_when_it_is_named(base: Path, adapter: Path) -> None:
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copyfile(adapter / name, base / name)
    with pytest.raises(CheckpointError, match=r"LoRA adapter .* beside its weights; say which is meant") as caught:
        open_model(base)
    assert caught.value.remedy == {"adapter": str(base)}
    torch.testing.assert_close(our_logits(base, base), our_logits(base, adapter))


def test_links_out_of_the_folder_are_refused(base: Path, adapter: Path, tmp_path: Path) -> None:
    shutil.move(adapter / "adapter_model.safetensors", tmp_path / "elsewhere.safetensors")
    (adapter / "adapter_model.safetensors").symlink_to(tmp_path / "elsewhere.safetensors")
    with pytest.raises(CheckpointError, match="leads out of the checkpoint's folder"):
        open_model(base, adapter=adapter)


def test_a_sidecar_and_its_prompt_belong_together(base: Path, tmp_path: Path) -> None:
    lora = LoraConfig(rank=2, alpha=2.0)
    folder = write_ours(tmp_path / "ours", base, lora, Sidecar(TINY_FAM, memory_trained=True), None)
    with pytest.raises(CheckpointError, match=r"fam\.safetensors is missing"):
        open_model(base, adapter=folder)
    assert json.loads((folder / "adapter_config.json").read_text())["r"] == 2
    (folder / "fam.json").rename(folder / "fam.safetensors")
    with pytest.raises(CheckpointError, match=r"has fam\.safetensors and no fam\.json"):
        open_model(base, adapter=folder)
