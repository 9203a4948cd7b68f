"""In which order the documents of a mixture are seen: windows that follow one another, each packed by itself.

A pass is the same stretch of every corpus' sequence and at most about one epoch of any. Where documents are shuffled
a pass is one window: packing pass by pass keeps two epochs of one document apart (best fit would lay equal lengths
into one row) and the mixture even over time. The other orders hold within each pass; there a window is a few rows, so
that best fit cannot carry a document far from its place, and the rows of a window keep their order.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from residency.data.mixture.mixing import Taken
from residency.errors import ResidencyError

Ints = NDArray[np.int64]
ROWS_PER_PASS = 16  # a pass's last row is not full: with fewer rows, too much would be padding
ROWS_PER_WINDOW = 32  # of an ordered pass: fewer keep the order better, more fill the rows better


@dataclass(frozen=True)
class Window:
    """Documents that are packed together, in their order."""

    starts: Ints
    lengths: Ints
    ordered: bool
    """Whether its rows keep their order."""


@dataclass(frozen=True)
class _Pass:
    """Documents of one pass, corpus after corpus."""

    starts: Ints
    lengths: Ints
    difficulty: NDArray[np.float64]
    corpus: Ints

    def sorted_by(self, key: NDArray[np.generic]) -> _Pass:
        order = np.argsort(key, kind="stable")
        return _Pass(self.starts[order], self.lengths[order], self.difficulty[order], self.corpus[order])


def windows(taken: list[Taken], order: str, max_length: int) -> list[Window]:
    """The windows of all passes.

    Args:
        order: of `MixtureSettings`.
        max_length: tokens in a row.

    Raises:
        ResidencyError: an order by difficulty of rows that have none.
    """
    if order == "blocked":
        return [window for part in taken for window in windows([part], "shuffled", max_length)]
    if order == "shuffled":
        return [Window(one.starts, one.lengths, ordered=False) for one in _passes(taken, max_length)]
    if order in ("difficulty", "curriculum"):
        _need_difficulty(taken, order)
    arranged = map(ARRANGED[order], _passes(taken, max_length))
    return [window for one in arranged for window in _cut(one, max_length * ROWS_PER_WINDOW)]


def _passes(taken: list[Taken], max_length: int) -> list[_Pass]:
    rows = sum(part.tokens for part in taken) / max_length
    count = max(1, min(math.ceil(max(part.epochs for part in taken)), int(rows / ROWS_PER_PASS)))
    places = [(np.cumsum(part.lengths) - part.lengths) * count // part.tokens for part in taken]
    found = []
    for number in range(count):
        inside = [place == number for place in places]
        found.append(
            _Pass(
                np.concatenate([part.starts[here] for part, here in zip(taken, inside, strict=True)]),
                np.concatenate([part.lengths[here] for part, here in zip(taken, inside, strict=True)]),
                np.concatenate([part.difficulty[here] for part, here in zip(taken, inside, strict=True)]),
                np.repeat(np.arange(len(taken)), [here.sum() for here in inside]),
            )
        )
    return [one for one in found if len(one.starts)]


def _in_turns(documents: _Pass) -> _Pass:
    """Corpora in turns: at any place, the same share of each is behind."""
    behind = np.empty(len(documents.lengths))
    for corpus in np.unique(documents.corpus):
        here = documents.corpus == corpus
        lengths = documents.lengths[here]
        behind[here] = (np.cumsum(lengths) - lengths / 2) / lengths.sum()
    return documents.sorted_by(behind)


ARRANGED: dict[str, Callable[[_Pass], _Pass]] = {
    "length": lambda documents: documents.sorted_by(documents.lengths),
    "difficulty": lambda documents: documents.sorted_by(documents.difficulty),
    "interleaved": _in_turns,
    "curriculum": lambda documents: _in_turns(documents.sorted_by(documents.difficulty)),
}


def _cut(documents: _Pass, tokens: int) -> list[Window]:
    """Windows of about `tokens` tokens, all of the same size."""
    count = max(1, round(documents.lengths.sum() / tokens))
    place = (np.cumsum(documents.lengths) - documents.lengths) * count // documents.lengths.sum()
    inside = [place == number for number in range(count)]
    return [
        Window(documents.starts[here], documents.lengths[here], ordered=True) for here in inside if here.any()
    ]


def _need_difficulty(taken: list[Taken], order: str) -> None:
    for part in taken:
        if lacking := int(np.isnan(part.difficulty).sum()):
            raise ResidencyError(
                f"mixture: order {order}: {lacking} of {len(part.difficulty)} documents of {part.name} "
                "have no difficulty",
                cure="Give each row a number `difficulty`, or take another order",
            )
