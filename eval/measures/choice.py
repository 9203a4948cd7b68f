"""Multiple choice by log-likelihood: the letter's, or each option's text. Replies are `residency.eval.measures.reply`.

`option-text` compares means per UTF-8 byte (lm-evaluation-harness calls it acc_bytes), letters their sums. Equal scores
fall to the first option. Where two options read the same, either is the answer.
"""

from __future__ import annotations

from typing import Any

from residency.eval.candidate import Candidate
from residency.eval.items import Item
from residency.eval.prompt import Row
from residency.eval.records import Record, make_record
from residency.eval.settings import ChoiceTask, Scorer
from residency.eval.shots import Shots


def measure(task: ChoiceTask, candidate: Candidate, rows: list[Row], shots: Shots) -> list[Record]:
    """Records by every scorer, wording and order of the task."""
    records: list[Record] = []
    for place, scorer in enumerate(task.scorers):
        if scorer == "reply":
            from residency.eval.measures import reply

            found = reply.choices(task, candidate, rows, shots)
        else:
            found = by_likelihood(task, candidate, rows, shots, scorer)
        records += [record | {"main": place == 0 and record["main"] is not False} for record in found]
    return records


def by_likelihood(
    task: ChoiceTask, candidate: Candidate, rows: list[Row], shots: Shots, scorer: Scorer
) -> list[Record]:
    """Records by one likelihood scorer: all ways of asking in one call, so that what they share is read once."""
    ways = [(template, order) for template in task.templates for order in range(task.orders)]
    asked = [(row, way) for way in ways for row in rows]
    items = [
        candidate.ask(task, row, shots.of(row), scorer=scorer, template=template, order=order)
        for row, (template, order) in asked
    ]
    records = []
    for (row, (template, order)), item, scored in zip(asked, items, candidate.score(items), strict=True):
        fields = {"scorer": scorer, "template": template, "order": order}
        records.append(_record(task, row, item, [each.nats for each in scored], scorer, fields))
    return records


def _record(
    task: ChoiceTask, row: Row, item: Item, shown_sums: list[float], scorer: Scorer, fields: dict[str, Any]
) -> Record:
    per_byte = scorer == "option-text" and "ending" not in row
    shown_scores = (
        [s / size for s, size in zip(shown_sums, item.sizes, strict=True)] if per_byte else shown_sums
    )
    sums, scores = ([0.0] * len(shown_sums) for _ in range(2))
    for place, index in enumerate(item.shown):
        sums[index], scores[index] = shown_sums[place], shown_scores[place]
    place = shown_scores.index(max(shown_scores))
    prediction = item.shown[place]
    return make_record(
        task,
        item,
        **fields,
        scores=scores,
        sums=sums,
        prediction=prediction,
        place=place,
        answer=item.answer,
        correct=float(is_right(row, prediction)),
    )


def is_right(row: Row, prediction: int) -> bool:
    """Whether the predicted option is the answer, or reads as it does."""
    options = row["options"]
    return bool(options[prediction].strip() == options[row["answer"]].strip())
