"""Reward models on two ranks: what they leave, with adapters too."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from safetensors.torch import load_file

from residency import events
from residency.artifact import read_manifest
from residency.data.tokenization.tokenizer import template_digest, template_of, tokenizer_digest
from residency.train.rewards.model import RewardModel

if TYPE_CHECKING:
    from tests.train.conftest import World

pytestmark = pytest.mark.slow
LORA = {"rank": 4, "alpha": 8.0}
PROMPT = [{"role": "user", "content": "liver 5?"}]


def test_a_reward_model_learns_pairs_and_is_measured_on_rankings(world: World) -> None:
    artifact = world.train("reward", {"epochs": 10.0}, zero=3)
    manifest = read_manifest(artifact)
    measured, config = manifest.measured, json.loads((artifact / "config.json").read_text())
    print(measured)
    assert config["architectures"] == ["LlamaForSequenceClassification"]
    assert (len(config.get("id2label", {})), measured["form"]) == (1, "ranked")
    assert load_file(artifact / "model.safetensors")["score.weight"].shape == (1, 32)
    assert measured["tokenizer_digest"] == tokenizer_digest(artifact)
    assert measured["template_digest"] == template_digest(template_of(artifact))
    assert (measured["held_out_pairs"], measured["held_out_prompts"]) == (28, 10)
    assert measured["held_out_low"] < measured["held_out_accuracy"] <= measured["held_out_high"]
    steps = [event for event in events.read(world.events) if event["event"] == "step"]
    assert steps[-1]["rewards/accuracies"] > 0.9
    assert steps[-1]["rewards/margins"] > steps[0]["rewards/margins"]
    good, bad = RewardModel(artifact).score([PROMPT] * 2, ["pain", "no no"])
    assert good > bad


def test_adapters_are_kept_merged_and_continued(world: World) -> None:
    own = {"epochs": 5.0, "learning_rate": 1e-2}
    kept, merged = (
        world.train("reward", own | {"lora": LORA | {"finish": end}}, zero=3) for end in ("keep", "merge")
    )
    assert not (kept / "model.safetensors").exists()
    assert not (merged / "adapter_config.json").exists()
    replies = ["pain", "no no", "a cough"]
    scores = [RewardModel(path, "float32").score([PROMPT] * 3, replies) for path in (kept, merged)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-5)
    assert scores[0][0] > scores[0][1]


def test_a_language_models_adapter_is_continued(world: World) -> None:
    lora = LORA | {"finish": "keep"}
    stages: dict[str, Any] = {
        "sft": {"lora": lora, "epochs": 1.0},
        "reward": {"from": "sft", "adapter": "continue", "lora": lora, "epochs": 5.0},
    }
    artifact = world.train_all(stages, zero=3)
    saved = load_file(artifact / "adapter_model.safetensors")
    assert saved["base_model.model.score.weight"].shape == (1, 32)
    before = load_file(next(world.run.glob("sft-????????")) / "adapter_model.safetensors")
    moved = [(saved[name] - before[name]).abs().max().item() for name in before]
    assert 0 < max(moved) < 0.1
    assert read_manifest(artifact).measured["held_out_accuracy"] > 0.5
    good, bad = RewardModel(artifact).score([PROMPT] * 2, ["pain", "no no"])
    assert good > bad
