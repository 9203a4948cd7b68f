"""Multiple choice by what the model writes: at once, reasoning aloud, or arguing for every option; with votes.

Methods are ways of asking (`residency.eval.measures.methods`). Every reply is a record, with what became of it:
answered, invalid, refused or truncated; what names no option is wrong. Where several replies make one answer, the vote
is a record of its own, without a sample's number, and it alone counts. `parts.calls` are the replies that were written
for a record; arguments that several samples judge are counted with the first.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from residency.answers import choice as chosen
from residency.eval.candidate import Candidate
from residency.eval.items import Item
from residency.eval.measures.choice import is_right
from residency.eval.measures.methods import Way, at_once, reasoned_shots, verified
from residency.eval.prompt import Row
from residency.eval.records import Record, make_record
from residency.eval.settings import ChoiceTask
from residency.eval.shots import Shots
from residency.generation.generate import Reply


def choices(task: ChoiceTask, candidate: Candidate, rows: list[Row], shots: Shots) -> list[Record]:
    """One record per item, wording, order and sample, and those of the votes; `main` says which make the value."""
    ways = [
        Way(row, template, order)
        for template in task.templates
        for order in range(task.orders)
        for row in rows
    ]
    if task.method == "verification-of-choice":
        answers = verified(task, candidate, ways)
    else:
        if task.method == "chain-of-thought" and shots.count:
            shots = reasoned_shots(task, candidate, rows, shots)
        answers = at_once(task, candidate, ways, shots)
    alone = task.samples == 1 and not task.vote
    records = []
    ballots: dict[tuple[str, str, int | None], list[Record]] = defaultdict(list)
    for way, answer in zip(ways, answers, strict=True):
        for sample, reply in enumerate(answer.replies):
            record = _record(task, way, answer.item, reply) | {"sample": sample, "main": alone}
            if sample == 0:  # what was written before is counted once
                record["tokens"] += answer.tokens_before
                record["parts"] = {"calls": 1.0 + answer.calls_before}
            records.append(record)
            order = None if task.vote else way.order
            ballots[str(way.row["id"]), way.template, order].append(record)
    by_id = {str(row["id"]): row for row in rows}
    if not alone:
        records += [_vote(task, by_id[id], order, each) for (id, _, order), each in ballots.items()]
    return records


def _record(task: ChoiceTask, way: Way, item: Item, reply: Reply) -> Record:
    options = [way.row["options"][index] for index in item.shown]
    found = chosen(reply.text, options, truncated=reply.truncated)
    prediction = None if found.value is None else item.shown[found.value]
    return make_record(
        task,
        item,
        scorer="reply",
        template=way.template,
        order=way.order,
        prediction=prediction,
        place=found.value,
        answer=item.answer,
        correct=float(prediction is not None and is_right(way.row, prediction)),
        reply=reply.text,
        bytes=len(reply.text.encode()),
        tokens=reply.tokens,
        status=found.status,
        rule=found.rule,
        parts={"calls": 1.0},
    )


def _vote(task: ChoiceTask, row: Row, order: int | None, ballots: Sequence[Record]) -> Record:
    """The answer that most replies give; of equally frequent ones the one given first. Without any, their commonest
    status."""
    votes = Counter(record["prediction"] for record in ballots if record["prediction"] is not None)
    prediction, times = votes.most_common(1)[0] if votes else (None, 0)
    status = Counter(record["status"] for record in ballots).most_common(1)[0][0]
    return ballots[0] | {
        "main": True,
        "order": order,
        "sample": None,
        "prediction": prediction,
        "place": None,
        "correct": float(prediction is not None and is_right(row, prediction)),
        "reply": None,
        "status": "answered" if votes else status,
        "rule": f"{times} of {len(ballots)} votes",
        "bytes": sum(record["bytes"] for record in ballots),
        "tokens": sum(record["tokens"] for record in ballots),
        "cut_tokens": max(record["cut_tokens"] for record in ballots),
        "cut_shots": max(record["cut_shots"] for record in ballots),
        "parts": {"calls": sum(record["parts"]["calls"] for record in ballots), "votes": float(times)},
    }
