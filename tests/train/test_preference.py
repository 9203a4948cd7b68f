"""The reference of preference training is the parent: the first loss says so, or the stage stops."""

from __future__ import annotations

import os
import subprocess
import sys
from math import log
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from transformers import TrainerControl, TrainerState, TrainingArguments

from residency.artifact import read_attempt
from residency.errors import Exit, ResidencyError
from residency.train.watch import FirstStepIsLog2

if TYPE_CHECKING:
    from tests.train.conftest import World

WRONG_REFERENCE = """
import sys
from residency.train import preference, worker
right = preference.PreferenceTrainer.compute_ref_log_probs
def wrong(self, model, inputs):
    chosen, rejected = right(self, model, inputs)
    return chosen - 0.1, rejected
preference.PreferenceTrainer.compute_ref_log_probs = wrong
worker.main(sys.argv[1:])
"""


def logged(step: int, loss: float, tmp_path: Path) -> None:
    state = TrainerState(global_step=step)
    arguments = TrainingArguments(output_dir=str(tmp_path))
    FirstStepIsLog2().on_log(arguments, state, TrainerControl(), logs={"loss": loss})


def test_only_the_first_loss_must_be_log_2(tmp_path: Path) -> None:
    logged(1, log(2) + 9e-4, tmp_path)
    logged(2, 0.1, tmp_path)
    with pytest.raises(ResidencyError, match=r"0\.695147.* not ln 2 = 0\.693147: the reference"):
        logged(1, log(2) + 2e-3, tmp_path)


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
def test_a_reference_read_in_one_pass_is_refused_under_zero_3(world: World) -> None:
    with pytest.raises(ResidencyError, match="must not all be read in one forward pass"):
        world.train("preference", {"limit": 4, "batch_size": 4}, zero=3)
