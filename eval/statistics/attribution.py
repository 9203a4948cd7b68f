"""Which stage brought what: paired contrasts along the chain that add up, and means over a suite of tasks.

All stages answered the same items and are resampled together, so the steps add up to the total in every resample. Tasks
that share a cluster (one question in two tests) are resampled as one; the others are independent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from residency.eval.statistics.paired import Interval, interval_of
from residency.eval.statistics.resampling import cluster_sums, codes_of, draw

Floats = NDArray[np.float64]
Clusters = Sequence[str] | NDArray[np.int64]


class Attribution(NamedTuple):
    """Contrasts of each stage with the one before; their estimates add up to the total's."""

    steps: list[Interval]
    total: Interval
    """The last stage less the first."""


def attribute(
    scores: ArrayLike, clusters: Clusters, resamples: int, seed: int, *, sizes: ArrayLike | None = None
) -> Attribution:
    """Contrasts of one task.

    Args:
        scores: `[stages, n]`, stages in the order of the chain, at least two.
        sizes: where the value is a ratio (bits per byte), each item's denominator; ones otherwise.
    """
    every = None if sizes is None else {"": sizes}
    return attribute_suite({"": scores}, {"": clusters}, resamples, seed, sizes=every)


def attribute_suite(
    scores: Mapping[str, ArrayLike],
    clusters: Mapping[str, Clusters],
    resamples: int,
    seed: int,
    *,
    sizes: Mapping[str, ArrayLike] | None = None,
    weights: Mapping[str, float] | None = None,
) -> Attribution:
    """Contrasts of the mean over tasks.

    Args:
        scores: task to `[stages, n]`; the same stages in every task.
        clusters: task to `[n]`; the same key in two tasks is one cluster.
        weights: of the tasks, by default equal; scaled to 1.
    """
    tables = {task: np.asarray(table, dtype=float) for task, table in scores.items()}
    stages = {len(table) for table in tables.values()}
    assert len(stages) == 1 and min(stages) > 1, stages
    parts = {
        task: np.column_stack([np.diff(tables[task], axis=0).T, _sizes(sizes, task, tables)])
        for task in tables
    }
    share = {task: (weights or {}).get(task, 0.0 if weights else 1.0) for task in tables}
    whole = sum(share.values())
    assert whole > 0, share
    steps, estimate = min(stages) - 1, np.zeros(min(stages) - 1)
    drawn, fewest = np.zeros((resamples, steps)), 2**62
    for number, tasks in enumerate(_connected(clusters)):
        totals, count = _draw_together(tasks, parts, clusters, resamples, seed + number)
        fewest = min(fewest, count)
        for task in tasks:
            weight, sums = share[task] / whole, parts[task].sum(axis=0)
            estimate += weight * sums[:-1] / sums[-1]
            drawn += weight * totals[task][:, :-1] / totals[task][:, -1:]
    total = interval_of(float(estimate.sum()), drawn.sum(axis=1), fewest)
    found = Attribution([interval_of(estimate[n], drawn[:, n], fewest) for n in range(steps)], total)
    assert abs(sum(step[0] for step in found.steps) - total[0]) <= 1e-9 * (1 + abs(total[0]))
    return found


def suite_difference(
    candidate: Mapping[str, ArrayLike],
    reference: Mapping[str, ArrayLike],
    clusters: Mapping[str, Clusters],
    resamples: int,
    seed: int,
    *,
    sizes: Mapping[str, ArrayLike] | None = None,
    weights: Mapping[str, float] | None = None,
) -> Interval:
    """Mean over tasks of candidate - reference, each task with the same weight unless `weights` says other.

    Args:
        candidate, reference, clusters: task to `[n]`, items in the same order.
    """
    scores = {
        task: np.stack([np.asarray(reference[task]), np.asarray(candidate[task])]) for task in candidate
    }
    return attribute_suite(scores, clusters, resamples, seed, sizes=sizes, weights=weights).total


def _sizes(sizes: Mapping[str, ArrayLike] | None, task: str, tables: Mapping[str, Floats]) -> Floats:
    if sizes is None or task not in sizes:
        return np.ones(tables[task].shape[1])
    return np.asarray(sizes[task], dtype=float)


def _connected(clusters: Mapping[str, Clusters]) -> list[list[str]]:
    """Tasks in groups that share no cluster with one another."""
    groups: list[tuple[list[str], set[object]]] = []
    for task, names in clusters.items():
        own: tuple[list[str], set[object]] = ([task], set(names))
        apart = []
        for group in groups:
            if group[1].isdisjoint(own[1]):
                apart.append(group)
            else:
                own = (group[0] + own[0], group[1] | own[1])
        groups = [*apart, own]
    return [tasks for tasks, _ in groups]


def _draw_together(
    tasks: list[str], parts: Mapping[str, Floats], clusters: Mapping[str, Clusters], resamples: int, seed: int
) -> tuple[dict[str, Floats], int]:
    """Totals of each task of a group, `[resamples, k]`, from the same draws of clusters; and their number."""
    names = [name for task in tasks for name in clusters[task]]
    width = parts[tasks[0]].shape[1]
    values = np.zeros((len(names), width * len(tasks)))
    row = 0
    for place, task in enumerate(tasks):
        rows = len(parts[task])
        values[row : row + rows, width * place : width * (place + 1)] = parts[task]
        row += rows
    sums = cluster_sums(values, codes_of(names))
    totals = draw(sums, resamples, seed)
    return {task: totals[:, width * n : width * (n + 1)] for n, task in enumerate(tasks)}, len(sums)
