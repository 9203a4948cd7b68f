"""Which stage brought what: paired contrasts along the chain that add up, and means over a suite of tasks.

All stages answered the same items and are resampled together, so the steps add up to the total in every resample.
Clusters are drawn in strata, by the tasks that hold them: a question that two tests share is drawn once for both, and
every resample of a task has as many clusters as the task.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from residency.eval.statistics.paired import Interval, Pair, interval_of
from residency.eval.statistics.resampling import cluster_sums, draw

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
        task: np.column_stack([np.diff(table, axis=0).T, _sizes(sizes, task, table)])
        for task, table in tables.items()
    }
    share = {task: (weights or {}).get(task, 0.0 if weights else 1.0) for task in tables}
    whole = sum(share.values())
    assert whole > 0, share
    scale = {task: share[task] / whole for task in tables}
    totals, effective = _draw(parts, clusters, scale, resamples, seed)
    means = {task: part.sum(axis=0) for task, part in parts.items()}
    estimate = sum(scale[task] * (mean[:-1] / mean[-1]) for task, mean in means.items())
    steps = sum(scale[task] * (total[:, :-1] / total[:, -1:]) for task, total in totals.items())
    assert isinstance(estimate, np.ndarray) and isinstance(steps, np.ndarray)
    total = interval_of(float(estimate.sum()), steps.sum(axis=1), effective)
    found = [interval_of(value, draws, effective) for value, draws in zip(estimate, steps.T, strict=True)]
    assert abs(sum(step[0] for step in found) - total[0]) <= 1e-9 * (1 + abs(total[0])), "steps do not add up"
    return Attribution(found, total)


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


def mean_of_pairs(pairs: Sequence[Pair]) -> Interval:
    """Mean difference over tasks that share no cluster, from their own resamples; each task has the same weight.

    Args:
        pairs: drawn with seeds of their own; a shared one would move all tasks together.
    """
    estimate = sum(pair.difference[0] for pair in pairs) / len(pairs)
    drawn = np.mean([pair.draws for pair in pairs], axis=0)
    variances = [float(pair.draws.var()) / len(pairs) ** 2 for pair in pairs]
    return interval_of(estimate, drawn, _effective_clusters(variances, [pair.clusters for pair in pairs]))


def _sizes(sizes: Mapping[str, ArrayLike] | None, task: str, table: Floats) -> Floats:
    if sizes is None or task not in sizes:
        return np.ones(table.shape[1])
    return np.asarray(sizes[task], dtype=float)


def _draw(
    parts: Mapping[str, Floats],
    clusters: Mapping[str, Clusters],
    weights: Mapping[str, float],
    resamples: int,
    seed: int,
) -> tuple[dict[str, Floats], float]:
    """Each task's totals, [resamples, k], and how many clusters the mean's interval rests on."""
    totals = {task: np.zeros((resamples, part.shape[1])) for task, part in parts.items()}
    variances, counts = [], []
    for number, (tasks, sums) in enumerate(_strata(parts, clusters)):
        drawn = draw(sums, resamples, seed + number) if len(sums) > 1 else np.repeat(sums, resamples, axis=0)
        influence = np.zeros(resamples)
        for task, columns in zip(tasks, np.split(drawn, len(tasks), axis=1), strict=True):
            totals[task] += columns
            *tops, bottom = parts[task].sum(axis=0)
            offset = columns[:, :-1].sum(axis=1) - sum(tops) / bottom * columns[:, -1]
            influence += weights[task] / bottom * offset
        variances.append(float(influence.var()))
        counts.append(len(sums))
    return totals, _effective_clusters(variances, counts)


def _strata(
    parts: Mapping[str, Floats], clusters: Mapping[str, Clusters]
) -> Iterator[tuple[tuple[str, ...], Floats]]:
    """Clusters by the tasks that hold them: those tasks, and their sums beside each other, [clusters, k x tasks]."""
    names = {task: np.asarray(clusters[task]).tolist() for task in parts}
    holders: dict[object, tuple[str, ...]] = {}
    for task in parts:
        for name in dict.fromkeys(names[task]):
            holders[name] = (*holders.get(name, ()), task)
    codes: dict[tuple[str, ...], dict[object, int]] = {}
    for name, tasks in holders.items():
        own = codes.setdefault(tasks, {})
        own[name] = len(own)
    for tasks, own in codes.items():
        sums = []
        for task in tasks:
            mine = [row for row, name in enumerate(names[task]) if name in own]
            at = np.array([own[names[task][row]] for row in mine])
            sums.append(cluster_sums(parts[task][mine], at))
        yield tasks, np.concatenate(sums, axis=1)


def _effective_clusters(variances: list[float], counts: list[int]) -> float:
    """How many clusters of one stratum are as good: Satterthwaite, Biometrics Bulletin 2 (1946), plus one."""
    parts = [(variance, count) for variance, count in zip(variances, counts, strict=True) if count > 1]
    assert parts, "one cluster has no interval"
    squares = sum(variance**2 / (count - 1) for variance, count in parts)
    if not squares:  # nothing varies
        return float(max(counts))
    return 1 + sum(variance for variance, _ in parts) ** 2 / squares
