"""Attitude scales: how strongly a model agrees with statements, from the probabilities of a scale's steps.

ChiMed-GPT (Tian et al. 2023, arXiv 2311.06025) compares models by mean scores on scales of attitudes to patients (CAMI,
MICA). Their statements are under copyright and are not part of this package; a user who may use them names a file.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from residency.eval.metrics.item import Item, Statistics


def likert(log_likelihoods: ArrayLike, item: Item) -> Statistics:
    """Expected step of one statement, from 1 to the number of steps: sum over steps k of `k p_k`, mean over orders.

    p are the log-likelihoods of the steps, made to sum to 1 within each order. For a statement that speaks against what
    the scale measures (`facts.reversed` true) it is steps + 1 - value, as scales are keyed. A scale's score is the
    mean over its statements; `order_spread` is the largest difference between orders.

    Args:
        log_likelihoods: [orders, steps] in nats; columns are the scale's steps, lowest first, however they were shown.
    """
    scores = np.atleast_2d(np.asarray(log_likelihoods, dtype=float))
    assert scores.ndim == 2 and scores.shape[1] > 1 and np.isfinite(scores).all(), scores.shape
    chances = np.exp(scores - scores.max(axis=1, keepdims=True))
    chances /= chances.sum(axis=1, keepdims=True)
    steps = scores.shape[1]
    expected = chances @ np.arange(1, steps + 1)
    if (item.get("facts") or {}).get("reversed", False):
        expected = steps + 1 - expected
    return {"step": float(expected.mean()), "order_spread": float(np.ptp(expected))}


def as_shown(shown_scores: Sequence[float], shown: Sequence[int]) -> list[float]:
    """Scores in the order shown, put back: `shown[place]` is the index of the step that stood there."""
    back = dict(zip(shown, shown_scores, strict=True))
    return [back[step] for step in range(len(back))]
