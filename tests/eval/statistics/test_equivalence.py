"""The verdict's table, equivalence against statsmodels, and power against its definition."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from statsmodels.stats.weightstats import ztost

from residency.eval.statistics import (
    is_equivalent,
    is_non_inferior,
    items_to_decide,
    minimum_detectable_effect,
    verdict_of,
)
from residency.eval.statistics.equivalence import non_inferiority_p, tost_p


@pytest.mark.parametrize(
    ("low", "high", "margin", "higher", "expected"),
    [
        (0.02, 0.08, 0.01, True, "better"),
        (0.002, 0.008, 0.01, True, "better"),  # small but there
        (-0.08, -0.02, 0.01, True, "worse"),
        (-0.08, -0.02, 0.01, False, "better"),  # bits per byte: less is better
        (0.02, 0.08, 0.01, False, "worse"),
        (-0.009, 0.01, 0.01, True, "equivalent"),
        (0.0, 0.0, 0.01, True, "equivalent"),
        (-0.02, 0.005, 0.01, True, "undecided"),
        (-0.005, 0.02, 0.01, False, "undecided"),
        (0.0, 0.05, 0.01, True, "undecided"),  # touches 0
    ],
)
def test_verdict(low: float, high: float, margin: float, higher: bool, expected: str) -> None:
    assert verdict_of((low + high) / 2, low, high, margin, higher) == expected


@pytest.mark.parametrize(
    ("narrow", "expected"),
    [((-0.008, 0.009), "equivalent"), ((-0.008, 0.011), "undecided"), (None, "undecided")],
)
def test_equivalence_is_decided_by_the_90_percent_interval(
    narrow: tuple[float, float] | None, expected: str
) -> None:
    assert verdict_of(0.0, -0.011, 0.012, 0.01, True, equivalence=narrow) == expected


def test_a_difference_that_is_there_is_named_before_equivalence() -> None:
    assert verdict_of(0.004, 0.001, 0.007, 0.01, True, equivalence=(0.0015, 0.0065)) == "better"


def test_equivalence_p_is_statsmodels() -> None:
    sample = np.random.default_rng(0).normal(0.002, 0.1, 400)
    theirs, _, _ = ztost(sample, -0.01, 0.01)
    assert tost_p(float(sample.mean()), float(scipy.stats.sem(sample)), 0.01) == pytest.approx(theirs)


@pytest.mark.parametrize("delta", [-0.012, 0.0, 0.004])
def test_interval_and_p_of_equivalence_agree(delta: float) -> None:
    for error in (0.002, 0.005, 0.008):
        half = scipy.stats.norm.ppf(0.95) * error
        assert is_equivalent(delta - half, delta + half, 0.01) == (tost_p(delta, error, 0.01) <= 0.05)


def test_the_same_answers_are_equivalent() -> None:
    assert tost_p(0.0, 0.0, 0.01) == 0
    assert is_equivalent(0.0, 0.0, 0.01)


@pytest.mark.parametrize(
    ("low", "high", "higher", "expected"),
    [
        (-0.009, 0.1, True, True),
        (-0.01, 0.1, True, False),
        (-0.05, 0.009, False, True),  # bits per byte: more is worse
        (-0.05, 0.011, False, False),
    ],
)
def test_non_inferiority(low: float, high: float, higher: bool, expected: bool) -> None:
    assert is_non_inferior(low, high, 0.01, higher) is expected


def test_non_inferiority_p_by_hand() -> None:
    """0.01 above the lower margin, two errors: the normal's tail beyond 2."""
    assert non_inferiority_p(0.0, 0.005, 0.01) == pytest.approx(0.02275, abs=5e-6)
    assert non_inferiority_p(0.02, 0.005, 0.01, higher_is_better=False) == pytest.approx(0.97725, abs=5e-6)


@pytest.mark.parametrize(
    ("items", "discordance", "points"), [(500, 0.1, 4.0), (1273, 0.2, 3.5), (4183, 0.3, 2.4)]
)
def test_detectable_effect_by_hand(items: int, discordance: float, points: float) -> None:
    """(1.960 + 0.842) sqrt(discordance / items)."""
    effect = minimum_detectable_effect((discordance / items) ** 0.5)
    assert 100 * effect == pytest.approx(points, abs=0.05)


def test_detectable_effect_is_found_with_80_percent_power() -> None:
    effect = minimum_detectable_effect(0.02)
    power = scipy.stats.norm.sf(scipy.stats.norm.ppf(0.975) - effect / 0.02)
    assert power == pytest.approx(0.8, abs=1e-9)


def test_items_to_decide_by_hand() -> None:
    """(2.8016 / 0.01)^2 x 0.2 = 15,698: 500 items of this error grow to it."""
    assert items_to_decide((0.2 / 500) ** 0.5, 500, 0.01) == 15698
