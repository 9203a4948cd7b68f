"""Two models on the same items: the difference with its bootstrap interval over clusters.

Items of one cluster (questions about one fact, texts of one source) are not independent, so clusters are
resampled, not items. Both models answered the same items, so only differences within an item matter; this
needs two to three times fewer items than two separate intervals.

Intervals are percentiles, taken a little further out where clusters are few: the plain percentile is too
narrow there, by the factor that Student's t and n - 1 have over the normal and n. Chosen by simulation, 2,000
pairs each: 20 clusters of five correlated items are covered at 95.0 % (0/1 scores) and 94.8 % (skewed graded scores),
where plain percentiles have 93.4 and 92.4 % and BCa 91.3 and 92.2 %; from 100 clusters on no two differ by more than a
point. A correction for skewness (acceleration) was tried on top and rejected: it costs up to five points of coverage
where clusters are few. The rates that hold now are printed by tests/bench/eval_simulation.py.
Source: Hesterberg, What Teachers Should Know About the Bootstrap (2015), arXiv 1411.5279, section 3.3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from residency.eval.statistics.resampling import cluster_sums, clustered_error, codes_of, draw

Interval = tuple[float, float, float]
"""Estimate, low end, high end."""
EQUIVALENCE_LEVEL = 0.91
"""Two one-sided tests at 5 % want the 90 % interval. At the margin gains and losses are not alike and differences are
skewed, so that 500 items pass it in 5.6 to 5.9 % (tests/bench/eval_simulation.py); this level takes that back."""


class Pair(NamedTuple):
    """A candidate and a reference on one task."""

    candidate: Interval
    """Its value, 95 %."""
    reference: Interval
    """Its value, 95 %."""
    difference: Interval
    """Candidate less reference, 95 %."""
    equivalence: tuple[float, float]
    """The difference's interval for equivalence at 5 %, see `EQUIVALENCE_LEVEL`."""
    standard_error: float
    """Of the difference."""
    items: int
    clusters: int
    draws: NDArray[np.float64]
    """The difference in each resample."""


def compare_pair(
    candidate: ArrayLike,
    reference: ArrayLike,
    clusters: Sequence[str] | NDArray[np.int64],
    resamples: int,
    seed: int,
    *,
    sizes: ArrayLike | None = None,
) -> Pair:
    """Both values and their difference, from one resampling.

    Args:
        candidate, reference: scores on the same items in the same order, shape [n].
        clusters: the items' clusters, [n]; at least two different ones.
        sizes: where the value is a ratio (bits per byte), each item's denominator; ones otherwise.
    """
    new, old = np.asarray(candidate, dtype=float), np.asarray(reference, dtype=float)
    bottom = _sizes(sizes, new)
    codes = codes_of(clusters)
    count = int(codes.max()) + 1
    totals = draw(cluster_sums(np.column_stack([new - old, old, bottom]), codes), resamples, seed)
    differences, olds = totals[:, 0] / totals[:, 2], totals[:, 1] / totals[:, 2]
    delta, value = float((new - old).sum() / bottom.sum()), float(old.sum() / bottom.sum())
    return Pair(
        candidate=interval_of(float(new.sum() / bottom.sum()), differences + olds, count),
        reference=interval_of(value, olds, count),
        difference=interval_of(delta, differences, count),
        equivalence=interval_of(delta, differences, count, level=EQUIVALENCE_LEVEL)[1:],
        standard_error=clustered_error(new - old, codes, sizes=bottom),
        items=len(new),
        clusters=count,
        draws=differences,
    )


def paired_bootstrap(
    candidate: ArrayLike,
    reference: ArrayLike,
    clusters: Sequence[str] | NDArray[np.int64],
    resamples: int,
    seed: int,
    *,
    sizes: ArrayLike | None = None,
    level: float = 0.95,
) -> Interval:
    """Difference candidate - reference with its interval, both models resampled together.

    Args:
        candidate, reference: scores on the same items in the same order, shape [n].
        sizes: where the value is a ratio (bits per byte), each item's denominator; ones otherwise.
    """
    difference = np.asarray(candidate, dtype=float) - np.asarray(reference, dtype=float)
    return ratio_bootstrap(difference, _sizes(sizes, difference), clusters, resamples, seed, level=level)


def ratio_bootstrap(
    numerator: ArrayLike,
    denominator: ArrayLike,
    clusters: Sequence[str] | NDArray[np.int64],
    resamples: int,
    seed: int,
    *,
    level: float = 0.95,
) -> Interval:
    """`sum(numerator) / sum(denominator)` with its bootstrap interval over clusters.

    Args:
        numerator, denominator: one number per item, shape [n]; a denominator of ones gives a mean.
        clusters: the items' clusters, [n]; at least two different ones.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13; clusters as units.
    """
    values = np.column_stack([numerator, denominator]).astype(float)
    sums = cluster_sums(values, codes_of(clusters))
    totals = draw(sums, resamples, seed)
    top, bottom = values.sum(axis=0)
    return interval_of(float(top / bottom), totals[:, 0] / totals[:, 1], len(sums), level)


def interval_of(estimate: float, draws: ArrayLike, clusters: float, level: float = 0.95) -> Interval:
    """The estimate with the expanded percentile interval of its resamples.

    Args:
        draws: the statistic in each resample, [resamples].
        clusters: how many were resampled; of several strata, how many of one are as good.
    """
    assert clusters > 1, "one cluster has no interval"
    drawn = np.asarray(draws)
    assert np.isfinite(drawn).all(), "a resample without value"
    wide = math.sqrt(clusters / (clusters - 1)) * student_quantile((1 + level) / 2, clusters - 1)
    tail = NormalDist().cdf(-wide)
    # Weibull's quantile, rank / (resamples + 1), keeps the level with few resamples too.
    low, high = np.quantile(drawn, [tail, 1 - tail], method="weibull")
    return float(estimate), float(low), float(high)


def student_quantile(probability: float, freedom: float) -> float:
    """Quantile of Student's t; within 1 % from 4 degrees of freedom on, below that too small.

    Source: Abramowitz and Stegun, Handbook of Mathematical Functions (1964), 26.7.5.
    """
    z = NormalDist().inv_cdf(probability)
    terms = [
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    ]
    return float(sum(term / freedom**power for power, term in enumerate(terms)))


def _sizes(sizes: ArrayLike | None, like: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.ones_like(like) if sizes is None else np.asarray(sizes, dtype=float)
