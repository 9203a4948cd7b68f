"""All metrics by name: what scores one item, and how a task's value comes from the items' sums.

`statistics("rougeL", reply, item)` gives one dict for each item, `value("rougeL", dicts)` the task's value. For an
interval, `columns(dicts)` is a matrix whose rows are resampled and added up; `METRICS["rougeL"].value` of the columns
of such totals gives one value for each resample.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from residency.errors import ResidencyError
from residency.eval.metrics.classification import macro_f1, matthews, one_class, several_classes
from residency.eval.metrics.differential import differential
from residency.eval.metrics.eigenscore import answer_consistency, eigenscore, lexical_consistency
from residency.eval.metrics.item import Aggregate, Floats, Item, Ratio, Statistics
from residency.eval.metrics.likert import likert
from residency.eval.metrics.lists import entity_list, factoid
from residency.eval.metrics.medec import correction
from residency.eval.metrics.notes import by_division, invented_numbers, structure
from residency.eval.metrics.numbers import exact_number
from residency.eval.metrics.overlap import bleu, bleu_counts, chrf, exact_and_f1, reading_grade, rouge
from residency.eval.metrics.ranking import ranking
from residency.eval.metrics.rubric import clipped, rubric
from residency.eval.metrics.spans import listed_mentions, tagged_mentions

Takes = Literal["reply", "replies", "answers", "embeddings", "scores", "met"]
Better = Literal["higher", "lower", "neither"]


@dataclass(frozen=True)
class Metric:
    """One entry of the table."""

    title: str
    """What a report calls it."""
    item: Callable[[Any, Item], Statistics]
    """Scores one item: from what `takes` names, and the row."""
    value: Aggregate
    """The task's value from sums of the items' statistics; arrays give one value for each entry."""
    takes: Takes = "reply"
    """One reply's text, the texts or found answers of several, their embeddings, option scores, criteria met."""
    better: Better = "higher"


def _f1(kind: str, predicted: str = "predicted", gold: str = "gold") -> Ratio:
    return Ratio(kind, (predicted, gold), times=2.0)


METRICS: dict[str, Metric] = {
    "rouge1": Metric("ROUGE-1", rouge, Ratio("rouge1")),
    "rouge2": Metric("ROUGE-2", rouge, Ratio("rouge2")),
    "rougeL": Metric("ROUGE-L", rouge, Ratio("rougeL")),
    "bleu": Metric("BLEU", bleu_counts, bleu),
    "chrf": Metric("chrF", chrf, Ratio("chrf")),
    "exact-match": Metric("exact match", exact_and_f1, Ratio("exact")),
    "token-f1": Metric("token F1", exact_and_f1, Ratio("f1")),
    "reading-grade": Metric(
        "reading grade (years)", reading_grade, Ratio("grade", ("graded",)), better="neither"
    ),
    "exact-number": Metric("right number", exact_number, Ratio("exact")),
    "accuracy": Metric("accuracy", one_class, Ratio("right")),
    "macro-f1": Metric("macro-F1", one_class, macro_f1),
    "matthews": Metric("Matthews correlation", one_class, matthews),
    "all-classes": Metric("all classes right", several_classes, Ratio("right")),
    "macro-f1-classes": Metric("macro-F1 of several classes", several_classes, macro_f1),
    "factoid-strict": Metric("first name right", factoid, Ratio("strict")),
    "factoid-lenient": Metric("a name right", factoid, Ratio("lenient")),
    "factoid-mrr": Metric("reciprocal rank", factoid, Ratio("reciprocal_rank")),
    "list-precision": Metric("precision of names", entity_list, Ratio("precision")),
    "list-recall": Metric("recall of names", entity_list, Ratio("recall")),
    "list-f1": Metric("F1 of names", entity_list, Ratio("f1")),
    "span-f1": Metric("entity F1", listed_mentions, _f1("strict")),
    "span-precision": Metric("entity precision", listed_mentions, Ratio("strict", ("predicted",))),
    "span-recall": Metric("entity recall", listed_mentions, Ratio("strict", ("gold",))),
    "span-f1-relaxed": Metric("entity F1, relaxed", listed_mentions, _f1("relaxed")),
    "span-f1-token": Metric(
        "entity F1, words", listed_mentions, _f1("token", "token_predicted", "token_gold")
    ),
    "tagged-f1": Metric("entity F1", tagged_mentions, _f1("strict")),
    "tagged-precision": Metric("entity precision", tagged_mentions, Ratio("strict", ("predicted",))),
    "tagged-recall": Metric("entity recall", tagged_mentions, Ratio("strict", ("gold",))),
    "tagged-f1-relaxed": Metric("entity F1, relaxed", tagged_mentions, _f1("relaxed")),
    "tagged-f1-token": Metric(
        "entity F1, words", tagged_mentions, _f1("token", "token_predicted", "token_gold")
    ),
    "error-flag": Metric("error seen", correction, Ratio("flag")),
    "error-sentence": Metric("wrong sentence found", correction, Ratio("sentence")),
    "composite-rouge1": Metric("correction (ROUGE-1 composite)", correction, Ratio("composite_rouge1")),
    "correction-rouge1": Metric("ROUGE-1 where both correct", correction, Ratio("both_rouge1", ("both",))),
    "section-coverage": Metric("sections covered", structure, Ratio("coverage")),
    "length-ratio": Metric("length / reference", structure, Ratio("length"), better="neither"),
    "section-rouge1": Metric("ROUGE-1 by division", by_division, Ratio("rouge1")),
    "section-rougeL": Metric("ROUGE-L by division", by_division, Ratio("rougeL")),
    "subjective-rouge1": Metric(
        "ROUGE-1, subjective", by_division, Ratio("rouge1:subjective", ("has:subjective",))
    ),
    "exam-rouge1": Metric("ROUGE-1, exam", by_division, Ratio("rouge1:exam", ("has:exam",))),
    "results-rouge1": Metric("ROUGE-1, results", by_division, Ratio("rouge1:results", ("has:results",))),
    "plan-rouge1": Metric("ROUGE-1, plan", by_division, Ratio("rouge1:plan", ("has:plan",))),
    "invented-numbers": Metric(
        "numbers without a source", invented_numbers, Ratio("invented", ("numbers",)), better="lower"
    ),
    "pathology-first": Metric("disease first (GTPA@1)", differential, Ratio("first")),
    "pathology-listed": Metric("disease listed (GTPA)", differential, Ratio("anywhere")),
    "differential-precision": Metric("differential precision (DDP)", differential, Ratio("precision")),
    "differential-recall": Metric("differential recall (DDR)", differential, Ratio("recall")),
    "differential-f1": Metric("differential F1 (DDF1)", differential, Ratio("f1")),
    "reciprocal-rank": Metric("reciprocal rank", ranking, Ratio("reciprocal_rank"), takes="scores"),
    "recall-at-1": Metric("true answer first", ranking, Ratio("recall_at_1"), takes="scores"),
    "likert": Metric("mean step", likert, Ratio("step"), takes="scores", better="neither"),
    "likert-order-spread": Metric(
        "spread over orders (steps)", likert, Ratio("order_spread"), takes="scores", better="lower"
    ),
    "eigenscore": Metric(
        "EigenScore (nats)", eigenscore, Ratio("eigenscore"), takes="embeddings", better="lower"
    ),
    "lexical-consistency": Metric(
        "likeness of replies", lexical_consistency, Ratio("lexical_consistency"), takes="replies"
    ),
    "answer-consistency": Metric(
        "same answer", answer_consistency, Ratio("answer_consistency"), takes="answers"
    ),
    "rubric": Metric("rubric points", rubric, Ratio("score"), takes="met"),
    "rubric-clipped": Metric("rubric points, clipped", rubric, clipped, takes="met"),
}


def metric(name: str) -> Metric:
    """A metric by its name.

    Raises:
        ResidencyError: there is none; the known ones are named.
    """
    if name not in METRICS:
        raise ResidencyError(f"metric: {name!r} is not known", cure=f"Known: {', '.join(METRICS)}")
    return METRICS[name]


def statistics(name: str, given: Any, item: Item) -> Statistics:
    """Statistics of one item, with `items` 1.

    Args:
        given: what the metric takes (`Metric.takes`).

    Raises:
        ResidencyError: the item lacks what the metric needs, or no such metric.
    """
    return {**metric(name).item(given, item), "items": 1.0}


def check_items(name: str, items: Sequence[Item]) -> None:
    """Refuse items that lack what a metric of replies needs, before any model is loaded.

    Raises:
        ResidencyError: an item lacks it, or the metric takes something else than one reply.
    """
    if metric(name).takes != "reply":
        raise ResidencyError(
            f"metric: {name!r} takes {METRICS[name].takes}, not a reply",
            cure=f"Known: {', '.join(name for name, entry in METRICS.items() if entry.takes == 'reply')}",
        )
    for item in items:
        METRICS[name].item("", item)


def columns(rows: Sequence[Statistics]) -> tuple[list[str], Floats]:
    """Names of the statistics, `items` last, and their values [rows, names]; what a row lacks is 0."""
    names = [*dict.fromkeys(name for row in rows for name in row if name != "items"), "items"]
    return names, np.array([[row.get(name, 0.0) for name in names] for row in rows], dtype=float)


def value(name: str, rows: Sequence[Statistics]) -> float:
    """The task's value from its items' statistics; of one row, that item's own score."""
    assert rows, "no items"
    names, matrix = columns(rows)
    return float(metric(name).value(dict(zip(names, matrix.sum(axis=0), strict=True))))
