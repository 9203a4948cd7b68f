"""Equivalence and non-inferiority with a stated margin, the verdict's rule, and how much a test set can see.

Equivalence is two one-sided tests at 5 %: the 90 % interval of the difference lies inside +-margin (Schuirmann 1987);
`paired.EQUIVALENCE_LEVEL` says why ours is a 91 % interval.
Models that agree on every item have the interval [0, 0] and are equivalent at any number of items: two runs of the
same weights must be.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Literal

Verdict = Literal["better", "equivalent", "worse", "undecided"]


def verdict_of(
    delta: float,
    low: float,
    high: float,
    margin: float,
    higher_is_better: bool,
    *,
    equivalence: tuple[float, float] | None = None,
) -> Verdict:
    """What the 95 % interval of a difference says.

    Wholly above 0: better; wholly below: worse (both even inside the margin: a difference that is there is
    named); across 0 but, by its `equivalence` interval, inside +-margin: equivalent; else undecided.

    Args:
        equivalence: `Pair.equivalence`, which makes "equivalent" a test at 5 %; by default the 95 % interval
            is used, a test at 2.5 %.
    """
    assert low <= high and margin >= 0, (delta, low, high, margin)
    if low > 0:
        return "better" if higher_is_better else "worse"
    if high < 0:
        return "worse" if higher_is_better else "better"
    return "equivalent" if is_equivalent(*(equivalence or (low, high)), margin) else "undecided"


def is_equivalent(low: float, high: float, margin: float) -> bool:
    """Whether the interval `Pair.equivalence` of a difference shows that it is at most the margin, either way.

    Source: Schuirmann, Journal of Pharmacokinetics and Biopharmaceutics 15 (1987).
    """
    return -margin <= low and high <= margin


def is_non_inferior(low: float, high: float, margin: float, higher_is_better: bool = True) -> bool:
    """Whether the interval shows that the candidate is not worse than the reference by the margin or more.

    The 95 % interval makes this a one-sided test at 2.5 %, the 90 % interval one at 5 %.
    """
    return low > -margin if higher_is_better else high < margin


def tost_p(delta: float, standard_error: float, margin: float) -> float:
    """P of equivalence, the larger of both one-sided ones; normal approximation."""
    return max(
        non_inferiority_p(delta, standard_error, margin),
        non_inferiority_p(-delta, standard_error, margin),
    )


def non_inferiority_p(
    delta: float, standard_error: float, margin: float, higher_is_better: bool = True
) -> float:
    """One-sided p of "not worse by the margin or more"; normal approximation."""
    above = (delta if higher_is_better else -delta) + margin
    if standard_error == 0:
        return 0.0 if above > 0 else 1.0
    return NormalDist().cdf(-above / standard_error)


def minimum_detectable_effect(standard_error: float, *, power: float = 0.8, level: float = 0.95) -> float:
    """True difference that a two-sided test finds with this power, in the units of the standard error.

    With 0/1 scores of independent items, discordance p and n items, about 2.80 sqrt(p / n).

    Source: Miller, Adding Error Bars to Evals (2024), arXiv 2411.00640, section 5.
    """
    normal = NormalDist()
    return (normal.inv_cdf((1 + level) / 2) + normal.inv_cdf(power)) * standard_error


def items_to_decide(
    standard_error: float, items: int, margin: float, *, power: float = 0.8, level: float = 0.95
) -> int:
    """Items, clustered as these are, with which a difference as large as the margin would be found.

    Args:
        standard_error: of the difference on `items` items.
    """
    assert margin > 0, margin
    return math.ceil(
        items * (minimum_detectable_effect(standard_error, power=power, level=level) / margin) ** 2
    )
