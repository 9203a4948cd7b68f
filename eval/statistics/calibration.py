"""Does the model know what it knows: calibration and selective answering from option scores.

Probabilities are the softmax over an item's options. Bins hold equally many items; items of equal confidence are binned
in the order of the records.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
BINS = 15  # as in Guo et al. (2017), arXiv 1706.04599
TINY = 1e-300
COLDEST, HOTTEST = 0.01, 100.0  # range of the fitted temperature


class Bin(NamedTuple):
    """Items of similar confidence: means, and Wilson's 95 % interval of the accuracy."""

    confidence: float
    accuracy: float
    low: float
    high: float
    items: int


class BrierParts(NamedTuple):
    """score = reliability - resolution + uncertainty + within."""

    score: float
    """Mean squared distance of confidence and correctness."""
    reliability: float
    resolution: float
    uncertainty: float
    within: float
    """What binning leaves out: spread of confidence within bins less twice its covariance with correctness."""


def probabilities(scores: Sequence[Sequence[float]], temperature: float = 1.0) -> Floats:
    """Softmax over each item's options, `[n, most options]`; 0 where an item has fewer.

    Args:
        scores: log-likelihoods in nats.
    """
    assert temperature > 0, temperature
    table = np.full((len(scores), max(len(row) for row in scores)), -np.inf)
    for place, row in enumerate(scores):
        table[place, : len(row)] = row
    table = (table - table.max(axis=1, keepdims=True)) / temperature
    weights = np.exp(table)
    shares: Floats = weights / weights.sum(axis=1, keepdims=True)
    return shares


def confidence_of(shares: Floats, answers: ArrayLike) -> tuple[Floats, Floats]:
    """Probability of the chosen option and whether it is right, [n] each; equal ones fall to the first."""
    chosen = shares.argmax(axis=1)
    return shares.max(axis=1), (chosen == np.asarray(answers)).astype(float)


def reliability_curve(confidence: ArrayLike, correct: ArrayLike, bins: int = BINS) -> list[Bin]:
    """Accuracy against confidence in bins of equally many items, from the least sure on."""
    return [
        Bin(float(sure.mean()), float(right.mean()), *_wilson(float(right.mean()), len(right)), len(right))
        for sure, right in _binned(confidence, correct, bins)
    ]


def expected_calibration_error(
    confidence: ArrayLike, correct: ArrayLike, bins: int = BINS, *, debiased: bool = False
) -> float:
    """Mean distance of accuracy and confidence over the bins, weighted by their items.

    Chance alone makes this positive in a perfect model (0.06 with 450 items). `debiased` subtracts what a normal with
    the bin's variance adds to each distance seen, which takes about 40 % of that away; never below 0.

    Source: Kumar, Liang and Ma, Verified Uncertainty Calibration (2019), arXiv 1909.10155; for the absolute
    distance as in the authors' package uncertainty-calibration, here in closed form.
    """
    curve = reliability_curve(confidence, correct, bins)
    total = sum(part.items for part in curve)
    error = sum(part.items * abs(part.accuracy - part.confidence) for part in curve) / total
    if not debiased:
        return error
    return max(0.0, error - sum(part.items * _excess(part) for part in curve) / total)


def brier_score(shares: Floats, answers: ArrayLike) -> float:
    """Mean over items of the squared distance of all option probabilities and the truth, 0 to 2.

    Source: Brier, Verification of Forecasts Expressed in Terms of Probability (1950).
    """
    truth = np.zeros_like(shares)
    truth[np.arange(len(shares)), np.asarray(answers)] = 1
    return float(((shares - truth) ** 2).sum(axis=1).mean())


def brier_parts(confidence: ArrayLike, correct: ArrayLike, bins: int = BINS) -> BrierParts:
    """The score of the chosen option's confidence and its parts, which add up.

    Source: Murphy (1973); within bins, Stephenson, Coelho and Jolliffe, Two Extra Components in the Brier Score
    Decomposition (2008).
    """
    sure, right = np.asarray(confidence, dtype=float), np.asarray(correct, dtype=float)
    base, total = float(right.mean()), len(right)
    parts = np.zeros(3)
    for some, truth in _binned(sure, right, bins):
        share = len(truth) / total
        covariance = ((some - some.mean()) * (truth - truth.mean())).mean()
        parts += share * np.array(
            [(some.mean() - truth.mean()) ** 2, (truth.mean() - base) ** 2, some.var() - 2 * covariance]
        )
    reliability, resolution, within = (float(part) for part in parts)
    score = float(((sure - right) ** 2).mean())
    return BrierParts(score, reliability, resolution, base * (1 - base), within)


def negative_log_likelihood(shares: Floats, answers: ArrayLike) -> float:
    """Mean -log probability of the right option, nats."""
    right = shares[np.arange(len(shares)), np.asarray(answers)]
    return float(-np.log(np.maximum(right, TINY)).mean())


def accuracy_at_coverage(confidence: ArrayLike, correct: ArrayLike, coverage: float) -> float:
    """Accuracy on the surest share of the items; equally sure ones count with their mean."""
    assert 0 < coverage <= 1, coverage
    ranked = _surest_first(confidence, correct)
    return float(ranked[: max(1, math.floor(coverage * len(ranked) + 1e-9))].mean())


def area_under_risk_coverage(confidence: ArrayLike, correct: ArrayLike) -> float:
    """Mean share of errors among the k surest items, over all k; less is better.

    Source: Geifman, Uziel and El-Yaniv (2019), arXiv 1805.08206.
    """
    ranked = _surest_first(confidence, correct)
    return float((np.cumsum(1 - ranked) / np.arange(1, len(ranked) + 1)).mean())


def fit_temperature(scores: Sequence[Sequence[float]], answers: ArrayLike) -> float:
    """Temperature with the least negative log-likelihood; fit it on validation items, never on the test's.

    The likelihood has one optimum in 1 / temperature; golden section on its logarithm, to four digits.

    Source: Guo et al., On Calibration of Modern Neural Networks (2017), arXiv 1706.04599.
    """
    golden = (math.sqrt(5) - 1) / 2
    low, high = math.log(COLDEST), math.log(HOTTEST)
    while high - low > 1e-4:
        left, right = high - golden * (high - low), low + golden * (high - low)
        losses = [
            negative_log_likelihood(probabilities(scores, math.exp(at)), answers) for at in (left, right)
        ]
        low, high = (low, right) if losses[0] <= losses[1] else (left, high)
    return math.exp((low + high) / 2)


def _binned(confidence: ArrayLike, correct: ArrayLike, bins: int) -> list[tuple[Floats, Floats]]:
    sure, right = np.asarray(confidence, dtype=float), np.asarray(correct, dtype=float)
    assert len(sure) == len(right) > 0, (len(sure), len(right))
    places = np.array_split(np.argsort(sure, kind="stable"), min(bins, len(sure)))
    return [(sure[some], right[some]) for some in places]


def _wilson(share: float, items: int) -> tuple[float, float]:
    """Wilson's interval of a share (1927)."""
    z = NormalDist().inv_cdf(0.975)
    middle = (share + z**2 / (2 * items)) / (1 + z**2 / items)
    half = z / (1 + z**2 / items) * math.sqrt(share * (1 - share) / items + z**2 / (4 * items**2))
    return max(0.0, middle - half), min(1.0, middle + half)


def _excess(part: Bin) -> float:
    """E|N(distance, variance)| - |distance|: what noise adds to a bin's distance."""
    distance = abs(part.accuracy - part.confidence)
    spread = math.sqrt(part.accuracy * (1 - part.accuracy) / part.items)
    if spread == 0:
        return 0.0
    normal, ratio = NormalDist(), distance / spread
    return 2 * spread * normal.pdf(ratio) + distance * (1 - 2 * normal.cdf(-ratio)) - distance


def _surest_first(confidence: ArrayLike, correct: ArrayLike) -> Floats:
    """Correctness in falling order of confidence; the equally sure share their mean."""
    sure, right = np.asarray(confidence, dtype=float), np.asarray(correct, dtype=float)
    group = np.unique(-sure, return_inverse=True)[1]
    means = np.bincount(group, right) / np.bincount(group)
    shared: Floats = means[np.sort(group)]
    return shared
