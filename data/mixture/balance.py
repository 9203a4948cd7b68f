"""Rows equal in tokens are not equal in work: attention within documents grows with their squared lengths. Here rows
are given places so that the ranks, which wait for each other in every turn, have about the same work. No torch here.

Two parts, because the second may depend on the number of ranks and the first must not:

* `step_order` decides which rows a step holds. Rows of similar cost stand in one group, the groups are shuffled, so
  steps stay in random order; groups divide the global batch, which is part of a stage's identity. Rows only change
  places within their window (`shards`): passes, and orders that were asked for, stay as they are.
* `deal` hands the rows of each step to ranks and micro-batches. A step's gradient is a sum over all its rows, so this
  changes nothing that is learnt.

Both are functions of their arguments alone: a resumed run sees the same rows.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Costs = NDArray[np.float64]
LARGEST_GROUP = (
    64  # rows; as many ranks find rows of similar cost in one turn, and a larger batch stays mixed
)
SMALLEST_SPREAD = 0.05  # standard deviation over mean of the costs; below it a random order loses little


def row_costs(squares: Costs, max_length: int, attention: float) -> Costs:
    """Cost of each row in tokens' worth of matrix products, `[rows]`.

    Args:
        squares: `[rows]`, sum of the squared lengths of a row's segments.
        attention: cost of a pair of tokens that attention compares, see `attention_weight`.
    """
    return max_length + attention * squares


def attention_weight(layers: int, width: int, weights: int) -> float:
    """What one unit of a row's `squares` costs, in tokens of the linear layers.

    Forward and backward take 6 N FLOPs a token in N weights, and 6 L d a pair of tokens in causal attention over L
    layers of width d (PaLM, arXiv 2204.02311, appendix B, halved for causality).
    """
    return layers * width / weights


def placed(
    costs: Costs, windows: Ints, empty: float, *, batch_size: int, world_size: int, micro: int, seed: int
) -> Ints:
    """The row at each place of training, `[whole batches]`; numbers from `len(costs)` on are empty rows.

    Args:
        costs: `[rows]`.
        windows: `[windows + 1]`, rows between two of them may change places.
        empty: cost of an empty row.
        batch_size: rows per optimizer step, a multiple of `world_size * micro`.
        micro: rows of a rank in one forward pass; ranks take turns, as accelerate's batch sampler deals them.
    """
    places = -(-len(costs) // batch_size) * batch_size
    order = np.concatenate([step_order(costs, windows, batch_size, seed), np.arange(len(costs), places)])
    filled = np.concatenate([costs, np.full(places - len(costs), empty)])
    return order if world_size == 1 else order[deal(filled[order], batch_size, world_size, micro)]


def step_order(costs: Costs, windows: Ints, batch_size: int, seed: int) -> Ints:
    """Which row stands at each place, `[rows]`, the same for any number of ranks."""
    rows = len(costs)
    if not rows or costs.std() < SMALLEST_SPREAD * costs.mean():
        return np.arange(rows)
    random = np.random.default_rng(seed)
    group = max(size for size in range(1, min(batch_size, LARGEST_GROUP) + 1) if batch_size % size == 0)
    order = np.arange(rows)
    for start, end in zip(windows[:-1].tolist(), windows[1:].tolist(), strict=True):
        by_cost = start + np.argsort(costs[start:end], kind="stable")
        order[start:end] = np.concatenate(_groups(by_cost, start, group, random))
    return order


def deal(costs: Costs, batch_size: int, world_size: int, micro: int) -> Ints:
    """Within each step, rows by cost to turns of all ranks, and to and fro over the ranks in each turn.

    Args:
        costs: `[places]`, whole batches.
    """
    by_cost = np.argsort(-costs.reshape(-1, batch_size), axis=1, kind="stable")
    dealt = by_cost.reshape(len(by_cost), -1, micro, world_size)
    dealt[:, :, 1::2] = dealt[:, :, 1::2, ::-1]  # the second row of a turn goes to the ranks in reverse
    dealt[:, 1::2] = dealt[:, 1::2, :, ::-1]  # and so does every second turn
    starts = np.arange(0, len(costs), batch_size)[:, None]
    order: Ints = (dealt.swapaxes(2, 3).reshape(len(by_cost), -1) + starts).reshape(-1)
    return order


def predicted_balance(costs: Costs, batch_size: int, world_size: int, micro: int) -> float:
    """Mean over the steps of the ranks' mean work over the work of the slowest in each turn; 1 means nobody waits.

    Args:
        costs: `[places]`, in the order of training.
    """
    work = costs.reshape(-1, batch_size // (world_size * micro), world_size, micro).sum(axis=3)
    return float((work.mean(axis=2).sum(axis=1) / work.max(axis=2).sum(axis=1)).mean())


def _groups(by_cost: Ints, start: int, group: int, random: np.random.Generator) -> list[Ints]:
    """Groups of rows of similar cost in random order, cut so that whole ones begin at multiples of `group`.

    What a window lacks to whole groups stands at its two ends: its cheapest rows, which meet those of the next window
    there, or empty ones.
    """
    head = min(-start % group, len(by_cost))
    tail = (len(by_cost) - head) % group
    groups = by_cost[head + tail :].reshape(-1, group)
    return [by_cost[:head], random.permutation(groups).reshape(-1), by_cost[head : head + tail]]
