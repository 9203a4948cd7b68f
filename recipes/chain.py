"""Runs a plan: walks the graph, skips what is finished, starts what is missing, and writes verdict and report.

The run directory is the database. One run at a time works in it (a lock says who); a failed or killed run leaves every
finished artifact and checkpoint in place, and the same command continues.
"""

from __future__ import annotations

import fcntl
import importlib
import json
import logging
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from residency import events
from residency.artifact import RunPaths, check_files, open_attempt, read_stage, write_json
from residency.errors import Exit, ResidencyError
from residency.recipes import beside, judging
from residency.recipes.plan import Plan, PlannedStage
from residency.recipes.progress import Progress
from residency.recipes.schema import Recipe
from residency.train.launch import launch, local_processes

IN_PROCESS = {
    "corpus": "residency.data.corpus",
    "tokens": "residency.data.tokens",
    "pairs": "residency.data.pairs",
    "replies": "residency.data.replies",
    "prompts": "residency.data.prompts",
    "scratch": "residency.train.scratch",
    "vocab": "residency.train.vocab",
    "merge": "residency.train.merge",
    "evaluate": "residency.eval.evaluate",
    "curve": "residency.eval.curve",
    "export": "residency.train.export",
}
SPARE_BYTES = 64 * 2**20


def run(plan: Plan, *, verify: bool = False) -> None:
    """Bring every stage of the plan to its artifact.

    Args:
        verify: rehash the files of finished artifacts instead of comparing sizes only.

    Raises:
        ResidencyError: the user's mistake, wherever it shows; what is finished stays.
    """
    paths = plan.paths
    with locked(paths):
        _prepare(plan)
        with Progress(paths.events, plan) as progress, _reported(plan):
            worked = [_bring_and_judge(plan, stage, progress, verify) for stage in plan.stages.values()]
        if any(worked) or not _is_concluded(plan):
            conclude(plan)


def build_corpora(plan: Plan) -> None:
    """Bring only the corpora of the plan to their artifacts, before any accelerator is held; not those that are made
    of what a stage writes.

    Raises:
        ResidencyError: as `run`.
    """
    with locked(plan.paths):
        _prepare(plan)
        with Progress(plan.paths.events, plan) as progress:
            for stage in plan.stages.values():
                made_of = (plan.stages[parent] for parent in stage.parents.values())
                if stage.kind == "corpus" and all(parent.finished for parent in made_of):
                    _bring(plan, stage, progress, verify=False)


def _prepare(plan: Plan) -> None:
    for absent in plan.absent.values():
        raise absent
    if plan.base:
        plan.base.fetch()
    described = describe(plan)
    if not _holds(plan.paths.recipe, described):
        write_json(plan.paths.recipe, described)


def _holds(path: Path, value: dict[str, Any]) -> bool:
    """Whether a JSON file says this; not if it is missing or damaged."""
    try:
        return bool(json.loads(path.read_text(encoding="utf-8")) == value)
    except (FileNotFoundError, ValueError):
        return False


def _is_concluded(plan: Plan) -> bool:
    """Whether verdict and report are of this recipe and of what its stages left: neither of another one that found all
    of its stages finished, nor of the time before a kill."""
    manifests = (stage.artifact / "manifest.json" for stage in plan.stages.values())
    told_of = [plan.paths.recipe, *(path for path in manifests if path.exists())]
    written = plan.paths.report.stat().st_mtime_ns if plan.paths.report.exists() else 0
    return written > max(path.stat().st_mtime_ns for path in told_of)


def _bring_and_judge(plan: Plan, stage: PlannedStage, progress: Progress, verify: bool) -> bool:
    """As `_bring`; the chain stops here where a gate refuses."""
    worked = _bring(plan, stage, progress, verify)
    judging.pass_gates(plan, stage)
    return worked


def _bring(plan: Plan, stage: PlannedStage, progress: Progress, verify: bool) -> bool:
    """Skip or run one stage; whether it ran."""
    if stage.finished:
        if faults := check_files(stage.artifact, rehash=verify):
            raise ResidencyError(faults[0], cure=f"Remove {stage.artifact} to make it again")
        events.emit(plan.paths.events, "stage_skipped", stage.name, identity=stage.identity)
        progress.skipped(stage)
        return False
    attempt = open_attempt(plan.paths, plan.stage_file(stage))
    _check_room(plan.paths.root)
    events.emit(plan.paths.events, "stage_started", stage.name, kind=stage.kind, identity=stage.identity)
    progress.started(stage)
    started = time.monotonic()
    try:
        fault = _start(plan, stage, attempt, progress)
    except (ResidencyError, OSError) as error:
        known = error if isinstance(error, ResidencyError) else _environment(attempt, error)
        events.emit(
            plan.paths.events, "stage_failed", stage.name, reason=str(known), exit_code=int(known.code)
        )
        raise known from error
    if fault:
        events.emit(
            plan.paths.events, "stage_failed", stage.name, reason=fault, exit_code=int(Exit.OUR_FAULT)
        )
        progress.noted(stage, fault)
        return True
    assert stage.finished, f"stage {stage.name} ended without its artifact"
    seconds = round(time.monotonic() - started, 2)
    events.emit(plan.paths.events, "stage_finished", stage.name, seconds=seconds)
    progress.finished(stage, seconds)
    return True


def _start(plan: Plan, stage: PlannedStage, attempt: Path, progress: Progress) -> str | None:
    """Run a stage in the way of its kind; returns why it failed where the chain goes on without it."""
    log = plan.paths.logs / f"{stage.name}.log"
    if stage.has_ranks:
        processes = local_processes(stage.execution["engine"]["processes"])
        with beside.scoring(plan, stage, processes):
            launch(attempt, processes, log, progress.update)
    elif stage.kind == "curve":
        return beside.finish(plan, stage)
    elif (
        stage.kind == "evaluate"
        and (ranks := local_processes(stage.execution["processes"], "evaluation.processes")) > 1
    ):
        launch(attempt, ranks, log, progress.update, module="residency.eval.worker")
    else:
        run_in_process(attempt)
    return None


def run_in_process(attempt: Path) -> Path:
    """Run a stage that needs no ranks, from its attempt directory; returns the artifact."""
    stage = read_stage(attempt)
    artifact = RunPaths(stage.run).artifact(stage.name, stage.identity)
    if (artifact / "manifest.json").exists():
        return artifact
    if stage.kind not in IN_PROCESS:
        raise ResidencyError(
            f"stage {stage.name} is of kind {stage.kind}",
            cure="Start it with torchrun -m residency.train.worker",
        )
    _quiet()
    made: Path = importlib.import_module(IN_PROCESS[stage.kind]).run(attempt)
    return made


def conclude(plan: Plan) -> None:
    """Write `verdict.json` and `report.html` from what the finished stages left; needs no model."""
    from residency.eval.pages import report

    judging.write_verdict(plan)
    beside.write_curves(plan)
    report.write(plan.paths.root, siblings=siblings(plan.paths.root))


@contextmanager
def _reported(plan: Plan) -> Iterator[None]:
    """A run that stops leaves a report of how far it came, and why it stopped."""
    try:
        yield
    except ResidencyError:
        from residency.eval.pages import report

        report.write(plan.paths.root, siblings=siblings(plan.paths.root))
        raise


def conclude_run(root: Path) -> None:
    """`conclude` for a run that is known by its directory only, as the job of a stage knows it.

    Raises:
        ResidencyError: exit code 3; a gate refuses, so the jobs that wait for this one shall not start.
    """
    written = json.loads(RunPaths(root).recipe.read_text())["recipe"]
    plan = Plan(Recipe.model_validate_json(json.dumps(written)), RunPaths(root))
    conclude(plan)
    for stage in plan.stages.values():
        judging.pass_gates(plan, stage)


def siblings(run: Path) -> list[Path]:
    """Other runs beside this one whose name begins with the same recipe name, such as one without replay."""
    stem = run.name.split("-")[0]
    return [
        path.parent
        for path in sorted(run.parent.glob(f"{stem}*/verdict.json"))
        if path.parent.name != run.name
    ]


def describe(plan: Plan) -> dict[str, Any]:
    """`recipe.json`: the resolved recipe and the graph, for the report and `residency status`."""
    return {
        "name": plan.recipe.name,
        "recipe": json.loads(plan.recipe.model_dump_json(by_alias=True, exclude_unset=True)),
        "stages": [
            {
                "name": stage.name,
                "kind": stage.kind,
                "identity": stage.identity,
                "parents": stage.parents,
                "for": stage.serves,
            }
            for stage in plan.stages.values()
        ],
    }


@contextmanager
def locked(paths: RunPaths) -> Iterator[None]:
    """Hold the run directory; a second run on it is refused.

    Raises:
        ResidencyError: the directory cannot be written, or another run holds it.
    """
    try:
        paths.root.mkdir(parents=True, exist_ok=True)
        lock = paths.lock.open("a+")
    except OSError as error:
        raise ResidencyError(
            f"{paths.root}: {error.strerror}", cure="Choose a directory with --runs"
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            raise ResidencyError(
                f"{paths.root} is in use by process {lock.read().strip()}", cure="Wait for it, or end it"
            ) from error
        # A process that is forked (not started anew) must not keep the lock when this one is killed.
        os.register_at_fork(after_in_child=lock.close)
        lock.truncate(0)
        lock.write(f"{os.getpid()} on {os.uname().nodename}")
        lock.flush()
        yield


def _environment(attempt: Path, error: OSError) -> ResidencyError:
    """The disk or the machine failed in the middle of a stage; what was half done is no artifact yet."""
    shutil.rmtree(attempt / "payload", ignore_errors=True)
    place = error.filename or attempt
    return ResidencyError(
        f"{place}: {error.strerror or error}", cure="Mend it and run again", code=Exit.ENVIRONMENT
    )


def _check_room(root: Path) -> None:
    free = shutil.disk_usage(root).free
    if free < SPARE_BYTES:
        raise ResidencyError(
            f"{root}: {free / 2**20:.0f} MiB free, at least {SPARE_BYTES // 2**20} are needed",
            cure="Free some, or choose another directory with --runs",
            code=Exit.ENVIRONMENT,
        )


def _quiet() -> None:
    """Keep the libraries' own progress bars and chatter out of the display."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    logging.getLogger("DeepSpeed").addFilter(lambda record: record.levelno >= logging.ERROR)
