"""Judged replies in the order in which a reward model is trained on them, and as batches.

A row is a prompt with all its replies: each is computed once, whatever the number of pairs that it stands in
(arXiv 2203.02155, section 3.5). All rows of a step weigh the same, and so do all pairs (or steps) of a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from residency.data.replies import pairs
from residency.train.batches import whole_batches
from residency.train.reward_model.score_head import padded

Row = dict[str, Any]
NONE = -1  # place of a row that only fills up the last batch


class JudgedRows(Dataset[Row]):
    """The rows of all epochs: each epoch in an order of its own, rows of about one length side by side in a step.

    The last step is filled up with rows that weigh nothing, and its real rows weigh more.

    Attributes:
        tokens: of all epochs.
    """

    def __init__(self, rows: Any, *, batch_size: int, epochs: float, seed: int) -> None:
        self.rows = rows.to_list()
        lengths = np.array([sum(map(len, sequences(row))) for row in self.rows])
        order = _order(lengths, max(1, round(epochs * len(lengths))), batch_size, seed)
        self.tokens = int(lengths[order].sum())
        missing = whole_batches(len(order), batch_size) - len(order)
        self.order = np.concatenate([order, np.full(missing, NONE)])
        self.weights = (self.order != NONE).astype(float)
        last = self.weights[-batch_size:]
        last *= batch_size / last.sum()

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, index: int) -> Row:
        """The row, with its `weight` in the mean over a step."""
        row: Row = self.rows[max(int(self.order[index]), 0)]
        return row | {"weight": float(self.weights[index])}


def _order(lengths: np.ndarray[Any, Any], count: int, batch_size: int, seed: int) -> np.ndarray[Any, Any]:
    """`[count]` places of rows over as many epochs as that takes."""
    epochs = range(-(-count // len(lengths)))
    drawn = [np.random.default_rng([seed, epoch]).permutation(len(lengths)) for epoch in epochs]
    order = np.concatenate(drawn)[:count]
    for first in range(0, count, batch_size):
        step = order[first : first + batch_size]
        order[first : first + batch_size] = step[np.argsort(-lengths[step], kind="stable")]
    return order


def sequences(row: Row) -> list[list[int]]:
    """Ids that are read for a row: of each reply with its prompt, or of the one reply in steps."""
    if "ids" in row:
        return [row["ids"]]
    return [row["prompt_ids"] + reply for reply in row["replies_ids"]]


def collate(rows: Sequence[Row], margin: float = 1.0) -> dict[str, torch.Tensor]:
    """What the forward pass takes (`residency.train.reward_model.score_head.padded`), and the judgements.

    Of ranked replies `better`, `worse` (places among the scores) and `margins`, all `[pairs]`; of steps `values`
    `[scores]`. `weights` has the part of each pair or step in the mean over these rows.

    Args:
        margin: factor on the margins that rows carry.
    """
    read = [(ids, row["ends"] if "ids" in row else [len(ids) - 1]) for row in rows for ids in sequences(row)]
    better, worse, margins, values, weights, first = [], [], [], [], [], 0
    for row in rows:
        if "ids" in row:
            values += row["values"]
            judgements = len(row["values"])
        else:
            scores = row["scores"] or [0.0] * len(row["ranks"])
            found = pairs(row["ranks"])
            better += [first + one for one, _ in found]
            worse += [first + other for _, other in found]
            margins += [margin * (scores[one] - scores[other]) for one, other in found]
            judgements = len(found)
            first += len(row["ranks"])
        weights += [row.get("weight", 1.0) / judgements / len(rows)] * judgements
    judged: dict[str, Any] = (
        {"values": torch.tensor(values)}
        if values
        else {
            "better": torch.tensor(better),
            "worse": torch.tensor(worse),
            "margins": torch.tensor(margins),
        }
    )
    return padded(read) | judged | {"weights": torch.tensor(weights)}
