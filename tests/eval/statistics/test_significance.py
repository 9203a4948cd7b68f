"""Tests of differences and families of tests against scipy, statsmodels and published numbers."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import scipy.stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from residency.eval.statistics import benjamini_hochberg, holm, mcnemar_midp, sign_flip_p


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (5, 0), (12, 4), (7, 7), (30, 45), (900, 1000)])
def test_midp_is_the_exact_binomial_less_the_observed_table(gained: int, lost: int) -> None:
    candidate = [1.0] * gained + [0.0] * lost + [1.0, 0.0]
    reference = [0.0] * gained + [1.0] * lost + [1.0, 0.0]
    exact = (
        SimpleNamespace(pvalue=1.0) if gained + lost == 0 else scipy.stats.binomtest(gained, gained + lost)
    )
    tied = gained == lost
    expected = 1.0 if tied else exact.pvalue - scipy.stats.binom.pmf(gained, gained + lost, 0.5)
    assert mcnemar_midp(candidate, reference) == pytest.approx(expected, rel=1e-9)


def test_midp_of_a_published_table() -> None:
    """Fagerland, Lydersen and Laake (2013), airway hyper-responsiveness: 1 and 7 discordant, mid-p 0.0391."""
    candidate, reference = [1.0] + [0.0] * 7, [0.0] + [1.0] * 7
    assert mcnemar_midp(candidate, reference) == pytest.approx(0.0391, abs=5e-5)


def test_midp_is_below_statsmodels_exact_p() -> None:
    """By half of both tables as probable as the observed one."""
    exact = mcnemar([[50, 6], [15, 29]], exact=True).pvalue
    candidate, reference = [1.0] * 15 + [0.0] * 6, [0.0] * 15 + [1.0] * 6
    expected = exact - scipy.stats.binom.pmf(6, 21, 0.5)
    assert mcnemar_midp(candidate, reference) == pytest.approx(expected)


def test_few_clusters_are_flipped_in_every_way() -> None:
    random = np.random.default_rng(0)
    candidate, reference = random.random(12), random.random(12) - 0.2
    theirs = scipy.stats.permutation_test(
        (candidate, reference),
        lambda new, old, axis: new.mean(axis=axis) - old.mean(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=np.inf,
    )
    found = sign_flip_p(candidate, reference, np.arange(12), 100, 0)
    assert found == pytest.approx(theirs.pvalue, abs=1e-9)


def test_many_clusters_are_flipped_at_random() -> None:
    random = np.random.default_rng(1)
    reference = random.random(301)
    candidate = reference + random.normal(0.012, 0.1, 301)
    theirs = scipy.stats.permutation_test(
        (candidate, reference),
        lambda new, old, axis: new.mean(axis=axis) - old.mean(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=20_000,
        rng=np.random.default_rng(2),
    )
    found = sign_flip_p(candidate, reference, np.arange(301), 20_000, 0)
    assert found == pytest.approx(theirs.pvalue, abs=0.01)


def test_equal_sizes_are_the_sign_test() -> None:
    """Right and wrong in clusters of one: flips give the exact binomial's p."""
    candidate, reference = [1.0] * 60 + [0.0] * 40, [0.0] * 60 + [1.0] * 40
    expected = scipy.stats.binomtest(60, 100).pvalue
    assert sign_flip_p(candidate, reference, np.arange(100), 100_000, 0) == pytest.approx(expected, abs=0.003)


def test_clusters_flip_as_one() -> None:
    """Three clusters of ten gains each are three coins, not thirty."""
    clusters = np.repeat([0, 1, 2], 10)
    assert sign_flip_p(np.ones(30), np.zeros(30), clusters, 100, 0) == pytest.approx(2 / 8)


def test_no_difference_has_p_1() -> None:
    assert sign_flip_p([1, 0, 1], [1, 0, 1], np.arange(3), 100, 0) == 1


def test_sign_flips_keep_their_level() -> None:
    random, rejected = np.random.default_rng(3), 0
    for seed in range(1000):
        shared = np.repeat(random.normal(size=40), 3)
        difference = shared + random.normal(size=120)
        rejected += sign_flip_p(difference, np.zeros(120), np.arange(120) // 3, 199, seed) <= 0.05
    assert 0.03 <= rejected / 1000 <= 0.07


P_VALUES = [0.01, 0.04, 0.03, 0.005, 0.8, 0.03]


def test_holm_is_statsmodels() -> None:
    assert holm(P_VALUES) == pytest.approx(multipletests(P_VALUES, method="holm")[1])


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])


def test_benjamini_hochberg_is_scipys() -> None:
    assert benjamini_hochberg(P_VALUES) == pytest.approx(scipy.stats.false_discovery_control(P_VALUES))
