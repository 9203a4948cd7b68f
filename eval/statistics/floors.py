"""What a model gets that does not read the question: floors of a multiple-choice task."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike


def chance(option_counts: ArrayLike) -> float:
    """Expected accuracy of guessing: the mean of 1 / number of options [n]."""
    return float((1 / np.asarray(option_counts, dtype=float)).mean())


def constant_floor(answers: ArrayLike) -> tuple[int, float]:
    """The option index that is right most often and its share of the items; equal ones fall to the first."""
    counts = np.bincount(np.asarray(answers, dtype=np.int64))
    best = int(counts.argmax())
    return best, float(counts[best] / counts.sum())


def longest_option_floor(options: Sequence[Sequence[str]], answers: ArrayLike) -> float:
    """Accuracy of choosing the option with most characters; among equally long ones by lot, in expectation."""
    right = 0.0
    for texts, answer in zip(options, np.asarray(answers, dtype=np.int64), strict=True):
        lengths = [len(text) for text in texts]
        longest = max(lengths)
        right += (lengths[answer] == longest) / lengths.count(longest)
    return right / len(options)
