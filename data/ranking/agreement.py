"""How far raters agree: Cohen's kappa over pairs of replies that two raters have both ranked.

A ranking of K replies is K (K - 1) / 2 judgements: the first is better, the second is better, or both are alike. Kappa
is agreement beyond chance: 1 is full, 0 what their habits alone would give (Cohen 1960,
doi.org/10.1177/001316446002000104). Which of two replies is called the first means nothing, so each judgement counts
once in either direction; a source whose best reply always stands first would change kappa otherwise."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

Judgement = tuple[str, int, int]
"""Item, and the places of two replies in the order of the source."""


@dataclass(frozen=True)
class Agreement:
    """Of two raters."""

    raters: tuple[str, str]
    items: int
    judgements: int
    agreed: float
    """Share of judgements that are the same."""
    kappa: float | None
    """None where both said one and the same of everything: chance would do that too."""


def agreements(rows: Iterable[Mapping[str, Any]]) -> list[Agreement]:
    """Of each two raters with an item in common; a rater's last ranking of an item counts."""
    by_rater: dict[str, dict[Judgement, int]] = {}
    for row in rows:
        by_rater.setdefault(row["rater"], {}).update(judgements(row))
    found = []
    for one, other in combinations(sorted(by_rater), 2):
        shared = sorted(by_rater[one].keys() & by_rater[other].keys())
        if shared:
            said = [(by_rater[one][key], by_rater[other][key]) for key in shared]
            agreed = sum(first == second for first, second in said) / len(said)
            items = len({item for item, _, _ in shared})
            both_ways = [*said, *((-first, -second) for first, second in said)]
            found.append(Agreement((one, other), items, len(shared), agreed, cohen_kappa(both_ways)))
    return found


def judgements(row: Mapping[str, Any]) -> Iterator[tuple[Judgement, int]]:
    """Each two replies of a ranking, and which is better: 1 the first, -1 the second, 0 neither."""
    ranks = row["ranks"]
    for one, other in combinations(range(len(ranks)), 2):
        yield (row["item"], one, other), (ranks[other] > ranks[one]) - (ranks[other] < ranks[one])


def cohen_kappa(said: list[tuple[int, int]]) -> float | None:
    """Kappa of labels given by two raters to the same things; None where chance alone gives full agreement."""
    agreed = sum(one == other for one, other in said) / len(said)
    first, second = Counter(one for one, _ in said), Counter(other for _, other in said)
    by_chance = sum(first[label] * second[label] for label in first) / len(said) ** 2
    return None if by_chance == 1 else (agreed - by_chance) / (1 - by_chance)
