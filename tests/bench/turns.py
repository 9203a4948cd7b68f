"""Lets several trainers take turns in one process, so that both sides of a comparison see the same machine.

Each trainer's own `train()` runs in a thread of its own, but only one of them ever runs: a callback stops it after
every `steps` optimizer steps, takes the time, and waits until it is called again. So nothing of the trainers' loops is
rewritten, and everything between two stops (data, logging, callbacks) is counted.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Any

import torch
from transformers import TrainerCallback

from tests.bench.memory import Peak


@dataclass(frozen=True)
class Timing:
    """One turn of one arm, on this rank."""

    seconds: float
    loss_tokens: int
    tokens: int
    """Tokens that are no padding."""
    peak_bytes: int
    """Memory above what was held when the turn began."""


class Arm(TrainerCallback):
    """One side of the comparison: a trainer that advances turn by turn."""

    def __init__(self, name: str, trainer: Any, steps: int, pad: int) -> None:
        self.name, self.trainer, self.steps, self.pad = name, trainer, steps, pad
        self.timings: list[Timing] = []
        self._counts = torch.zeros(2, dtype=torch.int64, device=trainer.args.device)
        self._go, self._paused = threading.Semaphore(0), threading.Semaphore(0)
        self._fault: BaseException | None = None
        self._threads = torch.get_num_threads()
        trainer.add_callback(self)
        trainer.model.register_forward_pre_hook(self._count, with_kwargs=True)
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def advance(self) -> None:
        """Run one turn; the first one sets the engine up, the one after the last lets the training end."""
        self._go.release()
        self._paused.acquire()
        if self._fault:
            raise self._fault

    def loss(self) -> float:
        """Training loss over the last third of what the trainer logged."""
        logged = [entry["loss"] for entry in self.trainer.state.log_history if "loss" in entry]
        last = logged[-max(1, len(logged) // 3) :]
        return float(sum(last) / len(last))

    def _run(self) -> None:
        self._go.acquire()
        torch.set_num_threads(self._threads)  # OpenMP keeps the number per thread
        if torch.cuda.is_available():
            torch.cuda.set_device(self.trainer.args.device)
        try:
            self._begin()
            self.trainer.train()
        except BaseException as fault:  # whatever it is, the main thread raises it
            self._fault = fault
        self._paused.release()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step % self.steps:
            return
        _synchronise()
        seconds = time.perf_counter() - self._started
        loss_tokens, tokens = self._counts.tolist()
        self.timings.append(Timing(seconds, loss_tokens, tokens, self._peak.read()))
        self._paused.release()
        self._go.acquire()
        self._begin()

    def _begin(self) -> None:
        self._counts.zero_()
        self._peak = Peak()
        _synchronise()
        self._started = time.perf_counter()

    def _count(self, _module: Any, _args: Any, inputs: dict[str, Any]) -> None:
        """Both sides pay for it alike: two sums over the ids, nothing waits for them."""
        labels = inputs["shift_labels"] if "shift_labels" in inputs else inputs["labels"][..., 1:]
        self._counts[0] += (labels != -100).sum()
        self._counts[1] += (inputs["input_ids"] != self.pad).sum()


def _synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    torch.distributed.barrier()
