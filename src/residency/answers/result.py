"""What became of a reply: its status, the value read from it, the rule that decided; and the shares of each status."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar, get_args

Status = Literal["answered", "invalid", "refused", "truncated"]
V = TypeVar("V")


@dataclass(frozen=True)
class Extracted(Generic[V]):
    """The answer in a reply. `value` is None unless the status is "answered" (or a text cut off, see `final_text`)."""

    status: Status
    value: V | None
    rule: str
    """The rule that decided, in words for a report."""


@dataclass(frozen=True)
class Rate:
    """Replies of one status, and their share of all (0 where there are none)."""

    count: int
    share: float


def rates(statuses: Iterable[Status]) -> dict[Status, Rate]:
    """Count and share of every status, those that never occur included."""
    counts = Counter(statuses)
    total = counts.total()
    return {
        status: Rate(counts[status], counts[status] / total if total else 0.0) for status in get_args(Status)
    }
