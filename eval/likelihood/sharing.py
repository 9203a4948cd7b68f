"""For which models branches and prefixes give the scores that plain rows give.

They are right where attention is all that joins tokens, and where it takes the mask given to it: not for state-space
models, biases by distance (ALiBi), or prompt tuning. Rather than list architectures, the beginning of a real sequence
is scored both ways before the first use; if the two differ, the model is scored plainly.
"""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch

from residency.eval.items import Piece
from residency.eval.likelihood.branches import plain_rows, tree_row

if TYPE_CHECKING:
    from residency.eval.likelihood.forward import Forward

SHORTEST, LONGEST = 12, 96  # tokens: a shorter sequence shows nothing, a longer one no more
EXACT = 1e-4  # nats, for float32 weights; grows with the root of the number of scored tokens
COARSE = 0.1  # nats, for 16-bit weights: several times what another shape of the batch alone makes of a token
REFUSALS = (TypeError, ValueError, RuntimeError, AttributeError, NotImplementedError, LookupError)


@dataclass(frozen=True)
class Plan:
    """How a model's items are scored."""

    shares: bool
    """With branches and prefixes, or plainly, one row per piece."""
    reason: str
    """Why so, for the record."""
    tried: int = 0
    """Length in tokens of the longest sequence that was scored both ways."""


UNTRIED = Plan(False, "no sequence was long enough to be shared")
_plans: WeakKeyDictionary[Any, Plan] = WeakKeyDictionary()


def plan(model: Any) -> Plan:
    """How this model's items were scored so far."""
    return _plans.get(model, UNTRIED)


def planned(forward: Forward, longest: tuple[int, ...]) -> Plan:
    """The plan for a call whose longest input is this one; a longer one than those tried is tried again."""
    known, ids = plan(forward.model), longest[:LONGEST]
    refused = not known.shares and known is not UNTRIED
    if refused or len(ids) < SHORTEST or len(ids) <= known.tried:
        return known
    _plans[forward.model] = found = _tried(forward, ids)
    return found


def depth_limit(config: Any) -> float:
    """Length in tokens up to which our masks say all: the sliding window, the chunk of chunked attention, and the
    length from which rotary embeddings for long contexts change for every token (LongRoPE)."""
    rope = getattr(config, "rope_parameters", None) or {}
    limits = [getattr(config, "sliding_window", None), getattr(config, "attention_chunk_size", None)]
    if rope.get("rope_type") == "longrope":
        limits += [
            rope.get("original_max_position_embeddings"),
            getattr(config, "original_max_position_embeddings", None),
        ]
    return min((limit for limit in limits if limit), default=math.inf)


def _tried(forward: Forward, ids: tuple[int, ...]) -> Plan:
    """Score one sequence plainly, and as two branches that hold the same, behind a stem and a prefix."""
    model, length = forward.model, len(ids)
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    if base._is_stateful or "position_ids" not in inspect.signature(base.forward).parameters:
        return Plan(False, f"{type(base).__name__} takes no positions, or keeps a state")
    piece = Piece([*ids, ids[-1]], length // 2)
    forward.score(plain_rows([[(ids, [(0, piece)])]]))
    (expected, *_), _ = forward.totals(1)
    twins = [(ids, [(owner, piece)]) for owner in (0, 1)]
    prefix, stem = length // 3, 2 * length // 3
    try:
        forward.score([tree_row(twins, prefix, stem)], ids[:prefix])
    except torch.OutOfMemoryError:
        raise
    except REFUSALS as refusal:
        return Plan(False, f"{type(base).__name__} refuses a mask or a cache of ours: {refusal}")
    found, _ = forward.totals(2)
    apart = max(abs(value - expected) for value in found)
    allowed = (EXACT if model.dtype in (torch.float32, torch.float64) else COARSE) * (length // 2) ** 0.5
    if not apart <= allowed:
        return Plan(False, f"branches and prefixes change a score by {apart:.2g} nats", length)
    return Plan(True, f"branches and prefixes agree within {apart:.2g} nats", length)
