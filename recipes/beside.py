"""The scoring of checkpoints beside a training stage: a process of `residency.eval.curve`, started by the chain.

It can fail without harm to the training: what it did not score is held, and scored when the chain comes to the stage of
the curve. When that fails too, the curve is the only thing that is missing; running again makes it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from residency.artifact import open_attempt, read_attempt
from residency.eval.settings import ENDED
from residency.recipes.plan import Plan, PlannedStage


@contextmanager
def scoring(plan: Plan, stage: PlannedStage, processes: int) -> Iterator[None]:
    """Within, checkpoints of a training stage on `processes` ranks are scored as they come, if the recipe asks for it.

    When the training has ended, the process ends with the checkpoint that it is at; `finish` waits for it.
    """
    curve = plan.curve_of(stage)
    if curve is None or curve.finished:
        yield
        return
    attempt = open_attempt(plan.paths, plan.stage_file(curve))
    (attempt / ENDED).unlink(missing_ok=True)
    process = _start(plan, curve, attempt, processes, "--beside")
    try:
        yield
    except BaseException:
        process.terminate()  # its points stay, and the next run goes on
        process.wait()
        raise
    finally:
        (attempt / ENDED).touch()


def finish(plan: Plan, curve: PlannedStage) -> str | None:
    """Bring a curve to its artifact, once its stage has ended; the reason where that failed."""
    attempt = open_attempt(plan.paths, plan.stage_file(curve))
    process = _start(plan, curve, attempt, 0)
    try:
        code = process.wait()
    except BaseException:
        process.terminate()
        process.wait()
        raise
    if code == 0:
        return None
    reason = read_attempt(attempt).get("reason") or f"the process ended with {code}"
    return f"{reason} (log: {_log(plan, curve)})"


def _log(plan: Plan, curve: PlannedStage) -> Path:
    return plan.paths.logs / f"{curve.name}.log"


def _start(
    plan: Plan, curve: PlannedStage, attempt: Path, processes: int, *flags: str
) -> subprocess.Popen[bytes]:
    threads = max(1, len(os.sched_getaffinity(0)) // (processes + 1))
    log = _log(plan, curve)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "residency.eval.curve", *flags, str(attempt)],
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env={
                **os.environ,
                "OMP_NUM_THREADS": str(threads),
                "CUDA_VISIBLE_DEVICES": curve.execution["devices"],
            },
        )


def write_curves(plan: Plan) -> None:
    """Write `curves.json` from the curves that are finished."""
    finished = [stage.artifact for stage in plan.stages.values() if stage.kind == "curve" and stage.finished]
    if not finished:
        plan.paths.curves.unlink(missing_ok=True)
        return
    from residency.eval.comparison import curve_view

    curve_view.write(plan.paths.curves, finished, plan.recipe.evaluation.resamples)
