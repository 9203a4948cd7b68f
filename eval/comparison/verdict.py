"""The verdict of a chain: every evaluated stage against the reference and the stage before it, task by task.

Reads records only, so it is recomputed in a moment; writes `verdict.json`, a list with one line per task and stage, and
`evaluation.json` with all other views. Their fields stand in `views`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

from residency.artifact import read_manifest, write_json
from residency.data.curation import parts
from residency.data.passport import forbidden
from residency.errors import ResidencyError
from residency.eval.comparison import details
from residency.eval.comparison.columns import Artifact, TaskTable, read
from residency.eval.comparison.compare import adjust, contrast, line, suites, together
from residency.eval.comparison.views import (
    Attribution,
    Contamination,
    Evaluation,
    Exchange,
    Forgetting,
    GateResult,
    Kept,
    Line,
    Step,
    Suite,
)
from residency.eval.statistics import Pair
from residency.eval.statistics.attribution import attribute_suite
from residency.eval.statistics.contamination import contamination_split

SUITES = ("medicine", "general", "safety")
FLAGS = "contamination.jsonl"


@dataclass(frozen=True)
class Evaluated:
    """The evaluated stages of a chain, and what they are compared by."""

    records: Mapping[str, Path]
    """Stage to its records artifact, in the order of the chain."""
    against: str
    """The stage that the others are compared with."""
    previous: Mapping[str, str]
    """Stage to the evaluated stage before it."""
    resamples: int
    seed: int = 0

    @cached_property
    def stages(self) -> list[str]:
        return list(self.records)

    @cached_property
    def artifacts(self) -> dict[str, Artifact]:
        return {stage: Artifact.open(path) for stage, path in self.records.items()}

    @cached_property
    def tables(self) -> dict[str, TaskTable]:
        """Tasks that every stage was asked."""
        return read(list(self.artifacts.values()))

    @cached_property
    def pairs(self) -> dict[tuple[str, str], Pair]:
        """Task and stage to its contrast with the reference."""
        asked = [(task, stage) for task in self.tables for stage in self.stages]
        other = self.place(self.against)

        def drawn(key: tuple[str, str]) -> Pair:
            task, stage = key
            return contrast(self.tables[task], self.place(stage), other, self.resamples, self.seed)

        return dict(zip(asked, together(drawn, asked), strict=True))

    def place(self, stage: str) -> int:
        return self.stages.index(stage)


def write(
    path: Path,
    records: Mapping[str, Path],
    *,
    against: str,
    resamples: int,
    previous: Mapping[str, str] | None = None,
    corpora: Iterable[Path] = (),
    gates: Sequence[GateResult] = (),
    seed: int = 0,
) -> list[Line]:
    """Compare stages; writes the verdict to `path`, the views beside it, and returns the verdict.

    Args:
        records: stage name to its records artifact, in the order of the chain.
        against: the stage that the others are compared with.
        previous: stage to the evaluated stage that it came from; by default each comes from the one before.
        corpora: corpus artifacts of the run, which know what they hold of the tests.
        gates: what the recipe's gates found.

    Raises:
        ResidencyError: `against` was not evaluated, two stages hold different items of a task, or share no task.
    """
    if against not in records:
        raise ResidencyError(
            f"evaluation.against = {against!r}: this stage was not evaluated",
            cure=f"Evaluated: {', '.join(records)}",
        )
    chain = list(records)
    before = dict(zip(chain[1:], chain, strict=False)) if previous is None else dict(previous)
    evaluated = Evaluated(records, against, before, resamples, seed)
    if not evaluated.tables:
        raise ResidencyError(f"{', '.join(records)}: no task was measured after all of them")
    lines = verdict(evaluated)
    views = view(evaluated, lines, flags(corpora))
    views.gates = list(gates)
    write_json(path, [each.model_dump() for each in lines])
    write_json(path.with_name("evaluation.json"), views.model_dump())
    return lines


def verdict(evaluated: Evaluated) -> list[Line]:
    """One line per task and stage, task by task in the order of the chain."""
    asked = [(table, stage) for table in evaluated.tables.values() for stage in evaluated.stages]
    assert evaluated.pairs  # made once, by all threads together
    lines = together(lambda each: _line(evaluated, *each), asked)
    for stage in evaluated.stages:
        adjust([each for each in lines if each.stage == stage])
    return lines


def view(evaluated: Evaluated, lines: list[Line], seen: Mapping[str, set[str]]) -> Evaluation:
    """All views but the verdict.

    Args:
        seen: task to the items that were found in training text.
    """
    made = Evaluation(against=evaluated.against, stages=evaluated.stages)
    other = evaluated.place(evaluated.against)
    for stage in evaluated.stages:
        if stage != evaluated.against:
            mine = [each for each in lines if each.stage == stage]
            place, draws = evaluated.place(stage), {"resamples": evaluated.resamples, "seed": evaluated.seed}
            pairs = [evaluated.pairs[each.task, stage] for each in mine]
            made.suites += suites(evaluated.tables, mine, pairs, place, other, **draws)
            made.forgetting += [forgetting(each) for each in mine if each.domain == "general"]
            made.contamination += contamination(evaluated, stage, seen)
    made.exchange = list(exchange(made.suites))
    made.attribution = list(attribution(evaluated))
    _add_details(evaluated, made)
    return made


def forgetting(found: Line) -> Forgetting:
    """Whether one general task was kept."""
    state: Kept = "kept" if found.non_inferior else "lost" if found.verdict == "worse" else "undecided"
    return Forgetting(
        task=found.task,
        title=found.title,
        stage=found.stage,
        delta=(found.delta, found.ci_low, found.ci_high),
        margin=found.margin,
        lower_is_better=found.lower_is_better,
        state=state,
    )


def exchange(found: Iterable[Suite]) -> Iterator[Exchange]:
    """Medical points gained for each general point lost, at each stage that has both."""
    deltas = {(suite.stage, suite.domain): suite.delta for suite in found}
    for (stage, domain), medicine in deltas.items():
        general = deltas.get((stage, "general"))
        if domain == "medicine" and medicine and general:
            rate = medicine[0] / -general[0] if general[0] < 0 else None
            yield Exchange(stage=stage, medicine=medicine, general=general, rate=rate)


def attribution(evaluated: Evaluated) -> Iterator[Attribution]:
    """What each stage on the way to the last one brought: every task, and the mean of each domain."""
    chain = [evaluated.stages[-1]]
    while (before := evaluated.previous.get(chain[0])) and before not in chain:
        chain.insert(0, before)
    if len(chain) < 2:
        return
    places = [evaluated.place(stage) for stage in chain]
    tables = list(evaluated.tables.values())
    for domain in SUITES:
        mine = [table for table in tables if table.facts.domain == domain and table.is_share]
        if len(mine) > 1:
            steps, total = _steps(evaluated, mine, places)
            yield _attributed(domain, domain, domain, chain, steps, total, is_suite=True)
    for table in tables:
        if table.sums is None:
            steps, total = _steps(evaluated, [table], places)
        else:
            steps = [_difference(evaluated, table, new, old) for old, new in pairwise(places)]
            total = _difference(evaluated, table, places[-1], places[0])
        title = table.facts.title or table.name
        yield _attributed(
            table.name, title, table.facts.domain, chain, steps, total, lower=table.lower_is_better
        )


def contamination(evaluated: Evaluated, stage: str, seen: Mapping[str, set[str]]) -> Iterator[Contamination]:
    """Differences on items found in training text and on the others, of tasks with any of the former."""
    model, other = evaluated.place(stage), evaluated.place(evaluated.against)
    for table in evaluated.tables.values():
        flagged = [id in seen.get(table.name, ()) for id in table.ids]
        if any(flagged) and table.sizes is None and table.sums is None:
            new, old = table.scores[model], table.scores[other]
            split = contamination_split(
                new, old, flagged, table.clusters, evaluated.resamples, evaluated.seed
            )
            yield Contamination(task=table.name, stage=stage, **split._asdict())


def flags(corpora: Iterable[Path]) -> dict[str, set[str]]:
    """Task to the items that corpora hold: those that were found there and not dropped."""
    found: dict[str, set[str]] = {}
    for corpus in corpora:
        steps = read_manifest(corpus).settings.get("steps", [])
        modes = [step["mode"] for step in steps if step["kind"] == "decontaminate"]
        if "drop" not in modes and (corpus / FLAGS).exists():
            for row in parts.load(corpus / FLAGS):
                found.setdefault(row["task"], set()).add(str(row["item"]))
    return found


def _line(evaluated: Evaluated, table: TaskTable, stage: str) -> Line:
    model, other = evaluated.place(stage), evaluated.place(evaluated.against)
    draws = {"resamples": evaluated.resamples, "seed": evaluated.seed}
    pair = evaluated.pairs[table.name, stage]
    found = line(table, model, other, stage, evaluated.against, pair, **draws)
    if before := evaluated.previous.get(stage):
        found.previous = before
        found.delta_previous, found.ci_previous_low, found.ci_previous_high = _difference(
            evaluated, table, model, evaluated.place(before)
        )
    return found


def _difference(evaluated: Evaluated, table: TaskTable, model: int, other: int) -> tuple[float, float, float]:
    return contrast(table, model, other, evaluated.resamples, evaluated.seed).difference


def _steps(evaluated: Evaluated, tables: list[TaskTable], places: list[int]) -> tuple[list[Any], Any]:
    return attribute_suite(
        {table.name: table.scores[places] for table in tables},
        {table.name: table.clusters for table in tables},
        evaluated.resamples,
        evaluated.seed,
        sizes={table.name: table.sizes for table in tables if table.sizes is not None},
    )


def _attributed(
    name: str,
    title: str,
    domain: str,
    chain: list[str],
    steps: list[Any],
    total: Any,
    *,
    lower: bool = False,
    is_suite: bool = False,
) -> Attribution:
    made = [
        Step(stage=stage, previous=before, delta=delta)
        for (before, stage), delta in zip(pairwise(chain), steps, strict=True)
    ]
    return Attribution(
        name=name, title=title, domain=domain, is_suite=is_suite, lower_is_better=lower, steps=made, total=total
    )  # fmt: skip


def _add_details(evaluated: Evaluated, made: Evaluation) -> None:
    """The views that need single rows, stage by stage: only the reference's rows are held beside them."""
    tables, other = evaluated.tables, evaluated.place(evaluated.against)
    reference = details.rows_of(evaluated.artifacts[evaluated.against], tables)
    texts = {name: _texts(evaluated.artifacts[evaluated.against], name) for name in tables}
    for stage, artifact in evaluated.artifacts.items():
        is_reference, model = stage == evaluated.against, evaluated.place(stage)
        every = reference if is_reference else details.rows_of(artifact, tables)
        for name, table in tables.items():
            rows, old = every[name], reference[name]
            varied = details.wordings(table, stage, rows, None if is_reference else old, evaluated.seed)
            made.components += [varied] if varied else []
            sure = details.calibrated(table, stage, rows)
            made.calibration += [sure] if sure else []
            made.scorers += details.scorers(table, stage, rows)
            if not is_reference:
                made.groups += details.subjects(table, stage, model, other, evaluated.seed)
                made.flips += details.flips(table, stage, model, other, rows, old, texts[name])


def _texts(artifact: Artifact, task: str) -> dict[str, Any]:
    """Item id to its row, where the items are still here and their source lets them be shown."""
    place = artifact.manifest.parent_paths.get(f"items:{task}")
    corpus = artifact.path / place if place else None
    if corpus is None or not (corpus / "manifest.json").exists():
        return {}
    if forbidden(read_manifest(corpus).passport, "text-logging"):
        return {}
    path = next((path for path in (corpus / "held_out.jsonl", corpus / "train.jsonl") if path.exists()), None)
    return {str(row["id"]): row for row in parts.load(path)} if path else {}
