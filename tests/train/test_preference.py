"""The reference of preference training is the parent: the first step says so, or the stage stops. It is kept."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from math import log
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from transformers import TrainerControl, TrainerState, TrainingArguments

from residency import events
from residency.artifact import read_attempt, read_manifest
from residency.errors import Exit, ResidencyError
from residency.train.preferences.trainer import FirstStepIsReference

if TYPE_CHECKING:
    from tests.train.conftest import World

WRONG_REFERENCE = """
import sys
from residency.train import worker
from residency.train.preferences import references
right = references.computed
def wrong(*arguments):
    sums = right(*arguments)
    sums[:, 0] -= 0.1
    return sums
references.computed = wrong
worker.main(sys.argv[1:])
"""


def logged(step: int, tmp_path: Path, first: float | None = log(2), **logs: float) -> None:
    judged(FirstStepIsReference(first, 0.1, exact=True), step, tmp_path, logs)


def judged(judge: FirstStepIsReference, step: int, tmp_path: Path, logs: dict[str, float]) -> None:
    arguments = TrainingArguments(output_dir=str(tmp_path))
    judge.on_log(arguments, TrainerState(global_step=step), TrainerControl(), logs=logs)


def test_only_the_first_step_must_be_the_reference(tmp_path: Path) -> None:
    logged(1, tmp_path, loss=log(2) + 9e-4)
    logged(2, tmp_path, loss=0.1)
    with pytest.raises(
        ResidencyError, match=r"0\.695147, not ln 2 = 0\.693147: the reference is not the parent"
    ):
        logged(1, tmp_path, loss=log(2) + 2e-3)
    logged(1, tmp_path, None, loss=3.0, **{"rewards/margins": 9e-4})
    with pytest.raises(
        ResidencyError, match=r"rewards/chosen of the first step is 0\.002000, not 0: the reference"
    ):
        logged(1, tmp_path, None, loss=0.5, **{"rewards/chosen": 2e-3})


def test_in_bfloat16_rounding_is_no_other_reference(tmp_path: Path) -> None:
    judge = FirstStepIsReference(log(2), 0.1, exact=False)
    judged(judge, 1, tmp_path, {"loss": log(2) - 5e-3, "rewards/margins": 1e-2, "rewards/chosen": 0.1})
    with pytest.raises(ResidencyError, match=r"rewards/margins of the first step is 0\.100000, not 0"):
        judged(judge, 1, tmp_path, {"loss": log(2) - 4.9e-2, "rewards/margins": 0.1})


@pytest.mark.slow
def test_a_wrong_reference_stops_the_stage(world: World, tmp_path: Path) -> None:
    attempt = world.attempt(world.plan({"preference": {}}), "preference")
    program = tmp_path / "wrong_reference.py"
    program.write_text(WRONG_REFERENCE)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", str(program), str(attempt)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ))
    assert done.returncode != 0
    outcome = read_attempt(attempt)
    assert outcome["exit_code"] == Exit.OUR_FAULT
    assert "not ln 2 = 0.693147: the reference is not the parent" in outcome["reason"]


@pytest.mark.slow
def test_a_reference_is_kept_for_other_losses_and_made_again_when_damaged(world: World) -> None:
    """ZeRO-3, and so few pairs that the reference is read in one pass. The second stage has another loss."""
    few = {"limit": 4, "batch_size": 4, "epochs": 2.0}
    first = world.train("preference", few, zero=3)
    (kept,) = (world.run.parent / ".references").iterdir()
    made, content = kept.stat().st_mtime_ns, kept.read_bytes()
    world.train_all(
        {"preference": few, "other": few | {"kind": "preference", "corpus": "pairs", "loss": "ipo"}}, zero=3
    )
    assert kept.stat().st_mtime_ns == made, "the second stage did not find it"
    assert [path.name for path in kept.parent.iterdir()] == [kept.name]
    weights = read_manifest(first).measured["weights_sha256"]
    kept.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    shutil.rmtree(first)
    assert read_manifest(world.train("preference", few, zero=3)).measured["weights_sha256"] == weights
    assert kept.read_bytes() == content
    seen = [event for event in events.read(world.events) if event["event"] == "step"]
    assert {"rewards/chosen", "rewards/margins", "rewards/accuracies", "logps/rejected"} <= seen[0].keys()
    assert read_manifest(first).measured["layout"] in ("packed", "shared")
