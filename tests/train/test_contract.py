"""The hand-off contract refuses with the cure, before any accelerator time is spent."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from residency.artifact import Manifest, StageFile, file_digests, read_manifest, read_stage, write_json
from residency.errors import ResidencyError
from residency.train import contract
from residency.train.contract.files import check_weights
from residency.weights import fingerprint

if TYPE_CHECKING:
    from tests.train.conftest import World

QUERY = "model.layers.0.self_attn.q_proj"
DOWN = "model.layers.1.mlp.down_proj.weight"


@pytest.fixture
def stage(world: World) -> StageFile:
    """A cpt stage whose parents fit."""
    return read_stage(world.attempt(world.plan({"cpt": {}}), "cpt"))


@pytest.fixture
def preference(world: World) -> StageFile:
    """A preference stage whose parents fit."""
    return read_stage(world.attempt(world.plan({"preference": {}}), "preference"))


def outside(stage: StageFile, directory: Path) -> Path:
    """The stage's model as a plain directory that no stage made (so without a manifest)."""
    shutil.copytree(stage.parents["model"], directory, ignore=shutil.ignore_patterns("manifest.json"))
    stage.parents["model"] = directory
    return directory


def made_by(name: str, kind: str, payload: Path, parent: Path, **measured: Any) -> Path:
    """`payload` as if a stage had left it."""
    above = read_manifest(parent)
    manifest = Manifest(
        kind="model",
        stage=name,
        stage_kind=kind,
        identity=name,
        parents={"model": above.identity},
        parent_paths={"model": f"../{parent.name}"},
        settings={},
        measured=measured,
        passport=above.passport,
        files=file_digests(payload),
    )
    write_json(payload / "manifest.json", manifest.model_dump())
    return payload.rename(parent.with_name(f"{name}-{'0' * 8}"))


def adapter(base: Path, directory: Path, inner: int = 32) -> Path:
    """A LoRA adapter of rank 2 on one query projection, with the tokenizer of its base."""
    shutil.copytree(
        base, directory, ignore=shutil.ignore_patterns("manifest.json", "*.safetensors", "config.json")
    )
    down, up = torch.ones(2, inner), torch.ones(32, 2)
    name = f"base_model.model.{QUERY}"
    save_file(
        {f"{name}.lora_A.weight": down, f"{name}.lora_B.weight": up}, directory / "adapter_model.safetensors"
    )
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": 2,
        "lora_alpha": 4,
        "target_modules": ["q_proj"],
    }
    write_json(directory / "adapter_config.json", config | {"base_model_name_or_path": str(base)})
    return directory


def change(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def rewrite(model: Path, **tensors: torch.Tensor | None) -> None:
    """Other weights under some names, or none."""
    weights: dict[str, Any] = load_file(model / "model.safetensors") | tensors
    save_file(
        {name: tensor for name, tensor in weights.items() if tensor is not None}, model / "model.safetensors"
    )


def refused(stage: StageFile, message: str) -> None:
    with pytest.raises(ResidencyError, match=message):
        contract.check(stage)


def test_parents_that_fit_pass(stage: StageFile, preference: StageFile) -> None:
    contract.check(stage)
    contract.check(preference)


def test_preference_on_an_unmerged_adapter_is_refused(preference: StageFile, world: World) -> None:
    base = preference.parents["model"]
    left = made_by("sft", "sft", adapter(base, world.run / "left"), base)
    preference.parents["model"] = left
    preference.settings["lora"] = {"rank": 2, "alpha": 4.0, "finish": "merge", "quantised": False}
    refused(
        preference,
        r"stages\.preference: sft, its parent, left an adapter\. Set adapter: continue or adapter: merge",
    )
    preference.settings["adapter"] = "merge"
    contract.check(preference)


def test_another_tokenizer_is_refused(stage: StageFile, tmp_path: Path) -> None:
    tokenizer = outside(stage, tmp_path / "model") / "tokenizer.json"
    written = json.loads(tokenizer.read_text())
    written["model"]["merges"].pop()
    tokenizer.write_text(json.dumps(written))
    refused(
        stage,
        r"cpt-tokens was made with the tokenizer of stage base \(\d+ tokens\), .*/model has that of .*/model",
    )


def test_a_missing_or_different_template_is_refused(preference: StageFile, tmp_path: Path) -> None:
    template = outside(preference, tmp_path / "model") / "chat_template.jinja"
    template.write_text(template.read_text().replace("<|user|>", "<|system|>") + " ")
    template.write_text(template.read_text() + "{{- '<|end|>' }}")
    refused(preference, r"preference-tokens was rendered with another chat template than that of .*/model")
    template.unlink()
    refused(preference, r"stage preference: .*/model left a model without chat template\. Set chat_template")


def test_a_vocabulary_that_grew_after_the_data_were_tokenised_is_refused(
    stage: StageFile, world: World
) -> None:
    base, payload = stage.parents["model"], world.run / "grown"
    shutil.copytree(base, payload, ignore=shutil.ignore_patterns("manifest.json"))
    written = json.loads((payload / "tokenizer.json").read_text())
    size = json.loads((payload / "config.json").read_text())["vocab_size"]
    written["added_tokens"].append({"id": size, "content": "hepatitis", "special": False})
    (payload / "tokenizer.json").write_text(json.dumps(written))
    change(payload / "config.json", vocab_size=size + 1)
    embedding = load_file(payload / "model.safetensors")["model.embed_tokens.weight"]
    rewrite(payload, **{"model.embed_tokens.weight": torch.cat([embedding, embedding[:1]])})
    stage.parents["model"] = made_by("terms", "vocab", payload, base)
    refused(
        stage,
        rf"cpt-tokens was made with the tokenizer of stage base \({size} tokens\), stage terms has that of stage terms "
        rf"\({size + 1} tokens\): the vocabulary grew after the data were tokenised\. Remove .*cpt-tokens",
    )


def test_an_adapter_of_another_base_is_refused(stage: StageFile, world: World, tmp_path: Path) -> None:
    base = stage.parents["model"]
    stage.settings |= {"adapter": "merge"}
    stage.parents["model"] = adapter(base, tmp_path / "narrow", inner=16)
    refused(
        stage, r"narrow left an adapter of another base: .*lora_A.weight \[2, 16\] does not fit stage base"
    )
    left = made_by("sft", "sft", adapter(base, world.run / "left"), base, base_fingerprint=fingerprint(base))
    stage.parents["model"] = left
    contract.check(stage)
    rewrite(base, **{DOWN: torch.zeros(32, 80)})
    with pytest.raises(ResidencyError, match=r"stage sft trained this adapter on other weights than .*base-"):
        contract.check(stage.model_copy(update={"name": "dpo"}))


def test_an_adapter_of_an_unknown_kind_or_without_its_base_is_refused(
    stage: StageFile, world: World, tmp_path: Path
) -> None:
    base = stage.parents["model"]
    stage.settings |= {"adapter": "merge"}
    stage.parents["model"] = adapter(base, tmp_path / "other")
    change(stage.parents["model"] / "adapter_config.json", peft_type="IA3")
    refused(stage, r"other is an adapter of kind IA3\. Known: LORA, PROMPT_TUNING")
    left = stage.parents["model"] = made_by("sft", "sft", adapter(base, world.run / "left"), base)
    base.rename(tmp_path / "moved")
    refused(stage, rf"{left}: the base of this adapter, {base}, is gone\. Bring it back")


def test_an_adapter_fits_its_base_whatever_files_call_its_tensors(tmp_path: Path) -> None:
    """GPT-2: weights `[inputs, outputs]`, and on the hub without the name of the model before them."""
    from peft import LoraConfig, get_peft_model
    from transformers import GPT2Config, GPT2LMHeadModel

    model = GPT2LMHeadModel(GPT2Config(vocab_size=64, n_embd=16, n_layer=2, n_head=2, n_positions=32))
    base, left = tmp_path / "base", tmp_path / "left"
    model.save_pretrained(base)
    weights = load_file(base / "model.safetensors")
    bare = {name.removeprefix("transformer."): tensor for name, tensor in weights.items()}
    save_file(bare, base / "model.safetensors", metadata={"format": "pt"})
    config = LoraConfig(r=2, target_modules=["c_attn", "c_proj"], task_type="CAUSAL_LM", fan_in_fan_out=True)
    get_peft_model(model, config).save_pretrained(left)
    change(left / "adapter_config.json", base_model_name_or_path=str(base))
    check_weights("dpo", left)
    narrow = {name: tensor[..., :3] for name, tensor in load_file(left / "adapter_model.safetensors").items()}
    save_file(
        {name: tensor.contiguous() for name, tensor in narrow.items()}, left / "adapter_model.safetensors"
    )
    with pytest.raises(ResidencyError, match="left an adapter of another base"):
        check_weights("dpo", left)


def test_a_reward_model_of_another_tokenizer_is_refused(preference: StageFile, world: World) -> None:
    base, payload = preference.parents["model"], world.run / "judged"
    shutil.copytree(base, payload, ignore=shutil.ignore_patterns("manifest.json"))
    change(payload / "config.json", architectures=["LlamaForSequenceClassification"])
    judge = made_by("judge", "reward", payload, base)
    preference.parents["reward:judge"] = judge
    contract.check(preference)
    change(judge / "tokenizer_config.json", eos_token="<|end|>")
    (judge / "manifest.json").unlink()
    refused(
        preference,
        r"the reward model of .*judge-0+ has another tokenizer than stage base, whose replies it scores",
    )


def test_a_reply_fits_the_model_and_the_reward_model(world: World) -> None:
    own = {"kind": "rl", "corpus": "dialogues", "rewards": [{"kind": "format", "pattern": "x"}]}
    stage = read_stage(world.attempt(world.plan({"rl": own | {"max_new_tokens": 8, "batch_size": 8}}), "rl"))
    contract.check(stage)
    longest = read_manifest(stage.parents["tokens"]).measured["longest"]
    stage.settings["max_new_tokens"] = 120
    refused(
        stage,
        rf"stages\.rl: the longest prompt = {longest} and max_new_tokens = 120 are more than the 128 tokens that the "
        rf"model reads\. Set max_new_tokens to {128 - longest} or less",
    )
    stage.settings["max_new_tokens"] = 128 - longest
    base, payload = stage.parents["model"], world.run / "judged"
    shutil.copytree(base, payload, ignore=shutil.ignore_patterns("manifest.json"))
    change(
        payload / "config.json",
        architectures=["LlamaForSequenceClassification"],
        max_position_embeddings=100,
    )
    stage.parents["reward:judge"] = made_by("judge", "reward", payload, base)
    refused(stage, r"are more than the 100 tokens that the reward model of stage judge reads")


def test_a_reward_model_is_no_parent(stage: StageFile, tmp_path: Path) -> None:
    change(
        outside(stage, tmp_path / "judge") / "config.json", architectures=["LlamaForSequenceClassification"]
    )
    refused(stage, "judge left a reward model, which scores and cannot speak")


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (torch.zeros(0), rf"{DOWN} of .*/model is empty: it holds the part of one ZeRO-3 rank"),
        (
            torch.zeros(32 * 80 // 2),
            rf"{DOWN} of .*/model has the shape \[1280\], its configuration says \[32, 80\]",
        ),
        (None, rf"/model has no {DOWN}: these are not the whole weights"),
    ],
)
def test_partial_weights_of_zero_3_are_refused(
    stage: StageFile, tmp_path: Path, tensor: torch.Tensor | None, message: str
) -> None:
    rewrite(outside(stage, tmp_path / "model"), **{DOWN: tensor})
    refused(stage, message)


def test_special_tokens_are_single_ids_inside_the_embedding(preference: StageFile, tmp_path: Path) -> None:
    model = outside(preference, tmp_path / "model")
    change(model / "tokenizer_config.json", pad_token="<pad>")
    refused(preference, r"the pad_token '<pad>' of .*/model is no token of its tokenizer")
    change(model / "tokenizer_config.json", pad_token="<|pad|>")
    change(model / "generation_config.json", eos_token_id=[1, 4000])
    refused(preference, r"stop token of .*/model has the id 4000, its embedding has \d+ rows")


def test_a_template_whose_stop_token_is_none_is_refused(tmp_path: Path, preference: StageFile) -> None:
    from residency.train.contract.words import check_stop

    model = outside(preference, tmp_path / "model")
    chatml = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    with pytest.raises(ResidencyError, match=r"<\|im_start\|>, which is no single token of the tokenizer of"):
        check_stop("stage sft", model, chatml)
    with pytest.raises(ResidencyError, match=r"writes '' behind the assistant's words"):
        check_stop("stage sft", model, "{% for m in messages %}{{ m.content }}\n{% endfor %}")


def test_what_a_parent_saw_is_never_lost(stage: StageFile, world: World) -> None:
    base, payload = stage.parents["model"], world.run / "forgetful"
    shutil.copytree(base, payload, ignore=shutil.ignore_patterns("manifest.json"))
    made = made_by("sft", "sft", payload, base)
    manifest = read_manifest(made)
    write_json(made / "manifest.json", manifest.model_copy(update={"passport": []}).model_dump())
    stage.parents["model"] = made
    refused(stage, r"stage sft lost from its passport that stage base learnt from texts")


def test_rows_longer_than_the_model_reads_are_refused(stage: StageFile) -> None:
    stage.settings["max_length"] = 129
    refused(stage, r"stages\.cpt\.max_length = 129: .* Set max_length to 128 or less")


def test_a_token_behind_the_embedding_is_refused(stage: StageFile, tmp_path: Path) -> None:
    model = outside(stage, tmp_path / "model")
    change(model / "config.json", vocab_size=100)
    rewrite(model, **{"model.embed_tokens.weight": torch.zeros(100, 32)})
    refused(stage, r"holds token \d+, the model's embedding has 100 rows")


def test_a_parents_file_cut_short_is_refused(stage: StageFile) -> None:
    weights = stage.parents["model"] / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    refused(stage, r"model\.safetensors has \d+ bytes, the manifest says \d+\. Remove ")


def test_a_parents_missing_file_is_refused(stage: StageFile) -> None:
    (stage.parents["tokens"] / "loss.bin").unlink()
    refused(stage, r"loss\.bin is missing")


LORA = {"rank": 2, "alpha": 4.0, "finish": "keep"}
PROMPT = {"tokens": 5, "text": None}


@pytest.mark.parametrize(
    ("own", "left", "message"),
    [
        ({}, "lora", "sft, its parent, left an adapter. Set adapter: continue or adapter: merge"),
        ({"adapter": "merge"}, None, "sft, its parent, left no adapter"),
        ({"adapter": "continue"}, "lora", "adapter = continue needs lora"),
        (
            {"adapter": "merge", "lora": LORA},
            "lora",
            "stand on weights that are kept nowhere. Set lora.finish: merge",
        ),
        ({}, "prompt", "left an adapter. Set adapter: continue"),
        ({"adapter": "merge"}, "prompt", "sft left a learnt prompt; .* cannot be merged"),
        ({"adapter": "continue", "lora": LORA}, "prompt", "adapter = continue needs prompt_tuning"),
        ({"adapter": "merge", "prompt_tuning": PROMPT}, "lora", "kept nowhere. Put a stage of kind merge"),
    ],
)
def test_an_adapter_is_never_silently_stacked(own: dict[str, Any], left: str | None, message: str) -> None:
    from residency.train.adapters.rules import check_said

    settings = {"adapter": None, "lora": None, "prompt_tuning": None} | own
    with pytest.raises(ResidencyError, match=message):
        check_said("stages.dpo", "sft", settings, left, "sft")


@pytest.mark.parametrize(
    ("kind", "own", "message"),
    [
        ("rl", {}, "sft, its parent, left a learnt prompt, which stages of kind rl cannot train on"),
        ("preference", {"adapter": None, "prompt_tuning": PROMPT}, "cannot train a new prompt"),
        ("preference", {"adapter": "continue", "prompt_tuning": PROMPT}, None),
    ],
)
def test_where_a_learnt_prompt_can_go(kind: str, own: dict[str, Any], message: str | None) -> None:
    from residency.train.adapters.rules import check_said

    settings = {"adapter": None, "lora": None, "prompt_tuning": None} | own
    if message is None:
        check_said("stages.next", kind, settings, "prompt", "sft")
        return
    with pytest.raises(ResidencyError, match=message):
        check_said("stages.next", kind, settings, "prompt", "sft")


def test_an_adapter_is_continued_as_it_is(stage: StageFile, tmp_path: Path) -> None:
    from residency.train.adapters.rules import check_adapter

    stage.parents["model"] = adapter(stage.parents["model"], tmp_path / "sft-0")
    stage.settings |= {"adapter": "continue", "lora": LORA}
    check_adapter(stage, stage.parents["model"])
    stage.settings["lora"] = LORA | {"rank": 8}
    with pytest.raises(ResidencyError, match=r"lora\.rank = 8: the adapter that is continued has 2"):
        check_adapter(stage, stage.parents["model"])


def test_four_bit_weights_need_a_gpu_and_are_not_split(stage: StageFile) -> None:
    stage.settings["lora"] = LORA | {"quantised": True}
    refused(stage, r"stages\.cpt\.lora\.quantised: 4-bit weights need a GPU, this machine has none")
    stage.execution["engine"]["zero"] = 3
    refused(stage, r"ZeRO-3 does not split 4-bit weights\. Set engine\.zero: 2")
