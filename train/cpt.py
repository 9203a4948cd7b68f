"""Continual pretraining on the domain's text, with general text replayed against forgetting.

Run by `residency.train.worker` on every rank.
"""

from __future__ import annotations

from pathlib import Path

from residency.artifact import StageFile
from residency.train.packed import PackedTrainer, packed_trainer
from residency.train.watch import Watch


def build(stage: StageFile, attempt: Path, world_size: int) -> tuple[PackedTrainer, Watch]:
    """Every token but a document's first carries loss."""
    return packed_trainer(stage, attempt, world_size)
