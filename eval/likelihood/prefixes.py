"""What many items begin with, computed once: which items share how much, and the cache that every batch reads.

The solved examples of a five-shot task are most of its tokens and the same for every item (of one subject). Items are
sorted and the tree of their common beginnings is cut where that saves most, so that one call may hold many subjects.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import Cache, DynamicCache
from transformers.cache_utils import DynamicLayer

LEAST = 16  # tokens; a shorter beginning is computed again sooner than copied from a cache
WORTH = 64  # tokens that a prefix must save: it costs one forward more, and fuller batches
Group = tuple[int, list[int]]  # length of the prefix; the items, by index


@dataclass
class _Run:
    """Neighbouring items that have the first `depth` tokens in common."""

    depth: int
    items: list[int]
    tokens: int
    """All tokens of the items."""
    apart: int
    """Tokens computed when the parts are treated each in their best way."""
    groups: list[Group]

    def add(self, part: _Run) -> None:
        self.items += part.items
        self.tokens += part.tokens
        self.apart += part.apart
        self.groups += part.groups

    def settled(self) -> _Run:
        """Share this beginning, or leave the parts as they are."""
        together = self.tokens - (len(self.items) - 1) * self.depth + WORTH
        if self.depth >= LEAST and together < self.apart:
            self.apart, self.groups = together, [(self.depth, list(self.items))]
        return self


def shared_prefixes(stems: Sequence[Sequence[int]]) -> list[Group]:
    """Groups of items with the length of the prefix that each group shares; the items without one come last, with 0.

    Args:
        stems: of every item, the tokens that may be shared. All of an item's pieces begin with them, none is scored.
    """
    arrays = [np.asarray(stem, dtype=">u4") for stem in stems]  # big-endian: bytes sort as the numbers do
    order = sorted(range(len(arrays)), key=lambda item: arrays[item].tobytes())
    open_runs = [_Run(0, [], 0, 0, [])]
    for place, item in enumerate(order):
        length = len(arrays[item])
        part = _Run(length, [item], length, length, [(0, [item])])
        following = arrays[order[place + 1]] if place + 1 < len(order) else arrays[item][:0]
        shared = _common(arrays[item], following)
        while open_runs[-1].depth > shared:
            run = open_runs.pop()
            run.add(part)
            part = run.settled()
        if open_runs[-1].depth < shared:
            open_runs.append(_Run(shared, [], 0, 0, []))
        open_runs[-1].add(part)
    groups = open_runs[0].groups
    alone = [item for prefix, items in groups if prefix == 0 for item in items]
    return [group for group in groups if group[0]] + ([(0, alone)] if alone else [])


def _common(one: NDArray[Any], other: NDArray[Any]) -> int:
    least = min(len(one), len(other))
    differs = one[:least] != other[:least]
    return int(differs.argmax()) if differs.any() else least


class _SharedLayer(DynamicLayer):
    """Keys and values of the prefix, of batch size 1; what a batch adds is returned behind them and not kept."""

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        rows = len(key_states)
        keys = torch.cat([self.keys.expand(rows, -1, -1, -1), key_states], dim=-2)
        return keys, torch.cat([self.values.expand(rows, -1, -1, -1), value_states], dim=-2)


def prefix_cache(model: Any, ids: Sequence[int]) -> Cache:
    """Keys and values of a prefix, for any number of batches of any size."""
    made = DynamicCache()
    model(input_ids=torch.tensor([ids], device=model.device), past_key_values=made, use_cache=True)
    layers = []
    for layer in made.layers:
        shared = _SharedLayer()
        shared.lazy_initialization(layer.keys, layer.values)
        shared.keys, shared.values = layer.keys, layer.values
        layers.append(shared)
    return Cache(layers=layers)
