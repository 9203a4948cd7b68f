"""The verdict over several seeds of training: how much of a difference is the seed's luck.

Reads the `verdict.json` of each seed's run, on the same items, and writes `seeds.json`, a list of
`views.SeedScores`. With one seed the variance between seeds is unknown, and says so: None, never 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter

from residency.artifact import write_json
from residency.errors import ResidencyError
from residency.eval.comparison.views import Interval, Line, SeedScores

# Student's t at 0.975 by degrees of freedom (Biometrika 6, 1908), as in any table.
FREEDOM = (1, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 60, math.inf)
QUANTILES = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.306, 2.228, 2.131, 2.086, 2.042, 2.000, 1.960)
LINES: TypeAdapter[list[Line]] = TypeAdapter(list[Line])


def write(path: Path, verdicts: Mapping[int, Path]) -> None:
    """Write `seeds.json`.

    Args:
        verdicts: seed to the `verdict.json` of its run.

    Raises:
        ResidencyError: a seed lacks a task or stage of the first, or was evaluated on other items.
    """
    lines = {seed: LINES.validate_json(file.read_bytes()) for seed, file in verdicts.items()}
    write_json(path, [each.model_dump(mode="json") for each in over_seeds(lines)])


def over_seeds(lines: Mapping[int, Sequence[Line]]) -> list[SeedScores]:
    """One entry for each task and stage of the first seed, in its order; the reference's own lines are left out."""
    known = {seed: {(line.stage, line.task): line for line in found} for seed, found in lines.items()}
    first = next(iter(known.values()))
    made = []
    for (stage, task), line in first.items():
        if line.verdict == "reference":
            continue
        same = {seed: found.get((stage, task)) for seed, found in known.items()}
        for seed, other in same.items():
            if other is None or other.n != line.n:
                what = (
                    "was not evaluated"
                    if other is None
                    else f"was evaluated on {other.n}, not {line.n} items"
                )
                raise ResidencyError(
                    f"seed {seed}: {stage} {what} on task {task}",
                    cure="Run the recipe again; it makes what is missing",
                )
        made.append(_scores(list(known), [other for other in same.values() if other]))
    return made


def _scores(seeds: list[int], lines: list[Line]) -> SeedScores:
    first, count = lines[0], len(lines)
    values, deltas = [line.value for line in lines], [line.delta for line in lines]
    item_error = math.sqrt(sum(line.standard_error**2 for line in lines) / count)
    deviation, mean = _deviation(deltas), sum(deltas) / count
    between = whole = share = None
    if deviation is not None:
        between = _interval(mean, deviation**2 / count, count - 1)
        variance = deviation**2 + item_error**2
        share = deviation**2 / variance if variance else None
        whole = _whole(mean, deviation**2 / count, item_error**2, count - 1)
    return SeedScores(
        task=first.task,
        title=first.title,
        domain=first.domain,
        metric=first.metric,
        lower_is_better=first.lower_is_better,
        stage=first.stage,
        against=first.against,
        margin=first.margin,
        seeds=seeds,
        values=values,
        deltas=deltas,
        verdicts=[line.verdict for line in lines],
        value=sum(values) / count,
        value_deviation=_deviation(values),
        delta=between,
        delta_mean=mean,
        deviation=deviation,
        item_error=item_error,
        seed_share=share,
        whole=whole,
    )


def _deviation(values: list[float]) -> float | None:
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def _interval(mean: float, variance: float, freedom: float) -> Interval:
    """Mean with its 95 % interval, for a variance of the mean known with so many degrees of freedom."""
    inverse = [1 / each for each in FREEDOM]
    quantile = float(np.interp(1 / freedom, inverse[::-1], QUANTILES[::-1]))
    half = quantile * math.sqrt(variance)
    return mean, mean - half, mean + half


def _whole(mean: float, seeds: float, items: float, freedom: int) -> Interval:
    """For other seeds and other items: variances add up. The items are the same for all seeds, so more seeds do not
    lessen theirs. What seed and item do together is counted in both, which widens the interval a little.

    Source of the degrees of freedom: Satterthwaite, Biometrics Bulletin 2 (1946), the items' taken as very many.
    """
    total = seeds + items
    return _interval(mean, total, freedom * (total / seeds) ** 2 if seeds else math.inf)
