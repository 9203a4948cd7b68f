"""Reasoning in steps with a value for each, as tools for process rewards write it. No torch here."""

from __future__ import annotations

from typing import Any

from residency.data.rows.fields import Row, messages, text, texts, wrong


def of_steps(row: Row) -> Row:
    """`prompt`, `steps` and `values`: how likely the reply is to end well after each step, in [0, 1] (soft labels as
    in arXiv 2501.12051)."""
    return _made(row, "steps", "values")


def of_completions(row: Row) -> Row:
    """TRL's stepwise supervision: `prompt`, `completions` and `labels`, true for a good step."""
    return _made(row, "completions", "labels")


def _made(row: Row, key: str, judged: str) -> Row:
    prompt, steps, values = messages(row, "prompt", role="user"), texts(row, key, row[key]), row[judged]
    if not isinstance(values, list) or len(values) != len(steps) or not all(map(_is_value, values)):
        raise wrong(row, judged, values, f"{len(steps)} numbers between 0 and 1, one for each of {key}")
    cluster = {"cluster": text(row, "cluster")} if row.get("cluster") is not None else {}
    return {"prompt": prompt, "steps": with_line_ends(steps), "values": [float(v) for v in values], **cluster}


def with_line_ends(steps: list[str]) -> list[str]:
    """Steps that make up a reply when they are put together: each on a line of its own unless it brings other space."""
    pairs = zip(steps, [*steps[1:], " "], strict=True)
    return [step if step[-1:].isspace() or after[:1].isspace() else f"{step}\n" for step, after in pairs]


def _is_value(value: Any) -> bool:
    return isinstance(value, bool | int | float) and 0 <= value <= 1
