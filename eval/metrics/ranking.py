"""Ranking of given answers by a model's scores (MedQuAD: the true answer among answers of the same type)."""

from __future__ import annotations

from collections.abc import Sequence

from residency.eval.metrics.item import Item, Statistics


def ranking(scores: Sequence[float], item: Item) -> Statistics:
    """`reciprocal_rank` (1 / rank of the true answer) and `recall_at_1` (0 or 1) of the scores of all options, higher
    better; `item["answer"]` is the true one's index. Among ties both are means over the orders of the tied ones.

    Source: mean reciprocal rank, Voorhees 1999 (TREC-8 question answering).
    """
    true = scores[item["answer"]]
    above = sum(score > true for score in scores)
    tied = sum(score == true for score in scores)
    assert tied, "a score is not a number"
    ranks = range(above + 1, above + tied + 1)
    return {
        "reciprocal_rank": sum(1 / rank for rank in ranks) / tied,
        "recall_at_1": sum(rank == 1 for rank in ranks) / tied,
    }
