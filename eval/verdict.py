"""The verdict: every evaluated stage against the reference and against the stage before it, task by task.

Reads records only, so it is recomputed in a moment; writes `verdict.json`: a list with one object per task
and stage.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from residency.artifact import write_json
from residency.errors import ResidencyError
from residency.eval.records import METRICS, Record, read_records, value_of
from residency.eval.settings import TaskSettings
from residency.eval.statistics import Interval, mcnemar_midp, paired_bootstrap, ratio_bootstrap, verdict_of


def write(
    path: Path,
    records: dict[str, Path],
    *,
    against: str,
    tasks: list[TaskSettings],
    resamples: int,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Compare stages and write the verdict to `path`; returns what was written.

    Args:
        records: stage name to its records artifact, in the order of the chain.
        against: the stage that the others are compared with.

    Raises:
        ResidencyError: `against` was not evaluated, or two stages hold different items of a task.
    """
    if against not in records:
        raise ResidencyError(
            f"evaluation.against = {against!r}: this stage was not evaluated",
            cure=f"Evaluated: {', '.join(records)}",
        )
    known = {stage: read_records(artifact) for stage, artifact in records.items()}
    lines = []
    for task in tasks:
        previous: str | None = None
        for stage in known:
            line = _line(task, _of(known, stage, task), resamples, seed) | {
                "stage": stage,
                "against": against,
            }
            line |= _against(task, known, stage, against, resamples, seed)
            line |= _after(task, known, stage, previous, resamples, seed)
            lines.append(line)
            previous = stage
    write_json(path, lines)
    return lines


def _line(task: TaskSettings, records: list[Record], resamples: int, seed: int) -> dict[str, Any]:
    """What one stage's records say by themselves."""
    tops, sizes = _parts(records)
    _, low, high = ratio_bootstrap(tops, sizes, _clusters(records), resamples, seed)
    return {
        "task": task.name,
        "title": task.title or task.name,
        "domain": task.domain,
        "metric": METRICS[task.kind],
        "n": len(records),
        "clusters": len(set(_clusters(records))),
        "value": value_of(records),
        "value_low": low,
        "value_high": high,
        "chance": _chance(records),
    }


def _against(
    task: TaskSettings, known: dict[str, Any], stage: str, against: str, resamples: int, seed: int
) -> dict[str, Any]:
    """The contrast with the reference."""
    candidate, reference = _of(known, stage, task), _of(known, against, task)
    value = value_of(reference)
    lower_is_better = task.kind == "bits-per-byte"
    margin = task.margin * value if lower_is_better else task.margin
    delta, low, high = _contrast(task, candidate, reference, (stage, against), resamples, seed)
    return {
        "reference": value,
        "delta": delta,
        "ci_low": low,
        "ci_high": high,
        "margin": margin,
        "p": None if stage == against else _p(candidate, reference),
        "verdict": "reference"
        if stage == against
        else verdict_of(delta, low, high, margin, higher_is_better=not lower_is_better),
    }


def _after(
    task: TaskSettings, known: dict[str, Any], stage: str, previous: str | None, resamples: int, seed: int
) -> dict[str, Any]:
    """The contrast with the stage before; empty fields for the first."""
    delta: float | None = None
    low: float | None = None
    high: float | None = None
    if previous:
        pair = _of(known, stage, task), _of(known, previous, task)
        delta, low, high = _contrast(task, *pair, (stage, previous), resamples, seed)
    return {"previous": previous, "delta_previous": delta, "ci_previous_low": low, "ci_previous_high": high}


def _contrast(
    task: TaskSettings,
    candidate: list[Record],
    reference: list[Record],
    stages: tuple[str, str],
    resamples: int,
    seed: int,
) -> Interval:
    if [record["id"] for record in candidate] != [record["id"] for record in reference]:
        raise ResidencyError(
            f"task {task.name}: {stages[0]} and {stages[1]} were evaluated on different items",
            cure="Remove the older records and run again",
        )
    (new, sizes), (old, _) = _parts(candidate), _parts(reference)
    return paired_bootstrap(new, old, _clusters(candidate), resamples, seed, sizes=sizes)


def _of(known: dict[str, Any], stage: str, task: TaskSettings) -> list[Record]:
    if task.name not in known[stage]:
        raise ResidencyError(
            f"task {task.name} was not measured after {stage}",
            cure=f"Measured there: {', '.join(known[stage]) or 'nothing'}",
        )
    records: list[Record] = known[stage][task.name]
    return records


def _parts(records: list[Record]) -> tuple[list[float], list[float]]:
    """Numerator and denominator of the task's value, one number per item."""
    if records[0]["metric"] == "bits_per_byte":
        return [record["nats"] for record in records], [record["bytes"] * math.log(2) for record in records]
    return [record["correct"] for record in records], [1.0] * len(records)


def _clusters(records: list[Record]) -> list[str]:
    return [record["cluster"] for record in records]


def _chance(records: list[Record]) -> float | None:
    """What guessing gets: the mean of 1 / number of options."""
    if records[0]["metric"] == "bits_per_byte":
        return None
    return sum(1 / len(record["scores"]) for record in records) / len(records)


def _p(candidate: list[Record], reference: list[Record]) -> float | None:
    """McNemar's mid-p, where the items are 0/1 and independent: each its own cluster."""
    clusters = _clusters(candidate)
    if candidate[0]["metric"] == "bits_per_byte" or len(set(clusters)) < len(clusters):
        return None
    return mcnemar_midp([each["correct"] for each in candidate], [each["correct"] for each in reference])
