"""Online reinforcement learning on two ranks: what it consumes, checks, tells and leaves."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from residency import events
from residency.artifact import Manifest, read_attempt, read_manifest
from residency.data import prompts
from residency.errors import Exit, ResidencyError
from residency.train.launch import torchrun
from residency.train.reinforcement.ledger import LINE, Ledger

if TYPE_CHECKING:
    from tests.train.conftest import World

pytestmark = pytest.mark.slow
PATIENCE = 240.0
RL: dict[str, Any] = {
    "kind": "rl", "corpus": "dialogues", "held_out": "pairs", "limit": 4, "epochs": 2.0, "replies": 4, "batch_size": 8,
    "max_new_tokens": 6, "learning_rate": 1e-2, "save_every": 3,
    "rewards": [{"kind": "format", "pattern": ".*[a-g].*"}, {"kind": "length", "tokens": 4, "weight": 0.5}],
}  # fmt: skip
HARD: dict[str, Any] = RL | {"iterations": 2, "lora": {"rank": 4, "finish": "merge"}}
"""4 prompts in 2 epochs, 2 of them at a time, each used for two updates: 8 steps, and a checkpoint between two updates
on the same replies."""
ENGINE: dict[str, Any] = {"zero": 3, "micro_batch_size": 2}


def copied(world: World, root: Path) -> World:
    """A world of one's own, without what was trained in the other."""
    ignored = shutil.ignore_patterns("*.attempt", "events.jsonl", "rl-????????")
    shutil.copytree(world.root / "runs", root / "runs", ignore=ignored)
    return type(world)(root, world.corpora, world.server)


@pytest.fixture(scope="module")
def trained(made: World, tmp_path_factory: pytest.TempPathFactory) -> tuple[World, Path]:
    """A run of `HARD` that nobody disturbs, and its artifact."""
    world = copied(made, tmp_path_factory.mktemp("rl"))
    return world, world.train("rl", HARD, **ENGINE)


def told(world: World, event: str) -> list[dict[str, Any]]:
    return [each for each in events.read(world.events) if each["event"] == event]


def ledger(artifact: Path, name: str = "ledger") -> list[dict[str, Any]]:
    return list(Ledger(artifact / f"{name}.jsonl").lines())


def parent(artifact: Path, manifest: Manifest, role: str) -> Path:
    return (artifact / manifest.parent_paths[role]).resolve()


def test_each_prompt_is_consumed_once_an_epoch(trained: tuple[World, Path]) -> None:
    _, artifact = trained
    manifest, lines = read_manifest(artifact), ledger(artifact)
    ids = [row["id"] for row in prompts.load(parent(artifact, manifest, "tokens"), "train")]
    for epoch in (1, 2):
        assert Counter(line["id"] for line in lines if line["epoch"] == epoch) == Counter(ids)
    assert [line["step"] for line in lines] == [1, 1, 3, 3, 5, 5, 7, 7]
    measured = manifest.measured
    assert (measured["prompts"], measured["replies"], measured["steps"]) == (8, 32, 8)
    assert measured["generated_tokens"] == sum(sum(line["tokens"]) for line in lines)


def test_the_ledger_tells_what_each_reply_was_worth(trained: tuple[World, Path]) -> None:
    for line in ledger(trained[1]):
        assert tuple(line) == LINE
        assert all(0 <= count <= 6 for count in line["tokens"])
        assert line["rewards"]["length"] == [-max(0, count - 4) / 4 for count in line["tokens"]]
        both = zip(line["rewards"]["format"], line["rewards"]["length"], strict=True)
        assert line["reward"] == [form + 0.5 * length for form, length in both]


def test_the_policy_starts_as_its_parent_and_then_leaves_it(trained: tuple[World, Path]) -> None:
    world, artifact = trained
    first, *_ = told(world, "step")
    measured = read_manifest(artifact).measured
    assert abs(first["kl"]) < 1e-6 < measured["kl_last"] <= measured["kl_largest"]
    wanted = {
        "reward",
        "reward_std",
        "rewards/format/mean",
        "completions/mean_length",
        "clip_ratio/region_mean",
    }
    assert wanted <= first.keys()
    assert measured["kl_largest"] == max(step["kl"] for step in told(world, "step"))


def test_what_writes_is_compared_with_the_policy(trained: tuple[World, Path]) -> None:
    checks = told(trained[0], "weights_checked")
    assert [check["step"] for check in checks] == [0, 3, 6, 8]
    assert {check["by"] for check in checks} == {"transformers"}
    assert len({check["digest"] for check in checks}) == 4


def test_held_out_prompts_are_watched(trained: tuple[World, Path]) -> None:
    world, artifact = trained
    events_told, measured = told(world, "held_out"), read_manifest(artifact).measured
    assert [event["step"] for event in events_told] == [0, 3, 6, 8]
    assert events_told[0]["kl"] == pytest.approx(0, abs=1e-6)
    assert events_told[-1]["kl"] > 1e-6
    for event in events_told:
        assert event["score"] == event["reward"]  # nothing here has a right answer
        whole = event["rewards/format"] + 0.5 * event["rewards/length"]
        assert event["reward"] == pytest.approx(whole)
    assert measured["held_out_first"]["score"] == events_told[0]["score"]
    assert measured["held_out_last"]["step"] == 8
    before, after = ledger(artifact, "replies")[:16], ledger(artifact, "replies")[16:]
    assert [line["id"] for line in before] == [line["id"] for line in after]
    assert {line["step"] for line in before} == {0}
    assert {line["step"] for line in after} == {8}


def after_the_checkpoint(attempt: Path) -> bool:
    """The first checkpoint is sealed, and replies were consumed that it does not know of."""
    sealed = list(attempt.glob("checkpoints/*-3/seal.json"))
    return bool(sealed) and len(list(Ledger(attempt / "ledger.jsonl").lines())) > 4


def kill(attempt: Path, world: World, moment: Callable[[], bool]) -> None:
    """Start the ranks, and SIGKILL them all when the moment has come: nothing can tidy up."""
    process = subprocess.Popen([*world.launcher(2), "residency.train.worker", str(attempt)])
    until = time.monotonic() + PATIENCE
    while not moment():
        assert process.poll() is None, f"ended with {process.returncode} before the moment came"
        assert time.monotonic() < until, "the moment did not come"
        time.sleep(0.01)
    family = psutil.Process(read_attempt(attempt)["pid"]).parent()
    assert family
    for rank in (ranks := family.children()):
        rank.send_signal(signal.SIGKILL)
    assert len(ranks) == 2
    process.wait()


def test_killed_and_run_again_the_ledger_is_exact(trained: tuple[World, Path], tmp_path: Path) -> None:
    unbroken = trained[1]
    world = copied(trained[0], tmp_path / "world")
    attempt = world.attempt(world.plan({"rl": HARD}, **ENGINE), "rl")
    kill(attempt, world, lambda: after_the_checkpoint(attempt))
    artifact = world.train("rl", HARD, **ENGINE)
    measured = read_manifest(artifact).measured
    assert measured["resumed_from_step"] == 3
    assert ledger(artifact) == ledger(unbroken)
    assert ledger(artifact, "replies") == ledger(unbroken, "replies")
    assert measured["weights_sha256"] == read_manifest(unbroken).measured["weights_sha256"]


def test_rloo_with_whole_weights_under_zero_2(made: World, tmp_path: Path) -> None:
    world = copied(made, tmp_path / "world")
    artifact = world.train("rl", RL | {"algorithm": "rloo", "held_out": None, "save_every": 9})
    assert abs(told(world, "step")[0]["kl"]) < 1e-6
    assert [line["step"] for line in ledger(artifact)] == [1, 1, 2, 2, 3, 3, 4, 4]
    assert told(world, "held_out") == []
    assert [line["step"] for line in ledger(artifact, "replies")] == [0] * 4 + [4] * 4
    assert read_manifest(artifact).measured["held_out_first"] is None


def test_the_reference_of_a_continued_adapter_is_that_adapter(made: World, tmp_path: Path) -> None:
    """Its parent has left the base: a reference without the adapter would show a divergence at once."""
    world = copied(made, tmp_path / "world")
    lora = {"rank": 4, "alpha": 8.0, "finish": "keep"}
    sft = {"learning_rate": 3e-2, "epochs": 1, "lora": lora}
    own = RL | {"from": "sft", "adapter": "continue", "lora": lora, "epochs": 1.0, "held_out": None}
    artifact = world.train_all({"sft": sft, "rl": own}, zero=3)
    first, *_, last = [step["kl"] for step in told(world, "step") if "kl" in step]
    assert abs(first) < 1e-6 < last
    assert [check["step"] for check in told(world, "weights_checked")] == [0, 2]
    assert not (artifact / "ref").exists()


SPOILT = """
import sys, torch
from residency.train import rl, worker
from residency.train.reinforcement import online
{change}
worker.main(sys.argv[1:])
"""
OTHER_REFERENCE = """
right = online.GrpoTrainer._get_per_token_logps_and_entropies
def wrong(self, model, *args, **kwargs):
    found = right(self, model, *args, **kwargs)
    return (found[0] - 0.1, *found[1:]) if model is self.ref_model else found
online.GrpoTrainer._get_per_token_logps_and_entropies = wrong
"""
STALE = """
right = online.GrpoTrainer._of_writer
online.GrpoTrainer._of_writer = lambda self: right(self) + (self.state.global_step > 0)
"""


@pytest.mark.parametrize(
    ("more", "change", "reason"),
    [
        ({}, OTHER_REFERENCE, r"the first divergence from the reference is 0.00483\d+, not 0"),
        (
            {"lora": {"rank": 4, "finish": "keep"}},
            STALE,
            "replies of step 2 are written with other weights than the policy's",
        ),
    ],
    ids=["reference", "weights"],
)
def test_what_is_not_the_parent_or_the_policy_stops_the_stage(
    made: World, tmp_path: Path, more: dict[str, Any], change: str, reason: str
) -> None:
    world = copied(made, tmp_path / "world")
    own = RL | {"held_out": None, "save_every": 1} | more
    attempt = world.attempt(world.plan({"rl": own}, processes=1), "rl")
    program = tmp_path / "spoilt.py"
    program.write_text(SPOILT.format(change=change))
    command = [*torchrun(1)[:-1], str(program), str(attempt)]
    subprocess.run(command, capture_output=True, check=False, env=dict(os.environ))
    outcome = read_attempt(attempt)
    assert outcome["exit_code"] == Exit.OUR_FAULT
    assert re.search(reason, outcome["reason"]), outcome["reason"]


def test_what_cannot_be_trained_is_refused(made: World, tmp_path: Path) -> None:
    world = copied(made, tmp_path / "world")
    for own, complaint in (
        (
            {"max_new_tokens": 120},
            "the longest prompt = .* are more than the 128 tokens that the model reads",
        ),
        ({"rewards": [{"kind": "correct"}]}, r"stages\.rl\.corpus: 4 of 4 prompts have no right answer"),
        ({"limit": 1, "epochs": 1.0}, "batch_size = 8 holds 2 prompts, the corpus has only 1"),
    ):
        with pytest.raises(ResidencyError, match=complaint):
            world.train("rl", RL | own, processes=1)
