"""Records as columns: several models on the same items, read from Parquet straight into arrays.

`read` aligns any number of records artifacts by task and item, whatever the order of their rows, and refuses artifacts
that hold other items. Nothing here makes a Python object of a row: 45,000 items of two models take a fifth of a second.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow
import pyarrow.compute
import pyarrow.parquet
from numpy.typing import NDArray

from residency.artifact import Manifest, read_manifest
from residency.errors import ResidencyError
from residency.eval.records import FILE, lower_is_better
from residency.eval.records import METRICS as OWN_METRICS

if TYPE_CHECKING:
    from residency.eval.metrics import Metric

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
NEEDED = (
    "task",
    "id",
    "cluster",
    "group",
    "metric",
    "main",
    "correct",
    "nats",
    "bytes",
    "status",
    "cut_tokens",
)
NAMES = ("task", "metric", "status")
FIXED_MARGIN = 0.01


@dataclass(frozen=True)
class TaskFacts:
    """What the settings of an evaluation say of a task, as its manifest holds them."""

    name: str
    kind: str = ""
    title: str = ""
    domain: str = "medicine"
    margin: float = FIXED_MARGIN
    floors: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Artifact:
    """A records artifact: its directory, manifest, and what is known of its tasks."""

    path: Path
    manifest: Manifest

    @classmethod
    def open(cls, path: Path) -> Artifact:
        """Raises ResidencyError where it is not finished or holds no records."""
        manifest = read_manifest(path)
        if manifest.kind != "records":
            raise ResidencyError(f"{path} is a {manifest.kind} artifact, not records")
        return cls(path, manifest)

    @cached_property
    def tasks(self) -> dict[str, TaskFacts]:
        measured = self.manifest.measured.get("tasks", {})
        found = {}
        for task in self.manifest.settings.get("tasks", []):
            known = {name: task[name] for name in ("kind", "title", "domain", "margin") if task.get(name)}
            floors = measured.get(task["name"], {}).get("floors", {})
            found[task["name"]] = TaskFacts(task["name"], **known, floors=floors)
        return found

    def facts(self, task: str) -> TaskFacts:
        return self.tasks.get(task) or TaskFacts(task)

    def identity(self, task: str) -> str:
        """Of the task's items."""
        return self.manifest.parents.get(f"items:{task}", task)


@dataclass(frozen=True)
class TaskTable:
    """One task: every model's scores on the same n items."""

    facts: TaskFacts
    metric: str
    scores: Floats
    """[models, n]; an item asked in several ways counts with its mean."""
    sizes: Floats | None
    """[n] where the value is a ratio (bits per byte); None for a mean."""
    clusters: Ints
    """[n]; the same number in two tasks is the same cluster."""
    groups: list[str]
    """[n], the item's subject."""
    ids: list[str]
    statuses: list[dict[str, int]]
    """For each model, its replies by status."""
    cut: list[int]
    """For each model, items whose prompt lost text."""
    sums: list[Mapping[str, Floats]] | None = None
    """For each model, statistics [n] by name, where the value is no mean of scores (macro-F1)."""

    @property
    def name(self) -> str:
        return self.facts.name

    @property
    def lower_is_better(self) -> bool:
        return lower_is_better(self.metric)

    @property
    def has_direction(self) -> bool:
        """Whether more or less is better at all."""
        known = metric_of_replies(self.metric)
        return self.metric != OWN_METRICS["likert"] and not (known and known.better == "neither")

    @property
    def is_share(self) -> bool:
        """Whether its value can be averaged with other tasks': a mean between 0 and 1 of which more is better."""
        plain = self.sizes is None and self.sums is None and self.facts.kind != "rubric"
        return plain and self.has_direction and not self.lower_is_better

    @property
    def is_binary(self) -> bool:
        return bool(np.isin(self.scores, (0.0, 1.0)).all())

    def value(self, model: int) -> float:
        if self.sums is not None:
            known = metric_of_replies(self.metric)
            assert known
            return float(known.value({name: column.sum() for name, column in self.sums[model].items()}))
        bottom = self.sizes.sum() if self.sizes is not None else self.scores.shape[1]
        return float(self.scores[model].sum() / bottom)


def read(artifacts: Sequence[Artifact], tasks: Sequence[str] | None = None) -> dict[str, TaskTable]:
    """Task to its table, models in the order of `artifacts`; tasks in the order of the first.

    Args:
        tasks: only these; by default those that all artifacts hold.

    Raises:
        ResidencyError: the artifacts hold different items of a task.
    """
    tables = [_load(artifact.path) for artifact in artifacts]
    owner = np.repeat(np.arange(len(tables)), [len(table) for table in tables])
    whole = pyarrow.concat_tables(tables)
    columns = {name: _encoded(whole, name) for name in ("task", "id", "cluster", "group", "metric", "status")}
    task_codes, names = columns["task"]
    held = [set(np.unique(task_codes[owner == model])) for model in range(len(tables))]
    common = set.intersection(*held)
    order = [code for code in dict.fromkeys(task_codes[owner == 0].tolist()) if code in common]
    wanted = [code for code in order if tasks is None or names[code] in tasks]
    clusters = _clusters(columns, owner, artifacts)
    starts = np.argsort(task_codes, kind="stable")
    ends = np.searchsorted(task_codes[starts], [*range(len(names))], side="right")
    numbers = {
        name: _numbers(whole, name) for name in ("correct", "nats", "bytes", "cut_tokens")
    }  # NaN where there is none
    made = {}
    for code in wanted:
        _refuse_other_sources(names[code], artifacts)
        rows = starts[ends[code - 1] if code else 0 : ends[code]]
        local = {name: column[rows] for name, column in numbers.items()}
        metric = columns["metric"][1][columns["metric"][0][rows[0]]]
        facts = artifacts[0].facts(names[code])
        part = _Rows(names[code], owner[rows], len(tables), columns["id"][0][rows])
        first = rows[part.first]
        made[names[code]] = TaskTable(
            facts=facts,
            metric=metric,
            scores=part.means(local["nats"] if metric == "bits_per_byte" else local["correct"]),
            sizes=part.alike(local["bytes"]) * math.log(2) if metric == "bits_per_byte" else None,
            clusters=clusters[first],
            groups=[columns["group"][1][at] if at >= 0 else "" for at in columns["group"][0][first]],
            ids=[columns["id"][1][at] for at in columns["id"][0][first]],
            statuses=part.counts(columns["status"][0][rows], columns["status"][1]),
            cut=part.items_where(local["cut_tokens"] > 0),
            sums=_sums(whole, rows, part, metric),
        )
    return made


def metric_of_replies(name: str) -> Metric | None:
    """The metric of a task of free answers; None for those of other kinds, whose value is a mean or a ratio."""
    if name in OWN_METRICS.values():
        return None
    from residency.eval.metrics import METRICS  # knows how to read replies, which takes a moment to load

    return METRICS.get(name)


class _Rows:
    """The rows of one task over all models, and which item of the task each belongs to."""

    def __init__(self, task: str, owner: Ints, models: int, ids: Ints) -> None:
        self.task, self.owner, self.models = task, owner, models
        known, first, self.item = np.unique(ids, return_index=True, return_inverse=True)
        self.n, self.first = len(known), first
        self.times = np.stack([self._add(model) for model in range(models)])
        items = [(row > 0).sum() for row in self.times]
        if (self.times == 0).any():
            raise ResidencyError(
                f"task {task}: different items were evaluated: {' and '.join(map(str, items))}, of which "
                f"{(self.times > 0).all(axis=0).sum()} are the same",
                cure="Evaluate both on the same items (limit, share, source) again",
            )

    def _add(self, model: int, weights: Floats | None = None) -> Floats:
        mine = self.owner == model
        own = None if weights is None else weights[mine]
        return np.bincount(self.item[mine], own, minlength=self.n).astype(float)

    def means(self, values: Floats) -> Floats:
        """Mean over an item's rows, [models, n]."""
        assert np.isfinite(values).all(), "a score is missing"
        return np.stack([self._add(model, values) for model in range(self.models)]) / self.times

    def alike(self, values: Floats) -> Floats:
        """Means [n] that all models must share."""
        every = self.means(values)
        if (every != every[0]).any():
            raise ResidencyError(
                f"task {self.task}: documents of one id differ in length between the models",
                cure="Evaluate both on the same items again",
            )
        shared: Floats = every[0]
        return shared

    def counts(self, codes: Ints, names: Sequence[str]) -> list[dict[str, int]]:
        found = []
        for model in range(self.models):
            mine = codes[(self.owner == model) & (codes >= 0)]
            times = np.bincount(mine, minlength=len(names))
            found.append({name: int(count) for name, count in zip(names, times, strict=True) if count})
        return found

    def items_where(self, marked: NDArray[np.bool_]) -> list[int]:
        every = [self._add(model, marked.astype(float)) for model in range(self.models)]
        return [int((row > 0).sum()) for row in every]


def _refuse_other_sources(task: str, artifacts: Sequence[Artifact]) -> None:
    if len({artifact.identity(task) for artifact in artifacts}) > 1:
        raise ResidencyError(
            f"task {task}: the items are of two sources, or their file changed between the evaluations",
            cure="Evaluate the older one again: "
            + ", ".join(f"{artifact.path.name} ({artifact.manifest.created})" for artifact in artifacts),
        )


def _load(path: Path) -> Any:
    """The rows that make the tasks' values. `parts` is large and read only where a metric needs it."""
    file = path / FILE
    # A single file by itself: `read_table` would load all of pyarrow's data sets, 0.4 s.
    with pyarrow.parquet.ParquetFile(file, read_dictionary=[*NAMES]) as opened:
        table = opened.read(columns=[*NEEDED, "parts"])
    return table.filter(table["main"])


def _encoded(table: Any, name: str) -> tuple[Ints, list[str]]:
    """A text column as numbers and their names; -1 where it is null. Numbers follow the first appearance."""
    column = table[name].unify_dictionaries() if name in NAMES else table[name].dictionary_encode()
    column = column.combine_chunks()
    if isinstance(column, pyarrow.ChunkedArray):
        column = column.chunk(0)
    codes = column.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    return codes, column.dictionary.to_pylist()


def _numbers(table: Any, name: str) -> Floats:
    column = table[name].combine_chunks().cast(pyarrow.float64())
    found: Floats = column.to_numpy(zero_copy_only=False)
    return found


def _clusters(
    columns: Mapping[str, tuple[Ints, list[str]]], owner: Ints, artifacts: Sequence[Artifact]
) -> Ints:
    """Cluster numbers of all rows. A cluster that is only ever an item's own id is its corpus' own: two files may both
    number their rows from 0; names that were given hold across tasks."""
    (tasks, names), (ids, id_names) = columns["task"], columns["id"]
    codes, cluster_names = columns["cluster"]
    places = {name: place for place, name in enumerate(id_names)}
    same = np.array([places.get(name, -1) for name in cluster_names], dtype=np.int64)
    given = np.zeros(len(cluster_names), dtype=bool)
    given[codes[same[codes] != ids]] = True
    identities = [artifacts[0].identity(name) for name in names]
    corpora = np.array([identities.index(identity) for identity in identities])[tasks]
    return np.where(given[codes], codes, len(cluster_names) * (1 + corpora) + codes)


def _sums(whole: Any, rows: Ints, part: _Rows, metric: str) -> list[Mapping[str, Floats]] | None:
    """Statistics of a metric whose value is no mean over items."""
    known = metric_of_replies(metric)
    if known is None or getattr(known.value, "bottom", None) == ("items",):
        return None
    if "parts" not in whole.column_names:
        return None
    column = whole["parts"].take(pyarrow.array(rows))
    if column.null_count:
        return None
    entries = column.to_pylist(maps_as_pydicts="strict")
    # Statistics of metrics that are shown beside the task's own are kept as `metric/statistic`.
    names = [*dict.fromkeys(name for entry in entries for name in entry if "/" not in name)]
    table = {name: np.array([entry.get(name, 0.0) for entry in entries]) for name in names}
    if "items" not in table:
        table["items"] = np.ones(len(entries))
    means = {name: part.means(values) for name, values in table.items()}
    return [{name: values[model] for name, values in means.items()} for model in range(part.models)]
