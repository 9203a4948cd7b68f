"""The curve of a training stage: a quick suite on each of its checkpoints, while it trains or afterwards.

    python -m residency.eval.curve --beside runs/NAME/cpt-curve-1a2b3c4d.attempt   until the stage has trained
    python -m residency.eval.curve runs/NAME/cpt-curve-1a2b3c4d.attempt            what is left, and the artifact

The training stage holds the weights of its checkpoints in the attempt of its curve, `held/step-N`, so pruning takes
none away. Each is scored, leaves a point, `payload/step-N`, and is let go. Step 0 is the stage's parent. One process at
a time works on a curve, the next one waits; a killed one loses no more than the point that it was at.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from residency.artifact import (
    RunPaths,
    StageFile,
    commit,
    own,
    read_manifest,
    read_stage,
    report_attempt,
    sha256,
    write_json,
)
from residency.errors import Exit, ResidencyError
from residency.eval.candidate import Candidate
from residency.eval.evaluate import Questions, passport_of
from residency.eval.measures import measure
from residency.eval.records import Record, clusters_of, lower_is_better, parts, write_records
from residency.eval.settings import ENDED, HELD, CurveSettings
from residency.eval.statistics import ratio_bootstrap
from residency.events import emit
from residency.model import base_of

POINT = "point.json"
POLL_SECONDS = 0.2
# Niceness: a quarter of a core that a rank keeps busy. The ranks wait for each other: what one loses, all lose.
LOW_PRIORITY = 5
RESAMPLES = 1000  # for the interval in the event; the report draws its own


def main(arguments: list[str] | None = None) -> None:
    """Entry of the process; exits with a code of `residency.errors.Exit`."""
    arguments = sys.argv[1:] if arguments is None else arguments
    beside, places = "--beside" in arguments, [one for one in arguments if one != "--beside"]
    if len(places) != 1:
        print("usage: python -m residency.eval.curve [--beside] ATTEMPT_DIR", file=sys.stderr)
        sys.exit(Exit.USER_INPUT)
    attempt = Path(places[0]).resolve()
    try:
        if beside:
            os.nice(LOW_PRIORITY)
            run_beside(attempt)
        else:
            run(attempt)
    except ResidencyError as error:
        print(f"residency: {error}", file=sys.stderr)
        _report(attempt, error.code, str(error))
        sys.exit(error.code)
    except Exception as error:
        traceback.print_exc()
        first = str(error).partition("\n")[0]
        _report(attempt, Exit.OUR_FAULT, f"{type(error).__name__}: {first}")
        sys.exit(Exit.OUR_FAULT)


def run(attempt: Path) -> Path:
    """Score what is held of a stage that has ended, and leave the curve's artifact; returns its directory.

    Raises:
        ResidencyError: the stage has not ended, or its checkpoints cannot be scored.
    """
    with _alone(attempt) as finished:
        if finished:
            return finished
        stage = read_stage(attempt)
        series = _Series(attempt, stage)
        for step, directory in series.waiting():
            series.score(step, directory)
        return series.finish()


def run_beside(attempt: Path) -> None:
    """Score checkpoints as they come, until the training ends; `run` does what is left then."""
    starter = os.getppid()
    while not (attempt / "stage.json").exists() and os.getppid() == starter:
        time.sleep(POLL_SECONDS)
    with _alone(attempt) as finished:
        if finished:
            return
        stage = StageFile.model_validate_json((attempt / "stage.json").read_text())
        series = _Series(attempt, stage, beside=True)
        while not (series.trained or (attempt / ENDED).exists() or os.getppid() != starter):
            if found := next(series.waiting(), None):
                series.score(*found)
            else:
                time.sleep(POLL_SECONDS)


class _Series:
    """The checkpoints of one stage, one after another through the same tasks."""

    def __init__(self, attempt: Path, stage: StageFile, *, beside: bool = False) -> None:
        self.attempt, self.stage, self.payload = attempt, stage, attempt / "payload"
        devices = stage.execution["devices"]
        if beside or not devices or "SLURM_JOB_ID" not in os.environ:  # else a job of its own, with its own
            os.environ["CUDA_VISIBLE_DEVICES"] = devices  # before torch is imported
        self.settings = CurveSettings.model_validate(stage.settings)
        self.questions = {task.name: Questions(task, stage) for task in self.settings.tasks}
        self.resident: Candidate | None = None
        self.owner = own(attempt)
        for left in self.payload.glob(".*"):  # by a killed process
            shutil.rmtree(left)

    @property
    def trained(self) -> bool:
        return (self.stage.parents["model"] / "manifest.json").exists()

    def waiting(self) -> Iterator[tuple[int, Path]]:
        """Steps that have no point yet, with their weights; the last one is the trained model where none is held."""
        known = {0: self.stage.parents["start"]}
        if self.trained:
            known[int(read_manifest(self.stage.parents["model"]).measured["steps"])] = self.stage.parents[
                "model"
            ]
        known |= {_step(path): path for path in (self.attempt / HELD).glob("step-*")}
        for step in sorted(known):
            if not (self.payload / f"step-{step}").exists():
                yield step, known[step]

    def score(self, step: int, directory: Path) -> None:
        """Leave the point of one step, whole or not at all, and let its weights go."""
        started = time.perf_counter()
        candidate = self._candidate(directory)
        records: list[Record] = []
        tasks: dict[str, dict[str, Any]] = {}
        for task in self.settings.tasks:
            asked = self.questions[task.name]
            found = measure(task, candidate, asked.rows, asked.solved, asked.validation)
            records += found
            tasks[task.name] = _value(found)
        beside = self.payload / f".step-{step}"
        beside.mkdir(parents=True)
        write_records(beside, records)
        facts = {
            "step": step,
            "time": round(time.time(), 3),
            "seconds": round(time.perf_counter() - started, 3),
            "precision": str(candidate.model.dtype).removeprefix("torch."),
            "weights_sha256": {path.name: sha256(path) for path in sorted(directory.glob("*.safetensors"))},
            "tasks": tasks,
        }
        write_json(beside / POINT, facts)
        beside.rename(self.payload / f"step-{step}")
        for name, fields in tasks.items():
            emit(
                RunPaths(self.stage.run).events,
                "checkpoint_scored",
                self.stage.name,
                of=self.settings.parent,
                step=step,
                task=name,
                **fields,
            )
        if directory.parent == self.attempt / HELD:
            shutil.rmtree(directory)

    def _candidate(self, directory: Path) -> Candidate:
        """The model of one checkpoint; an adapter is put on weights that stay loaded."""
        held = directory.parent == self.attempt / HELD
        if held and (directory / "adapter_config.json").exists():
            merged, start = self.attempt / HELD / "base", self.stage.parents["start"]
            base = merged if merged.exists() else base_of(start)[0]
            if self.resident is None:
                self.resident = Candidate.load(base, self.settings.max_length, tokenizer=directory)
            self.resident.swap(directory, base=base)
            candidate = self.resident
        else:
            candidate = Candidate.load(directory, self.settings.max_length)
        if self.settings.chat_template:
            candidate.tokenizer.chat_template = self.settings.chat_template
        return candidate

    def finish(self) -> Path:
        """Commit the points that there are."""
        import json

        points = [
            json.loads((path / POINT).read_text()) for path in sorted(self.payload.glob("step-*"), key=_step)
        ]
        steps = [point["step"] for point in points]
        measured = {
            "points": points,
            "missing": [step for step in self._wanted() if step not in steps],
            "seconds": round(sum(point["seconds"] for point in points), 3),
        }
        passport = passport_of(self.stage)
        return commit(
            self.attempt, self.payload, "records", owner=self.owner, measured=measured, passport=passport
        )

    def _wanted(self) -> list[int]:
        """Steps at which there should be a point; those before the curve was asked for are not."""
        last = int(read_manifest(self.stage.parents["model"]).measured["steps"])
        between = (self.settings.save_every or max(1, -(-last // 4))) * self.settings.every
        return [*range(0, last, between), last]


def _value(records: list[Record]) -> dict[str, Any]:
    """Value of a task with its interval, and which direction of it is better."""
    tops, bottoms = parts(records)
    value, low, high = ratio_bootstrap(tops, bottoms, clusters_of(records), RESAMPLES, 0)
    lower = lower_is_better(str(records[0]["metric"]))
    return {"n": len(tops), "value": value, "low": low, "high": high, "lower_is_better": lower}


@contextmanager
def _alone(attempt: Path) -> Iterator[Path | None]:
    """Wait for the process that works on this curve; within, the artifact if there is one already."""

    def artifact() -> Path | None:
        name = attempt.name.removesuffix(".attempt")
        finished = attempt.with_name(name)
        return finished if (finished / "manifest.json").exists() else None

    if found := artifact():
        yield found
        return
    with (attempt / "curve.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield artifact()


def _report(attempt: Path, code: Exit, reason: str) -> None:
    if attempt.is_dir():
        report_attempt(attempt, status="failed", exit_code=int(code), reason=reason)


def _step(directory: Path) -> int:
    return int(directory.name.rpartition("-")[2])


if __name__ == "__main__":
    main()
