"""What the report shows of alignment: rewards, divergence and lengths step by step, signs of trouble, and what the
model answered to the same prompts before and after."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from markupsafe import Markup

from residency.artifact import RunPaths
from residency.data.passport import forbidden
from residency.eval.pages import charts
from residency.eval.pages.report_run import Run, Stage
from residency.eval.pages.report_words import number

KINDS = ("reward", "preference", "rl", "sample", "tree")
REPLIES = "replies.jsonl"
MOST_REPLIES = 8
WITHHELD = "not shown: a source forbids it"
Lines = Mapping[str, str]
"""Name of a line to the key of a step's event; names that begin with "held out" are of `held_out` events."""
PICTURES: dict[str, dict[str, Lines]] = {
    "reward": {
        "Pairs in the right order": {"accuracy": "rewards/accuracies"},
        "Margin of the better reply": {"margin": "rewards/margins"},
    },
    "preference": {
        "Reward against the parent": {"chosen": "rewards/chosen", "rejected": "rewards/rejected"},
        "Margin": {"margin": "rewards/margins"},
        "Log-probability of the replies": {"chosen": "logps/chosen", "rejected": "logps/rejected"},
    },
    "rl": {
        "Reward": {"sampled": "reward", "held out": "reward"},
        "Right answers": {"held out": "correct"},
        "KL to the parent, nats a token": {"sampled": "kl", "held out": "kl"},
        "Length of replies, tokens": {"sampled": "completions/mean_length", "held out": "length"},
    },
}


@dataclass(frozen=True)
class Panel:
    """One picture."""

    title: str
    told: str
    """Means of the first and last quarter of the steps; of held-out prompts the first and last value."""
    chart: Markup


@dataclass(frozen=True)
class Shown:
    """One prompt with what was answered before and after training."""

    prompt: str
    before: str
    after: str
    reward_before: float | None
    reward_after: float | None


def stages(run: Run) -> list[Stage]:
    """Stages of alignment that have something to show."""
    return [stage for stage in run.stages if stage.kind in KINDS and (panels(stage) or facts(stage))]


def panels(stage: Stage) -> list[Panel]:
    """The pictures of a stage, those without a value left out."""
    made = []
    for title, lines in PICTURES.get(stage.kind, {}).items():
        found = {name: points for name, key in lines.items() if (points := _points(stage, name, key))}
        if found:
            total = max(points[-1][0] for points in found.values())
            told = ", ".join(_told(name, points, several=len(found) > 1) for name, points in found.items())
            made.append(Panel(title, told, charts.lines(found, total, f"{title} of {stage.name}: {told}")))
    return made


def facts(stage: Stage) -> list[tuple[str, str]]:
    """What the stage measured when it had ended: name and value."""
    measured = stage.measured
    known: list[tuple[str, Any]] = []
    if stage.kind == "reward" and measured.get("held_out_accuracy") is not None:
        low, high = measured.get("held_out_low"), measured.get("held_out_high")
        bounds = f" [{number(low)}, {number(high)}]" if low is not None else ""
        known.append(("held-out accuracy", number(measured["held_out_accuracy"], 3) + bounds))
    if stage.kind == "rl":
        known += [
            ("largest KL", measured.get("kl_largest")),
            ("reward at first", measured.get("reward_first")),
        ]
        known += [("reward at last", measured.get("reward_last"))]
        if rise := measured.get("held_out_rise"):
            bounds = f" [{number(rise['low'], 3, sign=True)}, {number(rise['high'], 3, sign=True)}]"
            known.append(("held-out reward", number(rise["mean"], 3, sign=True) + bounds))
    if stage.kind in ("sample", "tree"):
        known += [
            ("mean score", measured.get("mean_score")),
            ("best of each prompt", measured.get("best_score")),
        ]
        known += [("distinct replies", measured.get("distinct_share"))]
    return [
        (name, value if isinstance(value, str) else number(value, 3))
        for name, value in known
        if value is not None
    ]


def shown(run: Run, stage: Stage) -> list[Shown]:
    """What a model of reinforcement answered to the same prompts before and after, where the stage has ended.

    Where a source forbids showing its text, only ids and rewards stand: the page may be mailed.
    """
    lines = _read(RunPaths(run.path).artifact(stage.name, stage.identity) / REPLIES)
    if stage.kind != "rl" or not lines:
        return []
    last = max(line["step"] for line in lines)
    before = {line["id"]: line for line in lines if line["step"] == 0}
    after = {line["id"]: line for line in lines if line["step"] == last}
    withheld = _forbidden(run, stage)
    return [
        Shown(
            str(name) if withheld else _asked(before[name]),
            WITHHELD if withheld else before[name]["reply"],
            WITHHELD if withheld else after[name]["reply"],
            before[name].get("reward"),
            after[name].get("reward"),
        )
        for name in before
        if name in after
    ][:MOST_REPLIES]


def _forbidden(run: Run, stage: Stage) -> bool:
    """Whether a source of the model, or of the prompts that it was asked, forbids showing text."""
    prompts = run.helper(stage, "prompts")
    sources = [
        run.by_name[name] for name in (prompts.parents.values() if prompts else ()) if name in run.by_name
    ]
    passport = [entry for each in (stage, *sources) if each.manifest for entry in each.manifest.passport]
    return forbidden(passport, "text-logging") is not None


def _asked(line: Mapping[str, Any]) -> str:
    """The last thing that the user said."""
    prompt = line["prompt"]
    messages = json.loads(prompt) if isinstance(prompt, str) else prompt
    return next((str(each["content"]) for each in reversed(messages) if each["role"] == "user"), "")


def _points(stage: Stage, name: str, key: str) -> list[tuple[int, float]]:
    rows = stage.held_out if name.startswith("held out") else stage.steps
    return [(row["step"], row[key]) for row in rows if row.get(key) is not None]


def _told(name: str, points: Sequence[tuple[int, float]], *, several: bool) -> str:
    part = 1 if name.startswith("held out") else max(1, len(points) // 4)  # one batch says little
    first, last = (fmean(value for _, value in some) for some in (points[:part], points[-part:]))
    ends = f"{number(first, 3)} → {number(last, 3)}"
    return f"{name} {ends}" if several else ends


def _read(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
