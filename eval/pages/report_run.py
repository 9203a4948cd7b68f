"""What a report knows of a run: the graph as last run, joined with manifests, events and verdicts.

Why a module of its own: everything that may be missing (an unfinished stage, no evaluation) is dealt with
here, once, so that words, charts and template only see what exists. How: `recipe.json` gives the stages and
their identities; only artifacts of these identities count, whatever else lies in the folder.
"""

from __future__ import annotations

import json
from collections.abc import Container
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, TypeAdapter, model_validator

from residency import events
from residency.artifact import PREPARATION, TRAINING, Manifest, RunPaths, read_attempt, read_manifest
from residency.errors import Exit
from residency.eval.comparison.views import Curve, Evaluation, Interval, SeedScores, Validity

CURVES: TypeAdapter[list[Curve]] = TypeAdapter(list[Curve])
SEEDS: TypeAdapter[list[SeedScores]] = TypeAdapter(list[SeedScores])
View = TypeVar("View", Curve, SeedScores)
PER_STAGE = (
    "suites", "forgetting", "exchange", "components", "calibration", "groups", "scorers", "flips", "contamination",
)  # fmt: skip
DOMAINS = {"medicine": "Medicine", "general": "General knowledge", "safety": "Safety", "control": "Controls"}
Status = Literal["finished", "reused", "running", "paused", "failed", "waiting"]


class Score(BaseModel):
    """One row of `verdict.json`: one task after one stage, against the reference."""

    task: str
    title: str = ""
    domain: str
    stage: str
    against: str
    metric: str
    n: int
    clusters: int | None = None
    value: float
    value_low: float | None = None
    value_high: float | None = None
    reference: float | None = None
    delta: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    verdict: str = "reference"
    margin: float = 0.0
    """Difference that does not matter, in the unit of `delta`."""
    p: float | None = None
    test: str | None = None
    p_holm: float | None = None
    p_bh: float | None = None
    chance: float | None = None
    constant: float | None = None
    longest: float | None = None
    lower_is_better: bool = False
    non_inferior: bool = False
    detectable: float | None = None
    items_to_decide: int | None = None
    gained: int | None = None
    lost: int | None = None
    validity: Validity = Validity()
    items_cut: int = 0
    too_good: bool = False
    too_good_score: float | None = None
    """These as in `residency.eval.comparison.views.Line`; lines written before it was do not have them."""

    @model_validator(mode="before")
    @classmethod
    def _direction(cls, row: dict[str, Any]) -> dict[str, Any]:
        """Lines that do not say which direction is better had one metric that is better where lower."""
        return {"lower_is_better": row["metric"] == "bits_per_byte"} | row

    @property
    def name(self) -> str:
        return self.title or self.task

    @property
    def is_reference(self) -> bool:
        return self.verdict == "reference"

    @property
    def scale(self) -> float:
        """What differences are divided by to be drawn: 1, or the reference where values are no shares.

        So bits per byte, grades and scales fit on one axis with accuracies.
        """
        is_share = self.metric != "bits_per_byte" and max(abs(self.value), abs(self.reference or 0.0)) <= 1
        return 1.0 if is_share else abs(self.reference or 1.0)

    def effect(self) -> Interval | None:
        """Difference to the reference and its interval, so that above 0 is better; relative where no share."""
        if self.delta is None or self.ci_low is None or self.ci_high is None:
            return None
        return self.drawn((self.delta, self.ci_low, self.ci_high))

    def drawn(self, difference: Interval) -> Interval:
        """A difference of this task, in the unit and direction of `effect`."""
        middle, low, high = (end / self.scale for end in difference)
        return (-middle, -high, -low) if self.lower_is_better else (middle, low, high)

    @property
    def band(self) -> float:
        """The margin in the unit of `effect`."""
        return self.margin / self.scale

    @property
    def floors(self) -> dict[str, float]:
        """What is reached without reading the question."""
        known = {"guessing": self.chance, "one option": self.constant, "longest option": self.longest}
        return {name: value for name, value in known.items() if value is not None}

    @property
    def mark(self) -> str:
        """What the badge says. A control has no good direction: it is judged by staying at chance."""
        if (
            self.domain != "control"
            or self.chance is None
            or self.value_low is None
            or self.value_high is None
        ):
            return self.verdict
        if self.value_low > self.chance:
            return "above chance"
        return "below chance" if self.value_high < self.chance else "at chance"


@dataclass
class Stage:
    """One stage of the graph with all that is known of it."""

    name: str
    kind: str
    identity: str
    parents: dict[str, str]
    serves: str | None
    manifest: Manifest | None = None
    status: Status = "waiting"
    reason: str = ""
    seconds: float | None = None
    steps: list[dict[str, Any]] = field(default_factory=list)
    """`step` events of the curve that led to the artifact: what a resumption did again stands once."""
    checkpoints: list[int] = field(default_factory=list)
    held_out: list[dict[str, Any]] = field(default_factory=list)
    """`held_out` events: how held-out prompts were answered."""
    signs: list[dict[str, Any]] = field(default_factory=list)
    """What looked like trouble: sign, step, message. Of an unfinished stage by its `sign` events."""
    left_out: list[dict[str, Any]] = field(default_factory=list)
    """Batches that training left out: step, reason, loss."""
    eigenscores: list[dict[str, Any]] = field(default_factory=list)
    """Step, value, and how many dimensions were dropped then. Of an unfinished stage by its `eigenscore` events."""
    scored: dict[tuple[str, int], dict[str, Any]] = field(default_factory=dict)
    """Task and step to the `checkpoint_scored` event, of the curve while it grows."""

    @property
    def measured(self) -> dict[str, Any]:
        return self.manifest.measured if self.manifest else {}

    @property
    def trains(self) -> bool:
        return self.kind in TRAINING

    @property
    def is_helper(self) -> bool:
        """Whether the stage only serves another one, or all of them."""
        scores = self.kind in ("evaluate", "curve") and self.serves not in (None, self.name)
        return self.kind in PREPARATION or scores

    @property
    def digests(self) -> dict[str, str]:
        """File of weights to its sha256."""
        found = self.measured.get("weights_sha256") or {}
        return {"weights": found} if isinstance(found, str) else dict(found)

    @property
    def tokens_per_second(self) -> float | None:
        """As measured over the stage; while it runs, the last one seen."""
        seen = [step["tokens_per_second"] for step in self.steps if step.get("tokens_per_second")]
        return self.measured.get("tokens_per_second") or (seen[-1] if seen else None)


@dataclass
class Run:
    """A run's directory, read."""

    path: Path
    name: str
    stages: list[Stage]
    scores: list[Score]
    evaluation: Evaluation | None = None
    curves: list[Curve] = field(default_factory=list)
    seeds: list[SeedScores] = field(default_factory=list)

    @property
    def refused(self) -> list[tuple[str, str]]:
        """Gates that stopped the chain: the stage before, and what failed by how much."""
        gates = self.evaluation.gates if self.evaluation else []
        return [(gate.after, gate.message) for gate in gates if not gate.passed]

    @cached_property
    def by_name(self) -> dict[str, Stage]:
        return {stage.name: stage for stage in self.stages}

    @property
    def chain(self) -> list[Stage]:
        """The stages that the recipe's reader thinks of: models, exports, evaluations in their own right."""
        return [stage for stage in self.stages if not stage.is_helper]

    @property
    def training(self) -> list[Stage]:
        return [stage for stage in self.stages if stage.trains]

    @property
    def failed(self) -> list[Stage]:
        return [stage for stage in self.stages if stage.status == "failed"]

    def helper(self, stage: Stage, *kinds: str) -> Stage | None:
        """The stage of one of these kinds that serves `stage`."""
        found = (
            other
            for other in self.stages
            if other.serves == stage.name and other.kind in kinds and other != stage
        )
        return next(found, None)

    @cached_property
    def scored_stages(self) -> list[str]:
        """Stages that have scores, in the order of the chain."""
        known = dict.fromkeys(score.stage for score in self.scores)
        order = [stage.name for stage in self.stages if stage.name in known]
        return [name for name in known if name not in order] + order

    @property
    def last(self) -> list[Score]:
        """Scores after the last stage that has any."""
        return self.after(self.scored_stages[-1]) if self.scored_stages else []

    def after(self, stage: str) -> list[Score]:
        return [score for score in self.scores if score.stage == stage]

    def task(self, name: str) -> list[Score]:
        """One task's scores in the order of the chain."""
        return [score for stage in self.scored_stages for score in self.after(stage) if score.task == name]

    def domains(self, *wanted: str) -> dict[str, list[str]]:
        """Domain to its tasks, for the domains that have any; unknown domains come last."""
        names = dict.fromkeys([*DOMAINS, *(score.domain for score in self.scores)])
        tasks = {name: list(dict.fromkeys(s.task for s in self.scores if s.domain == name)) for name in names}
        return {name: found for name, found in tasks.items() if found and (not wanted or name in wanted)}


def read(path: Path) -> Run:
    """Everything that the report needs of `runs/<recipe>/`; what is not there (yet) is left empty."""
    paths = RunPaths(path)
    recipe = json.loads(paths.recipe.read_text("utf-8")) if paths.recipe.exists() else {}
    stages = [_stage(paths, fields) for fields in recipe.get("stages", [])]
    _add_events(paths, {stage.name: stage for stage in stages})
    rows = json.loads(paths.verdict.read_text("utf-8")) if paths.verdict.exists() else []
    stale = {
        stage.serves or stage.name for stage in stages if stage.kind == "evaluate" and not stage.manifest
    }
    stale |= {stage.name for stage in stages if stage.trains and not stage.manifest}
    scores = [Score.model_validate(row) for row in rows if row["stage"] not in stale]
    return Run(
        path,
        recipe.get("name", path.name),
        stages,
        scores,
        _evaluation(paths, stale),
        _views(paths.curves, CURVES, stale | {stage.serves for stage in stages if _grows(stage)}),
        _views(paths.seeds, SEEDS, stale),
    )


def _evaluation(paths: RunPaths, stale: set[str]) -> Evaluation | None:
    """The views of the stages that are still what they were when evaluated."""
    if not paths.evaluation.exists():
        return None
    found = Evaluation.model_validate_json(paths.evaluation.read_bytes())
    for name in PER_STAGE:
        setattr(found, name, [view for view in getattr(found, name) if view.stage not in stale])
    found.attribution = [
        view
        for view in found.attribution
        if not stale & {name for step in view.steps for name in (step.stage, step.previous)}
    ]
    found.gates = [gate for gate in found.gates if gate.after not in stale]
    return found


def _views(path: Path, kind: TypeAdapter[list[View]], stale: Container[str | None]) -> list[View]:
    found = kind.validate_json(path.read_bytes()) if path.exists() else []
    return [view for view in found if view.stage not in stale]


def _grows(stage: Stage) -> bool:
    return stage.kind == "curve" and not stage.manifest


def _stage(paths: RunPaths, fields: dict[str, Any]) -> Stage:
    directory = paths.artifact(fields["name"], fields["identity"])
    stage = Stage(
        fields["name"], fields["kind"], fields["identity"], fields.get("parents") or {}, fields.get("for")
    )  # fmt: skip
    if (directory / "manifest.json").exists():
        stage.manifest = read_manifest(directory)
        stage.status = "finished"
        stage.seconds = stage.manifest.measured.get("seconds")
        stage.left_out = stage.manifest.measured.get("left_out", [])
    else:
        attempt = read_attempt(paths.attempt(stage.name, stage.identity))
        stage.left_out = attempt.get("left_out", [])
        if attempt.get("status") == "failed":
            stage.status, stage.reason = "failed", str(attempt.get("reason") or "")
    return stage


def _add_events(paths: RunPaths, stages: dict[str, Stage]) -> None:
    others: set[str] = set()  # names under which another stage was at work: the recipe has changed since
    for event in events.read(paths.events):
        name = event["of"] if event["event"] == "checkpoint_scored" else event["stage"]
        if not (stage := stages.get(name)):
            continue
        if "identity" in event:
            (others.discard if event["identity"] == stage.identity else others.add)(name)
        if name in others:
            continue
        if event["event"] == "checkpoint_scored":
            stage.scored[event["task"], event["step"]] = event
        else:
            _add_event(stage, event)
    for stage in stages.values():
        stage.signs = stage.measured.get("signs", stage.signs)
        stage.eigenscores = stage.measured.get("eigenscore", stage.eigenscores)


def _add_event(stage: Stage, event: dict[str, Any]) -> None:
    match event["event"]:
        case "step":
            stage.steps = [step for step in stage.steps if step["step"] < event["step"]]
            if not stage.steps:  # training began anew
                stage.scored = {key: point for key, point in stage.scored.items() if not key[1]}
            stage.checkpoints = [step for step in stage.checkpoints if step < event["step"]]
            stage.held_out = [told for told in stage.held_out if told["step"] < event["step"]]
            # told at the end of the same step, before it
            stage.signs = [told for told in stage.signs if told["step"] <= event["step"]]
            stage.eigenscores = [told for told in stage.eigenscores if told["step"] <= event["step"]]
            stage.steps.append(event)
        case "held_out":
            stage.held_out = [told for told in stage.held_out if told["step"] < event["step"]] + [event]
        case "sign":
            stage.signs = [told for told in stage.signs if told["sign"] != event["sign"]] + [event]
        case "eigenscore":
            stage.eigenscores = [told for told in stage.eigenscores if told["step"] < event["step"]] + [event]
        case "checkpoint":
            stage.checkpoints.append(event["step"])
        case "stage_started" if not stage.manifest:
            stage.status, stage.reason = "running", ""
        case "stage_finished" if stage.manifest:
            stage.status = "finished"
            stage.seconds = event.get("seconds") or stage.seconds
        case "stage_skipped" if stage.manifest:
            stage.status = "reused"
        case "stage_failed" if not stage.manifest:
            stage.status = "paused" if event.get("exit_code") == Exit.RUN_AGAIN else "failed"
            stage.reason = str(event.get("reason") or f"exit code {event.get('exit_code')}")
