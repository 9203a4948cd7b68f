"""What a curve says: its points with intervals, the landmarks of training, trend, and the price of choosing the best.

Written to `curves.json`, a list of `views.Curve`; everything is computed from the records of the points
(`residency.eval.curve`), on the same items at every step.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from residency.artifact import read_manifest, write_json
from residency.errors import ResidencyError
from residency.eval.comparison.views import Curve, CurvePoint
from residency.eval.records import (
    Record,
    clusters_of,
    lower_is_better,
    main_rows,
    parts,
    read_table,
)
from residency.eval.settings import CurveSettings, TaskSettings
from residency.eval.statistics import codes_of, paired_bootstrap, ratio_bootstrap
from residency.eval.statistics.curves import best_checkpoint, landmarks, trend

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Scores:
    """One task at every point of a curve, `T` points of `n` items."""

    steps: list[int]
    values: Floats
    """Numerators, `[T, n]`."""
    sizes: Floats
    """Denominators, `[n]`: ones, or bits of a document's bytes."""
    clusters: list[str]
    """`[n]`."""
    metric: str

    @property
    def scaled(self) -> Floats:
        """`[T, n]`, such that the mean over items is the task's value."""
        scaled: Floats = self.values / self.sizes.mean()
        return scaled


def read_curve(artifact: Path) -> dict[str, Scores]:
    """Task to its scores at every point, in the order of training.

    Raises:
        ResidencyError: no artifact of a curve, or points that hold different items.
    """
    manifest = read_manifest(artifact)
    if manifest.stage_kind != "curve":
        raise ResidencyError(f"{artifact} is no curve, but what a stage of kind {manifest.stage_kind} left")
    steps = [int(point["step"]) for point in manifest.measured["points"]]
    tables = [_by_task(artifact / f"step-{step}") for step in steps]
    return {task: _scores(task, steps, [table[task] for table in tables]) for task in tables[0]}


def view(artifact: Path, resamples: int, seed: int = 0) -> list[Curve]:
    """The curve of each task."""
    manifest = read_manifest(artifact)
    settings = CurveSettings.model_validate(manifest.settings)
    found, missing = read_curve(artifact), manifest.measured["missing"]
    return [
        _curve(settings.parent, task, found[task.name], missing, resamples, seed) for task in settings.tasks
    ]


def write(path: Path, artifacts: list[Path], resamples: int) -> None:
    """Write the curves of all finished stages, in the order of the chain."""
    curves = [curve for artifact in artifacts for curve in view(artifact, resamples)]
    write_json(path, [curve.model_dump(mode="json") for curve in curves])


def _by_task(directory: Path) -> dict[str, list[Record]]:
    tasks: dict[str, list[Record]] = {}
    for record in read_table(directory):
        tasks.setdefault(record["task"], []).append(record)
    return tasks


def _scores(task: str, steps: list[int], points: list[list[Record]]) -> Scores:
    items = [list(dict.fromkeys(record["id"] for record in main_rows(records))) for records in points]
    if any(ids != items[0] for ids in items):
        raise ResidencyError(f"task {task}: the points of the curve hold different items")
    tops, bottoms = zip(*(parts(records) for records in points), strict=True)
    return Scores(
        steps, np.array(tops), np.array(bottoms[0]), clusters_of(points[0]), str(points[0][0]["metric"])
    )


def _curve(
    stage: str, task: TaskSettings, scores: Scores, missing: list[int], resamples: int, seed: int
) -> Curve:
    clusters, lower = codes_of(scores.clusters), lower_is_better(scores.metric)
    points: list[CurvePoint] = []
    for step, values in zip(scores.steps, scores.values, strict=True):
        value, low, high = ratio_bootstrap(values, scores.sizes, clusters, resamples, seed)
        pair = (values, scores.values[0], clusters, resamples, seed)
        delta = paired_bootstrap(*pair, sizes=scores.sizes) if points else None
        points.append(CurvePoint(step=step, value=value, low=low, high=high, delta=delta))
    found = landmarks([point.value for point in points], higher_is_better=not lower)
    along = trend(scores.scaled, scores.steps, clusters, resamples, seed)
    best = best_checkpoint(scores.scaled, clusters, resamples, seed, higher_is_better=not lower)
    return Curve(
        stage=stage,
        task=task.name,
        title=task.title,
        domain=task.domain,
        metric=scores.metric,
        lower_is_better=lower,
        margin=task.margin,
        n=len(scores.sizes),
        clusters=len(set(scores.clusters)),
        points=points,
        bottom=scores.steps[found.bottom],
        recovery=None if found.recovery is None else scores.steps[found.recovery],
        best=scores.steps[found.best],
        gap=found.gap,
        slope=along.slope,
        first_to_last=along.first_to_last,
        gain=best.gain,
        selection_bias=best.selection_bias,
        missing=missing,
    )
