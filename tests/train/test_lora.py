"""Adapters under ZeRO-3: merged, kept, continued. What is refused stands in test_contract, ZeRO-2 in test_export."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file

from residency.artifact import read_manifest
from residency.model import load

if TYPE_CHECKING:
    from tests.train.conftest import World

pytestmark = pytest.mark.slow
KEEP = {"rank": 4, "alpha": 8.0, "finish": "keep"}
MERGE = KEEP | {"finish": "merge"}


def by_hand(base: Path, adapter: Path) -> dict[str, torch.Tensor]:
    """Base weights plus alpha / rank * B A (arXiv 2106.09685, section 4.1)."""
    weights, adapters = (
        load_file(base / "model.safetensors"),
        load_file(adapter / "adapter_model.safetensors"),
    )
    settings = json.loads((adapter / "adapter_config.json").read_text())
    for name, down in adapters.items():
        if name.endswith(".lora_A.weight"):
            module = name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
            up = adapters[name.replace("lora_A", "lora_B")]
            weights[f"{module}.weight"] += settings["lora_alpha"] / settings["r"] * up @ down
    return weights


def largest_difference(weights: dict[str, torch.Tensor], others: dict[str, torch.Tensor]) -> float:
    assert weights.keys() == others.keys()
    return max((weights[name] - others[name]).abs().max().item() for name in weights)


def base_of(world: World) -> Path:
    return next(world.run.glob("base-*"))


def test_merged_weights_are_base_plus_adapter(world: World) -> None:
    kept = world.train("sft", {"lora": KEEP}, zero=3)
    merged = world.train("sft", {"lora": MERGE}, zero=3)
    base = base_of(world)
    assert not (merged / "adapter_config.json").exists()
    assert not (kept / "model.safetensors").exists()
    weights = load_file(merged / "model.safetensors")
    assert largest_difference(weights, load_file(base / "model.safetensors")) > 1e-3, "nothing was learnt"
    assert largest_difference(weights, by_hand(base, kept)) <= 1e-6
    assert read_manifest(kept).measured["engine"]["optimizer_bytes_per_rank"] < 8 * sum(
        tensor.numel() for tensor in load_file(kept / "adapter_model.safetensors").values()
    )


def test_a_kept_adapter_is_continued(world: World) -> None:
    stages: dict[str, Any] = {
        "sft": {"lora": KEEP},
        "preference": {"from": "sft", "lora": KEEP, "adapter": "continue"},
    }
    artifact = world.train_all(stages, zero=3)
    assert sorted(path.name for path in artifact.rglob("*.safetensors")) == ["adapter_model.safetensors"]
    parent = next(world.run.glob("sft-????????"))
    before, after = (load_file(path / "adapter_model.safetensors") for path in (parent, artifact))
    assert 0 < largest_difference(before, after) < 0.1
    logits = load(artifact, precision="float32")[0](torch.arange(9)[None]).logits
    assert torch.isfinite(logits).all()


def test_a_kept_adapter_is_merged_before_another_is_trained(world: World) -> None:
    stages: dict[str, Any] = {
        "sft": {"lora": KEEP},
        "preference": {"from": "sft", "lora": MERGE, "adapter": "merge"},
    }
    artifact = world.train_all(stages)
    merged = by_hand(base_of(world), next(world.run.glob("sft-????????")))
    learnt = largest_difference(merged, load_file(base_of(world) / "model.safetensors"))
    assert 0 < largest_difference(load_file(artifact / "model.safetensors"), merged) < learnt


def test_all_weights_are_trained_on_a_merged_adapter(world: World) -> None:
    artifact = world.train_all({"sft": {"lora": KEEP}, "preference": {"from": "sft", "adapter": "merge"}})
    merged = by_hand(base_of(world), next(world.run.glob("sft-????????")))
    learnt = largest_difference(merged, load_file(base_of(world) / "model.safetensors"))
    assert 0 < largest_difference(load_file(artifact / "model.safetensors"), merged) < learnt
