"""What the commands print: the plan, the state of a run, and the verdict in words."""

from __future__ import annotations

import json
from typing import Any

from rich.console import Console
from rich.table import Table

from residency import events
from residency.artifact import read_attempt
from residency.eval.comparison.tables import MARKS
from residency.eval.comparison.tables import plain_console as plain_console
from residency.recipes.plan import Plan, PlannedStage


def print_plan(plan: Plan, notes: list[str]) -> None:
    """The graph, one stage a line, and what was derived."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("stage", "kind", "from", "identity", "state"):
        table.add_column(column)
    for stage in plan.stages.values():
        read = stage.parents | {role: role if role.startswith("items:") else "base" for role in stage.outside}
        parents, items = list(read.values()), [read[role] for role in read if role.startswith("items:")]
        shown = [parent for parent in parents if parent not in items] + (
            [f"{len(items)} tasks"] if items else []
        )
        table.add_row(stage.name, stage.kind, ", ".join(shown), stage.identity[:8], state(stage))
    console = plain_console()
    console.print(table)
    for note in notes:
        console.print(f"  {note}", style="dim")
    console.print(f"{plan.recipe.name}: {len(plan.stages)} stages, no fault found", style="bold")


def print_status(plan: Plan) -> None:
    """State of every stage; for one under way its last step, for a failed one the reason."""
    last: dict[str, dict[str, Any]] = {}
    for event in events.read(plan.paths.events):
        last[event["stage"]] = event
    for stage in plan.stages.values():
        event, word = last.get(stage.name, {}), state(stage)
        more = ""
        if word == "under way" and "step" in event:
            more = f"step {event['step']}/{event.get('steps', '?')}"
        elif word == "failed":
            more = str(read_attempt(stage.attempt).get("reason") or event.get("reason", ""))
        print(f"{word:10} {stage.name:28} {more}".rstrip())


def state(stage: PlannedStage) -> str:
    """finished, failed, saved, under way, or waiting."""
    if stage.finished:
        return "finished"
    outcome = read_attempt(stage.attempt).get("status") if stage.attempt.exists() else None
    return {None: "waiting", "failed": "failed", "saved": "saved"}.get(outcome, "under way")


def tell(plan: Plan) -> None:
    """The verdict of the last evaluated stage, and where the report is."""
    console = plain_console()
    if plan.paths.verdict.exists():
        rows = json.loads(plan.paths.verdict.read_text())
        if rows:
            _tell_verdict(console, [row for row in rows if row["stage"] == rows[-1]["stage"]])
            _tell_seeds(console, plan, rows[-1]["stage"])
    console.print(
        f"\nreport   {plan.paths.report}\nverdict  {plan.paths.verdict}", style="dim", soft_wrap=True
    )


def _tell_verdict(console: Console, rows: list[dict[str, Any]]) -> None:
    table = Table(box=None, pad_edge=False, header_style="dim", title_justify="left")
    table.title = f"{rows[0]['stage']} against {rows[0]['against']}"
    for column, justify in (
        ("task", "left"), ("n", "right"), ("value", "right"), ("reference", "right"),
        ("difference [95 % interval]", "right"), ("verdict", "left"),
    ):  # fmt: skip
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    for row in rows:
        table.add_row(
            row.get("title") or row["task"], str(row["n"]), f"{row['value']:.3f}", f"{row['reference']:.3f}",
            f"{row['delta']:+.3f} [{row['ci_low']:+.3f}, {row['ci_high']:+.3f}]",
            f"{MARKS[row['verdict']]} {row['verdict']}",
        )  # fmt: skip
    console.print()
    console.print(table)


def _tell_seeds(console: Console, plan: Plan, stage: str) -> None:
    """What lies between the seeds of training; with one seed it is unknown."""
    if not plan.paths.seeds.exists():
        console.print("between seeds: unknown, one seed was trained (seeds: 3)", style="dim")
        return
    rows = [row for row in json.loads(plan.paths.seeds.read_text()) if row["stage"] == stage]
    table = Table(box=None, pad_edge=False, header_style="dim", title_justify="left")
    table.title = f"over {len(rows[0]['seeds'])} seeds" if rows else ""
    table.add_column("task")
    for column in ("mean difference", "deviation between seeds", "[95 % interval, other seeds and items]"):
        table.add_column(column, justify="right")
    for row in rows:
        _, low, high = row["whole"]
        interval = f"[{low:+.3f}, {high:+.3f}]"
        table.add_row(
            row["title"] or row["task"], f"{row['delta_mean']:+.3f}", f"{row['deviation']:.3f}", interval
        )
    console.print()
    console.print(table)
