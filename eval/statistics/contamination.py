"""Did it learn or had it seen the test: differences split by flagged items, and the too-good alarm.

The alarm compares each task with its sisters, the other tasks of its domain: training that teaches the domain raises
them together; a test that leaked rises alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from residency.eval.statistics.paired import Interval, interval_of
from residency.eval.statistics.resampling import cluster_sums, clustered_error, codes_of, draw

LEAST_CLUSTERS = 10  # a side with fewer has no useful interval
LEAST_SISTERS = 3
MAD_TO_SD = 1.4826  # of a normal
MEDIAN_VARIANCE = math.pi / 2  # of a normal's median, in units of the mean's


class ContaminationSplit(NamedTuple):
    """The difference on flagged and on clean items; None where a side has under ten clusters."""

    flagged: Interval | None
    clean: Interval | None
    interaction: Interval | None
    """Flagged less clean: above 0, the candidate gained where it may have seen the items."""
    p: float | None
    """Two-sided, of no interaction."""
    flagged_items: int
    clean_items: int


class TooGood(NamedTuple):
    """One task beside its sisters."""

    alarm: bool
    score: float | None
    """How many standard errors it lies above its sisters; None where there are too few."""


def contamination_split(
    candidate: ArrayLike,
    reference: ArrayLike,
    flagged: ArrayLike,
    clusters: Sequence[str] | NDArray[np.int64],
    resamples: int,
    seed: int,
) -> ContaminationSplit:
    """Paired difference on flagged and clean items and the test of their interaction.

    A cluster with one flagged item counts as flagged: its items tell each other's answers.

    Args:
        candidate, reference: scores on the same items, shape [n].
        flagged: true where the data stage found the item in the training text, [n].
    """
    difference = np.asarray(candidate, dtype=float) - np.asarray(reference, dtype=float)
    codes = codes_of(clusters)
    marked = np.bincount(codes, np.asarray(flagged, dtype=float))[codes] > 0
    sides = [
        _side(difference[mask], codes[mask], resamples, seed + n) for n, mask in enumerate((marked, ~marked))
    ]
    counts = int(marked.sum()), int((~marked).sum())
    if sides[0] is None or sides[1] is None:
        return ContaminationSplit(sides[0] and sides[0][0], sides[1] and sides[1][0], None, None, *counts)
    (seen, seen_draws, seen_error, most), (clean, clean_draws, clean_error, others) = sides[0], sides[1]
    gap = seen[0] - clean[0]
    interaction = interval_of(gap, seen_draws - clean_draws, min(most, others))
    error = math.hypot(seen_error, clean_error)
    p = 2 * NormalDist().cdf(-abs(gap) / error) if error else float(gap == 0)
    return ContaminationSplit(seen, clean, interaction, p, *counts)


def _side(
    difference: NDArray[np.float64], codes: NDArray[np.int64], resamples: int, seed: int
) -> tuple[Interval, NDArray[np.float64], float, int] | None:
    own = codes_of(codes)
    if not len(own) or own.max() + 1 < LEAST_CLUSTERS:
        return None
    sums = cluster_sums(np.column_stack([difference, np.ones_like(difference)]), own)
    totals = draw(sums, resamples, seed)
    draws = totals[:, 0] / totals[:, 1]
    interval = interval_of(float(difference.mean()), draws, len(sums))
    return interval, draws, clustered_error(difference, own), len(sums)


def too_good(deltas: ArrayLike, standard_errors: ArrayLike, *, threshold: float = 3.0) -> list[TooGood]:
    """Which tasks of one domain rose too far above their sisters.

    A task's score is its difference less the median of its sisters', over their joint standard error: its own, the
    sisters' spread (by their median absolute deviation, at least their median standard error) and the error of that
    median. Robust, so that a second leaked test does not hide the first. The alarm also wants the task itself above 0
    by two standard errors.

    Args:
        deltas: differences [tasks], signed so that more is better, in one unit.
        standard_errors: of the differences, [tasks].
        threshold: score from which the alarm is raised; 3 is one false alarm in 740 normal tasks with many sisters.

    Source: median and median absolute deviation, Leys et al., J. Exp. Soc. Psychol. 49 (2013).
    """
    values, errors = np.asarray(deltas, dtype=float), np.asarray(standard_errors, dtype=float)
    found = []
    for task, (value, error) in enumerate(zip(values, errors, strict=True)):
        sisters, noise = np.delete(values, task), np.delete(errors, task)
        if len(sisters) < LEAST_SISTERS:
            found.append(TooGood(alarm=False, score=None))
            continue
        middle = float(np.median(sisters))
        spread = max(MAD_TO_SD * float(np.median(np.abs(sisters - middle))), float(np.median(noise)))
        joint = math.sqrt(error**2 + spread**2 * (1 + MEDIAN_VARIANCE / len(sisters)))
        score = (value - middle) / joint if joint else 0.0
        found.append(TooGood(alarm=bool(score > threshold and value > 2 * error), score=float(score)))
    return found
