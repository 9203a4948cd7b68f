"""The rows of a task: which of a corpus are its items, and what is refused before a model is loaded. No torch here."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from residency.data.corpus import rows
from residency.errors import ResidencyError
from residency.eval.settings import LmEvalTask, PreferenceTask, Task, TaskSettings

FIELDS = {
    "choice": "options",
    "continuation": "answers",
    "answer": "answers",
    "rubric": "facts",
    "likert": "prompt",
    "variance": "prompt",
    "bits-per-byte": "text",
    "preference": "chosen",
}


def read_items(task: TaskSettings, corpus: Path, *, solved: bool = False) -> list[dict[str, Any]]:
    """The rows of a task: the corpus's held-out part if it has one, those of the aspect, up to the limit. Of a task of
    lm-eval, which reads its documents itself, their numbers.

    Args:
        solved: the rows are solved examples, so a single one is enough.

    Raises:
        ResidencyError: rows of another kind, an id that occurs twice, an empty option, or too few
            rows for an interval.
    """
    part: Literal["held_out", "train"] = "held_out" if (corpus / "held_out.jsonl").exists() else "train"
    if isinstance(task, LmEvalTask):
        from residency.eval.lm_eval_bridge import documents

        found = documents(task)[: task.limit]
    else:
        found = list(islice((row for row in rows(corpus, part) if _belongs(task, row, corpus)), task.limit))
    found = found if task.share is None else _drawn(task, found)
    for id, times in Counter(row["id"] for row in found).most_common(1):
        if times > 1:
            raise ResidencyError(
                f"task {task.name}: item {id!r} occurs {times} times in {corpus}", cure="Make ids unique"
            )
    for row in found:
        _refuse_options(task, row)
    if not solved:
        _refuse_task(task, found)
    clusters = len({cluster_of(row) for row in found})
    if clusters < 2 and not (solved and found):
        aspect = task.aspect if isinstance(task, PreferenceTask) else None
        asked = f" of aspect {aspect!r}" if aspect else ""
        raise ResidencyError(
            f"task {task.name}: {clusters} independent items{asked} in {corpus}; an interval needs 2 or more",
            cure="Raise limit, hold more out, or take another source",
        )
    return found


def cluster_of(row: dict[str, Any]) -> str:
    """Items of one cluster are not independent; an item without a cluster is its own."""
    return str(row.get("cluster") or row["id"])


def _belongs(task: TaskSettings, row: dict[str, Any], corpus: Path) -> bool:
    field = FIELDS[task.kind]
    if field not in row:
        raise ResidencyError(
            f"task {task.name}: {task.kind} needs {field!r} in its rows; {row['id']!r} has {', '.join(row)}",
            cure=f"Change the task's kind or its items ({corpus})",
        )
    return not isinstance(task, PreferenceTask) or task.aspect is None or row.get("aspect") == task.aspect


def _refuse_options(task: Task, row: dict[str, Any]) -> None:
    """Options that read the same stay, even where all do (MedMCQA has such an item): any of them is the answer."""
    if any(not str(option).strip() for option in row.get("options", ())):
        raise ResidencyError(
            f"task {task.name}: item {row['id']!r} has an empty option",
            cure="Mend the item, or leave it out of the file",
        )


def _refuse_task(task: TaskSettings, found: list[dict[str, Any]]) -> None:
    """What a metric or a judge would stumble on after hours of writing."""
    if task.kind == "answer":
        from residency.eval.metrics import check_items

        for metric in (task.metric, *task.also):
            check_items(metric, found)
    elif task.kind == "rubric":
        from residency.eval.metrics.rubric import read_criteria

        if task.judge is None:
            raise ResidencyError(
                f"task {task.name}: no judge; its replies are judged by a local model",
                cure=f"Name one: {{use: {task.name}, judge: DIRECTORY or owner/name}}",
            )
        for row in found:
            read_criteria(row)


def _drawn(task: Task, found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The task's share of every group, at least one item of each; the same items whatever the model."""
    assert task.share is not None
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in found:
        groups[str(row.get("group") or "")].append(row)
    kept: set[str] = set()
    for members in groups.values():
        members.sort(key=lambda row: hashlib.sha256(str(row["id"]).encode()).digest())
        kept |= {row["id"] for row in members[: max(1, round(task.share * len(members)))]}
    return [row for row in found if row["id"] in kept]
