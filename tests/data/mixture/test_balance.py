"""Ranks get equal work: rows keep to their windows and steps, each is trained once, and nothing depends on chance."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from residency.data.mixture.balance import (
    attention_weight,
    deal,
    placed,
    predicted_balance,
    row_costs,
    step_order,
)

RANDOM = np.random.default_rng(0)
COSTS = RANDOM.lognormal(0, 0.8, 1000)


def place(costs: np.ndarray, windows: list[int], **sizes: int) -> np.ndarray:
    filled = {"batch_size": 8, "world_size": 8, "micro": 1, "seed": 3, **sizes}
    return placed(costs, np.array(windows), 1.0, **filled)


@pytest.mark.parametrize("world_size", [1, 2, 4, 8])
@pytest.mark.parametrize("micro", [1, 2])
@pytest.mark.parametrize("windows", [[0, 1000], [0, 333, 1000], [0, 3, 5, 6, 1000]])
def test_every_row_once_in_its_window_and_in_the_same_step(
    world_size: int, micro: int, windows: list[int]
) -> None:
    order = place(COSTS, windows, world_size=world_size, micro=micro, batch_size=16)
    assert sorted(order.tolist()) == list(range(1008))
    alone = place(COSTS, windows, world_size=1, micro=1, batch_size=16)
    steps, steps_alone = np.sort(order.reshape(-1, 16)), np.sort(alone.reshape(-1, 16))
    assert steps.tolist() == steps_alone.tolist()
    for start, end in pairwise(windows):
        assert sorted(alone[start:end].tolist()) == list(range(start, end))


def test_groups_are_alike_and_come_in_random_order() -> None:
    order = step_order(COSTS, np.array([0, 1000]), 8, 3)
    groups = COSTS[order].reshape(-1, 8)
    assert np.median(groups.max(axis=1) / groups.min(axis=1)) < 1.05
    means = groups.mean(axis=1)
    assert abs(np.corrcoef(means[:-1], means[1:])[0, 1]) < 0.25
    assert step_order(COSTS, np.array([0, 1000]), 8, 3).tolist() == order.tolist()
    assert step_order(COSTS, np.array([0, 1000]), 8, 4).tolist() != order.tolist()


def test_rows_of_about_the_same_cost_and_ordered_rows_stay() -> None:
    assert step_order(100 + COSTS, np.array([0, 1000]), 8, 3).tolist() == list(range(1000))
    assert step_order(COSTS, np.arange(1001), 8, 3).tolist() == list(range(1000))


def test_a_step_is_dealt_to_and_fro() -> None:
    costs = np.arange(8.0)
    # accelerate hands `micro` rows to each rank in turn: rank 0 gets places 0-1, rank 1 places 2-3.
    assert deal(costs, 8, 2, 2).tolist() == [7, 4, 6, 5, 2, 1, 3, 0]
    assert deal(costs, 8, 2, 1).tolist() == [7, 6, 4, 5, 3, 2, 0, 1]


def test_empty_rows_are_spread_over_the_ranks() -> None:
    order = place(np.ones(12), [0, 12], batch_size=8, world_size=4, micro=2)
    last = order[8:].reshape(4, 2)
    assert ((last >= 12).sum(axis=1) == 1).all()


@pytest.mark.parametrize(
    ("batch_size", "world_size", "micro"), [(8, 8, 1), (64, 8, 1), (64, 8, 8), (64, 64, 1), (12, 6, 2)]
)
def test_balance(batch_size: int, world_size: int, micro: int) -> None:
    costs = RANDOM.lognormal(0, 0.4, 40 * batch_size * 5)
    sizes = {"batch_size": batch_size, "world_size": world_size, "micro": micro}
    order = place(costs, [0, len(costs)], **sizes)
    balanced = predicted_balance(costs[order], **sizes)
    assert balanced > 0.98
    assert balanced > predicted_balance(costs, **sizes)


def test_costs() -> None:
    assert row_costs(np.array([4.0, 8.0]), 10, 0.5).tolist() == [12, 14]
    assert attention_weight(2, 8, 64) == 0.25
    assert predicted_balance(np.array([1.0, 1, 2, 0]), 2, 2, 1) == (1 + 0.5) / 2
