"""Intervals and tests against scipy, their coverage in simulation, and the verdict's table."""

from __future__ import annotations

import time
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.stats

from residency.eval.statistics import mcnemar_midp, paired_bootstrap, ratio_bootstrap, verdict_of


def singles(count: int) -> list[str]:
    return [str(place) for place in range(count)]


def test_paired_interval_is_scipys_percentile_bootstrap() -> None:
    random = np.random.default_rng(1)
    reference = random.integers(0, 2, 400).astype(float)
    candidate = np.where(random.random(400) < 0.3, 1 - reference, reference)
    delta, low, high = paired_bootstrap(candidate, reference, singles(400), 20_000, 0)
    theirs = scipy.stats.bootstrap(
        (candidate, reference),
        lambda new, old, axis: new.mean(axis=axis) - old.mean(axis=axis),
        paired=True,
        vectorized=True,
        method="percentile",
        n_resamples=20_000,
        rng=np.random.default_rng(2),
    ).confidence_interval
    assert delta == pytest.approx(candidate.mean() - reference.mean())
    assert (low, high) == pytest.approx((theirs.low, theirs.high), abs=0.004)


def test_ratio_interval_is_scipys() -> None:
    random = np.random.default_rng(3)
    sizes = random.integers(100, 2000, 150).astype(float)
    nats = sizes * random.normal(0.9, 0.2, 150)
    value, low, high = ratio_bootstrap(nats, sizes, singles(150), 20_000, 0)
    theirs = scipy.stats.bootstrap(
        (nats, sizes),
        lambda top, bottom, axis: top.sum(axis=axis) / bottom.sum(axis=axis),
        paired=True,
        vectorized=True,
        method="percentile",
        n_resamples=20_000,
        rng=np.random.default_rng(4),
    ).confidence_interval
    assert value == pytest.approx(nats.sum() / sizes.sum())
    assert (low, high) == pytest.approx((theirs.low, theirs.high), abs=0.002)


def test_copies_of_an_item_add_no_certainty() -> None:
    random = np.random.default_rng(5)
    scores = random.integers(0, 2, 200).astype(float)
    once = ratio_bootstrap(scores, np.ones(200), singles(200), 10_000, 0)
    five = ratio_bootstrap(
        np.repeat(scores, 5), np.ones(1000), np.repeat(singles(200), 5).tolist(), 10_000, 0
    )
    assert five == pytest.approx(once, abs=1e-12)


def test_both_ways_to_draw_agree() -> None:
    """A jitter far below any effect makes every row distinct, so that clusters are drawn one by one."""
    random = np.random.default_rng(8)
    scores = random.integers(0, 2, 300).astype(float)
    few = ratio_bootstrap(scores, np.ones(300), singles(300), 20_000, 0)
    many = ratio_bootstrap(scores + random.normal(0, 1e-6, 300), np.ones(300), singles(300), 20_000, 0)
    assert many == pytest.approx(few, abs=0.004)


def test_coverage_is_about_95_percent() -> None:
    random, covered = np.random.default_rng(6), 0
    for seed in range(400):
        facts = 300
        gain = random.random(facts) < 0.25
        loss = random.random(facts) < 0.15
        reference = (random.random(facts) < 0.5).astype(float)
        candidate = np.where(reference == 1, 1.0 - loss, 1.0 * gain)
        _, low, high = paired_bootstrap(candidate, reference, singles(facts), 1_000, seed)
        covered += low <= 0.5 * 0.25 - 0.5 * 0.15 <= high
    assert 0.92 <= covered / 400 <= 0.98


def test_ten_thousand_resamples_of_five_thousand_items_are_quick() -> None:
    random = np.random.default_rng(7)
    started = time.perf_counter()
    paired_bootstrap(random.integers(0, 2, 5000), random.integers(0, 2, 5000), singles(5000), 10_000, 0)
    answers = time.perf_counter() - started
    paired_bootstrap(random.normal(size=5000), random.normal(size=5000), singles(5000), 10_000, 0)
    assert answers < 0.5
    assert time.perf_counter() - started < 4, "every item different: about 0.5 s on a free core"


def test_the_same_seed_gives_the_same_interval() -> None:
    first = paired_bootstrap([1, 0, 1, 1], [0, 0, 1, 0], singles(4), 1_000, 3)
    assert first == paired_bootstrap([1, 0, 1, 1], [0, 0, 1, 0], singles(4), 1_000, 3)


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
