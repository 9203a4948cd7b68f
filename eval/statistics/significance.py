"""Tests of a paired difference, and p-values of several tests at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from residency.eval.statistics.resampling import cluster_sums, codes_of

EXACT_CLUSTERS = 20  # 2**20 patterns of signs
FLIPPED_AT_ONCE = 2**17  # eights of signs in memory: 1 MiB
ROUNDING = 1e-9  # patterns that are equal but for the order of summing count as equal


def mcnemar_midp(candidate: ArrayLike, reference: ArrayLike) -> float:
    """Two-sided mid-p of McNemar's exact test on paired 0/1 scores [n]; 1 where no item differs.

    Source: Fagerland, Lydersen and Laake, BMC Medical Research Methodology 13:91 (2013).
    """
    difference = np.asarray(candidate, dtype=float) - np.asarray(reference, dtype=float)
    gained, lost = int((difference > 0).sum()), int((difference < 0).sum())
    discordant, fewer = gained + lost, min(gained, lost)
    # Exact integers: a float's binomial underflows from about a thousand discordant items on.
    below, ways = 0, 1
    for count in range(fewer):
        below += ways
        ways = ways * (discordant - count) // (count + 1)
    midp: float = (2 * below + ways) / 2**discordant
    return min(1.0, midp)


def sign_flip_p(
    candidate: ArrayLike,
    reference: ArrayLike,
    clusters: Sequence[str] | NDArray[np.int64],
    flips: int,
    seed: int,
) -> float:
    """Two-sided p of a mean paired difference, by flipping the signs of whole clusters; 1 where none differs.

    Where both models are alike, each cluster's summed difference is as likely to have the other sign. Exact where at
    most 20 clusters differ; else (1 + patterns as extreme) / (1 + flips), which is valid at every number of flips.

    Args:
        candidate, reference: scores on the same items, graded or 0/1, shape [n].

    Source: Phipson and Smyth, Permutation P-values Should Never Be Zero (2010), arXiv 1603.05766.
    """
    difference = np.asarray(candidate, dtype=float) - np.asarray(reference, dtype=float)
    sums = cluster_sums(difference[:, None], codes_of(clusters))[:, 0]
    sizes, counts = np.unique(np.abs(sums[sums != 0]), return_counts=True)
    if not len(sizes):
        return 1.0
    observed = abs(sums.sum()) - ROUNDING * sizes.sum()
    if counts.sum() <= EXACT_CLUSTERS:
        extreme = np.abs(_all_patterns(np.repeat(sizes, counts))) >= observed
        return float(extreme.mean())
    random = np.random.Generator(np.random.SFC64(seed))
    if 8 * len(sizes) < counts.sum():
        flipped = (2 * random.binomial(counts, 0.5, size=(flips, len(sizes))) - counts) @ sizes
    else:
        flipped = _flip(np.repeat(sizes, counts), flips, random)
    return float((1 + (np.abs(flipped) >= observed).sum()) / (1 + flips))


def _all_patterns(sizes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums under all 2^n patterns of signs."""
    totals = np.zeros(1)
    for size in sizes:
        totals = np.concatenate([totals + size, totals - size])
    return totals


def _flip(sizes: NDArray[np.float64], flips: int, random: np.random.Generator) -> NDArray[np.float64]:
    """Sums under random signs, eight at a time: a random byte picks one of the 256 sums of eight sizes."""
    eights = np.append(sizes, np.zeros(-len(sizes) % 8)).reshape(-1, 8)
    signs = 2.0 * np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1) - 1
    table = (eights @ signs.T).ravel()
    starts = 256 * np.arange(len(eights))
    rows, totals = max(1, FLIPPED_AT_ONCE // len(eights)), []
    for start in range(0, flips, rows):
        picked = random.integers(0, 256, size=(min(rows, flips - start), len(eights)), dtype=np.uint8)
        totals.append(table.take(picked + starts).sum(axis=1))
    return np.concatenate(totals)


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """P-values [m] adjusted so that the chance of any false claim among them stays below the level.

    Source: Holm, A Simple Sequentially Rejective Multiple Test Procedure, Scand. J. Statist. 6 (1979).
    """
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p, kind="stable")
    adjusted = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    return _back(np.minimum(adjusted, 1), order)


def benjamini_hochberg(p_values: ArrayLike) -> NDArray[np.float64]:
    """P-values [m] adjusted so that the expected share of false ones among the claims stays below the level.

    Source: Benjamini and Hochberg, J. R. Statist. Soc. B 57 (1995).
    """
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p, kind="stable")
    raised = p[order] * len(p) / np.arange(1, len(p) + 1)
    return _back(np.minimum(np.minimum.accumulate(raised[::-1])[::-1], 1), order)


def _back(values: NDArray[np.float64], order: NDArray[np.int64]) -> NDArray[np.float64]:
    placed = np.empty_like(values)
    placed[order] = values
    return placed
