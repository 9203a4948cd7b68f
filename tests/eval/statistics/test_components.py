"""Variance components against statsmodels, and prompts chosen on validation."""

from __future__ import annotations

import itertools

import numpy as np
import pandas
import pytest
import statsmodels.formula.api
from statsmodels.stats.anova import anova_lm

from residency.eval.statistics.components import (
    Split,
    flip_rate,
    order_consistent_accuracy,
    positional_bias,
    probability_better,
    prompt_spread,
    selected_prompt_bootstrap,
    variance_components,
)


def test_components_are_those_of_statsmodels_mean_squares() -> None:
    random = np.random.default_rng(0)
    table = (
        random.normal(0, 0.5, (30, 1, 1))
        + random.normal(0, 0.3, (1, 5, 1))
        + random.normal(0, 0.2, (1, 1, 4))
        + random.normal(0, 1.0, (30, 5, 4))
    )
    rows = [(i, k, p, table[i, k, p]) for i, k, p in itertools.product(range(30), range(5), range(4))]
    frame = pandas.DataFrame(rows, columns=["item", "prompt", "order", "value"])
    fit = statsmodels.formula.api.ols("value ~ C(item) + C(prompt) + C(order)", frame).fit()
    squares = anova_lm(fit)["mean_sq"]
    found = variance_components(table)
    assert found.residual == pytest.approx(squares["Residual"])
    assert found.item == pytest.approx((squares["C(item)"] - squares["Residual"]) / 20)
    assert found.prompt == pytest.approx(max(0, (squares["C(prompt)"] - squares["Residual"]) / 120))
    assert found.order == pytest.approx(max(0, (squares["C(order)"] - squares["Residual"]) / 150))
    assert found.mean == pytest.approx(table.mean())


def test_components_find_the_truth() -> None:
    random, found = np.random.default_rng(1), []
    for _ in range(200):
        table = random.normal(0, 0.6, (100, 1, 1)) + random.normal(0, 0.2, (1, 8, 1))
        table = table + random.normal(0, 0.1, (1, 1, 4)) + random.normal(0, 0.5, (100, 8, 4))
        found.append(variance_components(table)[1:5])
    assert np.mean(found, axis=0) == pytest.approx([0.36, 0.04, 0.01, 0.25], rel=0.1)


def test_one_prompt_and_order_leave_the_items_error() -> None:
    values = np.random.default_rng(2).normal(size=40)
    found = variance_components(values[:, None, None])
    assert (found.prompt, found.order, found.residual) == (0, 0, 0)
    assert found.standard_error == pytest.approx(values.std(ddof=1) / 40**0.5)


def test_spread_flips_and_consistency_by_hand() -> None:
    scores = np.array([[[1, 1], [0, 1]], [[1, 0], [0, 0]]])  # prompts: 3/4 and 1/4
    assert prompt_spread(scores) == pytest.approx(0.5)
    assert flip_rate([[0, 0, 1], [2, 2, 2]]) == pytest.approx((2 / 3 + 0) / 2)
    assert order_consistent_accuracy([[1, 1], [1, 0], [0, 0], [1, 1]]) == 0.5


def test_positional_bias_by_hand() -> None:
    """Chosen A A A B, right A B C D: (0.5 + 0 + 0.25 + 0.25) / 2."""
    assert positional_bias([0, 0, 0, 1], [0, 1, 2, 3], 4) == pytest.approx(0.5)
    assert positional_bias([3, 2, 1, 0], [0, 1, 2, 3], 4) == 0


def test_probability_better_averages_prompts() -> None:
    """Clearly better under one prompt, clearly worse under another, the same under a third."""
    random = np.random.default_rng(3)
    reference = random.integers(0, 2, (400, 3)).astype(float)
    candidate = reference.copy()
    candidate[:, 0], candidate[:, 1] = 1, 0
    assert probability_better(candidate, reference, np.arange(400), 1000, 0) == pytest.approx(0.5, abs=1e-9)
    assert probability_better(reference, reference, np.arange(400), 1000, 0) == 0.5


def test_each_model_gets_the_prompt_that_suits_it() -> None:
    random = np.random.default_rng(4)
    candidate = (random.random((600, 3)) < [0.3, 0.8, 0.5]).astype(float)
    reference = (random.random((600, 3)) < [0.7, 0.4, 0.5]).astype(float)
    codes = np.arange(300)
    found = selected_prompt_bootstrap(
        Split(candidate[:300], reference[:300], codes),
        Split(candidate[300:], reference[300:], codes),
        2000,
        0,
    )
    assert (found.candidate_prompt, found.reference_prompt) == (1, 0)
    delta = candidate[300:, 1].mean() - reference[300:, 0].mean()
    assert found.difference[0] == pytest.approx(delta)
    assert found.difference[1] < delta < found.difference[2]


def test_an_unsure_choice_widens_the_interval() -> None:
    """Two prompts alike on ten validation items and far apart on the test."""
    random = np.random.default_rng(5)
    reference = np.zeros((10, 2))
    validation = np.column_stack([np.tile([1.0, 0.0], 5), np.tile([0.0, 1.0], 5)])
    test = (random.random((400, 2)) < [0.2, 0.8]).astype(float)
    split = Split(test, np.zeros((400, 2)), np.arange(400))
    unsure = selected_prompt_bootstrap(Split(validation, reference, np.arange(10)), split, 2000, 0).difference
    sure = np.column_stack([np.ones(10), np.zeros(10)])
    certain = selected_prompt_bootstrap(Split(sure, reference, np.arange(10)), split, 2000, 0).difference
    assert unsure[2] - unsure[1] > 4 * (certain[2] - certain[1])
