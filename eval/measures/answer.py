"""Free answers: what the model writes, against references, by a metric of `residency.eval.metrics`.

A record holds the item's own score (`correct`) and the metric's statistics (`parts`), of which the task's value is
made: F1 of all spans is not the mean of the items' F1. Metrics shown beside it are kept as `name/statistic`.
"""

from __future__ import annotations

from typing import Any

from residency.answers import Extracted, final_text, items, number, yes_no_maybe
from residency.eval import metrics
from residency.eval.candidate import Candidate
from residency.eval.items import Item, fit_prompt
from residency.eval.prompt import Row, ask
from residency.eval.records import Record, make_record
from residency.eval.settings import AnswerTask, AskedTask
from residency.eval.shots import Shots
from residency.generation.generate import Reply

LISTS = ("factoid-", "list-", "span-", "all-classes", "macro-f1-classes")


def measure(task: AnswerTask, candidate: Candidate, rows: list[Row], shots: Shots) -> list[Record]:
    """One record per item and wording."""
    metrics.check_items(task.metric, [])
    asked = [(row, template) for template in task.templates for row in rows]
    prompts = [question(task, candidate, row, shots.of(row), template) for row, template in asked]
    written = candidate.write(
        [item.pieces[0].ids for item in prompts], max_new_tokens=task.max_new_tokens, stop=task.stop
    )
    return [
        _record(task, row, template, item, reply)
        for (row, template), item, [reply] in zip(asked, prompts, written, strict=True)
    ]


def question(task: AskedTask, candidate: Candidate, row: Row, solved: list[Row], template: str) -> Item:
    """One row, asked in one wording and tokenised, with room for a reply."""
    return fit_prompt(
        task,
        row,
        candidate.tokenizer,
        candidate.max_length,
        solved,
        lambda kept: ask(task, row, candidate.tokenizer, scorer="reply", template=template, shots=kept),
    )


def written_fields(reply: Reply) -> dict[str, Any]:
    """What every record of a reply notes."""
    return {"reply": reply.text, "bytes": len(reply.text.encode()), "tokens": reply.tokens, "scorer": "reply"}


def _record(task: AnswerTask, row: Row, template: str, item: Item, reply: Reply) -> Record:
    own = metrics.statistics(task.metric, reply.text, row)
    beside = {
        f"{name}/{key}": number
        for name in task.also
        for key, number in metrics.statistics(name, reply.text, row).items()
    }
    found = read(task.metric, reply, row)
    return make_record(
        task,
        item,
        main=True,
        template=template,
        correct=metrics.value(task.metric, [own]),
        parts=own | beside,
        status=found.status,
        rule=found.rule,
        **written_fields(reply),
    )


def read(metric: str, reply: Reply, row: Row) -> Extracted[Any]:
    """What a metric finds in a reply, for the account of invalid, refused and truncated ones."""
    if metric == "exact-number":
        return number(reply.text, truncated=reply.truncated)
    if metric in ("accuracy", "macro-f1", "matthews"):
        classes = [str(name) for name in row["facts"]["classes"]]
        return yes_no_maybe(reply.text, classes, truncated=reply.truncated)
    if metric.startswith(LISTS):
        return items(reply.text, truncated=reply.truncated)
    return final_text(reply.text, truncated=reply.truncated)
