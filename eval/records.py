"""Records: one row per evaluated item, from which every statistic is computed without a model.

A Parquet file per run of `evaluate`; the schema below is the contract with the verdict and the report.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from residency.artifact import read_manifest
from residency.errors import ResidencyError
from residency.eval.items import Item
from residency.eval.settings import TaskSettings

FILE = "records.parquet"
METRICS = {"choice": "accuracy", "bits-per-byte": "bits_per_byte", "preference": "preference_accuracy"}
Record = dict[str, Any]


def make_record(task: TaskSettings, item: Item, sums: list[float]) -> Record:
    """The record of one item, from the log-likelihood (nats) of each of its pieces.

    `option-text` compares means per UTF-8 byte (lm-evaluation-harness calls it acc_bytes); letters and
    replies compare sums. Equal scores fall to the first option, but a preference must be strictly above.
    """
    record: Record = dict.fromkeys(SCHEMA)
    record |= {"task": task.name, "id": item.id, "cluster": item.cluster, "metric": METRICS[task.kind]}
    record |= {"prompt_digest": item.digest, "cut_tokens": item.cut_tokens, "bytes": sum(item.sizes)}
    record["tokens"] = sum(len(piece.ids) - piece.start for piece in item.pieces)
    if item.answer is None:
        return record | {"nats": -sum(sums)}
    per_byte = task.kind == "choice" and task.scorer == "option-text"
    scores = [total / size for total, size in zip(sums, item.sizes, strict=True)] if per_byte else sums
    prediction = scores.index(max(scores))
    right = prediction == item.answer
    if task.kind == "preference":
        record["margin"] = scores[0] - scores[1]
        right = scores[0] > scores[1]
    record |= {"scores": scores, "sums": sums, "prediction": prediction, "answer": item.answer}
    return record | {"correct": float(right)}


def value_of(records: list[Record]) -> float:
    """The task's value: mean correct, or bits per byte (all bits over all bytes)."""
    if records[0]["metric"] == "bits_per_byte":
        return sum(_column(records, "nats")) / (sum(_column(records, "bytes")) * math.log(2))
    return sum(_column(records, "correct")) / len(records)


def write_records(directory: Path, records: list[Record]) -> None:
    """Write `records.parquet`."""
    import pyarrow
    import pyarrow.parquet

    types = {
        "text": pyarrow.string(),
        "count": pyarrow.int64(),
        "number": pyarrow.float64(),
        "numbers": pyarrow.list_(pyarrow.float64()),
    }
    schema = pyarrow.schema([(name, types[kind]) for name, kind in SCHEMA.items()])
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(records, schema=schema), directory / FILE)


def read_records(artifact: Path) -> dict[str, list[Record]]:
    """Task name to its records, in the order in which they were scored.

    Raises:
        ResidencyError: the artifact is not finished or holds no records.
    """
    import pyarrow.parquet

    manifest = read_manifest(artifact)
    if manifest.kind != "records":
        raise ResidencyError(f"{artifact} is a {manifest.kind} artifact, not records")
    tasks: dict[str, list[Record]] = {}
    for record in pyarrow.parquet.read_table(artifact / FILE).to_pylist():
        tasks.setdefault(record["task"], []).append(record)
    return tasks


SCHEMA = {
    "task": "text",
    "id": "text",
    "cluster": "text",
    "metric": "text",  # accuracy, bits_per_byte or preference_accuracy
    "scores": "numbers",  # what is compared, one per option; chosen and rejected for a preference
    "sums": "numbers",  # log-likelihood of each option, in nats
    "prediction": "count",  # index of the highest score
    "answer": "count",
    "correct": "number",  # 0 or 1
    "margin": "number",  # preference: chosen minus rejected, in nats
    "nats": "number",  # bits per byte: sum of -log p over the document
    "bytes": "count",  # UTF-8 bytes of the options, replies or document
    "tokens": "count",  # scored tokens
    "cut_tokens": "count",  # tokens cut from the left of the prompt
    "prompt_digest": "text",
}


def _column(records: list[Record], name: str) -> list[float]:
    return [record[name] for record in records]
