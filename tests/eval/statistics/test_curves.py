"""Landmarks by hand, the slope against scipy, and the price of choosing the best of many."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from residency.eval.statistics import paired_bootstrap
from residency.eval.statistics.curves import best_checkpoint, landmarks, theil_sen, trend


@pytest.mark.parametrize(
    ("values", "bottom", "recovery", "best", "gap"),
    [
        ([0.5, 0.3, 0.4, 0.6, 0.7, 0.65], 1, 3, 4, 0.2),
        ([0.5, 0.55, 0.6], 0, None, 2, 0.0),  # nothing lost
        ([0.5, 0.4, 0.3], 2, None, 0, 0.2),  # not won back
        ([0.5, 0.4, 0.5], 1, 2, 0, 0.1),  # won back, not more
        ([0.5, 0.7, 0.2], 0, None, 1, 0.0),  # lost after the best: no stability gap
    ],
)
def test_landmarks(values: list[float], bottom: int, recovery: int | None, best: int, gap: float) -> None:
    found = landmarks(values)
    assert (found.bottom, found.recovery, found.best) == (bottom, recovery, best)
    assert found.gap == pytest.approx(gap)
    lower = landmarks([-value for value in values], higher_is_better=False)
    assert (lower.bottom, lower.recovery, lower.best) == (bottom, recovery, best)


def test_slope_is_scipys() -> None:
    random = np.random.default_rng(0)
    steps = np.cumsum(random.integers(1, 10, 12))
    values = 0.01 * steps + random.normal(0, 0.1, 12)
    assert theil_sen(steps, values) == pytest.approx(scipy.stats.theilslopes(values, steps).slope)


def test_trend_has_the_paired_interval_of_last_and_first() -> None:
    random = np.random.default_rng(1)
    scores = (random.random((6, 400)) < np.linspace(0.3, 0.5, 6)[:, None]).astype(float)
    found = trend(scores, np.arange(6) * 100, np.arange(400), 10_000, 0)
    alone = paired_bootstrap(scores[-1], scores[0], np.arange(400), 10_000, 1)
    assert found.first_to_last == pytest.approx(alone, abs=0.005)
    assert found.slope[0] == pytest.approx(theil_sen(np.arange(6) * 100, scores.mean(axis=1)))
    assert 0 < found.slope[1] < found.slope[0] < found.slope[2]


def test_the_best_of_equal_checkpoints_looks_better_than_it_is() -> None:
    """Twenty checkpoints alike: what the winner gained is about its selection bias."""
    random, naive, corrected = np.random.default_rng(2), [], []
    for seed in range(60):
        scores = (random.random((20, 300)) < 0.5).astype(float)
        found = best_checkpoint(scores, np.arange(300), 200, seed)
        naive.append(found.value - 0.5)
        corrected.append(found.value - found.selection_bias - 0.5)
    assert np.mean(naive) > 0.04
    assert abs(np.mean(corrected)) < 0.4 * np.mean(naive)


def test_a_clear_winner_has_little_bias() -> None:
    random = np.random.default_rng(3)
    scores = (random.random((5, 500)) < np.array([0.3, 0.4, 0.9, 0.5, 0.4])[:, None]).astype(float)
    found = best_checkpoint(scores, np.arange(500), 2000, 0)
    assert found.checkpoint == 2
    assert abs(found.selection_bias) < 0.005
    assert found.gain == pytest.approx(
        paired_bootstrap(scores[2], scores[0], np.arange(500), 2000, 1), abs=0.01
    )


def test_less_is_better_for_bits() -> None:
    random = np.random.default_rng(4)
    bits = random.normal(1, 0.1, 200) - np.array([[0.0], [0.2], [0.1]]) + random.normal(0, 0.01, (3, 200))
    found = best_checkpoint(bits, np.arange(200), 1000, 0, higher_is_better=False)
    assert found.checkpoint == 1
    assert found.gain[1] < found.gain[0] < found.gain[2] < 0
