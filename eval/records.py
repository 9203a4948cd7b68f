"""Records: one row per item and way of asking it, from which every statistic is computed without a model.

A Parquet file per run of `evaluate`; the schema below is the contract with the verdict and the report. An item asked
in several wordings or orders has several rows; `item_scores` makes one number of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from residency.artifact import read_manifest
from residency.errors import ResidencyError

if TYPE_CHECKING:  # readers of records need neither wordings nor settings
    from residency.eval.items import Item
    from residency.eval.settings import TaskSettings

FILE = "records.parquet"
METRICS = {
    "choice": "accuracy",
    "continuation": "accuracy",
    "bits-per-byte": "bits_per_byte",
    "preference": "preference_accuracy",
    "likert": "scale_mean",
    "variance": "eigenscore",
    "rubric": "rubric_score",
}
Record = dict[str, Any]


def metric_of(task: TaskSettings) -> str:
    """What a task's value is called; empty for one of lm-eval that leaves it to its file."""
    return task.metric if task.kind in ("answer", "lm-eval") else METRICS[task.kind]


def make_record(task: TaskSettings, item: Item, **fields: Any) -> Record:
    """The record of an item: what every kind of task notes, and the fields of its own kind."""
    assert fields.keys() <= SCHEMA.keys(), fields.keys() - SCHEMA.keys()
    record: Record = dict.fromkeys(SCHEMA)
    record |= {"task": task.name, "id": item.id, "cluster": item.cluster, "group": item.group}
    record |= {"metric": metric_of(task), "prompt_digest": item.digest}
    record |= {"cut_tokens": item.cut_tokens, "cut_shots": item.cut_shots, "bytes": sum(item.sizes)}
    record["tokens"] = sum(len(piece.ids) - piece.start for piece in item.pieces)
    return record | fields


def lower_is_better(metric: str) -> bool:
    """Whether less of a metric is better: bits per byte, EigenScore, and what the table of metrics says so of."""
    if metric in METRICS.values():
        return metric in ("bits_per_byte", "eigenscore")
    from residency.eval import metrics  # knows how to read replies, which takes a moment to load

    return metric in metrics.METRICS and metrics.METRICS[metric].better == "lower"


def value_of(records: Sequence[Record]) -> float:
    """The task's value: mean correct, bits per byte (all bits over all bytes), or what a metric of free answers makes
    of all items' statistics (F1 of all spans)."""
    tops, bottoms = parts(records)
    return sum(tops) / sum(bottoms)


def main_rows(records: Sequence[Record]) -> list[Record]:
    """The rows that make the task's value: those of its first scorer."""
    return [record for record in records if record["main"]]


def parts(records: Sequence[Record]) -> tuple[list[float], list[float]]:
    """Numerator and denominator of the task's value, one number per item, in the order of the items' first rows. For a
    value that is no ratio of sums (macro-F1, BLEU) they are `influences`, with the denominator 1."""
    rows: dict[str, list[Record]] = {}
    for record in main_rows(records):
        rows.setdefault(record["id"], []).append(record)
    if corpus := _statistics(records[0]["metric"], list(rows.values())):
        return corpus
    if records[0]["metric"] == "bits_per_byte":
        documents = [each[0] for each in rows.values()]
        return [row["nats"] for row in documents], [row["bytes"] * math.log(2) for row in documents]
    return [sum(row["correct"] for row in each) / len(each) for each in rows.values()], [1.0] * len(rows)


def clusters_of(records: Sequence[Record]) -> list[str]:
    """The cluster of each item, in the order of `parts`."""
    return list({record["id"]: record["cluster"] for record in main_rows(records)}.values())


def by_item(records: Sequence[Record], ids: Sequence[str]) -> list[Record]:
    """Records in the order of their items; those of one item stay in theirs. So it is the same, whoever shared them."""
    place = {id: number for number, id in enumerate(ids)}
    return sorted(records, key=lambda record: place[record["id"]])


def _statistics(metric: str, rows: list[list[Record]]) -> tuple[list[float], list[float]] | None:
    """Parts of a metric whose value is no mean over items; an item's statistics are the means of its rows'."""
    if metric in METRICS.values():
        return None
    from residency.eval import metrics
    from residency.eval.metrics.item import Ratio

    known = metrics.METRICS.get(metric)
    if known is None or (isinstance(known.value, Ratio) and known.value.bottom == ("items",)):
        return None
    if any(row["parts"] is None for each in rows for row in each):
        return None
    names = dict.fromkeys(name for each in rows for row in each for name in row["parts"])
    means = {
        name: [sum(row["parts"].get(name, 0.0) for row in each) / len(each) for each in rows]
        for name in names
    }
    if isinstance(known.value, Ratio):
        tops = [known.value.times * number for number in means[known.value.top]]
        return tops, [
            sum(numbers) for numbers in zip(*(means[name] for name in known.value.bottom), strict=True)
        ]
    return influences(known.value, means), [1.0] * len(rows)


def influences(value: Any, statistics: dict[str, list[float]]) -> list[float]:
    """One number per item whose mean is the value of all, and which deviates from it as leaving the item out does (the
    jackknife's): so means and bootstraps over items hold to first order for a value that is no mean.

    Args:
        value: a metric's aggregate of sums.
        statistics: name to one number per item, `items` among them.
    """
    import numpy as np

    columns = {name: np.asarray(numbers, dtype=float) for name, numbers in statistics.items()}
    sums = {name: column.sum() for name, column in columns.items()}
    whole, n = float(value(sums)), len(next(iter(columns.values())))
    if n < 2:
        return [whole]
    without = np.asarray(value({name: sums[name] - column for name, column in columns.items()}), dtype=float)
    found: list[float] = (whole + (n - 1) * (without.mean() - without)).tolist()
    return found


def write_records(directory: Path, records: list[Record]) -> None:
    """Write `records.parquet`."""
    import pyarrow
    import pyarrow.parquet

    types = {
        "text": pyarrow.string(),
        "flag": pyarrow.bool_(),
        "count": pyarrow.int64(),
        "number": pyarrow.float64(),
        "numbers": pyarrow.list_(pyarrow.float64()),
        "named numbers": pyarrow.map_(pyarrow.string(), pyarrow.float64()),
    }
    schema = pyarrow.schema([(name, types[kind]) for name, kind in SCHEMA.items()])
    table = pyarrow.Table.from_pylist(records, schema=schema)
    pyarrow.parquet.write_table(table, directory / FILE, compression="zstd")


def read_records(artifact: Path) -> dict[str, list[Record]]:
    """Task name to its records, in the order in which they were scored.

    Raises:
        ResidencyError: the artifact is not finished or holds no records.
    """
    manifest = read_manifest(artifact)
    if manifest.kind != "records":
        raise ResidencyError(f"{artifact} is a {manifest.kind} artifact, not records")
    tasks: dict[str, list[Record]] = {}
    for record in read_table(artifact):
        tasks.setdefault(record["task"], []).append(record)
    return tasks


def read_table(directory: Path) -> list[Record]:
    """All rows of `records.parquet`."""
    import pyarrow.parquet

    rows: list[Record] = pyarrow.parquet.read_table(directory / FILE).to_pylist(maps_as_pydicts="strict")
    return rows


SCHEMA = {
    "task": "text",
    "id": "text",
    "cluster": "text",
    "group": "text",  # subject within the task
    "metric": "text",
    "main": "flag",  # whether it counts for the task's value
    "scorer": "text",  # option-text, letter or reply
    "template": "text",  # the wording, by name
    "order": "count",  # rotations of the options
    "sample": "count",  # number of the reply, where several were sampled
    "scores": "numbers",  # what is compared, one per option; chosen and rejected for a preference
    "sums": "numbers",  # log-likelihood of each option, in nats
    "prediction": "count",  # index of the highest score, or of the option that the reply names
    "place": "count",  # where the predicted option stood when shown
    "answer": "count",
    "correct": "number",  # 0 or 1, or the score of a reply
    "parts": "named numbers",  # what the metrics of a free answer add up; `calls`: replies written for a choice
    "margin": "number",  # preference: chosen minus rejected, in nats
    "nats": "number",  # bits per byte, continuation: sum of -log p
    "bytes": "count",  # UTF-8 bytes of the options, replies or document
    "tokens": "count",  # scored or written tokens
    "cut_shots": "count",  # solved examples left out to fit, oldest first
    "cut_tokens": "count",  # tokens cut from the left of the prompt
    "reply": "text",  # what the model wrote
    "status": "text",  # of a reply: answered, invalid, refused, truncated
    "rule": "text",  # of the answer's extraction
    "prompt_digest": "text",
}
