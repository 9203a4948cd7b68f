"""Kappa is that of scikit-learn, and judgements are those that the ranks say."""

from __future__ import annotations

from random import Random

import pytest
from sklearn.metrics import cohen_kappa_score

from residency.data.ranking.agreement import agreements, cohen_kappa, judgements


def ranking(rater: str, item: str, *ranks: int) -> dict[str, object]:
    return {"rater": rater, "item": item, "ranks": list(ranks)}


def test_a_ranking_is_judgements_of_pairs() -> None:
    assert dict(judgements(ranking("a", "x", 1, 3, 1))) == {("x", 0, 1): 1, ("x", 0, 2): 0, ("x", 1, 2): -1}


@pytest.mark.parametrize("seed", range(5))
def test_kappa_is_scikit_learns(seed: int) -> None:
    random = Random(seed)
    said = [(one := random.choice([-1, 0, 1]), random.choice([one, one, -1, 1])) for _ in range(40)]
    first, second = zip(*said, strict=True)
    assert cohen_kappa(said) == pytest.approx(cohen_kappa_score(first, second))


def test_kappa_of_one_label_alone_is_not_defined() -> None:
    assert cohen_kappa([(1, 1), (1, 1)]) is None


def test_only_items_that_both_ranked_count_and_the_last_ranking_of_them() -> None:
    rows = [
        ranking("a", "x", 1, 2),
        ranking("b", "x", 2, 1),
        ranking("b", "x", 1, 2),
        ranking("a", "y", 2, 1),
        ranking("b", "y", 2, 1),
        ranking("a", "z", 1, 2),
        ranking("c", "w", 1, 2),
    ]
    (found,) = agreements(rows)
    assert (found.raters, found.items, found.judgements, found.agreed) == (("a", "b"), 2, 2, 1.0)
    assert found.kappa == 1.0
