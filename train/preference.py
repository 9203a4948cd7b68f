"""Preference alignment on pairs with TRL's DPO trainer; the reference is the parent (arXiv 2305.18290).

The reference's log-probabilities are computed once, before the first step, from the very weights that training starts
from; the first loss is therefore ln 2, and that is asserted. Run by `residency.train.worker` on every rank.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from datasets import load_from_disk
from trl import DPOConfig, DPOTrainer

from residency.artifact import StageFile
from residency.errors import ResidencyError
from residency.train.engine import training_arguments
from residency.train.lora import prepare
from residency.train.saving import TiedOnce
from residency.train.watch import FiniteLoss, FirstStepIsLog2, Watch


class PreferenceTrainer(FiniteLoss, TiedOnce, DPOTrainer):
    """TRL's DPO trainer with the finite-loss guard."""


def build(stage: StageFile, attempt: Path, world_size: int) -> tuple[PreferenceTrainer, Watch]:
    """Trainer over whole global batches of pairs, shuffled by the stage's seed.

    Raises:
        ResidencyError: fewer pairs than one global batch, or (ZeRO-3) than two forward passes.
    """
    settings = stage.settings
    pairs = _local_copy(stage.parents["tokens"] / "pairs", attempt / "pairs")
    batch_size = settings["batch_size"]
    rows = len(pairs) // batch_size * batch_size
    if not rows:
        raise ResidencyError(
            f"stages.{stage.name}.batch_size = {batch_size}: the corpus has only {len(pairs)} pairs",
            cure="Lower batch_size",
        )
    pairs = pairs.shuffle(seed=settings["seed"]).select(range(rows))
    arguments = training_arguments(stage, attempt, world_size, rows)
    _refuse_single_pass(stage, rows, arguments["per_device_train_batch_size"] * world_size)
    arguments |= {
        "num_train_epochs": settings["epochs"],
        "warmup_steps": round(settings["warmup"] * settings["epochs"] * rows / batch_size),
        "save_steps": stage.execution.get("save_every")
        or max(1, round(settings["epochs"] * rows / batch_size / 4)),
        "remove_unused_columns": True,
    }
    config = DPOConfig(
        **arguments,
        beta=settings["beta"],
        max_length=None,
        precompute_ref_log_probs=True,
        data_seed=settings["seed"],
    )
    model, tokenizer = prepare(stage, attempt)
    watch = Watch(attempt, stage, tokens=_tokens(pairs, tokenizer, settings["epochs"]))
    trainer = PreferenceTrainer(
        model=model,
        args=config,
        train_dataset=pairs,
        processing_class=tokenizer,
        callbacks=[watch, FirstStepIsLog2()],
    )
    return trainer, watch


def _refuse_single_pass(stage: StageFile, rows: int, at_once: int) -> None:
    """ZeRO-3 learns the order of the weights from two forward passes; a reference computed in one breaks it."""
    if stage.execution["engine"]["zero"] == 3 and rows <= at_once:
        raise ResidencyError(
            f"stages.{stage.name}.batch_size = {stage.settings['batch_size']}: with zero: 3 the {rows} pairs must not "
            "all be read in one forward pass",
            cure="Lower batch_size or engine.micro_batch_size",
        )


def _local_copy(source: Path, target: Path) -> Any:
    """The pairs in a directory of the attempt: TRL caches what it derives beside the file that every rank reads."""
    if torch.distributed.get_rank() == 0 and not target.exists():
        beside = target.with_name(target.name + ".part")
        shutil.rmtree(beside, ignore_errors=True)
        shutil.copytree(source, beside)
        beside.rename(target)
    torch.distributed.barrier()
    return load_from_disk(str(target))


def _tokens(pairs: Any, tokenizer: Any, epochs: float) -> int:
    """Tokens that the stage will see: prompt and both replies of every pair, every epoch."""
    texts = [
        tokenizer.apply_chat_template(row["prompt"] + row[side], tokenize=False)
        for row in pairs
        for side in ("chosen", "rejected")
    ]
    return round(epochs * sum(len(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]))
