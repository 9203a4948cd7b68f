"""One rank of the training benchmark: both subjects, all arms in turns, figures on rank 0."""

from __future__ import annotations

import json
import logging
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from residency.train import engine
from tests.bench.record import tell


def main(options: dict[str, Any]) -> None:
    """Measure, print, and append the record."""
    load = os.getloadavg()[0]  # of others: ours comes next
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    rank, world_size = engine.start()
    import torch

    from tests.bench import figures, workload

    size = workload.scale(options, cuda=torch.cuda.is_available())
    directory = Path(options["directory"])
    if rank == 0:
        workload.prepare(directory, size)
    torch.distributed.barrier()
    speeds: list[float] = []
    measured = {
        name: measure(workload.load(directory, name), size, world_size, speeds) for name in ("cpt", "sft")
    }
    ceiling = sum(_gathered(max(speeds)))
    found = [figures.Figure("matmul_ceiling_tflops", ceiling / 1e12)]
    for subject, results in measured.items():
        found += figures.subject_figures(subject, results, ceiling, size.max_length)
    if rank == 0:
        tell(
            Path(options["record"]), "train", found, {**asdict(size), "processes": world_size},
            load=load, threads=torch.get_num_threads(),
        )  # fmt: skip
    torch.distributed.barrier()
    os._exit(0)  # three engines and their threads need no farewell


def measure(work: Any, size: Any, world_size: int, speeds: list[float]) -> dict[str, Any]:
    """One subject: every arm is built and warmed up, then they take turns, each pair in another order.

    The speed of a matrix product is taken before each pair, added to `speeds`.
    """
    from accelerate.state import AcceleratorState

    from tests.bench.arms import ARMS, whole_corpus
    from tests.bench.figures import Result, matmul_speed
    from tests.bench.turns import Arm
    from tests.bench.workload import WARM_UP

    arms = []
    for name, build in ARMS.items():
        AcceleratorState._reset_state()  # it keeps the first trainer's batch size for all later ones
        trainer = build(work, size, world_size)
        arm = Arm(name, trainer, size.steps, trainer.processing_class.pad_token_id)
        for _ in range(WARM_UP):
            arm.advance()
        arms.append(arm)
    for pair in range(size.pairs):
        speeds.append(matmul_speed(_dtype(), _device()))
        turn = pair % len(arms)
        for arm in arms[turn:] + arms[:turn]:
            arm.advance()
    results = {}
    for arm in arms:
        arm.advance()
        timings = _over_ranks(arm.timings[WARM_UP:])
        results[arm.name] = Result(
            timings, *whole_corpus(arm.name, arm.trainer, work), arm.loss(), arm.trainer.model
        )
    return results


def _dtype() -> Any:
    from residency.model import resolve_precision

    return resolve_precision("auto")


def _device() -> str:
    import torch

    return f"cuda:{os.environ['LOCAL_RANK']}" if torch.cuda.is_available() else "cpu"


def _gathered(value: Any) -> list[Any]:
    import torch

    everyone: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(everyone, value)
    return everyone


def _over_ranks(timings: list[Any]) -> list[Any]:
    """Timings of all ranks as one: the slowest's seconds, everyone's tokens, the largest peak."""
    from tests.bench.turns import Timing

    return [
        Timing(
            max(part.seconds for part in turn),
            sum(part.loss_tokens for part in turn),
            sum(part.tokens for part in turn),
            max(part.peak_bytes for part in turn),
        )
        for turn in zip(*_gathered(timings), strict=True)
    ]


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
