"""Supervised fine-tuning on dialogues: only the assistant's tokens and its stop token carry loss.

The mask is made with the tokens (`residency.data.tokens`); the chat template travels in the tokenizer that is saved
with the model. Run by `residency.train.worker` on every rank.
"""

from __future__ import annotations

from pathlib import Path

from residency.artifact import StageFile
from residency.errors import ResidencyError
from residency.train.packed import PackedTrainer, packed_trainer
from residency.train.watch import Watch


def build(stage: StageFile, attempt: Path, world_size: int) -> tuple[PackedTrainer, Watch]:
    """Dialogues packed like documents, so a step holds as many as fit.

    Raises:
        ResidencyError: the tokenizer has no chat template.
    """
    trainer, watch = packed_trainer(stage, attempt, world_size)
    if not trainer.processing_class.chat_template:
        raise ResidencyError(
            f"stages.{stage.name}: the model has no chat template", cure="Set chat_template to a Jinja file"
        )
    return trainer, watch
