"""The three arms: our packed trainer as the stages build it, and two stock `trl.SFTTrainer` scripts beside it.

TRL gets our own training arguments (optimizer, schedule, DeepSpeed, logging, dtype) and our loader of weights, so
that only the trainer, its packing and its loss differ. A packed forward holds one row, on both sides: TRL lays the
rows of a forward end to end, which without flash attention would cost it a mask of their whole length squared. The
padded arm holds all its documents in one forward, which is where padding comes from.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from residency.artifact import read_manifest, read_stage
from residency.data.mixture.shards import IGNORED, PackedRows
from residency.model import load_weights
from residency.train.engine import training_arguments
from residency.train.settings import CptSettings, EngineSettings, SftSettings
from tests.bench.workload import Scale, Workload, stage

NEVER = 10**9  # steps between checkpoints: none is written
LEARNING_RATE = 1e-3


def ours(work: Workload, size: Scale, world_size: int) -> Any:
    """The trainer that the worker would run, without its checkpoints."""
    attempt = _attempt(work, size, EngineSettings(micro_batch_size=1))
    module = importlib.import_module(f"residency.train.{work.subject}")
    trainer, _ = module.build(read_stage(attempt), attempt, world_size)
    trainer.args.max_steps, trainer.args.save_strategy = size.all_steps, "no"
    return trainer


def trl_packed(work: Workload, size: Scale, world_size: int) -> Any:
    """`packing=True`, TRL's default strategy (best-fit decreasing that cuts long documents)."""
    return _trl(work, size, world_size, EngineSettings(micro_batch_size=1), packing=True)


def trl_padded(work: Workload, size: Scale, world_size: int) -> Any:
    """TRL's default: documents padded to the longest of their batch."""
    return _trl(work, size, world_size, EngineSettings(), packing=False)


ARMS = {"ours": ours, "trl_packed": trl_packed, "trl_padded": trl_padded}


def whole_corpus(name: str, trainer: Any, work: Workload) -> tuple[float, NDArray[np.int64]]:
    """Share of the corpus' loss tokens that the arm's data hold, and the tokens of every stretch it attends over."""
    if name == "ours":
        rows = PackedRows(work.rows)
        kept = sum(int((rows[row]["labels"] != IGNORED).sum()) for row in range(len(rows)))
        lengths = np.diff(np.load(work.rows / "segments.npy"), axis=1)[:, 0]
    else:
        data = trainer.train_dataset
        labels = [np.asarray(row) for row in data["labels"]]
        packed = "seq_lengths" in data.column_names
        parts = data["seq_lengths"] if packed else [[len(row)] for row in labels]
        each = [np.asarray(row) for row in parts]
        kept = sum(_predicted(row, lengths) for row, lengths in zip(labels, each, strict=True))
        lengths = np.concatenate(each)
    return kept / read_manifest(work.rows).measured["loss_tokens"], lengths


def _predicted(labels: NDArray[np.int64], parts: NDArray[np.int64]) -> int:
    """Tokens with loss; the first of a stretch has nothing to be predicted from."""
    first = np.cumsum(parts) - parts
    return int((labels != IGNORED).sum() - (labels[first] != IGNORED).sum())


def _trl(work: Workload, size: Scale, world_size: int, engine: EngineSettings, *, packing: bool) -> Any:
    from datasets import Dataset
    from transformers import AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    attempt = _attempt(work, size, engine)
    shared = training_arguments(read_stage(attempt), attempt, world_size, size.rows * size.all_steps)
    changed = {"remove_unused_columns": True, "save_strategy": "no", "max_steps": size.all_steps}
    arguments = SFTConfig(
        **shared | changed,
        packing=packing,
        max_length=size.max_length,
        assistant_only_loss=work.subject == "sft",
    )
    return SFTTrainer(
        model=load_weights(work.base, precision="auto", attention=engine.attention),
        args=arguments,
        train_dataset=Dataset.from_list(work.documents),
        processing_class=AutoTokenizer.from_pretrained(work.base),
    )


def _attempt(work: Workload, size: Scale, engine: EngineSettings) -> Path:
    settings = {
        **_settings(work, size).model_dump(exclude={"engine", "mixture", "save_every", "keep_checkpoints"}),
        "precision": engine.precision,
        "clip": engine.clip,
        "chat_template": None,
    }
    execution = {"engine": engine.model_dump(), "save_every": NEVER, "keep_checkpoints": 1}
    parents = {"model": work.base, "tokens": work.rows}
    return stage(work.run, work.subject, work.subject, settings, parents, execution)


def _settings(work: Workload, size: Scale) -> CptSettings | SftSettings:
    common: dict[str, Any] = {
        "mixture": {work.subject: 1.0},
        "max_length": size.max_length,
        "batch_size": size.rows,
        "learning_rate": LEARNING_RATE,
        "schedule": "constant",
        "warmup": 0.0,
        "seed": 0,
    }
    if work.subject == "sft":
        return SftSettings(kind="sft", **common)
    return CptSettings(kind="cpt", tokens=size.all_steps * size.rows * size.max_length, **common)
