"""Continuations: right where every token of the one right ending is the model's likeliest (LAMBADA, arXiv:1606.06031)."""

from __future__ import annotations

from residency.eval.candidate import Candidate
from residency.eval.items import fit
from residency.eval.prompt import Row, ask
from residency.eval.records import Record, make_record
from residency.eval.settings import ContinuationTask
from residency.eval.shots import Shots


def measure(task: ContinuationTask, candidate: Candidate, rows: list[Row], shots: Shots) -> list[Record]:
    """Records in every wording."""
    records: list[Record] = []
    for template in task.templates:
        items = []
        for row in rows:
            solved = shots.of(row)

            def asked(kept: int, row: Row = row, solved: list[Row] = solved, template: str = template):  # type: ignore[no-untyped-def]
                latest = solved[len(solved) - kept :]
                return ask(task, row, candidate.tokenizer, template=template, shots=latest)

            items.append(fit(task, row, candidate.tokenizer, candidate.max_length, len(solved), asked))
        for item, [scored] in zip(items, candidate.score(items), strict=True):
            fields = {
                "main": True,
                "template": template,
                "nats": -scored.nats,
                "correct": float(scored.greedy),
            }
            records.append(make_record(task, item, **fields))
    return records
