"""Replies judged against criteria with points, as HealthBench does (Arora et al. 2025, arXiv 2505.08775).

`facts.criteria` is a list of `{criterion, points}`; points below 0 are faults. Who judges is the caller's: a function
from a conversation and a criterion to whether it is met.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from residency.errors import ResidencyError
from residency.eval.metrics.item import Floats, Item, Ratio, Statistics, Sums, fact

Judge = Callable[[list[dict[str, str]], str], bool]


def rubric(met: Sequence[bool], item: Item) -> Statistics:
    """Points of the criteria met / sum of the positive points. At most 1, below 0 where faults prevail: a base model's
    replies, which a clipped score would all call 0.

    Args:
        met: for each of `facts.criteria`, in their order, whether it is met.
    """
    criteria = read_criteria(item)
    assert len(met) == len(criteria), (len(met), len(criteria))
    points = [float(criterion["points"]) for criterion in criteria]
    achieved = sum(worth for worth, is_met in zip(points, met, strict=True) if is_met)
    return {"score": achieved / sum(worth for worth in points if worth > 0)}


def clipped(sums: Sums) -> Floats:
    """HealthBench's own value: the mean of the items' scores, cut to [0, 1]."""
    return np.clip(Ratio("score")(sums), 0.0, 1.0)


def judged(conversation: list[dict[str, str]], item: Item, judge: Judge) -> list[bool]:
    """Which of the item's criteria a conversation (messages, the reply last) meets."""
    return [bool(judge(conversation, str(criterion["criterion"]))) for criterion in read_criteria(item)]


def read_criteria(item: Item) -> list[dict[str, Any]]:
    """The item's criteria.

    Raises:
        ResidencyError: one has no text or points, or no points are positive.
    """
    criteria = fact(item, "criteria")
    for criterion in criteria:
        if not criterion.get("criterion") or not isinstance(criterion.get("points"), int | float):
            raise ResidencyError(
                f"item {item.get('id')!r}: criterion {criterion!r}",
                cure="Give each a criterion and its points",
            )
    if not any(criterion["points"] > 0 for criterion in criteria):
        raise ResidencyError(
            f"item {item.get('id')!r}: no criterion has points above 0, so nothing can be achieved",
            cure="Add one, or leave the item out",
        )
    return list(criteria)
