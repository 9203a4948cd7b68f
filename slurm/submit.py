"""Submits a plan as a chain of Slurm jobs: one script per unfinished stage, each waits for its parents' jobs.

All directories are known before anything runs, so the whole chain is handed over at once and no process stays
behind to watch it. `<run>/slurm/jobs.json` remembers the job of each stage: submitting again skips finished
stages and those whose job still waits or runs, so a chain that broke is mended by the same command.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from residency.artifact import RunPaths, open_attempt, write_json
from residency.errors import Exit, ResidencyError
from residency.recipes import judging
from residency.recipes.chain import describe, locked
from residency.recipes.plan import Plan, PlannedStage
from residency.slurm.render import EXPORT, render
from residency.slurm.settings import ClusterSettings
from residency.train.batches import accumulation
from residency.train.settings import EngineSettings

UNREACHABLE = ("Unable to contact slurm controller", "Socket timed out", "authentication error")


@dataclass(frozen=True)
class Submitted:
    """One stage that is not finished yet."""

    name: str
    script: Path
    job_id: str | None
    """None: written only."""
    dependencies: list[str]
    """Stages whose jobs come first."""


def submit_plan(
    plan: Plan,
    *,
    dry_run: bool = False,
    environment: Mapping[str, str] | None = None,
    python: str = sys.executable,
) -> list[Submitted]:
    """Hand every unfinished stage to Slurm, parents first; `dry_run` writes scripts and attempts only.

    Raises:
        ResidencyError: no Slurm here, a batch that the ranks cannot share, or what sbatch answers.
    """
    environment = os.environ if environment is None else environment
    _check_batches(plan)
    if not dry_run:
        _find_sbatch(environment)
        if plan.base:
            plan.base.fetch()  # the nodes may have no network
    with locked(plan.paths):
        write_json(plan.paths.recipe, describe(plan))
        jobs = _Jobs(plan.paths, environment)
        waiting: dict[str, Submitted] = {}
        for stage in plan.stages.values():
            judging.pass_gates(plan, stage)
            if not stage.finished:
                script = _write(plan, stage, environment, python)
                needed = dict.fromkeys([*stage.parents.values(), *judging.gate_jobs(plan, stage)])
                parents = [name for name in needed if name in waiting]
                job = None if dry_run else jobs.alive(stage) or jobs.submit(stage, script, parents)
                waiting[stage.name] = Submitted(stage.name, script, job, parents)
    return list(waiting.values())


class _Jobs:
    """The jobs of a run, as `jobs.json` remembers them and as Slurm knows them."""

    def __init__(self, paths: RunPaths, environment: Mapping[str, str]) -> None:
        self.file = paths.scripts / "jobs.json"
        self.known: dict[str, dict[str, Any]] = {}
        if self.file.exists():
            self.known = json.loads(self.file.read_text())
        self.environment = environment
        self._queue: set[str] | None = None

    def alive(self, stage: PlannedStage) -> str | None:
        """The job of a stage that still waits or runs."""
        job = self.known.get(stage.name)
        if job is None or job["identity"] != stage.identity:
            return None
        if self._queue is None:
            rows = self._call(["squeue", "--noheader", "--me", "--format=%i %T"]).splitlines()
            self._queue = {row.split()[0] for row in rows if not row.endswith("COMPLETING")}
        return job["job"] if job["job"] in self._queue else None

    def submit(self, stage: PlannedStage, script: Path, parents: list[str]) -> str:
        """Submit one script after its parents' jobs; returns the job id."""
        after = [self.known[parent]["job"] for parent in parents]
        # on the command line too, because SBATCH_EXPORT of the caller's shell wins over the script
        command = ["sbatch", "--parsable", f"--export={EXPORT}"]
        if after:
            command += ["--kill-on-invalid-dep=yes", f"--dependency=afterok:{':'.join(after)}"]
        job = self._call([*command, str(script)]).strip().partition(";")[0]
        self.known[stage.name] = {"job": job, "identity": stage.identity, "after": after}
        write_json(self.file, self.known)
        return job

    def _call(self, command: list[str]) -> str:
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return done.stdout
        lines = done.stderr.strip().splitlines()
        text = "; ".join(line.removeprefix(f"{command[0]}: error: ") for line in lines)
        if any(words in text for words in UNREACHABLE):
            cure = "Try again when Slurm answers"
            raise ResidencyError(f"{command[0]}: {text}", cure=cure, code=Exit.ENVIRONMENT)
        cure = "Mend the block `cluster` and submit again; jobs that are in the queue stay there"
        raise ResidencyError(f"{command[0]} refused {command[-1]}: {text}", cure=cure)


def _write(plan: Plan, stage: PlannedStage, environment: Mapping[str, str], python: str) -> Path:
    """Prepare the attempt of a stage and write its script."""
    paths, file = plan.paths, plan.stage_file(stage)
    text = render(file, plan.recipe.cluster, python=python, directory=Path.cwd(), environment=environment)
    open_attempt(paths, file)
    for directory in (paths.scripts, paths.logs):
        directory.mkdir(parents=True, exist_ok=True)
    script = paths.scripts / f"{stage.name}.sbatch"
    script.write_text(text, encoding="utf-8")
    return script


def _check_batches(plan: Plan) -> None:
    """A batch that the ranks cannot share is known now, not when the job starts tomorrow."""
    cluster: ClusterSettings = plan.recipe.cluster
    ranks = cluster.nodes * cluster.tasks_per_node
    for stage in plan.stages.values():
        if stage.trains and not stage.finished:
            engine = EngineSettings.model_validate(stage.execution["engine"])
            accumulation(stage.name, stage.settings["batch_size"], engine, ranks)


def _find_sbatch(environment: Mapping[str, str]) -> None:
    if shutil.which("sbatch", path=environment.get("PATH")) is None:
        raise ResidencyError(
            "no sbatch on PATH: this machine has no Slurm",
            cure="Write the scripts with --dry-run, or train here with `residency run` or torchrun",
            code=Exit.ENVIRONMENT,
        )
