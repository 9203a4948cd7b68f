"""What watches a training run: progress events, sealed checkpoints, signals, and signs of trouble.

What guards it against faulty steps is `residency.train.guard`; the signs are those of `residency.train.signs`.
"""

from __future__ import annotations

import math
import signal
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from residency import events
from residency.artifact import RunPaths, StageFile, report_attempt, write_json
from residency.train import signs
from residency.train.adapters.merging import MERGED
from residency.train.checkpoint import hold, seal
from residency.train.guard import KEPT, Guard
from residency.train.guard import FiniteLoss as FiniteLoss
from residency.train.reinforcement.ledger import Ledger

LOGGED = ("rewards/", "grad_norm", "logps/", "reward", "kl", "completions/", "clip_ratio/", "entropy")
"""Beginnings of the keys of a log that go into the event of a step."""


class Watch(TrainerCallback):
    """Reports steps as events, seals checkpoints, and turns a signal into one checkpoint that all ranks agree on.

    Attributes:
        tokens: of the whole stage, as planned.
        tokens_of: tokens, and tokens with loss, of the batch of a step; unless set, all steps have as many.
        guard: judges every step.
        signalled: a signal came to this rank; `asked_to_stop` once all ranks know, at the end of a step.
        held_out: ledger of the scores on held-out prompts, where a stage has some.
        saves: called on every rank before a checkpoint is sealed, with its directory.
        signs: those that showed, oldest first.
        measured: more for the stage's manifest.
        leaves: files of the attempt that go into the artifact beside the model.
        stopped_by: what a sign that `guard.stop_on` names saw.
    """

    def __init__(self, attempt: Path, stage: StageFile, tokens: int) -> None:
        self.attempt, self.stage = attempt, stage
        self.events = RunPaths(stage.run).events
        self.tokens = tokens
        self.tokens_of: Callable[[int], tuple[int, int]] | None = None
        self.signalled = self.asked_to_stop = False
        self.losses: list[float] = []
        self.started = self.last_time = 0.0
        self.first_step = 0
        self.signs: list[dict[str, Any]] = []
        self.stopped_by: str | None = None
        self.held_out: Path | None = None
        self.saves: list[Callable[[Path], None]] = []
        self.measured: dict[str, Any] = {}
        self.leaves: list[str] = []
        self._series: dict[str, list[signs.Point]] = defaultdict(list)
        self._group = torch.distributed.new_group(backend="gloo")
        self.guard = Guard(stage, attempt, self._group)
        for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def _on_signal(self, _number: int, _frame: Any) -> None:
        self.signalled = True

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self.started = self.last_time = time.monotonic()
        self.first_step = state.global_step
        for logs in state.log_history:  # of the run that this one continues
            self._look(logs["step"], logs)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        flag = torch.tensor([self.signalled], dtype=torch.int32)
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
        if not logs or "loss" not in logs:
            return
        self._look(state.global_step, logs, tell=state.is_world_process_zero)
        if self._all_stop():
            control.should_save = control.should_training_stop = True
        if not state.is_world_process_zero:
            return
        self.losses.append(logs["loss"])
        done = state.global_step - self.first_step
        seconds = time.monotonic() - self.started
        per_step = seconds / max(done, 1)
        extra = {key: value for key, value in logs.items() if key.startswith(LOGGED)}
        events.emit(
            self.events,
            "step",
            self.stage.name,
            step=state.global_step,
            steps=state.max_steps,
            loss=logs["loss"],
            learning_rate=logs.get("learning_rate"),
            tokens=self.seen(state.global_step, state.max_steps)[0],
            tokens_per_second=round(self.tokens / state.max_steps / per_step) if per_step else None,
            seconds_left=round(per_step * (state.max_steps - state.global_step), 1),
            **extra,
        )

    def seen(self, step: int, steps: int, loss_tokens: int = 0) -> tuple[int, int]:
        """Tokens, and those of `loss_tokens`, that were trained on up to a step: without the batches left out."""
        left_out = [entry["step"] for entry in self.guard.left_out if entry["step"] <= step]
        if self.tokens_of:
            lost = [sum(part) for part in zip(*map(self.tokens_of, left_out), strict=True)] or [0, 0]
        else:
            lost = [round(total * len(left_out) / steps) for total in (self.tokens, loss_tokens)]
        return round(self.tokens * step / steps) - lost[0], round(loss_tokens * step / steps) - lost[1]

    def _all_stop(self) -> bool:
        """Whether rank 0 saw a sign that ends the stage."""
        if not self.stage.execution.get("stop_on"):
            return False
        said = [self.stopped_by]
        torch.distributed.broadcast_object_list(said, src=0, group=self._group)
        self.stopped_by = said[0]
        return self.stopped_by is not None

    def look_again(self, state: TrainerState) -> None:
        """Look for signs in what was told after the last log; on every rank."""
        self._look(state.global_step, {}, tell=state.is_world_process_zero)
        self._all_stop()

    def _look(self, step: int, logs: dict[str, float], *, tell: bool = False) -> None:
        """Look for signs of trouble in what was logged so far."""
        for key, value in logs.items():
            if isinstance(value, (int, float)) and math.isfinite(value):
                self._series[key].append((step, value))
        if self.held_out and "reward" in self._series:
            told = [line for line in Ledger(self.held_out).lines() if line["step"] <= step]
            self._series["held_out"] = [(line["step"], line["score"]) for line in told]
        known = {sign["sign"] for sign in self.signs}
        longest = self.stage.settings.get("max_new_tokens")
        for sign, seen in signs.look(self._series, longest).items():
            if sign in known:
                continue
            self.signs.append({"sign": sign, "step": step, **asdict(seen)})
            if tell:
                events.emit(self.events, "sign", self.stage.name, **self.signs[-1])
            if self.stopped_by is None and sign in self.stage.execution.get("stop_on", []):
                self.stopped_by = f"{sign} at step {step}: {seen.message}"

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        torch.distributed.barrier(group=self._group)  # every rank's shard is written
        checkpoint = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        for save in self.saves:
            save(checkpoint)
        if state.is_world_process_zero:
            if self.guard.settings.spike:
                write_json(checkpoint / KEPT, list(self.guard.recent))
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
