"""Variants of adapters under ZeRO-3, the harder case: what is saved, how it is merged, and who else can read it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file

from residency import events
from residency.model import load, load_weights, virtual_prompt

if TYPE_CHECKING:
    from tests.train.conftest import World

pytestmark = pytest.mark.slow
LORA: dict[str, Any] = {"rank": 4, "alpha": 8.0, "finish": "keep"}
IDS = torch.arange(9)[None] + 10


def base_of(world: World) -> Path:
    return next(world.run.glob("base-*"))


def by_peft(world: World, adapter: Path) -> Any:
    """The model as peft alone loads it."""
    model = PeftModel.from_pretrained(load_weights(base_of(world), precision="float32"), str(adapter))
    return model.eval()


def test_dora_and_rslora_are_merged_as_their_papers_say(world: World) -> None:
    """W' = m (W + s B A) / |W + s B A|, row by row (arXiv 2402.09353, eq. 5), s = alpha / sqrt(rank) (2312.03732)."""
    kept = world.train("sft", {"lora": LORA | {"dora": True, "rank_stabilised": True}}, zero=3)
    learnt, base = (
        load_file(kept / "adapter_model.safetensors"),
        load_file(base_of(world) / "model.safetensors"),
    )
    from residency.train.adapters.merging import merge

    merge(base_of(world), kept, world.root / "merged")
    merged = load_file(world.root / "merged" / "model.safetensors")
    changed = 0.0
    for name in [name for name in learnt if name.endswith("lora_A.weight")]:
        module = name.removesuffix("lora_A.weight")
        up, down = learnt[f"{module}lora_B.weight"], learnt[name]
        magnitude = learnt[f"{module}lora_magnitude_vector"]
        weight = module.removeprefix("base_model.model.") + "weight"
        whole = base[weight] + LORA["alpha"] / LORA["rank"] ** 0.5 * up @ down
        by_hand = magnitude[:, None] * whole / whole.norm(dim=1, keepdim=True)
        torch.testing.assert_close(merged[weight], by_hand, atol=1e-6, rtol=0)
        changed = max(changed, (magnitude - base[weight].norm(dim=1)).abs().max().item())
    assert changed > 1e-4, "no magnitude was learnt"


def test_a_tied_embedding_that_is_trained_too_stays_one(world: World) -> None:
    kept = world.train("sft", {"lora": LORA | {"also_train": ["embed_tokens"]}}, zero=3)
    saved = load_file(kept / "adapter_model.safetensors")
    base = load_file(base_of(world) / "model.safetensors")["model.embed_tokens.weight"]
    embeddings = [tensor for tensor in saved.values() if tensor.shape == base.shape]
    assert embeddings and all(torch.equal(tensor, embeddings[0]) for tensor in embeddings)
    assert (embeddings[0] - base).abs().max() > 1e-4, "it was not trained"
    from residency.train.adapters.merging import merge

    merge(base_of(world), kept, world.root / "merged")
    merged = load_file(world.root / "merged" / "model.safetensors")
    assert "lm_head.weight" not in merged
    assert torch.equal(merged["model.embed_tokens.weight"], embeddings[0])
    with torch.no_grad():
        logits = load(kept, precision="float32")[0](IDS).logits
        again = load_weights(world.root / "merged", precision="float32")(IDS).logits
    torch.testing.assert_close(logits, again, atol=1e-5, rtol=0)


def test_a_learnt_prompt_is_read_as_peft_reads_it(world: World) -> None:
    prompt = {"prompt_tuning": {"tokens": 5, "text": "An ill liver"}, "learning_rate": 0.1}
    kept = world.train("sft", prompt, zero=3)
    learnt = load_file(kept / "adapter_model.safetensors")
    assert {name: tuple(tensor.shape) for name, tensor in learnt.items()} == {"prompt_embeddings": (5, 32)}
    ours, _ = load(kept, precision="float32")
    with torch.no_grad():
        theirs = by_peft(world, kept)(IDS).logits[:, 5:]
        found = ours(torch.cat([torch.tensor([virtual_prompt(ours)]), IDS], dim=1)).logits[:, 5:]
    torch.testing.assert_close(found, theirs, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    "own", [{"lora": LORA | {"dora": True, "also_train": ["embed_tokens"]}}, {"prompt_tuning": {"tokens": 5}}]
)
def test_zero_2_and_3_learn_the_same(world: World, own: dict[str, Any]) -> None:
    kept = world.train("sft", own, zero=3)
    kept = kept.rename(world.root / "first")
    again = load_file(world.train("sft", own, zero=2) / "adapter_model.safetensors")
    for name, tensor in load_file(kept / "adapter_model.safetensors").items():
        torch.testing.assert_close(again[name], tensor, atol=1e-5, rtol=0)


def test_a_learnt_prompt_is_continued_by_preference_training(world: World) -> None:
    prompt = {"prompt_tuning": {"tokens": 5}, "learning_rate": 0.05}
    stages = {"sft": prompt, "preference": prompt | {"from": "sft", "adapter": "continue"}}
    artifact = world.train_all(stages, zero=3)
    steps = [event for event in events.read(world.events) if event["event"] == "step"]
    first = next(event for event in steps if event["stage"] == "preference")
    assert first["loss"] == pytest.approx(0.693147, abs=1e-3), "the reference is the parent, prompt and all"
    before, after = (
        load_file(path / "adapter_model.safetensors")
        for path in (next(world.run.glob("sft-????????")), artifact)
    )
    assert (before["prompt_embeddings"] - after["prompt_embeddings"]).abs().max() > 1e-3
