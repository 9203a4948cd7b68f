"""How far several sampled replies to one question lie apart: EigenScore of hidden states, and likeness as text.

A reply's embedding is the middle layer's state at its last token (INSIDE, arXiv:2402.03744).
"""

from __future__ import annotations

from residency.eval.candidate import Candidate
from residency.eval.items import Item, encode
from residency.eval.measures.answer import question, written_fields
from residency.eval.metrics.eigenscore import eigenscore, lexical_consistency
from residency.eval.prompt import Row
from residency.eval.records import Record, make_record
from residency.eval.settings import VarianceTask
from residency.eval.shots import Shots
from residency.eval.writing.hidden import middle_states
from residency.generation.generate import Reply


def measure(task: VarianceTask, candidate: Candidate, rows: list[Row], shots: Shots) -> list[Record]:
    """For each item and wording a record of every reply, and one of all of them, which alone counts."""
    asked = [(row, template) for template in task.templates for row in rows]
    prompts = [question(task, candidate, row, shots.of(row), template) for row, template in asked]
    written = candidate.write(
        [item.pieces[0].ids for item in prompts],
        max_new_tokens=task.max_new_tokens,
        temperature=task.temperature,
        samples=task.samples,
    )
    read = [
        item.pieces[0].ids + encode(candidate.tokenizer, reply.text)[: task.max_new_tokens]
        for item, replies in zip(prompts, written, strict=True)
        for reply in replies
    ]
    states = middle_states(candidate.model, read, "last").reshape(len(asked), task.samples, -1)
    records = []
    for (row, template), item, replies, own in zip(asked, prompts, written, states, strict=True):
        parts = eigenscore(own, row) | lexical_consistency([reply.text for reply in replies], row)
        records += [_of_reply(task, template, item, *each) for each in enumerate(replies)]
        records.append(
            make_record(
                task,
                item,
                main=True,
                template=template,
                correct=parts["eigenscore"],
                parts=parts,
                bytes=sum(len(reply.text.encode()) for reply in replies),
                tokens=sum(reply.tokens for reply in replies),
            )
        )
    return records


def _of_reply(task: VarianceTask, template: str, item: Item, sample: int, reply: Reply) -> Record:
    status = "truncated" if reply.truncated else "answered" if reply.text.strip() else "invalid"
    fields = {"main": False, "template": template, "sample": sample, "status": status}
    return make_record(task, item, **fields, **written_fields(reply))
