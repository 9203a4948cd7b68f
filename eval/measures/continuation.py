"""Continuations: right where every token of the one right ending is the model's likeliest.

Source: LAMBADA, arXiv:1606.06031, as lm-evaluation-harness scores it.
"""

from __future__ import annotations

from residency.eval.candidate import Candidate
from residency.eval.items import Item, fit
from residency.eval.prompt import Asked, Row, ask
from residency.eval.records import Record, make_record
from residency.eval.settings import ContinuationTask
from residency.eval.shots import Shots


def measure(task: ContinuationTask, candidate: Candidate, rows: list[Row], shots: Shots) -> list[Record]:
    """Records in every wording."""
    records: list[Record] = []
    for template in task.templates:
        items = [_item(task, candidate, row, shots.of(row), template) for row in rows]
        for item, [scored] in zip(items, candidate.score(items), strict=True):
            fields = {
                "main": True,
                "template": template,
                "nats": -scored.nats,
                "correct": float(scored.greedy),
            }
            records.append(make_record(task, item, **fields))
    return records


def _item(task: ContinuationTask, candidate: Candidate, row: Row, solved: list[Row], template: str) -> Item:
    def asked(kept: int) -> Asked:
        latest = solved[len(solved) - kept :]
        return ask(task, row, candidate.tokenizer, template=template, shots=latest)

    return fit(task, row, candidate.tokenizer, candidate.max_length, len(solved), asked)
