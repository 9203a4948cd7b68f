"""The report of a run: `runs/<recipe>/report.html`, one file that opens offline.

What: the verdict first, then the chain, scores, gains and losses, curves, data, and how it was run. Why a
single page of plain HTML and inline SVG: it can be mailed, printed and read in ten years. How: `report_run`
reads manifests, events and `verdict.json` (no model, no torch), `report_words` and `charts` say and draw
it, `report.html.jinja` lays it out with everything escaped. What the evaluation found beside the verdict comes
from `evaluation_view` and is laid out by `evaluation.html.jinja`.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from residency.artifact import PREPARATION, RunPaths
from residency.eval.pages import alignment_view, charts, evaluation_view, report_words
from residency.eval.pages.report_run import DOMAINS, Run, Score, Stage, read

Bounds = tuple[float, float, float]
WORDS = ("number", "interval", "count", "duration", "size", "percent", "chance_of_it", "digits")


def write(run: Path, *, siblings: Sequence[Path] = ()) -> Path:
    """Render the report of a run's directory; returns the file.

    Args:
        run: `runs/<recipe>/`. What is missing there is left out of the page.
        siblings: other runs, such as one without replay; general knowledge is drawn beside theirs where they
            share its tasks.
    """
    target = RunPaths(run).report
    beside = target.with_name(f".{target.name}.{os.getpid()}")
    beside.write_text(render(read(run), [read(other) for other in siblings]), encoding="utf-8")
    beside.replace(target)
    return target


def render(run: Run, others: Sequence[Run] = ()) -> str:
    """The page of a run that was read, beside other runs of the same tasks."""
    files = resources.files("residency.eval.pages")

    def text(name: str) -> str:
        return files.joinpath(name).read_text("utf-8")

    page = Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined, loader=FunctionLoader(text)
    )  # fmt: skip
    page.filters |= {name: getattr(report_words, name) for name in WORDS}
    return page.get_template("report.html.jinja").render(
        run=run,
        detail=evaluation_view.Detail(run),
        view=evaluation_view,
        alignment=alignment_view,
        css=Markup(text("report.css") + text("evaluation.css")),
        headline=report_words.headline(run),
        supplement=report_words.supplement(run),
        domains=DOMAINS,
        metrics=report_words.METRICS,
        kinds=report_words.KINDS,
        within=report_words.within,
        span=(span := effects_axis(run)),
        axis=charts.forest_axis,
        forest_axis=charts.forest_axis(span),
        forest=lambda score: forest(score, span),
        score_chart=lambda task: score_chart([run], task),
        comparisons=[comparison for other in others if (comparison := compare(run, other))],
        loss_chart=loss_chart,
        eigenscore_chart=eigenscore_chart,
        share_bar=charts.share_bar,
        mixtures=[(stage, tokens) for stage in run.training if (tokens := run.helper(stage, *PREPARATION))],
        passport=passport(run),
        environments=environments(run),
        totals=totals(run),
        written=time.strftime("%d %B %Y, %H:%M UTC", time.gmtime()).lstrip("0"),
    )


def effects_axis(run: Run) -> charts.Axis:
    """One axis for every difference on the page, so that gains and losses can be compared by eye."""
    effects = [effect for score in run.scores if (effect := score.effect())]
    bounds = [bound for effect in effects for bound in effect]
    return charts.axis(bounds, ticks=4, around=[-0.1, 0.1])


def forest(score: Score, span: charts.Axis) -> Markup:
    """A row of the forest plot, empty for the reference."""
    effect = score.effect()
    if score.is_reference or effect is None:
        return Markup()
    mark = "control" if score.domain == "control" else score.verdict
    told = (
        f"{score.name} after {score.stage}: {report_words.number(score.delta, 3, sign=True)} {score.verdict}"
    )
    return charts.forest(span, effect, mark=mark, margin=score.band, told=told)


def score_chart(runs: Sequence[Run], task: str) -> Markup:
    """Scores of one task over the stages of the first run; of a second run for stages of the same name."""
    stages = list(dict.fromkeys(score.stage for score in runs[0].task(task)))
    tables = [{score.stage: score for score in run.task(task)} for run in runs]
    series = [[_bounds(table[name]) if name in table else None for name in stages] for table in tables]
    first = next(iter(tables[0].values()))
    values = [bound for line in series for point in line if point for bound in point]
    is_share = first.scale == 1.0 and all(0.0 <= value <= 1.0 for value in values)
    span = charts.axis([0.0, 1.0], ticks=2) if is_share else charts.axis(values, ticks=3)
    return charts.scores(
        stages,
        series,
        span,
        chance=first.chance,
        floors=[floor for name, floor in first.floors.items() if name != "guessing"],
        show=lambda value: report_words.number(value, report_words.digits(first)),
        told=f"{first.name}, stage by stage",
    )


def compare(run: Run, other: Run) -> dict[str, Any] | None:
    """General knowledge of two runs, task by task; None where they share no general task."""
    shared = [task for task in run.domains("general").get("general", []) if other.task(task)]
    tasks = []
    for task in shared:
        theirs = {score.stage: score for score in other.task(task)}
        both = [(score, theirs[score.stage]) for score in run.task(task) if score.stage in theirs]
        if both:
            tasks.append(
                {"name": both[-1][0].name, "chart": score_chart([run, other], task), "last": both[-1]}
            )
    return (
        {"other": other.name, "tasks": tasks, "replay": "replay" in other.name + run.name} if tasks else None
    )


def loss_chart(stage: Stage) -> Markup:
    """The loss curve of a training stage; DPO and its kin start at ln 2, which is drawn."""
    steps = [(step["step"], step["loss"]) for step in stage.steps if step.get("loss") is not None]
    if not steps:
        return Markup()
    total = max(stage.steps[-1].get("steps") or 0, steps[-1][0])
    loss = stage.manifest.settings.get("loss", "dpo") if stage.manifest else "dpo"
    starts_there = stage.kind == "preference" and loss in ("dpo", "robust", "cdpo")
    level = (math.log(2), "ln 2: no preference yet") if starts_there else None
    (first, start), (last, end) = steps[0], steps[-1]
    told = f"Loss of {stage.name}: {start:.3f} at step {first}, {end:.3f} at step {last}"
    return charts.loss_curve(
        steps,
        total,
        checkpoints=stage.checkpoints,
        left_out=[entry["step"] for entry in stage.left_out],
        level=level,
        told=told,
    )


def eigenscore_chart(stage: Stage) -> Markup:
    """The course of a stage's EigenScore; nothing before there are two of them."""
    points = [(told["step"], told["value"]) for told in stage.eigenscores if told["value"] is not None]
    if len(points) < 2:
        return Markup()
    total = max(stage.steps[-1].get("steps") or 0 if stage.steps else 0, points[-1][0])
    (first, start), (last, end) = points[0], points[-1]
    told = f"EigenScore of {stage.name}: {start:.3f} at step {first}, {end:.3f} at step {last}"
    return charts.lines({"EigenScore": points}, total, told)


def passport(run: Run) -> list[dict[str, Any]]:
    """Every corpus of the run once, with the stages that were made of it."""
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for stage in run.stages:
        for entry in stage.manifest.passport if stage.manifest else []:
            key = str(entry.get("corpus", "")), str(entry.get("source", ""))
            row = rows.setdefault(key, {**entry, "stages": []})
            learnt = entry.get("stage") or (stage.name if stage.trains else None)
            if learnt and learnt not in row["stages"]:
                row["stages"].append(learnt)
    return list(rows.values())


def environments(run: Run) -> list[dict[str, Any]]:
    """Machines and versions, each once, with the stages that ran there; small differences stay visible."""
    found: dict[str, dict[str, Any]] = {}
    for stage in run.chain:
        if stage.manifest and stage.manifest.environment:
            seen = found.setdefault(
                repr(stage.manifest.environment), {**stage.manifest.environment, "stages": []}
            )
            seen["stages"].append(stage.name)
    return list(found.values())


def totals(run: Run) -> dict[str, Any]:
    """Sums for the head of the page."""
    trained = [stage for stage in run.training if stage.manifest]
    sizes = [stage.measured["parameters"] for stage in run.stages if stage.measured.get("parameters")]
    return {
        "seconds": sum(stage.seconds or 0 for stage in run.stages),
        "tokens": sum(stage.measured.get("tokens") or 0 for stage in trained),
        "trained": len(trained),
        "parameters": sizes[0] if sizes else None,
        "ranks": max(
            (stage.measured.get("engine", {}).get("world_size") or 0 for stage in trained), default=0
        ),
    }


def _bounds(score: Score) -> Bounds:
    low = score.value if score.value_low is None else score.value_low
    return score.value, low, score.value if score.value_high is None else score.value_high
