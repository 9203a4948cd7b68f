"""What every metric shares: the facts of an item, and how statistics of items become one value.

A metric scores one item into *statistics*: numbers that add up over items (a score and the count 1, or hits, predicted
and gold). A task's value is a function of their sums, so that a bootstrap may resample items, add up and ask again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from residency.errors import ResidencyError

Item = Mapping[str, Any]
"""A row: `id`, `answers` (references, one is enough), where needed `context` and `facts`."""
Statistics = dict[str, float]
Floats = NDArray[np.float64]
Sums = Mapping[str, Floats]
"""Statistics added up over items: scalars, or one entry for each resample."""
Aggregate = Callable[[Sums], Floats]


@dataclass(frozen=True)
class Ratio:
    """`times * sum of top / sum of bottom`; 0 where the bottom is 0. With the default bottom, a mean over items."""

    top: str
    bottom: tuple[str, ...] = ("items",)
    times: float = 1.0

    def __call__(self, sums: Sums) -> Floats:
        return self.times * quotient(sums[self.top], sum((sums[name] for name in self.bottom), np.zeros(())))


def quotient(top: Any, bottom: Any) -> Floats:
    """`top / bottom`, and 0 where nothing was counted (scikit-learn's `zero_division=0`)."""
    top, bottom = np.asarray(top, dtype=float), np.asarray(bottom, dtype=float)
    return np.where(bottom != 0, top / np.where(bottom != 0, bottom, 1.0), 0.0)


def share(top: float, bottom: float) -> float:
    """`quotient` of two numbers."""
    return top / bottom if bottom else 0.0


def f1(precision: float, recall: float) -> float:
    """Harmonic mean, 0 where both are 0."""
    return share(2 * precision * recall, precision + recall)


def fact(item: Item, name: str) -> Any:
    """A fact that a metric needs.

    Raises:
        ResidencyError: the item has no such fact.
    """
    facts = item.get("facts") or {}
    if name not in facts:
        raise ResidencyError(
            f"item {item.get('id')!r} lacks facts.{name}", cure="Add it to the row, or take another metric"
        )
    return facts[name]


def answers(item: Item) -> list[str]:
    """References of an item.

    Raises:
        ResidencyError: there is none, or one is no text.
    """
    found = item.get("answers")
    if not isinstance(found, list) or not found or not all(isinstance(text, str) for text in found):
        raise ResidencyError(
            f"item {item.get('id')!r} has answers {found!r}", cure="Give a list with at least one text"
        )
    return found
