"""Arithmetic on the weights of several models, one tensor at a time, in float32."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence

import torch
from peft.utils.merge_utils import dare_linear, ties

PARALLEL = 1 - 5e-4
"""Cosine from which an arc is as good as straight; so does mergekit (github.com/arcee-ai/mergekit)."""


def linear(tensors: Sequence[torch.Tensor], weights: Sequence[float]) -> torch.Tensor:
    """Mean of tensors of one shape; only the ratio of the weights counts (model soups, arXiv 2203.05482)."""
    total = sum(weights)
    parts = [tensor * (weight / total) for tensor, weight in zip(tensors, weights, strict=True)]
    return torch.stack(parts).sum(dim=0)


def slerp(tensors: Sequence[torch.Tensor], weights: Sequence[float]) -> torch.Tensor:
    """The point on the arc between two tensors, read as vectors, as far from the first as the second's share of the
    weights says (Shoemake 1985); on the straight line where they are parallel or one is zero."""
    first, second = tensors
    share = weights[1] / sum(weights)
    lengths = first.norm() * second.norm()
    cosine = float((first * second).sum() / lengths) if lengths else 1.0
    if abs(cosine) > PARALLEL:
        return linear(tensors, weights)
    angle = math.acos(cosine)
    return first * (math.sin((1 - share) * angle) / math.sin(angle)) + second * (
        math.sin(share * angle) / math.sin(angle)
    )


def sparse_sum(
    method: str,
    ancestor: torch.Tensor,
    tensors: Sequence[torch.Tensor],
    weights: Sequence[float],
    density: float,
    seed: int,
    name: str,
) -> torch.Tensor:
    """`ancestor` plus weighted differences from it, made sparse (`ties` arXiv 2306.01708, `dare` arXiv 2311.03099).

    Args:
        density: share of each difference that is kept.
        seed: with `name`, the tensor's, it decides which `dare` drops, whatever the order of the tensors.
    """
    differences, scales = [tensor - ancestor for tensor in tensors], torch.tensor(list(weights))
    if method == "ties":
        added: torch.Tensor = ties(differences, scales, density)
        return ancestor + added
    if density == 1:
        return ancestor + torch.stack(
            [part * scale for part, scale in zip(differences, scales, strict=True)]
        ).sum(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(zlib.crc32(f"{seed} {name}".encode()))
        kept: torch.Tensor = dare_linear(differences, scales, density)
    return ancestor + kept
