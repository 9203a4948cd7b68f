"""Replies in conversations, judged by a local model against criteria with points (HealthBench, arXiv:2505.08775).

A judge's opinion is no measurement of the kind that gates need, so a task of kind `rubric` never is one. How far to
trust it is measured: a criterion with a `pattern` (a regular expression that a reply meets where it is found) is also
checked by program, and `judge_kappa` says how well the judge agrees beyond chance.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from residency.eval import cache
from residency.eval.candidate import Candidate
from residency.eval.items import Item
from residency.eval.measures.answer import question, written_fields
from residency.eval.metrics.rubric import read_criteria, rubric
from residency.eval.prompt import Message, Row
from residency.eval.records import Record, make_record
from residency.eval.settings import RubricTask
from residency.eval.shots import Shots
from residency.eval.writing.judge import Verdict, directory_of, judged
from residency.generation.generate import Reply


def measure(task: RubricTask, candidate: Candidate, rows: list[Row], shots: Shots) -> list[Record]:
    """One record per conversation and wording; `rule` names the judge by the digest of its files."""
    assert task.judge is not None, "refused before"
    directory = directory_of(task.judge)
    asked = [(row, template) for template in task.templates for row in rows]
    prompts = [question(task, candidate, row, shots.of(row), template) for row, template in asked]
    written = candidate.write([item.pieces[0].ids for item in prompts], max_new_tokens=task.max_new_tokens)
    rule = f"judge {cache.model_key(directory, candidate.max_length)['key'][:16]}"
    judge = Candidate.load(directory, candidate.max_length)
    records = []
    for (row, template), item, [reply] in zip(asked, prompts, written, strict=True):
        said = [*_messages(row), {"role": "assistant", "content": reply.text.strip()}]
        criteria = [str(each["criterion"]) for each in read_criteria(row)]
        verdicts = judged(judge, task, row, said, criteria)
        records.append(_record(task, row, item, reply, verdicts) | {"template": template, "rule": rule})
    return records


def judge_kappa(records: Sequence[Record]) -> float | None:
    """Cohen's kappa of judge and programs over all criteria that both judged; None without such, or where both say the
    same of everything."""
    checked, judge, check, both = (
        sum(record["parts"].get(name, 0.0) for record in records)
        for name in ("checked", "judge", "check", "both")
    )
    if not checked:
        return None
    observed = (2 * both + checked - judge - check) / checked
    expected = (judge * check + (checked - judge) * (checked - check)) / checked**2
    return None if expected == 1 else (observed - expected) / (1 - expected)


def _messages(row: Row) -> list[Message]:
    prompt = row["prompt"]
    return [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)


def _record(task: RubricTask, row: Row, item: Item, reply: Reply, verdicts: list[Verdict]) -> Record:
    parts = rubric([verdict.met for verdict in verdicts], row) | {
        "criteria": float(len(verdicts)),
        "order_flips": float(sum(not verdict.agrees for verdict in verdicts)),
        **_against_programs(row, reply, verdicts),
    }
    status = "truncated" if reply.truncated else "answered" if reply.text.strip() else "invalid"
    fields = {"main": True, "correct": parts["score"], "parts": parts, "status": status}
    return make_record(task, item, **fields, **written_fields(reply))


def _against_programs(row: Row, reply: Reply, verdicts: list[Verdict]) -> dict[str, float]:
    pairs = [
        (verdict.met, re.search(str(criterion["pattern"]), reply.text) is not None)
        for criterion, verdict in zip(read_criteria(row), verdicts, strict=True)
        if "pattern" in criterion
    ]
    return {
        "checked": float(len(pairs)),
        "judge": float(sum(met for met, _ in pairs)),
        "check": float(sum(found for _, found in pairs)),
        "both": float(sum(met and found for met, found in pairs)),
    }
