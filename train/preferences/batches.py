"""Preference pairs as training reads them: which are in a step, on which rank, and as what rows.

A step is `batch_size` pairs whatever the ranks and however they are laid out: a rank's forward pass has its pairs, and
the layout only says in what rows they stand. The order is drawn once for all epochs: no pair is left over between two
of them, and the last step is filled up with pairs of the epoch that would come next. Within a step, pairs of like
length meet in one pass and the ranks get about the same work.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import torch
from datasets import load_from_disk
from torch.utils.data import Dataset

from residency.data.mixture.balance import deal
from residency.train.preferences.layouts import Ints, Item, Layout, laid_out

REPLIES = ("chosen_ids", "rejected_ids", "reply_ids")


class Pairs(Dataset[int]):
    """The pairs (or single replies with a label) of a stage; an index is the number of one at that place of training.

    Attributes:
        replies: to each prompt: 2, or 1 where each has a label.
        lengths: tokens of each prompt with its replies, `[pairs]`.
        order: number of the pair at each place of training, `[steps * batch_size]`.
    """

    def __init__(self, directory: Path, *, prefix: Sequence[int] = (), prompts_scored: bool = False) -> None:
        """`prefix` stands before each prompt; with `prompts_scored` the prompts' tokens carry loss too."""
        rows = load_from_disk(str(directory))
        self.columns = [name for name in REPLIES if name in rows.column_names]
        self.labelled, self.replies = "label" in rows.column_names, len(self.columns)
        self.prefix, self.prompts_scored = np.asarray(prefix, dtype=np.int64), prompts_scored
        self.rows = rows.with_format("numpy")
        each = {
            name: pc.list_value_length(rows.data.column(name)).to_numpy()
            for name in ("prompt_ids", *self.columns)
        }
        self.longest_reply = max(int(each[name].max()) for name in self.columns)
        self.longest_prompt = int(each["prompt_ids"].max()) + len(self.prefix)
        self.lengths: Ints = sum(each.values()).astype(np.int64)
        self.order: Ints = np.arange(len(rows))
        self._strangers = self._mismatched() if self.labelled else None

    def place(self, *, epochs: float, batch_size: int, world_size: int, micro: int, seed: int) -> int:
        """Draw the order of training; returns its steps, as many as it takes to see every pair `epochs` times."""
        steps = -(-max(1, round(epochs * len(self.lengths))) // batch_size)
        random, places = np.random.default_rng(seed), steps * batch_size
        passes = -(-places // len(self.lengths))
        order = np.concatenate([random.permutation(len(self.lengths)) for _ in range(passes)])[:places]
        costs = self.lengths[order].astype(np.float64)
        self.order = order[deal(costs, batch_size, world_size, micro)]
        return steps

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, index: int) -> int:
        return int(self.order[index])

    def items(self, numbers: Sequence[int]) -> list[Item]:
        """Prompts and replies of these numbers."""
        first = len(self.prefix) or 1
        return [
            Item(
                np.concatenate([self.prefix, row["prompt_ids"]]),
                [row[name].astype(np.int64) for name in self.columns],
                first if self.prompts_scored else None,
            )
            for row in self._read(numbers)
        ]

    def mismatched(self, numbers: Sequence[int]) -> list[Item]:
        """These prompts, each with a reply to another one: from them KTO estimates how far the model has moved."""
        assert self._strangers is not None
        strangers = self._read([int(self._strangers[number]) for number in numbers])
        return [
            Item(item.prompt, [row["reply_ids"].astype(np.int64)])
            for item, row in zip(self.items(numbers), strangers, strict=True)
        ]

    def batch(self, numbers: Sequence[int], layout: Layout, **attention: bool) -> dict[str, Any]:
        """Inputs of one forward pass, see `residency.train.preferences.layouts.laid_out`."""
        made = laid_out(layout, self.items(numbers), **attention)
        made["numbers"] = torch.tensor(numbers)
        if self.labelled:
            made["good"] = torch.tensor([bool(row["label"]) for row in self._read(numbers)])
            made["mismatched"] = laid_out(layout, self.mismatched(numbers), **attention)
        return made

    def _read(self, numbers: Sequence[int]) -> list[dict[str, Any]]:
        return [self.rows[number] for number in numbers]

    def _mismatched(self) -> Ints:
        """For each row the nearest one before it (the last is before the first) that has another prompt.

        TRL takes the row before within a batch; here it is the same one in every epoch and on any number of ranks, so
        that the reference's log-probabilities can be kept.
        """
        prompts = [tuple(row["prompt_ids"]) for row in self.rows]
        return nearest_other(prompts)


def nearest_other(prompts: Sequence[Any]) -> Ints:
    """For each prompt the place of the nearest one before it, in a circle, that differs; where all are alike, the one
    before."""
    count = len(prompts)
    before: Ints = (np.arange(count) - 1) % count
    first = next((at for at in range(1, count) if prompts[at] != prompts[at - 1]), None)
    if first is not None:
        for at in (number % count for number in range(first, first + count)):
            if prompts[at] == prompts[at - 1]:
                before[at] = before[at - 1]
    return before
