"""What the report shows of an evaluation: its views joined with the verdict's lines, told and drawn for the template.

Why apart from `report`: all that `evaluation.html.jinja` needs comes from here, so that a section is there only if it
has something to say. Views of tasks and stages without a line in the verdict are left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from markupsafe import Markup

from residency.eval.comparison.views import (
    Attribution,
    Calibration,
    Curve,
    CurvePoint,
    Evaluation,
    Exchange,
    Flip,
    Forgetting,
    Interval,
    SeedScores,
    Suite,
)
from residency.eval.pages import charts, evaluation_charts
from residency.eval.pages.report_run import DOMAINS, Run, Score, Stage
from residency.eval.pages.report_words import digits, interval, number, percent
from residency.eval.statistics.curves import landmarks

TITLES = {
    "gates": "Gates",
    "suites": "Wins and losses",
    "attribution": "What each stage brought",
    "kept": "Kept and lost",
    "subjects": "By subject",
    "sureness": "Does it know what it knows?",
    "wording": "Does the wording matter?",
    "checkpoints": "While it trained",
    "scorers": "Does the scorer matter?",
    "contamination": "Had it seen the questions?",
    "seeds": "Luck of the seed",
    "answers": "Answers that changed",
}


class OfStage(Protocol):
    stage: str


View = TypeVar("View", bound=OfStage)


@dataclass(frozen=True)
class Course:
    """A curve over checkpoints: a finished one, or what is known of it while the stage trains."""

    stage: str
    name: str
    domain: str
    chart: Markup
    told: str
    missing: list[int]
    grows: bool


class Detail:
    """The views of a run's evaluation, for the template."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.views = run.evaluation or Evaluation(against="", stages=[])
        self.titles = {score.task: score.name for score in run.scores}
        self.lines = {(score.task, score.stage): score for score in run.scores}
        self.courses = [*map(_finished, run.curves), *_growing(run)]
        self.several = any(len(each.seeds) > 1 for each in run.seeds)

    @property
    def sections(self) -> dict[str, str]:
        """Id to title of the sections that have something to show."""
        views = self.views
        shown = {
            "gates": views.gates, "suites": views.suites, "attribution": views.attribution,
            "kept": self.known(views.forgetting), "subjects": self.known(views.groups),
            "sureness": self.known(views.calibration), "wording": self.known(views.components),
            "checkpoints": self.courses, "scorers": self.known(views.scorers),
            "contamination": self.known(views.contamination),
            "seeds": self.run.seeds or any(not score.is_reference for score in self.run.scores),
            "answers": self.known(views.flips),
        }  # fmt: skip
        needed = bool(self.run.evaluation or self.run.seeds or self.courses)
        return {name: title for name, title in TITLES.items() if needed and shown[name]}

    def line(self, view: Any) -> Score:
        """The verdict's line of a view's task and stage."""
        return self.lines[view.task, view.stage]

    def known(self, views: Iterable[Any]) -> list[Any]:
        """Views whose task and stage have a line."""
        return [view for view in views if (view.task, view.stage) in self.lines]

    def by_stage(self, views: Iterable[View]) -> list[tuple[str, list[View]]]:
        """Stage to its views, the last stage first."""
        found: dict[str, list[View]] = {}
        for view in views:
            found.setdefault(view.stage, []).append(view)
        order = [*self.run.scored_stages, *found]
        return sorted(found.items(), key=lambda each: -order.index(each[0]))

    def by_task(self, views: Iterable[Any]) -> list[tuple[Score, list[Any]]]:
        """A task's line and its views, for views of one stage."""
        found: dict[str, list[Any]] = {}
        for view in self.known(views):
            found.setdefault(view.task, []).append(view)
        return [(self.line(views[0]), views) for views in found.values()]

    def changed(self) -> list[tuple[str, list[tuple[Score, list[Flip]]]]]:
        """Stage and task to the answers that changed; tasks with most answers lost first, controls last."""

        def order(each: tuple[Score, list[Flip]]) -> tuple[bool, int]:
            return each[0].domain == "control", -(each[0].lost or 0)

        groups = self.by_stage(self.known(self.views.flips))
        return [(stage, sorted(self.by_task(found), key=order)) for stage, found in groups]

    def calibration_of_reference(self, view: Calibration) -> Calibration | None:
        """The reference's calibration on the same task."""
        against = self.views.against
        found = (each for each in self.views.calibration if (each.task, each.stage) == (view.task, against))
        return next(found, None) if view.stage != against else None


def task_axis(line: Score, deltas: Iterable[Interval | None]) -> charts.Axis:
    """One axis for several differences of a task."""
    return axis_of(line.drawn(delta) for delta in deltas if delta)


def ledger_axis(detail: Detail, views: Iterable[Forgetting]) -> charts.Axis:
    """One axis for the differences of several tasks."""
    return axis_of(detail.line(view).drawn(view.delta) for view in views)


def subject_order(line: Score, groups: Sequence[Any]) -> list[Any]:
    """Subjects with the largest gain first; those without an interval last."""
    return sorted(groups, key=lambda group: -line.drawn(group.delta)[0] if group.delta else math.inf)


def forest(line: Score, delta: Interval, span: charts.Axis, told: str, *, alarm: bool = False) -> Markup:
    """A row of a forest plot for a difference of this task that is not the verdict's own.

    Args:
        alarm: whether more is a bad sign, as of a gain on questions that were seen.
    """
    effect = line.drawn(delta)
    mark = ("worse" if effect[1] > 0 else "undecided") if alarm else _mark(effect)
    return charts.forest(span, effect, mark=mark, margin=line.band, told=told)


def kept(line: Score, view: Forgetting, span: charts.Axis) -> Markup:
    """A row of the ledger of forgetting."""
    mark = {"kept": "equivalent", "lost": "worse"}.get(view.state, "undecided")
    told = f"{line.name}: {view.state}"
    return charts.forest(span, line.drawn(view.delta), mark=mark, margin=line.band, told=told)


def plain_forest(delta: Interval, span: charts.Axis, margin: float, mark: str, told: str) -> Markup:
    """A row of a forest plot for a mean over tasks, or a difference of differences."""
    return charts.forest(span, delta, mark=mark, margin=margin, told=told)


def axis_of(deltas: Iterable[Interval | None]) -> charts.Axis:
    """One axis for these differences."""
    return charts.axis([end for delta in deltas if delta for end in delta], around=[-0.05, 0.05])


def counted(suite: Suite) -> Markup:
    """The bar of a suite's tasks by verdict."""
    numbers = {name: getattr(suite, name) for name in evaluation_charts.COUNTED}
    told = ", ".join(f"{count} {name}" for name, count in numbers.items() if count)
    return evaluation_charts.counts(numbers, f"{DOMAINS.get(suite.domain, suite.domain)}: {told}")


def attributed(view: Attribution) -> Markup:
    """The waterfall of a chain."""
    largest = max(abs(delta[0]) for delta in (view.total, *(step.delta for step in view.steps)))
    places = 3 if view.lower_is_better or largest < 0.05 else 2
    steps = [(step.stage, step.delta) for step in view.steps]
    told = ", ".join(f"{stage} {number(delta[0], places, sign=True)}" for stage, delta in steps)
    return evaluation_charts.waterfall(
        view.steps[0].previous,
        steps,
        view.total,
        lower=view.lower_is_better,
        show=lambda value: number(value, places, sign=True),
        told=f"{named(view)}: {told}, total {number(view.total[0], places, sign=True)}",
    )


def named(view: Attribution) -> str:
    """Title of a task or domain."""
    return DOMAINS.get(view.name, view.title) if view.is_suite else view.title or view.name


def exchanged(view: Exchange) -> str:
    """What medicine was gained for what was lost in general, in words."""
    medicine, general = (
        f"{number(100 * delta[0], 1, sign=True)} {interval(100 * delta[1], 100 * delta[2], 1)}"
        for delta in (view.medicine, view.general)
    )
    told = f"medicine {medicine} points, general knowledge {general}"
    if view.general[2] >= 0:
        return f"{told}: no general loss is shown"
    if view.medicine[0] <= 0 or view.rate is None:
        return f"{told}: nothing was gained for the loss"
    return f"{told}: {number(view.rate, 1)} points gained for each one lost"


def reliability(view: Calibration, reference: Calibration | None) -> Markup:
    """The reliability diagram of a stage, over the reference's."""
    told = f"calibration error {percent(view.ece)}"
    return evaluation_charts.reliability(view.bins, reference.bins if reference else [], told)


def sureness(view: Calibration) -> str:
    """How sure the model is and how often it is right, on average."""
    items = sum(part.items for part in view.bins) or 1
    sure = sum(part.confidence * part.items for part in view.bins) / items
    right = sum(part.accuracy * part.items for part in view.bins) / items
    gap = round(100 * sure) - round(100 * right)
    word = "about as sure as it may be" if abs(gap) < 5 else "too sure" if gap > 0 else "too modest"
    return f"{percent(sure, 0)} sure, {percent(right, 0)} right: {word}"


def letter(option: int | None) -> str:
    """What an option is called; a dash for no answer."""
    return "\u2013" if option is None else chr(ord("A") + option) if option < 26 else str(option + 1)


def opening(flip: Flip, most: int = 110) -> str:
    """The first words of a question, or the item's id where its text may not be shown."""
    text = " ".join(flip.question.split())
    return text if text and len(text) <= most else f"{text[:most].rstrip()}\u2026" if text else flip.item


def floors(score: Score) -> Markup:
    """The scale with the floors; nothing where there are none, or values are no shares."""
    if not score.floors or score.scale != 1.0 or score.reference is None:
        return Markup()
    known = ", ".join(f"{name} {number(value)}" for name, value in score.floors.items())
    told = f"{score.name}: {number(score.value)} after {score.stage}; {known}"
    return evaluation_charts.floors(score.value, score.reference, score.floors, told)


def seed_effects(view: SeedScores) -> list[float]:
    """Each seed's difference, such that above 0 is better; relative where values are no shares."""
    return [_seed_line(view).drawn((delta, delta, delta))[0] for delta in view.deltas]


def seed_axis(views: Sequence[SeedScores]) -> charts.Axis:
    """One axis for all tasks."""
    return charts.axis([effect for view in views for effect in seed_effects(view)], around=[-0.05, 0.05])


def seeds(view: SeedScores, span: charts.Axis) -> Markup:
    """The seeds' differences of one task."""
    line = _seed_line(view)
    values = ", ".join(
        f"seed {seed} {number(delta, digits(line), sign=True)}"
        for seed, delta in zip(view.seeds, view.deltas, strict=True)
    )
    effects = seed_effects(view)
    told = f"{view.title or view.task} after {view.stage}: {values}"
    return evaluation_charts.seeds(effects, sum(effects) / len(effects), span, line.band, told)


def _seed_line(view: SeedScores) -> Score:
    return Score(
        task=view.task, domain=view.domain, stage=view.stage, against=view.against, metric=view.metric, n=0,
        value=view.value, reference=view.value - view.delta_mean, margin=view.margin,
        lower_is_better=view.lower_is_better,
    )  # fmt: skip


def _mark(effect: Interval) -> str:
    return "better" if effect[1] > 0 else "worse" if effect[2] < 0 else "undecided"


def _finished(curve: Curve) -> Course:
    name = curve.title or curve.task
    points = (curve.bottom, curve.recovery, curve.best, curve.gap)
    chart, told = _course(name, curve.points, *points, lower=curve.lower_is_better)
    places = 3 if curve.lower_is_better else 2
    gain = number(curve.gain[0], places, sign=True), interval(*curve.gain[1:], places)
    told += f" The best is {gain[0]} {gain[1]} from the start, less the luck of choosing it."
    return Course(curve.stage, name, curve.domain, chart, told, curve.missing, grows=False)


def _growing(run: Run) -> list[Course]:
    """Curves of stages that still train, from their events."""
    done = {curve.stage for curve in run.curves}
    return [course for stage in run.training if stage.name not in done for course in _of_events(run, stage)]


def _of_events(run: Run, stage: Stage) -> Iterable[Course]:
    for task in dict.fromkeys(task for task, _ in stage.scored):
        found = sorted((step, event) for (name, step), event in stage.scored.items() if name == task)
        points = [
            CurvePoint(step=step, value=event["value"], low=event["low"], high=event["high"], delta=None)
            for step, event in found
        ]
        if len(points) > 1:
            lower = bool(found[0][1].get("lower_is_better"))
            marks = landmarks([point.value for point in points], higher_is_better=not lower)
            bottom, recovery, best = (
                None if place is None else points[place].step
                for place in (marks.bottom, marks.recovery, marks.best)
            )
            line = next(iter(run.task(task)), None)
            name, domain = (line.name, line.domain) if line else (task, "")
            chart, told = _course(name, points, bottom or 0, recovery, best or 0, marks.gap, lower=lower)
            yield Course(stage.name, name, domain, chart, told, [], grows=True)


def _course(
    name: str,
    points: list[CurvePoint],
    bottom: int,
    recovery: int | None,
    best: int,
    gap: float,
    *,
    lower: bool,
) -> tuple[Markup, str]:
    """A curve's chart, and what it says in words."""
    places = 3 if lower else 2
    named: dict[int, str] = {best: "best"}
    told = "It never fell below its start."
    if gap > 0:
        named = {bottom: "bottom"}
        if recovery is not None:
            named.setdefault(recovery, "recovered")
        named[best] = "recovered and best" if best == recovery else named.get(best, "best")
        back = "never came back" if recovery is None else f"was back at step {recovery:,}"
        told = f"It first lost {number(gap, places)}, lowest at step {bottom:,}, and {back}."
    chart = evaluation_charts.course(
        points,
        list(named.items()),
        lower=lower,
        show=lambda value: number(value, places),
        told=f"{name}: {told}",
    )
    return chart, told
