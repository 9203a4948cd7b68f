"""Statements rated on a scale: the expected step, by the likelihoods of the steps.

Where the wording lists the steps, their letters are compared and they are shown in every rotation, so that a liking for
a letter or a place cancels out; else their texts. A statement that speaks against what the scale measures has
`facts.reversed`. Source: the attitude scales of ChiMed-GPT (arXiv:2311.06025).
"""

from __future__ import annotations

from jinja2 import Environment, meta

from residency.eval.candidate import Candidate
from residency.eval.metrics.likert import as_shown, likert
from residency.eval.prompt import Row
from residency.eval.records import Record, make_record
from residency.eval.settings import LikertTask, Scorer
from residency.eval.shipped import template_text
from residency.eval.shots import Shots


def measure(task: LikertTask, candidate: Candidate, rows: list[Row], shots: Shots) -> list[Record]:
    """One record per statement, wording and order of the steps; their mean is the statement's score."""
    asked = [
        (row | {"options": task.scale, "answer": None}, template, order)
        for row in rows
        for template in task.templates
        for order in range(len(task.scale) if _scorer(row, template) == "letter" else 1)
    ]
    items = [
        candidate.ask(task, row, shots.of(row), scorer=_scorer(row, template), template=template, order=order)
        for row, template, order in asked
    ]
    records = []
    for (row, template, order), item, scored in zip(asked, items, candidate.score(items), strict=True):
        sums = as_shown([each.nats for each in scored], item.shown)
        prediction = sums.index(max(sums))
        records.append(
            make_record(
                task,
                item,
                main=True,
                scorer=_scorer(row, template),
                template=template,
                order=order,
                scores=sums,
                sums=sums,
                prediction=prediction,
                place=list(item.shown).index(prediction),
                correct=likert([sums], row)["step"],
            )
        )
    return records


def _scorer(row: Row, template: str) -> Scorer:
    listed = "options" in meta.find_undeclared_variables(Environment().parse(template_text(template)))
    return "letter" if listed or not isinstance(row["prompt"], str) else "option-text"
