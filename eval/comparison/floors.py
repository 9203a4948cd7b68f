"""What a task gives a model that does not read the question. No model needed: the items say it."""

from __future__ import annotations

from collections.abc import Sequence

from residency.eval.prompt import Row
from residency.eval.settings import TaskSettings
from residency.eval.statistics.floors import chance, constant_floor, longest_option_floor


def floors_of(task: TaskSettings, rows: Sequence[Row]) -> dict[str, float]:
    """`chance`, the best `constant` option and the `longest` option, as shares of the items.

    Empty without options, also where the reply is written without having seen them: it is no choice among them.
    """
    if task.kind == "preference":
        return {"chance": 0.5}
    if task.kind != "choice" or (task.scorers[0] == "reply" and not task.listed):
        return {}
    options, answers = [row["options"] for row in rows], [row["answer"] for row in rows]
    return {
        "chance": chance([len(each) for each in options]),
        "constant": constant_floor(answers)[1],
        "longest": longest_option_floor(options, answers),
    }
