"""The `evaluate` stage: one model, every task, one record per item.

The model is loaded once; what it read and how it answered is left in `records.parquet`, and every later
number is computed from that. The records' key says which weights, tokenizer, precision and scorer made them.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

from residency.artifact import (
    RunPaths,
    StageFile,
    commit,
    identity_of,
    own,
    read_manifest,
    read_stage,
    sha256,
)
from residency.data.passport import of_parent
from residency.eval.items import make_item, read_items
from residency.eval.records import METRICS, Record, make_record, value_of, write_records
from residency.eval.settings import EvaluateSettings, TaskSettings
from residency.events import emit


def run(attempt: Path) -> Path:
    """Score the parent model on every task; returns the records artifact.

    Raises:
        ResidencyError: items that do not fit their task, or prompts that the model cannot read.
    """
    from residency.model import load

    stage, owner, payload = read_stage(attempt), own(attempt), attempt / "payload"
    settings = EvaluateSettings.model_validate(stage.settings)
    # Every task is read before the model is loaded: a mistake in the last one costs nothing.
    items = {task.name: read_items(task, stage.parents[f"items:{task.name}"]) for task in settings.tasks}
    model, tokenizer = load(stage.parents["model"])
    prepare(model)
    longest = min(settings.max_length, getattr(model.config, "max_position_embeddings", settings.max_length))
    records: list[Record] = []
    measured: dict[str, Any] = {}
    for task in settings.tasks:
        started = time.perf_counter()
        scored = score_task(model, tokenizer, task, items[task.name], longest)
        measured[task.name] = _summary(task, scored, time.perf_counter() - started)
        summary = {name: measured[task.name][name] for name in ("value", "n", "seconds")}
        emit(RunPaths(stage.run).events, "task_scored", stage.name, task=task.name, **summary)
        records += scored
    shutil.rmtree(payload, ignore_errors=True)
    payload.mkdir()
    write_records(payload, records)
    seconds = round(sum(task["seconds"] for task in measured.values()), 3)
    facts = {"tasks": measured, "seconds": seconds, **_key(stage, str(model.dtype), longest)}
    return commit(attempt, payload, "records", owner=owner, measured=facts, passport=_passport(stage))


def prepare(model: Any) -> None:
    """Ready a model for scoring: no dropout, float32 logits."""
    from residency.eval.score import float32_head

    model.eval()
    float32_head(model)


def score_task(
    model: Any, tokenizer: Any, task: TaskSettings, rows: list[dict[str, Any]], max_length: int
) -> list[Record]:
    """One record per row, in the order of the rows."""
    from residency.eval.score import log_likelihoods

    items = [make_item(task, row, tokenizer, max_length) for row in rows]
    sums = iter(log_likelihoods(model, [piece for item in items for piece in item.pieces]))
    return [make_record(task, item, [next(sums) for _ in item.pieces]) for item in items]


def _summary(task: TaskSettings, records: list[Record], seconds: float) -> dict[str, Any]:
    return {
        "metric": METRICS[task.kind],
        "value": value_of(records),
        "n": len(records),
        "items_cut": sum(1 for record in records if record["cut_tokens"]),
        "seconds": round(seconds, 3),
    }


def _key(stage: StageFile, precision: str, max_length: int) -> dict[str, Any]:
    """What makes two records comparable or not: weights, tokenizer, precision, scorer, window."""
    from residency.data.tokenizer import tokenizer_digest
    from residency.eval.score import SCORER
    from residency.model import base_of

    base, adapter = base_of(stage.parents["model"])
    weights = [*base.glob("*.safetensors"), *(adapter.glob("*.safetensors") if adapter else [])]
    facts = {
        "weights_sha256": {path.name: sha256(path) for path in sorted(weights)},
        "tokenizer_digest": tokenizer_digest(stage.parents["model"]),
        "precision": precision.removeprefix("torch."),
        "scorer": SCORER,
        "max_length": max_length,
    }
    return {**facts, "key": identity_of(**facts)}


def _passport(stage: StageFile) -> list[dict[str, Any]]:
    """What the model was made of, and whose the items are."""
    items = [path for role, path in stage.parents.items() if role.startswith("items:")]
    asked = [entry for path in items for entry in read_manifest(path).passport]
    return [*of_parent(stage), *(entry for at, entry in enumerate(asked) if entry not in asked[:at])]
