"""What the commands of evaluation print: comparisons, one model's values, and the list of tasks.

Rich on a terminal, plain lines when piped. No torch here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from residency.eval.comparison.views import Comparison, Line, Suite

PIPED_WIDTH = (
    140  # rich assumes 80 columns where there is no terminal, and would break lines that a script reads
)
MARKS = {"better": "+", "worse": "-", "equivalent": "=", "undecided": "?", "differs": "~", "reference": " "}
DOMAINS = {"medicine": "medicine", "general": "general knowledge", "safety": "safety", "control": "controls"}
STRICT = 0.05


def plain_console() -> Console:
    """A console that breaks lines at the terminal's width, and nowhere when piped."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, soft_wrap=True, width=PIPED_WIDTH)


def show(records: Sequence[Path], *, resamples: int = 10_000, as_json: bool = False) -> None:
    """Print the verdict of the first records against the second, or the values of one alone.

    Raises:
        ResidencyError: as `compare.compare`.
    """
    from residency.eval.comparison.compare import alone, compare

    if len(records) == 2:
        found = compare(records[0], records[1], resamples=resamples)
        if as_json:
            print(found.model_dump_json(indent=1))
        else:
            print_comparison(plain_console(), found)
        return
    lines = alone(records[0], resamples=resamples)
    if as_json:
        print(json.dumps([line.model_dump() for line in lines], indent=1, ensure_ascii=False))
    else:
        print_values(plain_console(), lines[0].stage, lines)


def print_comparison(console: Console, found: Comparison) -> None:
    """The verdict of one model against another: tasks, then the means of their domains."""
    table = _table(
        "task", "n", "value", "reference", "difference [95 % interval]", "p, Holm", "replies", "verdict"
    )
    table.title = f"{found.candidate} against {found.reference}"
    for line in found.lines:
        table.add_row(
            line.title,
            f"{line.n:,}",
            f"{line.value:.3f}",
            f"{line.reference:.3f}",
            _interval(line.delta, line.ci_low, line.ci_high),
            "" if line.p_holm is None else _p(line.p_holm),
            validity(line),
            f"{MARKS[line.verdict]} {line.verdict}{_more(line)}",
        )
    console.print(table)
    for suite in found.suites:
        console.print(_suite(suite), style="bold")
    for name, tasks in ((found.candidate, found.only_candidate), (found.reference, found.only_reference)):
        if tasks:
            console.print(f"only {name} was asked: {', '.join(tasks)}", style="dim")
    if any(line.too_good for line in found.lines):
        console.print(
            "!! rose far above the other tasks of its domain: look for the test in the training text"
        )


def print_values(console: Console, model: str, lines: Iterable[Line]) -> None:
    """One model's values beside what a model gets that does not read."""
    table = _table("task", "n", "value [95 % interval]", "chance", "constant", "longest", "replies")
    table.title = model
    for line in lines:
        floors = (
            "" if floor is None else f"{floor:.3f}" for floor in (line.chance, line.constant, line.longest)
        )
        value = f"{line.value:.3f} [{line.value_low:.3f}, {line.value_high:.3f}]"
        table.add_row(line.title, f"{line.n:,}", value, *floors, validity(line))
    console.print(table)


def print_tasks(tasks: Sequence[Mapping[str, str | int | None]], *, as_json: bool = False) -> None:
    """The shipped tasks; what is not here says what it needs."""
    if as_json:
        print(json.dumps(tasks, indent=1, ensure_ascii=False))
        return
    table = _table("task", "rows", "kind", "domain", "licence", "here")
    for task in tasks:
        rows = "" if task["rows"] is None else f"{task['rows']:,}"
        here = f"needs {task['needs']}" if task["needs"] else "yes"
        table.add_row(str(task["name"]), rows, *_told(task), here)
    plain_console().print(table)


def validity(line: Line) -> str:
    """How many written replies held an answer; empty where nothing was written."""
    replies = line.validity
    if not replies.replies:
        return ""
    bad = {"invalid": replies.invalid, "refused": replies.refused, "truncated": replies.truncated}
    said = ", ".join(f"{count} {word}" for word, count in bad.items() if count)
    return f"{replies.answered / replies.replies:.0%} valid" + (f" ({said})" if said else "")


def _told(task: Mapping[str, str | int | None]) -> list[str]:
    return [str(task[name] or "") for name in ("kind", "domain", "licence")]


def _more(line: Line) -> str:
    """What keeps one from reading too much into a verdict."""
    notes = []
    if line.verdict == "undecided" and line.items_to_decide and line.items_to_decide > line.n:
        notes.append(f"{line.items_to_decide:,} items would decide")
    if line.verdict in ("better", "worse") and line.p_holm is not None and line.p_holm >= STRICT:
        notes.append("not among so many tasks")
    if line.too_good:
        notes.append("too good !!")
    return f" ({'; '.join(notes)})" if notes else ""


def _suite(suite: Suite) -> str:
    counts = {word: getattr(suite, word) for word in ("better", "equivalent", "worse", "undecided")}
    told = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
    name = DOMAINS.get(suite.domain, suite.domain)
    if suite.delta is None or suite.domain == "control":
        return f"{name}: {told}"
    mark = MARKS[suite.verdict]
    return f"{name}: {_interval(*suite.delta)} mean of {len(suite.tasks)}, {mark} {suite.verdict}; {told}"


def _interval(value: float, low: float, high: float) -> str:
    return f"{value:+.3f} [{low:+.3f}, {high:+.3f}]"


def _p(value: float) -> str:
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", title_justify="left")
    words = ("task", "kind", "domain", "licence", "here", "verdict", "replies")
    for column in columns:
        table.add_column(column, justify="left" if column in words else "right")
    return table
