"""Paired statistics on records: bootstrap over clusters, McNemar's test, the verdict. No model here.

Items of one cluster (questions about one fact, texts of one source) are not independent, so clusters are
resampled, not items. Both models answered the same items, so only differences within an item matter; this
needs two to three times fewer items than two separate intervals.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

Verdict = Literal["better", "equivalent", "worse", "undecided"]
Interval = tuple[float, float, float]
DRAWN_AT_ONCE = 2**20  # counts or draws in memory: 8 MiB


def ratio_bootstrap(
    numerator: ArrayLike, denominator: ArrayLike, clusters: Sequence[str], resamples: int, seed: int
) -> Interval:
    """`sum(numerator) / sum(denominator)` with its 95 % percentile bootstrap interval over clusters.

    Args:
        numerator, denominator: one number per item, shape [n]; a denominator of ones gives a mean.
        clusters: the items' clusters, [n]; at least two different ones.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13; clusters as units.
    """
    import numpy as np

    names, codes = np.unique(np.asarray(clusters), return_inverse=True)
    assert len(names) > 1, "one cluster has no interval"
    sums = np.zeros((len(names), 2))
    np.add.at(sums, codes, np.column_stack([numerator, denominator]).astype(float))
    top, bottom = sums.sum(axis=0)
    drawn = _resample(sums, resamples, np.random.default_rng(seed))
    low, high = np.percentile(drawn[:, 0] / drawn[:, 1], [2.5, 97.5])
    return float(top / bottom), float(low), float(high)


def _resample(sums: NDArray[np.float64], resamples: int, random: np.random.Generator) -> NDArray[np.float64]:
    """Totals of `resamples` draws of clusters with replacement: `sums` [clusters, k] to [resamples, k].

    Clusters with equal sums are interchangeable. Where only a few rows are distinct (three, for the
    difference of right and wrong), one multinomial over them has the distribution of drawing each cluster.
    """
    import numpy as np

    distinct, counts = np.unique(sums, axis=0, return_counts=True)
    few, clusters = 8 * len(distinct) < len(sums), len(sums)
    rows = max(1, DRAWN_AT_ONCE // (len(distinct) if few else clusters))
    totals = []
    for start in range(0, resamples, rows):
        size = min(rows, resamples - start)
        if few:
            totals.append(random.multinomial(clusters, counts / clusters, size=size) @ distinct)
        else:
            drawn = random.integers(0, clusters, size=(size, clusters), dtype=np.uint32)
            totals.append(np.column_stack([column[drawn].sum(axis=1) for column in sums.T]))
    return np.concatenate(totals)


def paired_bootstrap(
    candidate: ArrayLike,
    reference: ArrayLike,
    clusters: Sequence[str],
    resamples: int,
    seed: int,
    *,
    sizes: ArrayLike | None = None,
) -> Interval:
    """Difference candidate - reference with its 95 % interval, both models resampled together.

    Args:
        candidate, reference: scores on the same items in the same order, shape [n].
        sizes: where the value is a ratio (bits per byte), each item's denominator; ones otherwise.
    """
    import numpy as np

    difference = np.asarray(candidate, dtype=float) - np.asarray(reference, dtype=float)
    bottom = np.ones_like(difference) if sizes is None else np.asarray(sizes, dtype=float)
    return ratio_bootstrap(difference, bottom, clusters, resamples, seed)


def verdict_of(delta: float, low: float, high: float, margin: float, higher_is_better: bool) -> Verdict:
    """What an interval of a difference says.

    Wholly above 0: better; wholly below: worse (both even inside the margin: a difference that is there is
    named); across 0 but inside +-margin: equivalent; else undecided.
    """
    assert low <= high and margin >= 0, (delta, low, high, margin)
    if not higher_is_better:
        low, high = -high, -low
    if low > 0:
        return "better"
    if high < 0:
        return "worse"
    return "equivalent" if -margin <= low and high <= margin else "undecided"


def mcnemar_midp(candidate: Sequence[float], reference: Sequence[float]) -> float:
    """Two-sided mid-p of McNemar's exact test on paired 0/1 scores; 1 where no item differs.

    Source: Fagerland, Lydersen and Laake, BMC Medical Research Methodology 13:91 (2013).
    """
    gained = sum(1 for new, old in zip(candidate, reference, strict=True) if new > old)
    lost = sum(1 for new, old in zip(candidate, reference, strict=True) if new < old)
    discordant, fewer = gained + lost, min(gained, lost)
    # Exact integers: a float's binomial underflows from about a thousand discordant items on.
    below = sum(math.comb(discordant, count) for count in range(fewer))
    midp: float = (2 * below + math.comb(discordant, fewer)) / 2**discordant
    return min(1.0, midp)
