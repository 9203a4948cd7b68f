"""Are the weights that write the policy's own? A digest that any layout of the same numbers shares.

Weights lie in shards (ZeRO), in flat float32 masters of the optimizer, in whole tensors, or fused into larger ones
(vLLM). The digest is a sum of one hash for each element, so order and cutting do not matter (a multiset hash: Bellare
and Micciancio 1997, "A new paradigm for collision-free hashing"); zeros count nothing, so padding does not either. It
finds weights that are stale, cut or of another type, not an attacker.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch

CHUNK = 1 << 24  # elements hashed at a time
BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64, 1: torch.uint8}
# Multipliers and shifts of the finaliser of splitmix64 (https://prng.di.unimi.it/splitmix64.c), which maps 0 to 0.
FIRST, SECOND = 0xBF58476D1CE4E5B9 - (1 << 64), 0x94D049BB133111EB - (1 << 64)


def digest(tensors: Iterable[torch.Tensor]) -> int:
    """Sum of the elements' hashes, 64 bits; depends on their type."""
    total = 0
    for tensor in tensors:
        flat = tensor.detach().reshape(-1)
        bits = flat.view(BITS[flat.element_size()]) if flat.numel() else flat
        for chunk in torch.split(bits, CHUNK):
            total += int(_mixed(chunk.to(torch.int64)).sum())
    return _unsigned(total)


def of_policy(engine: Any) -> int:
    """Digest of what DeepSpeed trains and holds, the ranks' parts summed; every rank must ask.

    With ZeRO-1 and 2 the trained weights are read where the optimizer has them, apart from the module that writes; with
    ZeRO-3 where they lie in parts, of which the writer's whole ones are gathered.
    """
    frozen: list[Any] = list(parameters(engine.module, trained=False))
    trained: list[Any] = list(parameters(engine.module, trained=True))
    optimizer = engine.optimizer
    if engine.zero_optimization_stage() == 3:
        return _summed(digest(parameter.ds_tensor for parameter in trained + frozen))
    if not hasattr(optimizer, "single_partition_of_fp32_groups"):  # ZeRO-0: every rank holds all
        return digest(trained + frozen)
    masters = zip(optimizer.single_partition_of_fp32_groups, optimizer.bit16_groups, strict=True)
    parts = digest(master.to(group[0].dtype) for master, group in masters)
    return _unsigned(_summed(parts) + digest(frozen))


def parameters(module: Any, *, trained: bool | None = None) -> Iterator[Any]:
    """Parameters, tied ones once; without TRL's copy of an adapter that training started from."""
    for name, parameter in module.named_parameters():
        if ".ref." not in name and trained in (None, parameter.requires_grad):
            yield parameter


def _mixed(bits: torch.Tensor) -> torch.Tensor:
    """Hash of each element; integers wrap around."""
    bits = bits * FIRST
    bits = (bits ^ ((bits >> 27) & ((1 << 37) - 1))) * SECOND
    return bits ^ ((bits >> 31) & ((1 << 33) - 1))


def _summed(own: int) -> int:
    parts: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(parts, own)
    return _unsigned(sum(parts))


def _unsigned(total: int) -> int:
    return total % (1 << 64)
