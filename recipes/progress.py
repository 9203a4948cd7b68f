"""The display of a run: live on a terminal, plain lines when piped. It only reads `events.jsonl`."""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.live import Live
from rich.text import Text

from residency.artifact import read_manifest
from residency.recipes.plan import Plan, PlannedStage
from residency.recipes.words import plain_console

LINES_PER_STAGE = 5


class Progress:
    """Shows one stage after another; `update` is called while ranks are training."""

    def __init__(self, events: Path, plan: Plan) -> None:
        self.console = plain_console()
        self.events, self.plan = events, plan
        self.width = max(len(name) for name in plan.stages)
        self.position = events.stat().st_size if events.exists() else 0
        self.live: Live | None = None
        self.current: PlannedStage | None = None
        self.next_line = 0.0
        self.count_skipped = 0

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()
        self._tell_skipped()

    def skipped(self, stage: PlannedStage) -> None:
        self.count_skipped += 1

    def started(self, stage: PlannedStage) -> None:
        self._tell_skipped()
        self.current, self.next_line = stage, 0.0
        if self.console.is_terminal:
            self.live = Live(Text(f"  {stage.name}  starting"), console=self.console, transient=True)
            self.live.start()

    def update(self) -> None:
        """Show the newest `step` event, if there is one."""
        step = self._newest_step()
        if not step or not self.current:
            return
        share = step["step"] / step["steps"]
        shown = "reward" if "reward" in step else "loss"  # the loss of reinforcement says nothing
        learnt = (
            f"{shown} {_number(step[shown])}  {step['tokens_per_second'] or 0:>7,} tokens/s  "
            if "loss" in step
            else ""
        )
        line = (
            f"{self.current.name:{self.width}}  step {step['step']:>5}/{step['steps']}  {learnt}"
            f"{_clock(step['seconds_left'])} left"
        )
        if self.live:
            bar = "━" * round(20 * share)
            self.live.update(Text.assemble("  ", (f"{bar:20}", "green"), f"  {line}"))
        elif share >= self.next_line:
            self.console.print(f"  {line}")
            self.next_line = share + 1 / LINES_PER_STAGE

    def finished(self, stage: PlannedStage, seconds: float) -> None:
        self._close()
        self.console.print(
            Text.assemble(
                ("✓ ", "green"),
                f"{stage.name:{self.width}}  {_clock(seconds):>6}  ",
                (_summary(stage), "dim"),
            )
        )

    def noted(self, stage: PlannedStage, fault: str) -> None:
        """A stage failed that nothing else needs."""
        self._close()
        self.console.print(Text.assemble(("! ", "yellow"), f"{stage.name:{self.width}}  {fault}"))

    def _newest_step(self) -> dict[str, Any] | None:
        """The last `step` of the current stage among the events since the last look."""
        newest = None
        if not self.events.exists() or self.current is None:
            return None
        with self.events.open(encoding="utf-8") as file:
            file.seek(self.position)
            for line in iter(file.readline, ""):
                if not line.endswith("\n"):
                    break
                self.position = file.tell()
                event = json.loads(line)
                if event["event"] == "step" and event["stage"] == self.current.name:
                    newest = event
        return newest

    def _close(self) -> None:
        if self.live:
            self.live.stop()
            self.live = None

    def _tell_skipped(self) -> None:
        if self.count_skipped:
            self.console.print(Text(f"· {self.count_skipped} stages finished before, skipped", "dim"))
        self.count_skipped = 0


def _summary(stage: PlannedStage) -> str:
    """One line on what a finished stage measured."""
    measured = read_manifest(stage.artifact).measured
    match stage.kind:
        case "corpus":
            held_out = measured.get("held_out_documents")
            return f"{measured.get('documents', 0):,} documents" + (
                f", {held_out:,} held out" if held_out else ""
            )
        case "tokens":
            cut = {name: part["truncated"] for name, part in measured.get("mixture", {}).items()}
            told = ", ".join(
                f"{number:,} dialogues of {name} cut to a row" for name, number in cut.items() if number
            )
            return f"{measured.get('tokens', 0):,} tokens in {measured.get('rows', 0):,} rows" + (
                f", {told}" if told else ""
            )
        case "pairs":
            return f"{measured.get('pairs', 0):,} pairs"
        case "sample":
            told = f"{measured['replies']:,} replies to {measured['prompts']:,} prompts"
            if measured["mean_score"] is None:
                return told
            return f"{told}, mean score {measured['mean_score']:.3f}, best {measured['best_score']:.3f}"
        case "tree":
            return (
                f"{measured['nodes']:,} steps for {measured['prompts']:,} prompts, "
                f"{measured['solved']:,} solved"
            )
        case "vocab":
            before, after = measured["before"], measured["after"]
            return f"{measured['tokens_added']:,} new tokens" + "".join(
                f", {name.replace('_', ' ')} {before[name]:.2f} to {after[name]:.2f}"
                for name in ("tokens_per_term", "tokens_per_word", "bits_per_byte")
                if name in before
            )
        case "evaluate":
            scores = {name: task["value"] for name, task in measured.get("tasks", {}).items()}
            return "  ".join(f"{name} {value:.3f}" for name, value in scores.items())
        case "curve":
            first, last = measured["points"][0]["tasks"], measured["points"][-1]["tasks"]
            ends = [f"{name} {first[name]['value']:.3f} to {last[name]['value']:.3f}" for name in first]
            return f"{len(measured['points'])} points  " + "  ".join(ends)
    if "loss" in measured:
        engine = measured["engine"]
        return (
            f"{_learnt(stage.kind, measured)}, {measured['tokens_per_second'] or 0:,.0f} tokens/s, "
            f"ZeRO-{engine['zero']} on {engine['world_size']}"
            + "".join(f", left out step {entry['step']}" for entry in measured.get("left_out", []))
            + "".join(f", sign {sign['sign']}" for sign in measured.get("signs", []))
        )
    return ""


def _learnt(kind: str, measured: dict[str, Any]) -> str:
    """The number by which a training stage is judged."""
    if kind == "rl":
        first, last = (_number(measured.get(name)).strip() for name in ("reward_first", "reward_last"))
        divergence = measured.get("kl_last")  # none without a tie to the parent
        return f"reward {first} to {last}" + ("" if divergence is None else f", KL {divergence:.3f}")
    loss = f"loss {_number(measured['loss'])}"
    accuracy = measured.get("held_out_accuracy")
    return loss if accuracy is None else f"{loss}, held-out accuracy {accuracy:.3f}"


def _number(value: float | None) -> str:
    return "   nan" if value is None else f"{value:6.3f}"


def _clock(seconds: float | None) -> str:
    if seconds is None:
        return "?"
    return f"{seconds:.1f} s" if seconds < 60 else f"{int(seconds // 60)}:{int(seconds % 60):02d}"
