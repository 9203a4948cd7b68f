"""How often a reward model judges as the held-out rows do, with an interval over clusters. No torch here."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from residency.data.replies import pairs

QUANTILE = 1.959963984540054  # of the normal distribution, for 95 %
HALF = 0.5  # value from which a step counts as good

Row = dict[str, Any]


def agreement(rows: Sequence[Row], scores: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Accuracy on held-out rows for the manifest.

    Of ranked replies over all pairs (equal scores are wrong), with Kendall's tau of a prompt's replies, averaged over
    prompts. Of steps whether value and score lie on the same side of a half, with the area under the ROC curve.

    Args:
        rows: of the `replies` stage.
        scores: for each row one of each reply, or of each step (not yet through the sigmoid).
    """
    steps = "values" in rows[0]
    right = [
        _steps_right(row, own) if steps else _pairs_right(row, own)
        for row, own in zip(rows, scores, strict=True)
    ]
    hits, counts = np.array([sum(own) for own in right]), np.array([len(own) for own in right])
    low, high = interval(hits, counts, [row["cluster"] for row in rows])
    measured = {
        "held_out_accuracy": float(hits.sum() / counts.sum()),
        "held_out_low": low,
        "held_out_high": high,
        "held_out_steps" if steps else "held_out_pairs": int(counts.sum()),
        "held_out_prompts": len(rows),
    }
    if steps:
        good = np.concatenate([np.array(row["values"]) >= HALF for row in rows])
        return measured | {"held_out_auc": area(np.concatenate([np.array(own) for own in scores]), good)}
    return measured | {"held_out_kendall_tau": float(np.mean(2 * hits / counts - 1))}


def interval(hits: NDArray[Any], counts: NDArray[Any], clusters: Sequence[str]) -> tuple[float, float]:
    """95 % interval of a proportion whose observations come in clusters.

    Wilson's interval with the number of observations that would give the cluster-robust variance if they were
    independent (Korn and Graubard 1998, Survey Methodology 24(2); it is never more than there are). Where all or
    none are hits there is no variance to go by, and the clusters count.

    Args:
        hits: `[rows]` hits of each row.
        counts: `[rows]` observations of each row.
        clusters: of each row.
    """
    _, places = np.unique(np.array(clusters), return_inverse=True)
    hit, count = (np.bincount(places, weights=of) for of in (hits, counts))
    groups, total = len(count), count.sum()
    share = float(hit.sum() / total)
    effective = float(groups)
    if groups > 1 and 0 < share < 1:
        variance = groups / (groups - 1) * ((hit - share * count) ** 2).sum() / total**2
        effective = float(min(share * (1 - share) / variance, total) if variance else total)
    return wilson(share, effective)


def wilson(share: float, number: float) -> tuple[float, float]:
    """Wilson's 95 % interval of a share of `number` observations (JASA 1927, 22, 209)."""
    middle = share + QUANTILE**2 / (2 * number)
    half = QUANTILE * sqrt(share * (1 - share) / number + QUANTILE**2 / (4 * number**2))
    scale = 1 + QUANTILE**2 / number
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)


def area(scores: NDArray[Any], good: NDArray[np.bool_]) -> float | None:
    """How likely a good step scores higher than a bad one, ties as a half; None where all are alike."""
    if good.all() or not good.any():
        return None
    ordered, bad = np.sort(scores[~good]), int((~good).sum())
    below = np.searchsorted(ordered, scores[good], "left") + np.searchsorted(ordered, scores[good], "right")
    return float(below.sum() / 2 / bad / good.sum())


def _pairs_right(row: Row, scores: Sequence[float]) -> list[bool]:
    return [scores[better] > scores[worse] for better, worse in pairs(row["ranks"])]


def _steps_right(row: Row, scores: Sequence[float]) -> list[bool]:
    return [(score >= 0) == (value >= HALF) for score, value in zip(scores, row["values"], strict=True)]
