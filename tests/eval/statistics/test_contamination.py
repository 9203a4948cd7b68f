"""Differences split by flag, and the alarm on tests that rise alone."""

from __future__ import annotations

import numpy as np
import pytest

from residency.eval.statistics.contamination import contamination_split, too_good


def test_a_gain_on_flagged_items_only_is_an_interaction() -> None:
    random = np.random.default_rng(0)
    reference = random.integers(0, 2, 1000).astype(float)
    flagged = np.arange(1000) < 200
    candidate = np.where(flagged & (random.random(1000) < 0.8), 1.0, reference)
    found = contamination_split(candidate, reference, flagged, np.arange(1000), 4000, 0)
    assert found.flagged is not None and found.flagged[1] > 0
    assert found.clean == (0, 0, 0)
    assert found.interaction is not None and found.interaction[1] > 0
    assert found.p is not None and found.p < 1e-6
    assert (found.flagged_items, found.clean_items) == (200, 800)


def test_the_same_gain_everywhere_is_none() -> None:
    random, rejected = np.random.default_rng(1), 0
    for seed in range(200):
        difference = random.choice([-1.0, 0.0, 1.0], 400, p=[0.05, 0.8, 0.15])
        found = contamination_split(
            difference, np.zeros(400), np.arange(400) % 4 == 0, np.arange(400), 200, seed
        )
        assert found.p is not None
        rejected += found.p <= 0.05
    assert rejected <= 20


def test_one_flagged_item_flags_its_cluster() -> None:
    clusters = np.repeat(np.arange(40), 2)
    flagged = np.zeros(80, dtype=bool)
    flagged[:40:2] = True
    found = contamination_split(np.ones(80), np.zeros(80), flagged, clusters, 100, 0)
    assert (found.flagged_items, found.clean_items) == (40, 40)


def test_a_side_with_few_clusters_says_nothing() -> None:
    flagged = np.arange(100) < 3
    found = contamination_split(np.ones(100), np.zeros(100), flagged, np.arange(100), 100, 0)
    assert found.flagged is None and found.interaction is None and found.p is None
    assert found.clean == pytest.approx((1, 1, 1))


def test_one_test_jumps_and_its_sisters_do_not() -> None:
    found = too_good([0.02, 0.01, 0.25, 0.015, 0.03], [0.015] * 5)
    assert [each.alarm for each in found] == [False, False, True, False, False]


def test_all_tests_rise_together() -> None:
    assert not any(each.alarm for each in too_good([0.24, 0.25, 0.22, 0.27], [0.015] * 4))


def test_a_second_leak_does_not_hide_the_first() -> None:
    found = too_good([0.02, 0.01, 0.25, 0.015, 0.3, 0.02, 0.0], [0.015] * 7)
    assert [place for place, each in enumerate(found) if each.alarm] == [2, 4]


def test_sisters_that_fell_are_no_alarm() -> None:
    """It stands out, but it did not rise."""
    assert not any(each.alarm for each in too_good([0.0, -0.2, -0.21, -0.19, -0.2], [0.01] * 5))


def test_too_few_sisters_give_no_score() -> None:
    assert [each.score for each in too_good([0.3, 0.0, 0.0], [0.01] * 3)] == [None, None, None]


def test_false_alarms_are_rare() -> None:
    random = np.random.default_rng(2)
    errors = random.uniform(0.01, 0.03, (2000, 8))
    alarms = [
        any(each.alarm for each in too_good(random.normal(0.03, 0.02, 8) + random.normal(0, error), error))
        for error in errors
    ]
    assert np.mean(alarms) < 0.08
