"""Batch arithmetic, without torch: how a global batch is made of ranks, micro-batches and accumulation."""

from __future__ import annotations

import math

from residency.errors import ResidencyError
from residency.train.settings import EngineSettings


def accumulation(name: str, batch_size: int, engine: EngineSettings, world_size: int) -> tuple[int, int]:
    """Rows per forward pass and accumulation steps that make up a global batch of `batch_size` rows.

    Raises:
        ResidencyError: the numbers do not divide.
    """
    if batch_size % world_size:
        raise ResidencyError(
            f"stages.{name}.batch_size = {batch_size} does not divide by {world_size} ranks",
            cure=f"The nearest that does: {max(1, round(batch_size / world_size)) * world_size}",
        )
    rows = batch_size // world_size
    micro = engine.micro_batch_size or rows
    if rows % micro:
        divisors = ", ".join(str(number) for number in range(1, rows + 1) if rows % number == 0)
        raise ResidencyError(
            f"engine.micro_batch_size = {micro} does not divide the {rows} rows of a rank "
            f"(stages.{name}.batch_size = {batch_size} over {world_size} ranks)",
            cure=f"Divisors: {divisors}",
        )
    return micro, rows // micro


def whole_batches(rows: int, batch_size: int) -> int:
    """Rows after the last global batch is filled up with empty ones."""
    return math.ceil(rows / batch_size) * batch_size
