"""Whether the ways of scoring one task agree: letters, option texts and replies, from records, without a model.

A model may know an answer and not write it, or write letters it does not believe; one scorer's accuracy hides that.
What replies became (answered, invalid, refused, truncated) stands beside each accuracy, and whether that is below the
floor.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from typing import Any

from residency.eval.records import Record
from residency.eval.statistics.floors import constant_floor

STATUSES = ("answered", "invalid", "refused", "truncated")


def agreement(records: Sequence[Record], floor: float | None = None) -> dict[str, Any]:
    """For a report: `scorers` (accuracy, items, below_floor and `validity`, the replies by status), `disagree` (share
    of items on which not all scorers predict the same), `pairs` (the same for each two, by the set of their names).

    A prediction is the commonest one of an item's rows, the first of equal ones; a reply that names no option differs
    from every prediction but that of no option.

    Args:
        records: of one task.
        floor: accuracy below which a score says nothing; by default that of always giving the commonest answer.
    """
    rows = {scorer: _counting(records, scorer) for scorer in dict.fromkeys(_scorers(records))}
    if floor is None:
        answers = {row["id"]: row["answer"] for row in records if row["answer"] is not None}
        floor = constant_floor(list(answers.values()))[1] if answers else 0.0
    said = {scorer: _predictions(each) for scorer, each in rows.items()}
    items = list(dict.fromkeys(row["id"] for row in records))
    return {
        "floor": floor,
        "scorers": {scorer: _account(records, scorer, each, floor) for scorer, each in rows.items()},
        "disagree": _share(len({each[id] for each in said.values()}) > 1 for id in items),
        "pairs": {
            frozenset((one, other)): _share(said[one][id] != said[other][id] for id in items)
            for one, other in combinations(said, 2)
        },
    }


def validity(records: Sequence[Record]) -> dict[str, int]:
    """How many replies there are of each status, votes over them not counted; empty where nothing was written."""
    counts = Counter(row["status"] for row in records if row["status"] and row["reply"] is not None)
    return {status: counts[status] for status in STATUSES} if counts else {}


def _scorers(records: Sequence[Record]) -> list[str]:
    return [row["scorer"] for row in records if row["scorer"]]


def _counting(records: Sequence[Record], scorer: str) -> list[Record]:
    """The rows that make a scorer's value: votes where there are any, else all."""
    own = [row for row in records if row["scorer"] == scorer]
    return [row for row in own if row["scorer"] == "reply" and row["sample"] is None] or own


def _predictions(rows: Sequence[Record]) -> dict[str, int | None]:
    found: dict[str, Counter[int | None]] = {}
    for row in rows:
        found.setdefault(row["id"], Counter())[row["prediction"]] += 1
    return {id: counts.most_common(1)[0][0] for id, counts in found.items()}


def _account(records: Sequence[Record], scorer: str, rows: Sequence[Record], floor: float) -> dict[str, Any]:
    by_item: dict[str, list[float]] = {}
    for row in rows:
        by_item.setdefault(row["id"], []).append(row["correct"])
    accuracy = sum(sum(each) / len(each) for each in by_item.values()) / len(by_item)
    written = validity([row for row in records if row["scorer"] == scorer])
    return {"accuracy": accuracy, "items": len(by_item), "below_floor": accuracy < floor, "validity": written}


def _share(flags: Any) -> float:
    marked = [bool(flag) for flag in flags]
    return sum(marked) / len(marked)
