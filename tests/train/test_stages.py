"""Every training stage on two ranks of real DeepSpeed, and the proof of it in the manifest."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from residency import events
from residency.artifact import Manifest, check_files, read_attempt, read_manifest, sha256
from residency.data.tokenization.tokenizer import chat_template, load_tokenizer
from residency.errors import Exit, ResidencyError
from residency.train import engine, worker
from residency.train.settings import EngineSettings

if TYPE_CHECKING:
    from tests.train.conftest import World

FLOAT_BYTES = 4


def parameters(artifact: Path) -> int:
    return sum(tensor.numel() for tensor in load_file(artifact / "model.safetensors").values())


def proof(artifact: Path) -> dict[str, Any]:
    return dict(read_manifest(artifact).measured["engine"])


def check_artifact(artifact: Path, zero: int) -> Manifest:
    """What holds for the artifact of any training stage."""
    manifest = read_manifest(artifact)
    assert check_files(artifact, rehash=True) == []
    assert not artifact.with_name(artifact.name + ".attempt").exists()
    assert {
        "model.safetensors",
        "config.json",
        "tokenizer.json",
        "chat_template.jinja",
    } <= manifest.files.keys()
    assert not any(name.endswith((".bin", ".pt", ".pth")) for name in manifest.files), "no pickles"
    assert "lm_head.weight" not in load_file(artifact / "model.safetensors"), "it is tied to the embedding"
    shown = proof(artifact)
    assert (shown["class"], shown["zero"], shown["world_size"]) == ("DeepSpeedEngine", zero, 2)
    whole = 2 * FLOAT_BYTES * parameters(artifact)  # AdamW's two moments
    assert shown["optimizer_bytes_per_rank"] == pytest.approx(whole if zero == 0 else whole / 2, rel=0.02)
    return manifest


def test_continual_pretraining_on_zero_3(world: World) -> None:
    artifact = world.train("cpt", zero=3)
    measured = check_artifact(artifact, zero=3).measured
    steps = [event for event in events.read(world.events) if event["event"] == "step"]
    assert [event["step"] for event in steps] == list(range(1, measured["steps"] + 1))
    assert steps[-1]["loss"] == measured["loss"] < steps[0]["loss"]
    assert measured["weights_sha256"] == {"model.safetensors": sha256(artifact / "model.safetensors")}


@pytest.mark.slow
@pytest.mark.parametrize("zero", [0, 1, 2])
def test_continual_pretraining_on_other_zero_stages(world: World, zero: int) -> None:
    check_artifact(world.train("cpt", zero=zero), zero)


@pytest.mark.slow
@pytest.mark.parametrize("zero", [2, 3])
def test_supervised_fine_tuning(world: World, zero: int) -> None:
    """The template and the token that ends a reply travel with the model."""
    template = chat_template().replace("'<|assistant|>'", "'<|assistant|>:'")
    (world.root / "template.jinja").write_text(template)
    artifact = world.train("sft", {"chat_template": str(world.root / "template.jinja")}, zero=zero)
    measured = check_artifact(artifact, zero).measured
    assert measured["loss_tokens"] > 0
    tokenizer = load_tokenizer(artifact)
    assert tokenizer.apply_chat_template(
        [{"role": "user", "content": "liver?"}], add_generation_prompt=True, tokenize=False
    ).endswith("<|user|>liver?<|end|><|assistant|>:")
    ends = json.loads((artifact / "generation_config.json").read_text())["eos_token_id"]
    assert tokenizer.convert_tokens_to_ids("<|end|>") in ends


@pytest.mark.slow
@pytest.mark.parametrize("zero", [0, 2, 3])
def test_preference(world: World, zero: int) -> None:
    check_artifact(world.train("preference", zero=zero), zero)
    steps = [event for event in events.read(world.events) if event["event"] == "step"]
    assert steps[0]["loss"] == pytest.approx(0.693147, abs=1e-3)
    assert steps[-1]["loss"] < steps[0]["loss"]


@pytest.mark.slow
def test_a_chain_of_all_three(world: World) -> None:
    stages = {"cpt": {}, "sft": {"from": "cpt"}, "preference": {"from": "sft"}}
    artifact = world.train_all(stages, zero=3)
    parent = (artifact / read_manifest(artifact).parent_paths["model"]).resolve()
    assert read_manifest(parent).stage == "sft"


@pytest.mark.slow
@pytest.mark.parametrize(
    "offload",
    [
        {"zero": 2, "offload_optimizer": True},
        {"zero": 3, "offload_parameters": True},
        {"zero": 3, "offload_parameters": True, "offload_optimizer": True},
    ],
)
def test_offload_changes_nothing(world: World, offload: dict[str, Any]) -> None:
    moved = world.train("cpt", **offload)
    weights = load_file(moved / "model.safetensors")
    moved.rename(world.root / "moved")
    kept = load_file(world.train("cpt", zero=offload["zero"]) / "model.safetensors")
    for name, tensor in kept.items():
        torch.testing.assert_close(weights[name], tensor, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_torchrun_by_hand_ends_with_the_same_weights(world: World) -> None:
    artifact = world.train("cpt")
    expected = read_manifest(artifact).measured["weights_sha256"]
    artifact.rename(world.root / "first")
    plan = world.plan({"cpt": {}})
    done = torchrun(world.attempt(plan, "cpt"))
    assert done.returncode == 0, done.stderr
    assert read_manifest(artifact).measured["weights_sha256"] == expected


def torchrun(attempt: Path) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2",
        "-m", "residency.train.worker", str(attempt),
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ))


def test_a_second_worker_on_the_same_attempt_is_refused(world: World) -> None:
    attempt = world.attempt(world.plan({"cpt": {}}), "cpt")
    with (attempt / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ResidencyError, match="another worker is training in"):
            worker._become_owner(attempt, rank=0)
    assert read_attempt(attempt) == {}, "the refused one changed nothing"
    worker._become_owner(attempt, rank=0)
    assert read_attempt(attempt)["status"] == "running"


@pytest.mark.slow
def test_a_loss_that_is_no_number_stops_and_earlier_checkpoints_stay(world: World) -> None:
    with pytest.raises(ResidencyError) as caught:  # the first step of a warm-up has learning rate 0
        world.train("cpt", {"learning_rate": 1e10, "warmup": 0.5, "save_every": 1}, clip=0.0)
    assert caught.value.code == Exit.DIVERGED
    attempt = next(world.run.glob("cpt-*.attempt"))
    assert read_attempt(attempt)["exit_code"] == Exit.DIVERGED
    assert "at step 3; the last good checkpoint is of step 2" in str(caught.value)
    assert sorted(path.parent.name for path in attempt.glob("checkpoints/*/seal.json")) == [
        "checkpoint-1",
        "checkpoint-2",
    ]


@pytest.mark.slow
def test_weights_that_are_no_numbers_stop_at_step_1(world: World) -> None:
    weights = next(world.run.glob("base-*")) / "model.safetensors"
    tensors = load_file(weights)
    tensors["model.norm.weight"][0] = float("inf")
    save_file(tensors, weights, metadata={"format": "pt"})
    with pytest.raises(ResidencyError, match=r"at step 1; the last good checkpoint is the parent") as caught:
        world.train("cpt")
    assert caught.value.code == Exit.DIVERGED


def test_plain_data_parallel_training_is_never_taken_for_deepspeed() -> None:
    trainer = SimpleNamespace(model_wrapped=torch.nn.Linear(1, 1))
    with pytest.raises(AssertionError, match="wrapped by Linear, not by DeepSpeed"):
        engine.prove(trainer, EngineSettings(), world_size=1)


def test_the_deepspeed_config_says_what_the_block_says() -> None:
    settings = EngineSettings(zero=3, offload_optimizer=True, offload_parameters=True)
    config = engine.deepspeed_config(settings, precision="float32", clip=0.5, cuda=False)
    zero = config["zero_optimization"]
    assert json.loads(json.dumps(config)) == config
    assert (zero["stage"], zero["offload_optimizer"]["device"], zero["offload_param"]["device"]) == (
        3,
        "cpu",
        "cpu",
    )
    assert (config["gradient_clipping"], config["bf16"]["enabled"]) == (0.5, False)
