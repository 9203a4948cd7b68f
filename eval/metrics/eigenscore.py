"""How far several sampled replies to one question lie apart: a sign that a model makes its answer up.

Sources: INSIDE (Chen et al. 2024, arXiv 2402.03744) for the score; SenD (Mohammadzadeh et al. 2024, arXiv 2410.15460)
for following it over checkpoints, since hallucination oscillates during training.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike

from residency.eval.metrics.item import Item, Statistics
from residency.eval.metrics.lists import agreement
from residency.eval.metrics.overlap import rouge_l, tokens

ALPHA = 1e-3  # keeps the covariance of like replies regular; the authors' value


def eigenscore(embeddings: ArrayLike, item: Item) -> Statistics:
    """EigenScore of K replies: `(1/K) log det(C + alpha I)` in nats; not bounded, lower is more of one mind.

    C is the K x K covariance of the replies' embeddings, each centred over its width and divided by width - 1 (as the
    authors' code, which takes the logarithm to base 10). Replies all the same give about log(alpha).

    Args:
        embeddings: [K, width], a middle layer's state at the last token of each reply; K >= 2.
    """
    states = np.asarray(embeddings, dtype=float)
    assert states.ndim == 2 and len(states) > 1 and states.shape[1] > 1, states.shape
    sign, logarithm = np.linalg.slogdet(np.cov(states) + ALPHA * np.eye(len(states)))
    assert sign > 0, "a covariance plus alpha has a positive determinant"
    return {"eigenscore": float(logarithm) / len(states)}


def lexical_consistency(replies: Sequence[str], item: Item) -> Statistics:
    """Mean ROUGE-L (F1) over all pairs of K >= 2 replies, in [0, 1] (lexical similarity in INSIDE)."""
    said = [tokens(reply) for reply in replies]
    pairs = [rouge_l(one, other) if one or other else 1.0 for one, other in combinations(said, 2)]
    assert pairs, "one reply is consistent with nothing"
    return {"lexical_consistency": sum(pairs) / len(pairs)}


def answer_consistency(found: Sequence[str | None], item: Item) -> Statistics:
    """Share of pairs of K >= 2 replies that give the same answer, in [0, 1]; None is a reply without an answer."""
    return {"answer_consistency": agreement(found)}
