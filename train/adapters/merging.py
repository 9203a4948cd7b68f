"""Adapters written into the weights that they stand on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from residency.artifact import StageFile
from residency.errors import ResidencyError
from residency.model import (
    base_of,
    is_prompt,
    load_weights,
    refuse_other_base,
    resolve_precision,
    stored_precision,
)
from residency.train.adapters.rules import WRITTEN_OUT

MERGED = "merged-parent"
COPIED = ("*.json", "*.jinja", "*.model", "*.txt")
"""Configuration and tokenizer; no weights in whatever form, and nothing that a stage tells of its training."""
NOT_COPIED = ("*.index.json", "manifest.json", "adapter_config.json", "trainer_state.json")


def merge(base: Path, adapter: Path, target: Path, precision: str | None = None) -> None:
    """Write whole weights to `target`: `base` with `adapter` in it, computed in float32.

    Done on whole weights, so that it is the same for every ZeRO stage.

    Args:
        precision: of what is written; the base's own unless given.

    Raises:
        ResidencyError: a learnt prompt, or an adapter of another base.
    """
    from peft import PeftModel

    if is_prompt(adapter):
        raise ResidencyError(f"{adapter}: {WRITTEN_OUT}", cure="Use it where it is: evaluation and chat do")
    refuse_other_base(adapter, base)
    with whole_weights():
        model = load_weights(base, precision="float32", scores=_scores(adapter))
        merged: Any = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()
        merged.to(resolve_precision(precision or stored_precision(base)))
        merged.save_pretrained(target)


def copy_beside(model: Path, payload: Path) -> None:
    """Configuration and tokenizer of a model that `payload` lacks, without its weights."""
    for path in model.iterdir():
        wanted, unwanted = (any(map(path.match, patterns)) for patterns in (COPIED, NOT_COPIED))
        if path.is_file() and wanted and not unwanted and not (payload / path.name).exists():
            shutil.copyfile(path, payload / path.name)


def finish(stage: StageFile, attempt: Path, trained: Path, payload: Path) -> None:
    """Write `trained` (an adapter's directory) merged into the weights it was trained on; on one rank."""
    base, adapter = base_of(stage.parents["model"])
    if adapter and stage.settings["adapter"] == "merge":
        base = attempt / MERGED
    merge(base, trained, payload, stage.settings["precision"])


def merged_parent(attempt: Path, base: Path, adapter: Path, precision: str) -> Path:
    """The parent's weights with its adapter in them, written by rank 0 where every rank loads its shards from."""
    merged = attempt / MERGED
    if torch.distributed.get_rank() == 0 and not merged.exists():
        beside = merged.with_name(MERGED + ".part")
        shutil.rmtree(beside, ignore_errors=True)
        merge(base, adapter, beside, precision)
        beside.rename(merged)
    torch.distributed.barrier()
    return merged


def _scores(adapter: Path) -> bool:
    """Whether it is the adapter of a reward model."""
    config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    return bool(config.get("task_type") == "SEQ_CLS")


@contextmanager
def whole_weights() -> Iterator[None]:
    """Let this rank alone load whole weights: with ZeRO-3, transformers would wait for the others to take a shard."""
    from transformers.integrations import deepspeed

    known = deepspeed._hf_deepspeed_config_weak_ref
    deepspeed.unset_hf_deepspeed_config()
    try:
        yield
    finally:
        deepspeed._hf_deepspeed_config_weak_ref = known
