"""Log-likelihoods of pieces of text under a causal language model.

    scored = log_likelihoods(model, [item.pieces for item in items])  # model.eval() before

What is computed once: the stem that the options of a question share (`branches`), the beginning that
many items share (`prefixes`), and logits only where something is scored, in float32
(`float32_head`). Where a model's attention does not allow for it, every piece is a row of its own
(`sharing`). The scores are the same either way, whichever items stand together in a call.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import torch

from residency.errors import Exit, ResidencyError
from residency.eval.items import Piece
from residency.eval.likelihood.branches import (
    Reading,
    TreeRow,
    item_rows,
    plain_rows,
    readings,
    shared_length,
)
from residency.eval.likelihood.float32_head import float32_head
from residency.eval.likelihood.forward import Forward, masked_attention
from residency.eval.likelihood.prefixes import shared_prefixes
from residency.eval.likelihood.sharing import depth_limit, planned
from residency.model import virtual_prompt

SCORER = 2  # raise when a score changes its meaning: it is part of the records' key


@dataclass(frozen=True)
class Scored:
    """What a model makes of one piece."""

    nats: float
    """Sum of log p over the scored tokens, each given all tokens before it."""
    greedy: bool
    """Whether each scored token is the likeliest one at its place."""


@torch.inference_mode()
def log_likelihoods(
    model: Any, items: Sequence[Sequence[Piece]], *, max_tokens_per_batch: int | None = None
) -> list[list[Scored]]:
    """Score every piece of every item.

    Args:
        model: a causal language model in evaluation mode.
        items: the pieces of each item (the options of one question, the windows of one document).
        max_tokens_per_batch: tokens computed at once, padding included; a single row is never refused.

    Raises:
        ResidencyError: the model answers with something that is no number.
    """
    assert not model.training, "dropout would change the scores"
    prompt = virtual_prompt(model)
    items = [[Piece(prompt + each.ids, each.start + len(prompt)) for each in item] for item in items]
    owners = count()
    numbered = [[(next(owners), piece) for piece in item] for item in items]
    with masked_attention(model), float32_head(model) as head:
        forward = Forward(model, head, max_tokens_per_batch)
        for prefix, rows in _parts(forward, [readings(item) for item in numbered if item]):
            forward.score(rows, prefix)
        nats, greedy = forward.totals(next(owners))
    if not all(map(math.isfinite, nats)):
        raise ResidencyError(
            "the model's log-likelihoods are not numbers: its weights have diverged",
            cure="Lower the learning rate of the stage that trained it",
            code=Exit.DIVERGED,
        )
    return [[Scored(nats[owner], greedy[owner]) for owner, _ in item] for item in numbered]


def _parts(forward: Forward, items: list[list[Reading]]) -> Iterator[tuple[Sequence[int], list[TreeRow]]]:
    """Prefixes, and the rows that follow each. Rows deeper than the model's masks reach stand by themselves."""
    limit = depth_limit(forward.model.config.get_text_config())
    fits = [max(len(ids) for ids, _ in item) <= limit for item in items]
    shallow = [item for item, fit in zip(items, fits, strict=True) if fit]
    deep = [item for item, fit in zip(items, fits, strict=True) if not fit]
    if shallow and planned(forward, max((ids for item in shallow for ids, _ in item), key=len)).shares:
        stems = [_stem(item) for item in shallow]
        for prefix, members in shared_prefixes(stems):
            rows = [row for member in members for row in item_rows(shallow[member], prefix)]
            yield stems[members[0]][:prefix], rows
    else:
        deep += shallow
    rows = plain_rows(deep)
    yield (), [row for row in rows if len(row.ids) <= limit]
    yield (), [row for row in rows if len(row.ids) > limit]


def _stem(item: list[Reading]) -> tuple[int, ...]:
    """What may stand in a prefix: common to all inputs of the item, and before the first scored position."""
    scored = min(piece.start for _, readers in item for _, piece in readers) - 1
    return item[0][0][: min(scored, shared_length([ids for ids, _ in item]))]
