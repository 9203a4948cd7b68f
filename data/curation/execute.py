"""Runs the tasks of curation: one after another in this process, or on datatrove's executors.

A task is known by its rank and leaves a file that says it is done, so a build that was killed, or that is
started again with other workers, runs only what is missing. datatrove (https://github.com/huggingface/datatrove)
gives local processes, Slurm arrays and Ray. No torch here."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from residency.data.settings import CurationSettings
from residency.errors import Exit, ResidencyError

POLL_SECONDS = 2
SILENT_POLLS = 15


class Task(Protocol):
    """Work that is split over ranks; picklable, as it travels to other processes."""

    def done(self, rank: int) -> Path:
        """The file that exists when rank `rank` is done."""
        ...

    def __call__(self, data: Any, rank: int = 0, world_size: int = 1) -> Any:
        """Do the work of one rank; `data` is datatrove's, unused."""
        ...


def execute(task: Task, ranks: int, settings: CurationSettings, logs: Path) -> None:
    """Run every rank that is not done.

    Raises:
        ResidencyError: what a task raised; Slurm or Ray is asked for and datatrove is not installed; a Slurm
            job ended without finishing its tasks.
    """
    missing = [rank for rank in range(ranks) if not task.done(rank).exists()]
    if settings.executor != "local" and find_spec("datatrove") is None:
        raise ResidencyError(
            f"curation.executor = {settings.executor}: the package datatrove is not installed",
            cure='pip install "residency[curate]"',
            code=Exit.ENVIRONMENT,
        )
    workers = min(settings.workers or _cores(), len(missing))
    if settings.executor == "local" and (workers <= 1 or find_spec("datatrove") is None):
        for rank in missing:
            task(None, rank, ranks)
    elif missing:
        with logged(logs):
            EXECUTORS[settings.executor](task, ranks, workers, settings, logs)
        if lost := [rank for rank in missing if not task.done(rank).exists()]:
            raise ResidencyError(
                f"{len(lost)} of {ranks} tasks did not finish, the first is {lost[0]}",
                cure=f"Read {logs}, then run again: finished tasks are kept",
                code=Exit.ENVIRONMENT,
            )


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _local(task: Task, ranks: int, workers: int, settings: CurationSettings, logs: Path) -> None:
    from datatrove.executor import LocalPipelineExecutor

    LocalPipelineExecutor(
        [_Missing(task)], tasks=ranks, workers=workers, logging_dir=str(logs), skip_completed=False
    ).run()


def _slurm(task: Task, ranks: int, workers: int, settings: CurationSettings, logs: Path) -> None:
    from datatrove.executor import SlurmPipelineExecutor

    executor = SlurmPipelineExecutor(
        [_Missing(task)],
        tasks=ranks,
        workers=settings.workers or -1,
        time=settings.time,
        partition=settings.partition,
        mem_per_cpu_gb=settings.memory_gb,
        logging_dir=str(logs),
        job_name="residency-data",
        condaenv=None,
        env_command=f"export PATH={Path(sys.executable).parent}:$PATH",
        skip_completed=False,
        requeue=False,
        srun_args={"export": "ALL"},
    )
    executor.run()
    _wait(executor.job_id, task, ranks)


def _wait(job: str, task: Task, ranks: int) -> None:
    silent = 0  # times that squeue told nothing of the job; a controller may be away for a while
    while silent < SILENT_POLLS and not all(task.done(rank).exists() for rank in range(ranks)):
        queued = subprocess.run(["squeue", "-h", "-j", job], capture_output=True, text=True, check=False)
        silent = 0 if queued.returncode == 0 and queued.stdout.strip() else silent + 1
        time.sleep(POLL_SECONDS)


def _ray(task: Task, ranks: int, workers: int, settings: CurationSettings, logs: Path) -> None:
    from datatrove.executor.ray import RayPipelineExecutor

    RayPipelineExecutor(
        [_Missing(task)],
        tasks=ranks,
        workers=settings.workers or -1,
        mem_per_cpu_gb=settings.memory_gb,
        logging_dir=str(logs),
        skip_completed=False,
    ).run()


class _Missing:
    """A rank's task where it is not done yet; what datatrove's executors call."""

    def __init__(self, task: Task) -> None:
        self.task = task

    def __call__(self, data: Any, rank: int = 0, world_size: int = 1) -> Any:
        if not self.task.done(rank).exists():
            self.task(data, rank, world_size)
        return data


@contextmanager
def logged(logs: Path) -> Iterator[None]:
    """What datatrove and its processes say goes to a file; nothing of it belongs on the display."""
    logs.mkdir(parents=True, exist_ok=True)
    os.environ["LOGURU_DIAGNOSE"] = "NO"  # or a traceback in a log would hold the text of documents
    kept = os.dup(2)
    with (logs / "console.log").open("ab") as file:
        os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


EXECUTORS: dict[str, Callable[[Task, int, int, CurationSettings, Path], None]] = {
    "local": _local,
    "slurm": _slurm,
    "ray": _ray,
}
