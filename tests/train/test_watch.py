"""What a stage's signs of trouble are read from: its own logs and its own held-out scores."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import TrainerControl, TrainerState, TrainingArguments

from residency import events
from residency.artifact import RunPaths, StageFile
from residency.train.reinforcement.ledger import Ledger
from residency.train.watch import Watch

SIGNALS = (signal.SIGUSR1, signal.SIGTERM, signal.SIGINT)


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[Watch]:
    """Of an `rl` stage, on one rank."""
    before = [signal.getsignal(number) for number in SIGNALS]
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    stage: dict[str, Any] = {"name": "rl", "kind": "rl", "identity": "0" * 64, "run": tmp_path / "run"}
    execution = {"stop_on": ["reward_hacking"]}
    yield Watch(
        tmp_path, StageFile(**stage, settings={"guard": {}}, execution=execution, parents={}), tokens=100
    )
    torch.distributed.destroy_process_group()
    for number, handler in zip(SIGNALS, before, strict=True):
        signal.signal(number, handler)


def stopped(watch: Watch, tmp_path: Path) -> str | None:
    """By what, in ten steps of rising reward."""
    arguments = TrainingArguments(output_dir=str(tmp_path))
    for step in range(1, 11):
        state = TrainerState(global_step=step, max_steps=20)
        watch.on_log(arguments, state, TrainerControl(), logs={"loss": 0.1, "reward": step / 10})
    return watch.stopped_by


@pytest.mark.parametrize(("last", "stops"), [(0.31, False), (0.1, True)])
def test_scores_of_an_earlier_stage_of_that_name_are_no_sign(
    watch: Watch, tmp_path: Path, last: float, stops: bool
) -> None:
    for step, score in ((0, 0.3), (6, 0.9), (9, 0.5)):  # with other settings, in the same run
        events.emit(RunPaths(watch.stage.run).events, "held_out", "rl", step=step, score=score)
    watch.held_out = tmp_path / "held_out.jsonl"
    Ledger(watch.held_out).add(
        {"step": step, "score": score} for step, score in ((0, 0.3), (8, last), (12, 0.0))
    )
    said = stopped(watch, tmp_path)
    assert bool(said) == stops, said
    if stops:
        assert said == (
            "reward_hacking at step 8: the reward rose from 0.1 to 0.6, "
            "the held-out score fell from 0.3 (step 0) to 0.1"
        )


def test_the_last_scores_are_looked_at_too(watch: Watch, tmp_path: Path) -> None:
    watch.held_out = tmp_path / "held_out.jsonl"
    Ledger(watch.held_out).add([{"step": 0, "score": 0.3}])
    assert stopped(watch, tmp_path) is None
    Ledger(watch.held_out).add([{"step": 10, "score": 0.1}])  # after the last log
    watch.look_again(TrainerState(global_step=10, max_steps=10))
    assert [sign["sign"] for sign in watch.signs] == ["reward_hacking"]
    assert watch.stopped_by
