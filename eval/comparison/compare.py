"""The comparison of two models: values, differences with intervals, tests, and a verdict for each task and domain.

From records only, so it needs no model: `compare(candidate, reference)` reads two records artifacts and says all that
`residency compare A B` prints. `line` and `suites` are the parts that the verdict of a whole chain is made of.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import NormalDist
from typing import Any, TypeVar
from zlib import crc32

import numpy as np

from residency.errors import ResidencyError
from residency.eval.comparison.columns import Artifact, Floats, TaskTable, metric_of_replies, read
from residency.eval.comparison.views import Comparison, Line, Named, Suite, Validity
from residency.eval.statistics import (
    Pair,
    benjamini_hochberg,
    compare_pair,
    holm,
    is_non_inferior,
    items_to_decide,
    mcnemar_midp,
    minimum_detectable_effect,
    sign_flip_p,
    verdict_of,
)
from residency.eval.statistics.attribution import mean_of_pairs, suite_difference
from residency.eval.statistics.contamination import too_good
from residency.eval.statistics.paired import interval_of
from residency.eval.statistics.resampling import codes_of, resample_totals

RESAMPLES = 10_000
SEED = 0
MOST_THREADS = 8
T = TypeVar("T")
R = TypeVar("R")
COUNTED = ("better", "equivalent", "worse")


def compare(candidate: Path, reference: Path, *, resamples: int = RESAMPLES, seed: int = SEED) -> Comparison:
    """Two records artifacts, task by task.

    Raises:
        ResidencyError: no records, no task in common, or other items of one.
    """
    sides = [Artifact.open(candidate), Artifact.open(reference)]
    tables = read(sides)
    names = labels(sides)
    if not tables:
        asked = " and ".join(", ".join(side.tasks) or "nothing" for side in sides)
        raise ResidencyError(f"{candidate} and {reference} have no task in common", cure=f"They hold {asked}")

    def judged(table: TaskTable) -> tuple[Line, Pair]:
        pair = contrast(table, 0, 1, resamples, seed)
        return line(table, 0, 1, names[0], names[1], pair, resamples=resamples, seed=seed), pair

    lines, pairs = zip(*together(judged, tables.values()), strict=True)
    adjust(lines)
    only = [[task for task in side.tasks if task not in tables] for side in sides]
    return Comparison(
        candidate=names[0],
        reference=names[1],
        lines=list(lines),
        suites=suites(tables, lines, pairs, 0, 1, resamples=resamples, seed=seed),
        only_candidate=only[0],
        only_reference=only[1],
    )


def alone(records: Path, *, resamples: int = RESAMPLES, seed: int = SEED) -> list[Line]:
    """The values of one model, each a line against itself.

    Raises:
        ResidencyError: no records.
    """
    artifact = Artifact.open(records)
    [name] = labels([artifact])
    tables = read([artifact]).values()

    def told(table: TaskTable) -> Line:
        pair = contrast(table, 0, 0, resamples, seed)
        return line(table, 0, 0, name, name, pair, resamples=resamples, seed=seed)

    return together(told, tables)


def together(job: Callable[[T], R], given: Iterable[T]) -> list[R]:
    """Results of a job on each, in their order; numpy draws without the interpreter's lock, so threads share cores."""
    with ThreadPoolExecutor(min(MOST_THREADS, len(os.sched_getaffinity(0)))) as pool:
        return list(pool.map(job, given))


def labels(artifacts: Sequence[Artifact]) -> list[str]:
    """What to call models: the directory of each, or that of its records where two would be called the same."""
    names = [Path(each.manifest.parent_paths.get("model", each.path)).name for each in artifacts]
    if len(set(names)) == len(names):
        return names
    return [f"{each.path.parent.name}/{each.path.name}" for each in artifacts]


def line(
    table: TaskTable,
    model: int,
    other: int,
    stage: str,
    against: str,
    pair: Pair,
    *,
    resamples: int,
    seed: int,
) -> Line:
    """One task of one model against another; p-values are not yet adjusted (`adjust`).

    Args:
        model, other: places in the table; the same one for the reference itself.
        pair: their `contrast`.
    """
    delta, low, high = pair.difference
    gap = (table.scores[model] - table.scores[other]) * (-1 if table.lower_is_better else 1)
    margin = margin_of(table, other)
    p, test = (None, None) if model == other else _p(table, model, other, pair, resamples, seed)
    facts = table.facts
    return Line(
        task=table.name,
        title=facts.title or table.name,
        domain=facts.domain,
        metric=table.metric,
        lower_is_better=table.lower_is_better,
        stage=stage,
        against=against,
        verdict="reference" if model == other else _verdict(table, pair, margin),
        n=pair.items,
        clusters=pair.clusters,
        value=pair.candidate[0],
        value_low=pair.candidate[1],
        value_high=pair.candidate[2],
        reference=pair.reference[0],
        delta=delta,
        ci_low=low,
        ci_high=high,
        margin=margin,
        non_inferior=is_non_inferior(low, high, margin, not table.lower_is_better),
        p=p,
        test=test,
        standard_error=pair.standard_error,
        detectable=minimum_detectable_effect(pair.standard_error),
        items_to_decide=items_to_decide(pair.standard_error, pair.items, margin) if margin else None,
        gained=int((gap > 0).sum()),
        lost=int((gap < 0).sum()),
        **facts.floors,
        validity=Validity(**_known(table.statuses[model])),
        items_cut=table.cut[model],
    )


def contrast(table: TaskTable, model: int, other: int, resamples: int, seed: int) -> Pair:
    """Both values and their difference, resampled by clusters, each task with draws of its own."""
    seed += crc32(table.name.encode())
    if table.sums is not None:
        return _contrast_of_sums(table, model, other, resamples, seed)
    new, old = table.scores[model], table.scores[other]
    return compare_pair(new, old, table.clusters, resamples, seed, sizes=table.sizes)


def margin_of(table: TaskTable, other: int) -> float:
    """In the unit of the difference: bits per byte have a relative one."""
    relative = table.metric == "bits_per_byte"
    return table.facts.margin * (table.value(other) if relative else 1.0)


def adjust(lines: Sequence[Line]) -> None:
    """Adjust the p-values of one stage's tasks for their number, and raise the too-good alarm."""
    tested = [each for each in lines if each.p is not None]
    p_values = [each.p for each in tested if each.p is not None]
    for each, strict, screen in zip(tested, holm(p_values), benjamini_hochberg(p_values), strict=True):
        each.p_holm, each.p_bh = float(strict), float(screen)
    for domain in {each.domain for each in tested}:
        sisters = [each for each in tested if each.domain == domain and each.metric in ("accuracy",)]
        found = too_good([each.delta for each in sisters], [each.standard_error for each in sisters])
        for each, alarm in zip(sisters, found, strict=True):
            each.too_good, each.too_good_score = alarm.alarm, alarm.score


def suites(
    tables: Mapping[str, TaskTable],
    lines: Sequence[Line],
    pairs: Sequence[Pair],
    model: int,
    other: int,
    *,
    resamples: int,
    seed: int,
) -> list[Suite]:
    """The mean of each domain's tasks, and how many were won, equal, lost and undecided.

    Args:
        lines, pairs: of the same tasks, in the same order.
    """
    drawn = {each.task: pair for each, pair in zip(lines, pairs, strict=True)}

    def one(domain: str) -> Suite:
        mine = [each for each in lines if each.domain == domain]
        shares = [each for each in mine if tables[each.task].is_share]
        own = {each.task: drawn[each.task] for each in shares}
        delta = suite_delta([tables[task] for task in own], own, model, other, resamples, seed)
        margin = sum(each.margin for each in shares) / len(shares) if shares else 0.0
        times = {word: sum(each.verdict == word for each in mine) for word in COUNTED}
        return Suite(
            domain=domain,
            stage=mine[0].stage,
            against=mine[0].against,
            tasks=[each.task for each in shares],
            delta=delta,
            margin=margin,
            verdict=verdict_of(*delta, margin, higher_is_better=True) if delta else "undecided",
            **times,
            undecided=len(mine) - sum(times.values()),
        )

    return together(one, dict.fromkeys(each.domain for each in lines))


def suite_delta(
    tables: Sequence[TaskTable],
    pairs: Mapping[str, Pair],
    model: int,
    other: int,
    resamples: int,
    seed: int,
) -> tuple[float, float, float] | None:
    """Mean difference over tasks. Clusters that several tasks hold are resampled together; where there are none, the
    tasks' own resamples serve."""
    if not tables:
        return None
    clusters = np.concatenate([np.unique(table.clusters) for table in tables])
    if len(np.unique(clusters)) == len(clusters):
        return mean_of_pairs([pairs[table.name] for table in tables])
    return suite_difference(
        {table.name: table.scores[model] for table in tables},
        {table.name: table.scores[other] for table in tables},
        {table.name: table.clusters for table in tables},
        resamples,
        seed,
    )


def _verdict(table: TaskTable, pair: Pair, margin: float) -> Named:
    better = not table.lower_is_better
    found = verdict_of(*pair.difference, margin, better, equivalence=pair.equivalence)
    return "differs" if found in ("better", "worse") and not table.has_direction else found


def _p(table: TaskTable, model: int, other: int, pair: Pair, resamples: int, seed: int) -> tuple[float, Any]:
    new, old = table.scores[model], table.scores[other]
    if table.sums is not None:
        if not pair.standard_error:
            return float(pair.difference[0] == 0), "bootstrap"
        return 2 * NormalDist().cdf(-abs(pair.difference[0]) / pair.standard_error), "bootstrap"
    if table.sizes is None and pair.clusters == pair.items and table.is_binary:
        return mcnemar_midp(new, old), "mcnemar"
    return sign_flip_p(new, old, table.clusters, resamples, seed), "sign-flip"


def _contrast_of_sums(table: TaskTable, model: int, other: int, resamples: int, seed: int) -> Pair:
    """As `compare_pair`, for a value that is a function of sums over items (macro-F1)."""
    assert table.sums is not None
    names = sorted(table.sums[model].keys() | table.sums[other].keys())
    nothing = np.zeros(table.scores.shape[1])
    columns = [table.sums[side].get(name, nothing) for side in (model, other) for name in names]
    totals = resample_totals(np.column_stack(columns), table.clusters, resamples, seed)
    metric = metric_of_replies(table.metric)
    assert metric

    def draws(first: int) -> Floats:
        return metric.value({name: totals[:, first + place] for place, name in enumerate(names)})

    new, old = draws(0), draws(len(names))
    count = int(codes_of(table.clusters).max()) + 1
    ours, theirs = table.value(model), table.value(other)
    difference = interval_of(ours - theirs, new - old, count)
    return Pair(
        candidate=interval_of(ours, new, count),
        reference=interval_of(theirs, old, count),
        difference=difference,
        equivalence=interval_of(ours - theirs, new - old, count, level=0.9)[1:],
        standard_error=float((new - old).std(ddof=1)),
        items=len(nothing),
        clusters=count,
        draws=new - old,
    )


def _known(statuses: Mapping[str, int]) -> dict[str, int]:
    return {name: count for name, count in statuses.items() if name in Validity.model_fields}
