"""The `evaluate` stage: one model, every task, a record per item and way of asking it.

The model is loaded once; what it read and how it answered is left in `records.parquet`, and every later number is
computed from that. A task that this very model has answered before, asked in the same way, is taken from the cache of
the runs (`residency.eval.cache`). Several processes share the items of each task (`residency.eval.worker`).
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from residency.artifact import RunPaths, StageFile, commit, own, read_manifest, read_stage
from residency.data.passport import of_parent
from residency.eval import cache
from residency.eval.candidate import Candidate
from residency.eval.comparison.agreement import validity
from residency.eval.comparison.floors import floors_of
from residency.eval.measures import chosen_template, measure
from residency.eval.prompt import Row
from residency.eval.records import Record, by_item, main_rows, value_of, write_records
from residency.eval.rows import read_items
from residency.eval.settings import AskedTask, EvaluateSettings, LmEvalTask, TaskSettings
from residency.eval.shots import Shots
from residency.events import emit

T = TypeVar("T")


class Alone:
    """One process that does everything; `residency.eval.worker.Ranks` are several."""

    rank = 0
    size = 1

    def same(self, make: Callable[[], T]) -> T:
        """What the first process makes, in all of them."""
        return make()

    def gather(self, records: list[Record], place: Path) -> list[Record]:
        """The records of all processes in the first, in the order of ranks; nothing in the others.

        Args:
            place: a directory for the parts, of this call only.
        """
        return records


def run(attempt: Path, ranks: Alone | None = None) -> Path:
    """Score the parent model on every task; returns the records artifact.

    Args:
        ranks: the processes that share the items; each calls this, and the first leaves the artifact.

    Raises:
        ResidencyError: items that do not fit their task, or prompts that the model cannot read.
    """
    ranks = ranks or Alone()
    stage, payload = read_stage(attempt), attempt / "payload"
    owner = own(attempt) if ranks.rank == 0 else ""
    settings = EvaluateSettings.model_validate(stage.settings)
    # Every task is read before the model is loaded: a mistake in the last one costs nothing.
    questions = {task.name: Questions(task, stage) for task in settings.tasks}
    examination = _Examination(stage, settings, ranks, attempt / "parts")
    records: list[Record] = []
    measured: dict[str, Any] = {}
    for task in settings.tasks:
        started = time.perf_counter()
        found, cached = examination.records_of(task, questions[task.name])
        if ranks.rank:
            continue
        measured[task.name] = _summary(found, time.perf_counter() - started, cached)
        measured[task.name]["floors"] = floors_of(task, questions[task.name].rows)
        summary = {name: measured[task.name][name] for name in ("value", "n", "seconds")}
        emit(RunPaths(stage.run).events, "task_scored", stage.name, task=task.name, **summary)
        records += found
    if ranks.rank:
        return RunPaths(stage.run).artifact(stage.name, stage.identity)
    shutil.rmtree(payload, ignore_errors=True)
    payload.mkdir()
    write_records(payload, records)
    seconds = round(sum(task["seconds"] for task in measured.values()), 3)
    facts = {"tasks": measured, "seconds": seconds, **examination.key}
    return commit(attempt, payload, "records", owner=owner, measured=facts, passport=passport_of(stage))


class Questions:
    """The rows of one task: its items, the rows of its solved examples, and those that choose its wording."""

    def __init__(self, task: TaskSettings, stage: StageFile) -> None:
        items = f"items:{task.name}"
        if isinstance(task, LmEvalTask):
            from residency.eval.lm_eval_bridge import refuse_changed

            refuse_changed(task, stage.parent_identities[items])
        self.rows = read_items(task, stage.parents[items])
        self.identities = {
            role: identity
            for role, identity in sorted(stage.parent_identities.items())
            if role.endswith(f":{task.name}")
        }
        self.validation: list[Row] = []
        shots: list[Row] = []
        if isinstance(task, AskedTask):
            whole = task.model_copy(update={"limit": None, "share": None})
            if task.shots:
                shots = read_items(whole, stage.parents[f"shots:{task.name}"], solved=True)
            if task.validation:
                self.validation = read_items(whole, stage.parents[f"validation:{task.name}"])
        self.solved = Shots(task.name, task.shots if isinstance(task, AskedTask) else 0, shots)


class _Examination:
    """One model before its tasks. It is loaded when the first task is not in the cache."""

    def __init__(self, stage: StageFile, settings: EvaluateSettings, ranks: Alone, places: Path) -> None:
        self.stage, self.settings, self.ranks, self.places = stage, settings, ranks, places

    @cached_property
    def candidate(self) -> Candidate:
        return Candidate.load(self.stage.parents["model"], self.settings.max_length)

    @cached_property
    def key(self) -> dict[str, Any]:
        return self.ranks.same(lambda: cache.model_key(self.stage.parents["model"], self.settings.max_length))

    def records_of(self, task: TaskSettings, questions: Questions) -> tuple[list[Record], bool]:
        """Records of a task in the first process, and whether they come from the cache."""
        path = cache.path_of(self.stage.run.parent, task, questions.identities, self.key)
        known = cache.read(path, task) if self.ranks.rank == 0 else None
        if self.ranks.same(lambda: known is not None):
            return known or [], True
        asked, rows = task, questions.rows[self.ranks.rank :: self.ranks.size]
        if questions.validation:
            asked = self.ranks.same(
                lambda: chosen_template(task, self.candidate, questions.validation, questions.solved)
            )
        mine = measure(asked, self.candidate, rows, questions.solved, []) if rows else []
        found = self.ranks.gather(mine, self.places / task.name)
        found = by_item(found, [row["id"] for row in questions.rows])
        if self.ranks.rank == 0:
            cache.write(path, found)
        return found, False


def _summary(records: list[Record], seconds: float, cached: bool) -> dict[str, Any]:
    main = main_rows(records)
    return {
        "metric": main[0]["metric"],
        "value": value_of(records),
        "n": len({record["id"] for record in main}),
        "items_cut": len({record["id"] for record in main if record["cut_tokens"]}),
        "items_with_fewer_shots": len({record["id"] for record in main if record["cut_shots"]}),
        "replies": validity(records),
        "templates": sorted({record["template"] for record in main if record["template"]}),
        "seconds": round(seconds, 3),
        "cached": cached,
    }


def passport_of(stage: StageFile) -> list[dict[str, Any]]:
    """What the model was made of, and whose the items are."""
    items = [
        path
        for role, path in stage.parents.items()
        if role.startswith("items:") and (path / "manifest.json").exists()  # lm-eval's tasks are no artifacts
    ]
    asked = [entry for path in items for entry in read_manifest(path).passport]
    return [*of_parent(stage), *(entry for at, entry in enumerate(asked) if entry not in asked[:at])]
