"""Renders `docs/benchmarks.md` from `docs/benchmarks.jsonl`: the newest run of each benchmark, hardware and scale.

python tests/bench/table.py
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parents[2] / "docs"
HEAD = """# Benchmarks

Made by `python tests/bench/table.py` from `docs/benchmarks.jsonl`; do not edit. Both sides of a comparison run in the
same job and take turns; a ratio is that of the medians. How each figure is defined stands in `tests/bench/`.
"""
PACKAGES = ("torch", "transformers", "trl", "deepspeed")


def main(record: Path = DOCS / "benchmarks.jsonl", page: Path = DOCS / "benchmarks.md") -> None:
    """Write the page."""
    runs = [json.loads(line) for line in record.read_text(encoding="utf-8").splitlines() if line.strip()]
    page.write_text("\n".join([HEAD, *map(section, newest(runs))]), encoding="utf-8")


def newest(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The last run of each benchmark on each hardware with the same settings, in the order of the file."""
    last = {json.dumps([run["benchmark"], run["hardware"], run["settings"]]): run for run in runs}
    return list(last.values())


def section(run: dict[str, Any]) -> str:
    """One run: what it was measured on, then its figures; the ones with a goal first."""
    settings = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in run["settings"].items())
    packages = ", ".join(f"{name} {run['packages'][name]}" for name in PACKAGES)
    figures = sorted(run["figures"], key=lambda figure: _goal(figure) == "")
    rows = [f"| {figure['name']} | {_number(figure['value'])} | {_goal(figure)} |" for figure in figures]
    commit = (run["git_commit"] or "no commit")[:10]
    return "\n".join(
        [
            f"## {run['benchmark']}: {run['hardware']}",
            "",
            f"{settings}; {run['threads']} threads per rank, load {run['load']:.1f}. Commit {commit}, {packages}.",
            "",
            "| figure | value | goal |",
            "|---|---:|---|",
            *rows,
            "",
        ]
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _goal(figure: dict[str, Any]) -> str:
    least, most = figure["goal"], figure.get("at_most")
    if least is not None:
        return f"at least {least:g}: {'met' if figure['value'] >= least else 'missed'}"
    if most is not None:
        return f"at most {most:g}: {'met' if figure['value'] <= most else 'missed'}"
    return ""


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
