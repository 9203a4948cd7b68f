"""One module per kind of task: rows in, records out. `measure` finds the module of a task."""

from __future__ import annotations

from residency.eval.candidate import Candidate
from residency.eval.prompt import Row
from residency.eval.records import Record, lower_is_better, metric_of
from residency.eval.settings import (
    AnswerTask,
    AskedTask,
    BitsPerByteTask,
    ChoiceTask,
    ContinuationTask,
    LikertTask,
    LmEvalTask,
    PreferenceTask,
    RubricTask,
    TaskSettings,
    VarianceTask,
)
from residency.eval.shots import Shots


def measure(
    task: TaskSettings, candidate: Candidate, rows: list[Row], shots: Shots, validation: list[Row]
) -> list[Record]:
    """Records of one model on the rows of one task.

    Args:
        validation: rows on which the wording is chosen, where the task asks for it; never the test's.
    """
    if validation:
        task = chosen_template(task, candidate, validation, shots)
    return _measure(task, candidate, rows, shots)


def chosen_template(
    task: TaskSettings, candidate: Candidate, validation: list[Row], shots: Shots
) -> TaskSettings:
    """The task with the one wording that serves this model best on the validation rows; ties keep the first.

    Source: the per-model prompt choice of arXiv:2411.04118.
    """
    assert isinstance(task, AskedTask)
    records = [record for record in _measure(task, candidate, validation, shots) if record["main"]]
    totals = dict.fromkeys(task.templates, 0.0)
    for record in records:
        totals[record["template"]] += record["correct"]
    best = (min if lower_is_better(metric_of(task)) else max)(task.templates, key=totals.__getitem__)
    return task.model_copy(update={"templates": [best]})


def _measure(task: TaskSettings, candidate: Candidate, rows: list[Row], shots: Shots) -> list[Record]:
    from residency.eval.measures import (
        answer,
        bits_per_byte,
        choice,
        continuation,
        likert,
        preference,
        rubric,
        variance,
    )

    if isinstance(task, AskedTask) and task.shots_by == "nearest" and shots.count:
        from residency.eval.writing.nearest import NearestShots

        shots = NearestShots(candidate, shots, rows)
    match task:
        case ChoiceTask():
            return choice.measure(task, candidate, rows, shots)
        case ContinuationTask():
            return continuation.measure(task, candidate, rows, shots)
        case BitsPerByteTask():
            return bits_per_byte.measure(task, candidate, rows)
        case PreferenceTask():
            return preference.measure(task, candidate, rows)
        case AnswerTask():
            return answer.measure(task, candidate, rows, shots)
        case LikertTask():
            return likert.measure(task, candidate, rows, shots)
        case VarianceTask():
            return variance.measure(task, candidate, rows, shots)
        case RubricTask():
            return rubric.measure(task, candidate, rows, shots)
        case LmEvalTask():
            from residency.eval.measures import lm_eval

            return lm_eval.measure(task, candidate, rows)
    raise AssertionError(task)
