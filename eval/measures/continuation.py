"""Continuations: right where every token of the one right ending is the model's likeliest.

Source: LAMBADA, arXiv:1606.06031, as lm-evaluation-harness scores it.
"""

from __future__ import annotations

from residency.eval.candidate import Candidate
from residency.eval.prompt import Row
from residency.eval.records import Record, make_record
from residency.eval.settings import ContinuationTask
from residency.eval.shots import Shots


def measure(task: ContinuationTask, candidate: Candidate, rows: list[Row], shots: Shots) -> list[Record]:
    """Records in every wording."""
    records: list[Record] = []
    for template in task.templates:
        items = [candidate.ask(task, row, shots.of(row), template=template) for row in rows]
        for item, [scored] in zip(items, candidate.score(items), strict=True):
            fields = {
                "main": True,
                "template": template,
                "nats": -scored.nats,
                "correct": float(scored.greedy),
            }
            records.append(make_record(task, item, **fields))
    return records
