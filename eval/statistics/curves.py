"""Checkpoints of one training: landmarks of the curve, its trend, and the price of choosing the best.

Adaptation often first loses what the base had and then wins it back (the stability gap: Guo et al. 2024, arXiv
2406.14833), so the bottom, the recovery and the best are told apart. The best of T checkpoints looks better than it is;
this is measured by choosing again in every resample.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from residency.eval.statistics.paired import Interval, interval_of
from residency.eval.statistics.resampling import cluster_sums, codes_of, draw

Floats = NDArray[np.float64]
Clusters = Sequence[str] | NDArray[np.int64]


class Landmarks(NamedTuple):
    """Indices into the curve."""

    bottom: int
    """The worst before the best; 0 where the curve never falls below its start."""
    recovery: int | None
    """The first after the bottom that is as good as the start; None where none is, or nothing was lost."""
    best: int
    gap: float
    """How far the bottom lies below the start, >= 0."""


class Trend(NamedTuple):
    """Direction of a curve."""

    slope: Interval
    """Theil-Sen, per unit of the steps."""
    first_to_last: Interval
    """The last checkpoint less the first, paired."""


class BestCheckpoint(NamedTuple):
    """The checkpoint chosen, and what choosing adds."""

    checkpoint: int
    value: float
    selection_bias: float
    """How much better the chosen one looks than it is, on average, towards more or less as `value`."""
    gain: Interval
    """Over checkpoint 0, less the bias; its interval chooses again in every resample."""


def landmarks(values: ArrayLike, higher_is_better: bool = True) -> Landmarks:
    """Bottom, recovery and best of a curve [T]; index 0 is the start. Equal ones fall to the first."""
    curve = np.asarray(values, dtype=float) * (1 if higher_is_better else -1)
    best = int(curve.argmax())
    # A curve that only falls has its best at the start; its bottom lies behind it.
    bottom = int(curve[: best + 1].argmin() if best else curve.argmin())
    later = np.flatnonzero(curve[bottom:] >= curve[0])
    recovery = int(bottom + later[0]) if len(later) and bottom else None
    return Landmarks(bottom, recovery, best, float(curve[0] - curve[bottom]))


def theil_sen(steps: ArrayLike, values: ArrayLike) -> float:
    """Median slope over all pairs of checkpoints; one outlying checkpoint hardly moves it.

    Source: Sen, Estimates of the Regression Coefficient Based on Kendall's Tau, JASA 63 (1968).
    """
    return float(_slopes(np.asarray(steps, dtype=float), np.asarray(values, dtype=float)[None])[0])


def trend(scores: ArrayLike, steps: ArrayLike, clusters: Clusters, resamples: int, seed: int) -> Trend:
    """Slope of the mean score and the contrast of last and first, each with its interval over items.

    Args:
        scores: `[T, n]`, all checkpoints on the same items.
        steps: `[T]`, increasing.
    """
    table, at = np.asarray(scores, dtype=float), np.asarray(steps, dtype=float)
    means, drawn, count = _resampled_means(table, clusters, resamples, seed)
    slope = interval_of(float(_slopes(at, means[None])[0]), _slopes(at, drawn), count)
    contrast = interval_of(float(means[-1] - means[0]), drawn[:, -1] - drawn[:, 0], count)
    return Trend(slope, contrast)


def best_checkpoint(
    scores: ArrayLike, clusters: Clusters, resamples: int, seed: int, higher_is_better: bool = True
) -> BestCheckpoint:
    """The best of T checkpoints on these items, with the bias of having chosen it on them.

    Bias: in each resample choose again; the chosen one's value there less its value on all items, on average.

    Args:
        scores: `[T, n]`, all checkpoints on the same items; the first is what training began with.

    Source: optimism by bootstrap, Efron and Tibshirani (1993), chapter 17.
    """
    sign = 1 if higher_is_better else -1
    means, drawn, count = _resampled_means(np.asarray(scores, dtype=float) * sign, clusters, resamples, seed)
    best, chosen = int(means.argmax()), drawn.argmax(axis=1)
    found = drawn[np.arange(len(drawn)), chosen]
    bias = float((found - means[chosen]).mean())
    _, low, high = interval_of(0.0, found - drawn[:, 0], count)
    ends = sorted(sign * (end - bias) for end in (low, high))
    gain = (sign * float(means[best] - means[0] - bias), ends[0], ends[1])
    return BestCheckpoint(best, sign * float(means[best]), sign * bias, gain)


def _resampled_means(
    table: Floats, clusters: Clusters, resamples: int, seed: int
) -> tuple[Floats, Floats, int]:
    """Means [T], their resamples `[resamples, T]` and the number of clusters."""
    sums = cluster_sums(np.column_stack([table.T, np.ones(table.shape[1])]), codes_of(clusters))
    totals = draw(sums, resamples, seed)
    return table.mean(axis=1), totals[:, :-1] / totals[:, -1:], len(sums)


def _slopes(steps: Floats, curves: Floats) -> Floats:
    """Theil-Sen slopes of `curves` [rows, T]."""
    one, other = np.triu_indices(len(steps), 1)
    assert (steps[other] > steps[one]).all(), steps
    slopes: Floats = np.median((curves[:, other] - curves[:, one]) / (steps[other] - steps[one]), axis=1)
    return slopes
