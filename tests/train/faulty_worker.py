"""Trains stages in which one batch is faulty, many in one process group; started by torchrun.

    torchrun --nproc-per-node 2 tests/train/faulty_worker.py nan:5,9 ATTEMPT none ATTEMPT...

Each attempt is trained as `residency.train.worker` does, twice if it is named twice. The fault comes up whenever the
batch of one of the steps is trained, on the last rank only: `nan` (the loss), `gradient` (infinite, though the loss is
fine), `huge` (a loss 100 times as large) or `none`; `zero` (no loss at all) on all ranks. Why
attempts failed is printed as JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch

from residency.errors import ResidencyError
from residency.train import engine, worker


def spoilt(loss: torch.Tensor, kind: str) -> torch.Tensor:
    if kind in ("nan", "zero"):
        return loss * (torch.nan if kind == "nan" else 0)
    if kind == "huge":
        return loss * 100
    return loss + (loss - loss.detach()).sqrt()  # 0, with an infinite slope


def main() -> None:
    engine.start()
    from accelerate.state import AcceleratorState
    from transformers.integrations import unset_hf_deepspeed_config

    from residency.train.packed import PackedTrainer
    from residency.train.preferences.trainer import PreferenceTrainer
    from residency.train.reinforcement.online import GrpoTrainer
    from residency.train.reward import RewardTrainer

    kind, steps = "none", [""]

    def faulty(right: Any) -> Any:
        def compute_loss(self: Any, *args: Any, **kwargs: Any) -> Any:
            loss = right(self, *args, **kwargs)
            here = kind == "zero" or self.args.process_index == self.args.world_size - 1
            return spoilt(loss, kind) if here and str(self.state.global_step + 1) in steps else loss

        return compute_loss

    trainers: tuple[Any, ...] = (PackedTrainer, PreferenceTrainer, RewardTrainer, GrpoTrainer)
    for trainer in trainers:
        trainer.compute_loss = faulty(trainer.compute_loss)
    for fault, attempt in zip(sys.argv[1::2], map(Path, sys.argv[2::2]), strict=True):
        kind, _, numbers = fault.partition(":")
        steps = numbers.split(",")
        try:
            worker.run(attempt)
        except ResidencyError as error:
            if torch.distributed.get_rank() == 0:
                print(json.dumps({"code": error.code, "reason": str(error)}), flush=True)
        if hasattr(worker, "_lock"):
            worker._lock.close()
        AcceleratorState._reset_state()  # the next attempt has another ZeRO stage
        unset_hf_deepspeed_config()
        torch.distributed.barrier()


if __name__ == "__main__":
    main()
