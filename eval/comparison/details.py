"""What the records say beside the verdict: wordings and orders, calibration, subjects, scorers, flipped answers.

Read row by row as far as needed, so this is for the views of a finished chain (`verdict`) and not for
the quick comparison of two models.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow.compute
import pyarrow.parquet

from residency.eval.comparison.agreement import agreement
from residency.eval.comparison.columns import Artifact, Floats, Ints, TaskTable
from residency.eval.comparison.views import Bin, Calibration, Components, Flip, Group, Scored, Validity
from residency.eval.prompt import shown_order
from residency.eval.records import FILE
from residency.eval.statistics import calibration, compare_pair, components

COLUMNS = (
    "task", "id", "main", "scorer", "template", "order", "scores", "prediction", "place", "answer", "correct", "reply",
    "sample", "status",
)  # fmt: skip
MOST_GROUPS = 60
MOST_FLIPS = 20
MOST_GAINED = 5
MOST_CHARACTERS = 1000
COVERAGE = 0.8
RESAMPLES = 2000  # of the many small intervals here; their ends move by 3 % of their width


class Rows:
    """One model's rows of one task, items numbered as in the task's table."""

    def __init__(self, table: TaskTable, columns: Mapping[str, list[Any]]) -> None:
        places = {id: place for place, id in enumerate(table.ids)}
        self.columns, self.n = columns, len(places)
        self.item: Ints = np.array([places[id] for id in columns["id"]], dtype=np.int64)
        self.main = np.array([value is not False for value in columns["main"]])

    @cached_property
    def ways(self) -> tuple[list[str], list[int]]:
        """Wordings and orders of the rows that make the value."""
        rows = np.flatnonzero(self.main).tolist()
        templates = dict.fromkeys(self.columns["template"][row] or "" for row in rows)
        orders = sorted({self.columns["order"][row] or 0 for row in rows})
        return list(templates), orders

    @cached_property
    def cells(self) -> Floats | None:
        """Scores [n, wordings, orders]; None where a cell is empty."""
        templates, orders = self.ways
        totals, times = np.zeros((2, self.n, len(templates), len(orders)))
        for row in np.flatnonzero(self.main).tolist():
            cell = self._cell(row)
            totals[cell] += self.columns["correct"][row]
            times[cell] += 1
        return totals / times if times.all() else None

    def first(self, name: str, scorer: str | None = None) -> list[Any]:
        """A column's value in the first way of asking an item, [n]; of the main scorer unless another is named."""
        found: list[Any] = [None] * self.n
        for row in range(len(self.item) - 1, -1, -1):
            if self.main[row] if scorer is None else self.columns["scorer"][row] == scorer:
                found[self.item[row]] = self.columns[name][row]
        return found

    def predictions(self) -> Ints | None:
        """[n, ways]; None where an answer is missing or there is one way only."""
        templates, orders = self.ways
        found = np.full((self.n, len(templates), len(orders)), -2)
        for row in np.flatnonzero(self.main).tolist():
            prediction = self.columns["prediction"][row]
            if self.columns["answer"][row] is None:
                return None
            found[self._cell(row)] = -1 if prediction is None else prediction
        table = found.reshape(self.n, -1)
        return table if table.shape[1] > 1 and (table > -2).all() else None

    def _cell(self, row: int) -> tuple[int, int, int]:
        template, order = self.columns["template"][row] or "", self.columns["order"][row] or 0
        return int(self.item[row]), self.ways[0].index(template), self.ways[1].index(order)


def rows_of(artifact: Artifact, tables: Mapping[str, TaskTable]) -> dict[str, Rows]:
    """Task to its rows in an artifact."""
    whole = pyarrow.parquet.read_table(artifact.path / FILE, columns=list(COLUMNS))
    found = {}
    for name, table in tables.items():
        mine = whole.filter(pyarrow.compute.equal(whole["task"], name))
        found[name] = Rows(table, mine.to_pydict())
    return found


def wordings(table: TaskTable, stage: str, new: Rows, old: Rows | None, seed: int) -> Components | None:
    """How the value depends on wording and order; None for a task that is asked in one way.

    Args:
        old: the reference's rows; None for the reference itself.
    """
    templates, orders = new.ways
    if len(templates) * len(orders) < 2 or new.cells is None or table.sizes is not None:
        return None
    predictions = new.predictions()
    found = Components(
        task=table.name,
        stage=stage,
        templates=templates,
        orders=orders,
        cells=new.cells.mean(axis=0).tolist(),
        prompt_spread=components.prompt_spread(new.cells),
        flip_rate=None if predictions is None else components.flip_rate(predictions),
    )
    if len(orders) > 1 and predictions is not None:
        found.order_consistent = components.order_consistent_accuracy(new.cells.mean(axis=1))
        found.positional_bias = _positional_bias(new)
    if old is not None and old.ways == new.ways and old.cells is not None and len(new.cells) > 1:
        parts = components.variance_components(new.cells - old.cells)
        found.item, found.prompt, found.order = parts.item, parts.prompt, parts.order
        found.residual, found.standard_error = parts.residual, parts.standard_error
        found.probability_better = components.probability_better(
            new.cells.mean(axis=2), old.cells.mean(axis=2), table.clusters, RESAMPLES, seed
        )
    return found


def calibrated(table: TaskTable, stage: str, rows: Rows) -> Calibration | None:
    """Calibration of option scores; None for a task without options."""
    scores, answers = rows.first("scores"), rows.first("answer")
    if table.metric != "accuracy" or any(not row for row in scores) or any(row is None for row in answers):
        return None
    shares = calibration.probabilities(scores)
    sure, right = calibration.confidence_of(shares, answers)
    return Calibration(
        task=table.name,
        stage=stage,
        ece=calibration.expected_calibration_error(sure, right, debiased=True),
        brier=calibration.brier_score(shares, answers),
        nll=calibration.negative_log_likelihood(shares, answers),
        aurc=calibration.area_under_risk_coverage(sure, right),
        accuracy_at_80=calibration.accuracy_at_coverage(sure, right, COVERAGE),
        bins=[Bin(**part._asdict()) for part in calibration.reliability_curve(sure, right)],
    )


def subjects(table: TaskTable, stage: str, model: int, other: int, seed: int) -> list[Group]:
    """The largest subjects of a task; none where it has fewer than two, or its value is no mean or ratio."""
    counts = Counter(group for group in table.groups if group)
    if len(counts) < 2 or table.sums is not None:
        return []
    names, found = np.array(table.groups), []
    for group, items in counts.most_common(MOST_GROUPS):
        mine = names == group
        new, old, clusters = table.scores[model][mine], table.scores[other][mine], table.clusters[mine]
        sizes = None if table.sizes is None else table.sizes[mine]
        bottom = items if sizes is None else sizes.sum()
        several = len(np.unique(clusters)) > 1
        found.append(
            Group(
                task=table.name,
                stage=stage,
                group=group,
                items=items,
                value=float(new.sum() / bottom),
                reference=float(old.sum() / bottom),
                delta=compare_pair(new, old, clusters, RESAMPLES, seed, sizes=sizes).difference
                if several and model != other
                else None,
            )
        )
    return found


def scorers(table: TaskTable, stage: str, rows: Rows) -> list[Scored]:
    """Every scorer of a task with its value and how often it disagrees; nothing where there is one."""
    names = [name for name in dict.fromkeys(rows.columns["scorer"]) if name]
    if len(names) < 2:
        return []
    given = [dict(zip(rows.columns, row, strict=True)) for row in zip(*rows.columns.values(), strict=True)]
    told = agreement(given)
    main = next(row["scorer"] for row, counts in zip(given, rows.main, strict=True) if counts)
    return [
        Scored(
            task=table.name,
            stage=stage,
            scorer=name,
            main=name == main,
            value=told["scorers"][name]["accuracy"],
            disagreement=0.0 if name == main else told["pairs"][frozenset((main, name))],
            validity=Validity(**told["scorers"][name]["validity"]),
        )
        for name in names
    ]


def flips(
    table: TaskTable,
    stage: str,
    model: int,
    other: int,
    new: Rows,
    old: Rows,
    texts: Mapping[str, Mapping[str, Any]],
) -> list[Flip]:
    """Items with another answer than the reference's: the lost ones first, then a few that were gained.

    Args:
        texts: item id to its row, where the text may be shown.
    """
    if table.metric == "bits_per_byte":
        return []
    gap = (table.scores[model] - table.scores[other]) * (-1 if table.lower_is_better else 1)
    order = np.argsort(gap, kind="stable")
    gained = [int(item) for item in order[::-1] if gap[item] > 0][:MOST_GAINED]
    lost = [int(item) for item in order if gap[item] < 0][: MOST_FLIPS - len(gained)]
    columns = {name: (new.first(name), old.first(name)) for name in ("prediction", "answer", "reply")}
    found = []
    for item in [*lost, *gained]:
        row = texts.get(table.ids[item], {})
        found.append(
            Flip(
                task=table.name,
                stage=stage,
                item=table.ids[item],
                group=table.groups[item],
                kind="lost" if gap[item] < 0 else "gained",
                answer=columns["answer"][0][item],
                prediction=columns["prediction"][0][item],
                reference_prediction=columns["prediction"][1][item],
                # What a model wrote may repeat what it read: without the item's text, no reply either.
                reply=_cut(columns["reply"][0][item]) if row else None,
                reference_reply=_cut(columns["reply"][1][item]) if row else None,
                question=_cut(_question(row)) or "",
                options=[_cut(str(option)) or "" for option in row.get("options", ())],
            )
        )
    return found


def _positional_bias(rows: Rows) -> float | None:
    chosen, right, most = [], [], 0
    for row in np.flatnonzero(rows.main).tolist():
        options = len(rows.columns["scores"][row] or ())
        place, answer = rows.columns["place"][row], rows.columns["answer"][row]
        if place is None or not options:
            return None
        chosen.append(place)
        right.append(shown_order(options, rows.columns["order"][row] or 0).index(answer))
        most = max(most, options)
    return components.positional_bias(chosen, right, most)


def _question(row: Mapping[str, Any]) -> str:
    prompt = row.get("prompt", "")
    asked = prompt if isinstance(prompt, str) else "\n".join(str(message["content"]) for message in prompt)
    return "\n\n".join(str(part) for part in (row.get("context"), asked) if part)


def _cut(text: str | None) -> str | None:
    """The end of a long text: questions stand behind their vignette."""
    if text is None or len(text) <= MOST_CHARACTERS:
        return text
    return f"… {text[-MOST_CHARACTERS:]}"
