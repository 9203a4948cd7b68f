"""Stages that add up, suites, and clusters that two tasks share."""

from __future__ import annotations

import numpy as np
import pytest

from residency.eval.statistics import compare_pair, paired_bootstrap
from residency.eval.statistics.attribution import (
    attribute,
    attribute_suite,
    mean_of_pairs,
    suite_difference,
)


def chain(items: int, seed: int = 0) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Four stages, 0/1."""
    return (np.random.default_rng(seed).random((4, items)) < [[0.3], [0.4], [0.35], [0.5]]).astype(float)


def test_steps_add_up_to_the_total() -> None:
    scores = chain(500)
    found = attribute(scores, np.arange(500), 4000, 0)
    assert [step[0] for step in found.steps] == pytest.approx(np.diff(scores.mean(axis=1)).tolist())
    assert sum(step[0] for step in found.steps) == pytest.approx(found.total[0])


def test_a_step_has_its_paired_interval() -> None:
    scores, clusters = chain(600), np.arange(600) // 2
    found = attribute(scores, clusters, 20_000, 0)
    for place, step in enumerate(found.steps):
        alone = paired_bootstrap(scores[place + 1], scores[place], clusters, 20_000, 1)
        assert step == pytest.approx(alone, abs=0.004)
    assert found.total == pytest.approx(
        paired_bootstrap(scores[3], scores[0], clusters, 20_000, 1), abs=0.004
    )


def test_ratios_add_up_too() -> None:
    random = np.random.default_rng(1)
    sizes = random.uniform(50, 500, 300)
    nats = sizes * (random.normal(1, 0.1, 300) - np.array([[0.0], [0.1], [0.15]]))
    found = attribute(nats, np.arange(300), 20_000, 0, sizes=sizes)
    alone = paired_bootstrap(nats[1], nats[0], np.arange(300), 20_000, 1, sizes=sizes)
    assert found.steps[0] == pytest.approx(alone, abs=1e-4)
    assert found.total[0] == pytest.approx((nats[2] - nats[0]).sum() / sizes.sum())


def test_a_suite_is_the_mean_of_its_tasks() -> None:
    """Independent tasks: the variance of the mean is the sum of the squares of the shares' errors."""
    tables = {"a": chain(400, 1), "b": chain(900, 2)}
    clusters = {"a": [f"a/{n}" for n in range(400)], "b": [f"b/{n}" for n in range(900)]}
    found = attribute_suite(tables, clusters, 20_000, 0)
    deltas = {task: table[3] - table[0] for task, table in tables.items()}
    error = sum(delta.var() / len(delta) / 4 for delta in deltas.values()) ** 0.5
    assert found.total[0] == pytest.approx(sum(delta.mean() for delta in deltas.values()) / 2)
    assert (found.total[2] - found.total[1]) / 2 == pytest.approx(1.96 * error, rel=0.04)


def test_twins_are_resampled_together() -> None:
    """The same items as two tasks are one task's evidence; under other names they would pass for two."""
    random = np.random.default_rng(3)
    reference = random.integers(0, 2, 500).astype(float)
    candidate = np.where(random.random(500) < 0.2, 1 - reference, reference)
    new, old = (dict.fromkeys("ab", values) for values in (candidate, reference))
    together = suite_difference(new, old, {"a": np.arange(500), "b": np.arange(500)}, 20_000, 0)
    apart = suite_difference(new, old, {"a": np.arange(500), "b": 500 + np.arange(500)}, 20_000, 0)
    alone = paired_bootstrap(candidate, reference, np.arange(500), 20_000, 1)
    assert together == pytest.approx(alone, abs=0.003)
    assert (apart[2] - apart[1]) == pytest.approx((alone[2] - alone[1]) / 2**0.5, rel=0.05)


def test_weights_choose_the_tasks() -> None:
    new, old = {"a": np.ones(20), "b": np.zeros(20)}, {"a": np.zeros(20), "b": np.zeros(20)}
    clusters = {"a": np.arange(20), "b": 20 + np.arange(20)}
    assert suite_difference(new, old, clusters, 100, 0)[0] == pytest.approx(0.5)
    assert suite_difference(new, old, clusters, 100, 0, weights={"a": 3, "b": 1})[0] == pytest.approx(0.75)
    assert suite_difference(new, old, clusters, 100, 0, weights={"a": 1})[0] == pytest.approx(1)


def test_mean_of_pairs_is_the_suite_of_tasks_that_share_nothing() -> None:
    random = np.random.default_rng(3)
    new = {task: random.integers(0, 2, n).astype(float) for task, n in {"a": 300, "b": 80, "c": 150}.items()}
    old = {task: np.where(random.random(len(own)) < 0.3, 1 - own, own) for task, own in new.items()}
    clusters = {task: 1000 * place + np.arange(len(own)) for place, (task, own) in enumerate(new.items())}
    pairs = [
        compare_pair(new[task], old[task], clusters[task], 20_000, seed) for seed, task in enumerate(new)
    ]
    assert mean_of_pairs(pairs) == pytest.approx(suite_difference(new, old, clusters, 20_000, 9), abs=0.003)


def test_a_small_task_keeps_its_items_beside_a_large_twin() -> None:
    """Two of three questions are shared with a large test: no resample may lack the small one."""
    clusters = {"small": ["1", "2", "x"], "large": [str(n) for n in range(300)]}
    scores = {
        "small": np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 1.0]]),
        "large": np.stack([np.zeros(300), np.arange(300) % 2]),
    }
    found = attribute_suite(scores, clusters, 2000, 0)
    assert found.total[0] == pytest.approx((2 / 3 + 0.5) / 2)
    assert found.total[1] < found.total[0] < found.total[2]


def test_suite_interval_covers_with_unequal_tasks_and_twins() -> None:
    """30, 60 and 400 clusters, ten of them in two tests, true difference 0.1 everywhere."""
    random, covered = np.random.default_rng(4), 0
    names = {"a": np.arange(30), "b": np.arange(20, 80), "c": np.arange(100, 500)}
    for seed in range(400):
        effect = random.normal(0.1, 0.4, 500)
        new = {task: effect[own] + random.normal(0, 0.2, len(own)) for task, own in names.items()}
        old = {task: np.zeros(len(own)) for task, own in names.items()}
        _, low, high = suite_difference(new, old, names, 400, seed)
        covered += low <= 0.1 <= high
    assert 0.925 <= covered / 400 <= 0.975
