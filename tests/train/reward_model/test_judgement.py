"""Accuracy of reward models on held-out rows, and its interval over clusters."""

from __future__ import annotations

import numpy as np
import pytest

from residency.train.reward_model.judgement import agreement, area, interval, wilson

PAIR = {"ranks": [1, 2]}
LIST = {"ranks": [1, 2, 2]}


def test_pairs_and_lists() -> None:
    rows = [PAIR | {"cluster": "a"}, LIST | {"cluster": "b"}, PAIR | {"cluster": "c"}]
    measured = agreement(rows, [[1.0, 0.0], [0.5, 0.7, 0.1], [2.0, 2.0]])  # right; right and wrong; a tie
    assert measured["held_out_accuracy"] == 2 / 4
    assert (measured["held_out_pairs"], measured["held_out_prompts"]) == (4, 3)
    assert measured["held_out_kendall_tau"] == pytest.approx((1 + 0 - 1) / 3)
    assert measured["held_out_low"] < 0.5 < measured["held_out_high"]


def test_steps() -> None:
    rows = [{"values": [1.0, 0.75, 0.0], "cluster": "a"}, {"values": [0.25], "cluster": "b"}]
    measured = agreement(rows, [[2.0, -1.0, -2.0], [-0.5]])
    assert (measured["held_out_accuracy"], measured["held_out_steps"]) == (3 / 4, 4)
    assert measured["held_out_auc"] == 3 / 4
    assert agreement(rows[1:], [[1.0]])["held_out_auc"] is None


def test_area_counts_ties_as_a_half() -> None:
    assert area(np.array([1.0, 0.0, 1.0, 0.0]), np.array([True, True, False, False])) == 0.5
    assert area(np.array([1.0, 0.5, 0.5]), np.array([True, True, False])) == 0.75


@pytest.mark.parametrize(("hits", "number"), [(45, 50), (10, 10), (1, 7)])
def test_wilson_is_that_of_scipy(hits: int, number: int) -> None:
    stats = pytest.importorskip("scipy.stats")
    theirs = stats.binomtest(hits, number).proportion_ci(method="wilson")
    assert wilson(hits / number, number) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


def test_observations_of_one_cluster_count_as_one() -> None:
    hits, counts = np.array([1, 1, 0, 1]), np.ones(4)
    assert interval(hits, counts, list("abcd")) == pytest.approx(
        wilson(0.75, 3), abs=1e-9
    )  # variance over n - 1, as of a sample
    fourfold = interval(np.repeat(hits, 4), np.ones(16), list("aaaabbbbccccdddd"))
    assert fourfold == pytest.approx(wilson(0.75, 3), abs=1e-9)
    assert interval(np.ones(16), np.ones(16), list("aaaabbbbccccdddd")) == pytest.approx(wilson(1.0, 4))
    assert interval(np.ones(1), np.ones(1), ["a"])[0] < 0.3


def test_the_interval_covers_the_truth() -> None:
    """100 clusters of five observations that agree more than chance: a binomial interval would cover about 78 %."""
    random, covered = np.random.default_rng(0), []
    for _ in range(400):
        chance = random.beta(8 * 0.85, 8 * 0.15, size=100)
        hits = random.binomial(5, chance)
        low, high = interval(hits, np.full(100, 5), [str(number) for number in range(100)])
        covered.append(low <= 0.85 <= high)
    assert np.mean(covered) >= 0.92
