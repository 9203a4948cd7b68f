"""What watches a training run: progress events, sealed checkpoints, signals, and a loss that stopped being a number."""

from __future__ import annotations

import math
import signal
import time
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from residency import events
from residency.artifact import RunPaths, StageFile, report_attempt
from residency.errors import Exit, ResidencyError
from residency.train.checkpoint import hold, seal
from residency.train.lora import MERGED


class FiniteLoss:
    """Mixed into a Trainer: stops before a loss that is no number can reach a checkpoint."""

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        loss: torch.Tensor = super().training_step(*args, **kwargs)  # type: ignore[misc]
        if not torch.isfinite(loss):
            state: TrainerState = self.state  # type: ignore[attr-defined]
            checkpoints = Path(self.args.output_dir).glob("checkpoint-*/seal.json")  # type: ignore[attr-defined]
            good = max((int(path.parent.name.rpartition("-")[2]) for path in checkpoints), default=None)
            raise ResidencyError(
                f"the loss is {loss.item()} at step {state.global_step + 1}; the last good checkpoint is "
                f"{f'of step {good}' if good else 'the parent'}",
                cure="Lower learning_rate, or look at the data of that step",
                code=Exit.DIVERGED,
            )
        return loss


class Watch(TrainerCallback):
    """Reports steps as events, seals checkpoints, and turns a signal into one checkpoint that all ranks agree on."""

    def __init__(self, attempt: Path, stage: StageFile, tokens: int) -> None:
        self.attempt, self.stage = attempt, stage
        self.events = RunPaths(stage.run).events
        self.tokens = tokens
        self.asked_to_stop = False
        self.losses: list[float] = []
        self.started = self.last_time = 0.0
        self.first_step = 0
        self._group = torch.distributed.new_group(backend="gloo")
        for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def _on_signal(self, _number: int, _frame: Any) -> None:
        self.asked_to_stop = True

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self.started = self.last_time = time.monotonic()
        self.first_step = state.global_step

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        flag = torch.tensor([self.asked_to_stop], dtype=torch.int32)
        torch.distributed.all_reduce(flag, op=torch.distributed.ReduceOp.MAX, group=self._group)
        self.asked_to_stop = bool(flag.item())
        if self.asked_to_stop:
            control.should_save = control.should_training_stop = True

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        if not logs or "loss" not in logs or not state.is_world_process_zero:
            return
        self.losses.append(logs["loss"])
        done = state.global_step - self.first_step
        seconds = time.monotonic() - self.started
        per_step = seconds / max(done, 1)
        extra = {key: value for key, value in logs.items() if key.startswith(("rewards/", "grad_norm"))}
        events.emit(
            self.events,
            "step",
            self.stage.name,
            step=state.global_step,
            steps=state.max_steps,
            loss=logs["loss"],
            learning_rate=logs.get("learning_rate"),
            tokens=round(self.tokens * state.global_step / state.max_steps),
            tokens_per_second=round(self.tokens / state.max_steps / per_step) if per_step else None,
            seconds_left=round(per_step * (state.max_steps - state.global_step), 1),
            **extra,
        )

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        torch.distributed.barrier(group=self._group)  # every rank's shard is written
        if state.is_world_process_zero:
            checkpoint = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            seal(checkpoint, self.stage.identity)
            events.emit(self.events, "checkpoint", self.stage.name, step=state.global_step)
            report_attempt(self.attempt, step=state.global_step)
            self._hold(checkpoint, args, state)
        torch.distributed.barrier(group=self._group)

    def _hold(self, checkpoint: Path, args: TrainingArguments, state: TrainerState) -> None:
        """Keep what is to be scored beside the training, which never stops for it. Checkpoints of a signal are not."""
        wanted = self.stage.execution.get("hold")
        if not wanted:
            return
        last = state.global_step == state.max_steps
        if not last and state.global_step % (int(args.save_steps) * wanted["every"]):
            return
        kept = self.stage.run / wanted["directory"]
        try:
            merged = self.attempt / MERGED
            if merged.exists():  # what the adapters stand on is gone when the stage ends
                hold(merged, kept / "base")
            hold(checkpoint, kept / f"step-{state.global_step}")
        except OSError as error:
            reason = error.strerror or str(error)
            events.emit(self.events, "hold_failed", self.stage.name, step=state.global_step, reason=reason)


class FirstStepIsLog2(TrainerCallback):
    """The reference of preference training is the parent, exactly: then the first DPO loss is ln 2."""

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        if state.global_step == 1 and logs and "loss" in logs and abs(logs["loss"] - math.log(2)) > 1e-3:
            raise ResidencyError(
                f"the first preference loss is {logs['loss']:.6f}, not ln 2 = {math.log(2):.6f}: "
                "the reference is not the parent",
                code=Exit.OUR_FAULT,
            )
