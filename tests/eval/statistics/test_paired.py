"""Intervals against scipy, their coverage in simulation, and the ways to draw against each other."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import statsmodels.api

from residency.eval.statistics import (
    clustered_error,
    codes_of,
    compare_pair,
    paired_bootstrap,
    ratio_bootstrap,
)
from residency.eval.statistics.paired import interval_of, student_quantile
from residency.eval.statistics.resampling import draw, resample_totals


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


def test_the_same_seed_gives_the_same_interval() -> None:
    first = paired_bootstrap([1, 0, 1, 1], [0, 0, 1, 0], singles(4), 1_000, 3)
    assert first == paired_bootstrap([1, 0, 1, 1], [0, 0, 1, 0], singles(4), 1_000, 3)


def test_one_resampling_serves_values_difference_and_equivalence() -> None:
    random = np.random.default_rng(9)
    reference = random.integers(0, 2, 600).astype(float)
    candidate = np.where(random.random(600) < 0.2, 1 - reference, reference)
    clusters = np.arange(600) // 3
    pair = compare_pair(candidate, reference, clusters, 20_000, 1)
    assert pair.difference == pytest.approx(
        paired_bootstrap(candidate, reference, clusters, 20_000, 2), abs=0.003
    )
    assert pair.candidate == pytest.approx(
        ratio_bootstrap(candidate, np.ones(600), clusters, 20_000, 3), abs=0.003
    )
    assert pair.reference == pytest.approx(
        ratio_bootstrap(reference, np.ones(600), clusters, 20_000, 3), abs=0.003
    )
    narrow = paired_bootstrap(candidate, reference, clusters, 20_000, 4, level=0.91)
    assert pair.equivalence == pytest.approx(narrow[1:], abs=0.003)
    assert (pair.items, pair.clusters) == (600, 200)
    assert pair.standard_error == pytest.approx((pair.difference[2] - pair.difference[1]) / 3.96, rel=0.05)


def test_clustered_error_is_that_of_statsmodels() -> None:
    random = np.random.default_rng(10)
    codes = np.sort(random.integers(0, 60, 400))
    values = random.normal(size=60)[codes] + random.normal(size=400)
    fit = statsmodels.api.OLS(values, np.ones(400)).fit(
        cov_type="cluster", cov_kwds={"groups": codes, "use_correction": False}
    )
    groups = len(set(codes.tolist()))
    expected = float(fit.bse[0]) * (groups / (groups - 1)) ** 0.5
    assert clustered_error(values, codes) == pytest.approx(expected, rel=1e-9)


def test_clusters_of_one_have_the_plain_error() -> None:
    values = np.random.default_rng(11).normal(size=50)
    assert clustered_error(values, singles(50)) == pytest.approx(scipy.stats.sem(values))


@pytest.mark.parametrize("freedom", [4, 9, 19, 99, 1000])
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_student_quantile_is_scipys(freedom: int, level: float) -> None:
    expected = scipy.stats.t.ppf((1 + level) / 2, freedom)
    assert student_quantile((1 + level) / 2, freedom) == pytest.approx(expected, rel=0.01)


def test_few_clusters_have_the_width_of_students_interval() -> None:
    values = np.random.default_rng(12).normal(size=20)
    _, low, high = ratio_bootstrap(values, np.ones(20), singles(20), 50_000, 0)
    student = scipy.stats.t.interval(0.95, 19, values.mean(), scipy.stats.sem(values))
    assert high - low == pytest.approx(student[1] - student[0], rel=0.05)


def test_one_cluster_is_refused() -> None:
    with pytest.raises(AssertionError, match="one cluster"):
        paired_bootstrap([1, 0], [0, 0], ["a", "a"], 100, 0)


def test_scores_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(AssertionError, match="not a number"):
        paired_bootstrap([1, float("nan")], [0, 0], ["a", "b"], 100, 0)


def test_names_and_numbers_make_the_same_clusters() -> None:
    assert codes_of(["b", "a", "b"]).tolist() == [0, 1, 0]
    assert codes_of(np.array([7, 3, 7])).tolist() == [1, 0, 1]


@pytest.mark.parametrize("values", ["normal", "heavy", "skewed"])
def test_cells_have_the_quantiles_of_drawing_each_cluster(values: str) -> None:
    """5,000 clusters, all different: the fast way against numpy's own draws, in standard errors."""
    random = np.random.default_rng(13)
    samples = {
        "normal": random.normal(size=5000),
        "heavy": random.standard_t(3, 5000),
        "skewed": random.lognormal(size=5000),
    }
    column = samples[values]
    fast = draw(np.column_stack([column, np.ones(5000)]), 20_000, 0)[:, 0] / 5000
    slow = np.concatenate([column[random.integers(0, 5000, (100, 5000))].mean(axis=1) for _ in range(200)])
    error = column.std() / 5000**0.5
    at = [0.025, 0.25, 0.5, 0.75, 0.975]
    assert (np.quantile(fast, at) - np.quantile(slow, at)) / error == pytest.approx(np.zeros(5), abs=0.08)
    assert fast.std() == pytest.approx(error, rel=0.02)


def test_cells_keep_the_covariance_of_columns() -> None:
    random = np.random.default_rng(14)
    sizes = random.uniform(1, 3, 3000)
    rows = np.column_stack([sizes * random.normal(1, 0.3, 3000), random.normal(size=3000), sizes])
    drawn = draw(rows, 40_000, 0)
    expected = np.cov(rows.T, bias=True) * 3000
    assert np.cov(drawn.T) == pytest.approx(expected, abs=0.02 * float(np.abs(expected).max()))


def test_many_columns_stay_together() -> None:
    random = np.random.default_rng(15)
    rows = random.normal(size=(300, 4))
    rows = np.column_stack([rows, rows.sum(axis=1), np.ones(300)])
    drawn = resample_totals(rows, singles(300), 500, 0)
    assert drawn[:, :4].sum(axis=1) == pytest.approx(drawn[:, 4])
    assert drawn[:, 5] == pytest.approx(np.full(500, 300.0))


def test_interval_needs_values_in_every_resample() -> None:
    with pytest.raises(AssertionError, match="without value"):
        interval_of(0.0, [0.0, float("nan")], 10)
