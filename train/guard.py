"""Keeps a training run from being spoilt: a loss or gradient that is no number, and a loss that shoots up.

Every optimizer step is judged before a checkpoint could be written, by all ranks from the same gathered numbers, so
that all decide alike. A faulty step ends the stage with exit code 5, or, while `guard.skips` are left, training goes
back to the last checkpoint (or the parent) and leaves the step's batch out: no forward pass and no update; the step
counter, the learning rate and the order of all other batches are as they would have been. So the run equals, bit for
bit, one that was told from the start to leave this batch out. What was left out stands in `attempt.json` and outlives
a kill. Mix `FiniteLoss` into a trainer whose callbacks hold a `Watch`; the worker trains through `train`.
"""

from __future__ import annotations

import gc
import json
import math
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean, pstdev
from typing import TYPE_CHECKING, Any

import torch

from residency import events
from residency.artifact import RunPaths, StageFile, read_attempt, report_attempt
from residency.errors import Exit, ResidencyError
from residency.train import reshard
from residency.train.settings.optimisation import GuardSettings

if TYPE_CHECKING:
    from residency.train.watch import Watch

RECENT = 50
"""Steps whose losses a step is compared with."""
FEWEST = 10
"""Steps before which no loss is called a spike: the first steps of a stage fall fast."""
STILL = 0.01
"""Losses that differ by less than this part of their mean are taken to differ by so much: no spike of nothing."""
KEPT = "guard.json"
"""File of a checkpoint with the recent losses."""


class FaultyStepError(Exception):
    """The batch of a step is to be left out; raised by every rank at the same step."""

    def __init__(self, step: int, reason: str, loss: float) -> None:
        super().__init__(f"{reason} at step {step}")
        self.step, self.reason, self.loss = step, reason, loss


def spike(loss: float, recent: Sequence[float], deviations: float) -> bool:
    """Whether `loss` lies more than so many standard deviations above the mean of the recent ones."""
    if len(recent) < FEWEST:
        return False
    mean = fmean(recent)
    return loss > mean + deviations * max(pstdev(recent), STILL * abs(mean))


class Guard:
    """Judges steps, and knows which are left out.

    Attributes:
        left_out: what was left out, oldest first: step, reason, loss.
    """

    def __init__(self, stage: StageFile, attempt: Path, group: Any) -> None:
        self.settings = GuardSettings.model_validate(stage.settings.get("guard") or {})
        self.attempt, self.group = attempt, group
        self.recent: deque[float] = deque(maxlen=RECENT)
        known: list[Any] = [read_attempt(attempt).get("left_out", [])]
        torch.distributed.broadcast_object_list(known, src=0, group=group)
        self.left_out: list[dict[str, Any]] = known[0]
        self._sum = torch.zeros(())

    def resume(self, checkpoint: Path | None) -> None:
        """Take up the recent losses of a checkpoint."""
        kept = checkpoint / KEPT if checkpoint else None
        if kept and kept.exists():
            self.recent.extend(json.loads(kept.read_text()))

    def leaves_out(self, step: int) -> bool:
        return any(entry["step"] == step for entry in self.left_out)

    def add(self, loss: torch.Tensor) -> None:
        """Loss of one forward pass of this rank's part of the step."""
        self._sum = self._sum.to(loss.device) + loss.detach().float()

    def judge(self, step: int, gradient_norm: float) -> None:
        """End a step: on every rank, with the loss of the passes since the last one.

        Raises:
            FaultyStepError: it is faulty, and its batch may be left out.
            ResidencyError: it is faulty, and no batch more may be left out.
        """
        losses, norms = zip(*self._gathered([float(self._sum), gradient_norm]), strict=True)
        self._sum = torch.zeros(())
        loss = fmean(losses)
        reason = self._fault(loss, norms)
        if reason is None:
            self.recent.append(loss)
        elif len(self.left_out) < self.settings.skips:
            raise FaultyStepError(step, reason, loss)
        else:
            raise ResidencyError(
                f"{reason} at step {step}; the last good checkpoint is {self._last_good()}"
                + (f"; left out before: {_steps(self.left_out)}" if self.left_out else ""),
                cure="Lower learning_rate, or look at the data of that step",
                code=Exit.DIVERGED,
            )

    def _fault(self, loss: float, norms: Sequence[float]) -> str | None:
        if not math.isfinite(loss):
            return f"the loss is {loss}"
        # DeepSpeed says -1 for a norm that is no number
        if any(norm < 0 or not math.isfinite(norm) for norm in norms):
            return "the gradient is no number"
        limit = self.settings.spike
        if limit and spike(loss, self.recent, limit):
            mean = fmean(self.recent)
            return f"the loss is {loss:.4g}, a spike above {mean:.4g}, the mean of {len(self.recent)} steps,"
        return None

    def _gathered(self, own: list[float]) -> list[list[float]]:
        mine = torch.tensor(own, dtype=torch.float64)
        every = [torch.empty_like(mine) for _ in range(torch.distributed.get_world_size(self.group))]
        torch.distributed.all_gather(every, mine, group=self.group)
        return [part.tolist() for part in every]

    def _last_good(self) -> str:
        sealed = (self.attempt / "checkpoints").glob("checkpoint-*/seal.json")
        good = max((int(path.parent.name.rpartition("-")[2]) for path in sealed), default=None)
        return f"of step {good}" if good else "the parent"


class FiniteLoss:
    """Mixed into a Trainer, before the others: judges every step, and passes over batches that are left out."""

    _logged = 0

    @property
    def _watch(self) -> Watch:
        from residency.train.watch import Watch

        return next(one for one in self.callback_handler.callbacks if isinstance(one, Watch))  # type: ignore[attr-defined]

    @property
    def _guard(self) -> Guard:
        return self._watch.guard

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        step = self.state.global_step + 1  # type: ignore[attr-defined]
        if self._guard.leaves_out(step):
            return self._pass_over()
        loss: torch.Tensor = super().training_step(*args, **kwargs)  # type: ignore[misc]
        self._guard.add(loss)
        if self.accelerator.sync_gradients:  # type: ignore[attr-defined]
            norm = self.model_wrapped.get_global_grad_norm()  # type: ignore[attr-defined]
            if (
                norm is None
            ):  # ZeRO-0 without clipping: a gradient that is no number has spoilt the weights by now
                weights: Any = self.model.parameters()  # type: ignore[attr-defined]
                norm = torch.nn.utils.get_total_norm([weight for weight in weights if weight.requires_grad])
            self._guard.judge(step, float(norm))
        return loss

    def _pass_over(self) -> torch.Tensor:
        """Neither forward nor backward pass nor update."""
        if hasattr(
            self, "_buffered_inputs"
        ):  # TRL's online trainers: the next step writes replies of its own
            self._buffered_inputs = None
            self._step: int = getattr(self, "_step", 0) + 1
        return torch.zeros((), device=self.args.device)  # type: ignore[attr-defined]

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """The mean loss is that of the steps that were trained."""
        if "loss" in logs:
            before = max(self._logged, self._watch.first_step)  # of a resumed run: where it went on
            steps = range(before + 1, self.state.global_step + 1)  # type: ignore[attr-defined]
            trained = sum(not self._guard.leaves_out(step) for step in steps)
            self._logged = self.state.global_step  # type: ignore[attr-defined]
            if trained < len(steps):
                logs["loss"] *= len(steps) / max(trained, 1)
            if not trained:
                del logs["loss"]
                logs.pop("grad_norm", None)
        super().log(logs, *args, **kwargs)  # type: ignore[misc]


def train(
    stage: StageFile,
    attempt: Path,
    build: Callable[[], tuple[Any, Watch]],
    checkpoint: Callable[[], Path | None],
) -> tuple[Any, Watch, Path | None]:
    """Train to the end; returns the trainer, its watch, and the checkpoint that training went on from last.

    Args:
        build: makes the trainer anew; after a roll-back, once more.
        checkpoint: the newest whole one, agreed on by all ranks.

    Raises:
        ResidencyError: training went wrong for good; the code is DIVERGED.
    """
    stopping = False
    while True:
        trainer, watch = build()
        watch.signalled |= stopping
        resume = checkpoint()
        watch.guard.resume(resume)
        if resume and reshard.is_converted(resume):
            reshard.prepare(trainer, resume)
        try:
            trainer.train(resume_from_checkpoint=str(resume) if resume else None)
        except FaultyStepError as fault:
            _leave_out(stage, attempt, watch, fault)
        else:
            return trainer, watch, resume
        stopping = watch.signalled
        release(trainer)
        del trainer, watch


def _leave_out(stage: StageFile, attempt: Path, watch: Watch, fault: FaultyStepError) -> None:
    entry = {"step": fault.step, "reason": fault.reason, "loss": fault.loss}
    if torch.distributed.get_rank() == 0:
        finite = entry | {"loss": fault.loss if math.isfinite(fault.loss) else None}
        report_attempt(attempt, left_out=[*watch.guard.left_out, finite])
        events.emit(RunPaths(stage.run).events, "left_out", stage.name, **finite)
        print(f"residency: {fault}: its batch is left out", flush=True)
    torch.distributed.barrier(group=watch.guard.group)


def release(trainer: Any) -> None:
    """Take an engine down, so that another can be built in this process."""
    from accelerate.state import AcceleratorState
    from transformers.integrations import unset_hf_deepspeed_config

    trainer.accelerator.free_memory()
    trainer.model_wrapped = trainer.model = trainer.optimizer = trainer.lr_scheduler = None
    trainer.callback_handler.model = trainer.callback_handler.optimizer = None
    AcceleratorState._reset_state()
    unset_hf_deepspeed_config()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _steps(left_out: list[dict[str, Any]]) -> str:
    return ", ".join(f"step {entry['step']}" for entry in left_out)
