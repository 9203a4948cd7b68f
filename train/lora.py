"""The model that a stage trains: the parent's weights, and adapters where the stage asks for them.

A parent's adapter is continued or merged by an explicit setting, never silently stacked.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, set_seed

from residency.artifact import StageFile
from residency.errors import ResidencyError
from residency.model import base_of, load_weights
from residency.train.settings import EngineSettings, LoraSettings

MERGED = "merged-parent"


def prepare(stage: StageFile, attempt: Path) -> tuple[Any, Any]:
    """Model and tokenizer to train; a parent's adapter that is to be merged is written out in `attempt` first.

    Raises:
        ResidencyError: the parent left an adapter and the stage does not say what to do with it, or adapters that
            match no module.
    """
    parent, settings = stage.parents["model"], stage.settings
    engine = EngineSettings.model_validate(stage.execution["engine"])
    base, adapter = base_of(parent)
    check_adapter(stage, adapter)
    if adapter and settings["adapter"] == "merge":
        base, adapter = _merged_parent(attempt, base, adapter, settings["precision"]), None
    model = load_weights(base, precision=settings["precision"], attention=engine.attention)
    model.config.use_cache = False
    if adapter:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, str(adapter), is_trainable=True)
    elif settings["lora"]:
        model = _with_adapters(model, LoraSettings.model_validate(settings["lora"]), settings["seed"])
    tokenizer = AutoTokenizer.from_pretrained(parent)
    if settings["chat_template"]:
        tokenizer.chat_template = settings["chat_template"]
    return model, tokenizer


def check_adapter(stage: StageFile, adapter: Path | None) -> None:
    """The explicit rule for a parent's adapter."""
    said = stage.settings["adapter"]
    if adapter and said is None:
        raise ResidencyError(
            f"stages.{stage.name}: its parent left an adapter", cure="Set adapter: continue or adapter: merge"
        )
    if not adapter and said is not None:
        raise ResidencyError(
            f"stages.{stage.name}.adapter = {said}: its parent left no adapter", cure="Remove the key"
        )
    if said == "continue" and not stage.settings["lora"]:
        raise ResidencyError(f"stages.{stage.name}.adapter = continue needs lora", cure="Add lora, or merge")
    if said == "merge" and stage.settings["lora"] and stage.settings["lora"]["finish"] == "keep":
        raise ResidencyError(
            f"stages.{stage.name}: the new adapter would stand on weights that are kept nowhere",
            cure="Set lora.finish: merge",
        )


def _with_adapters(model: Any, lora: LoraSettings, seed: int) -> Any:
    from peft import LoraConfig, get_peft_model

    set_seed(seed)  # the Trainer seeds only after the adapters have drawn their weights
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.targets,
        task_type="CAUSAL_LM",
    )
    try:
        return get_peft_model(model, config)
    except ValueError as error:
        raise ResidencyError(f"lora.targets = {lora.targets}: {str(error).splitlines()[0]}") from error


def finish(stage: StageFile, attempt: Path, trained: Path, payload: Path) -> None:
    """Write `trained` (an adapter's directory) merged into the weights it was trained on; on one rank."""
    base, adapter = base_of(stage.parents["model"])
    if adapter and stage.settings["adapter"] == "merge":
        base = attempt / MERGED
    _merge(base, trained, payload, stage.settings["precision"])


def _merged_parent(attempt: Path, base: Path, adapter: Path, precision: str) -> Path:
    """The parent's weights with its adapter in them, written by rank 0 where every rank loads its shards from."""
    merged = attempt / MERGED
    if torch.distributed.get_rank() == 0 and not merged.exists():
        beside = merged.with_name(MERGED + ".part")
        shutil.rmtree(beside, ignore_errors=True)
        _merge(base, adapter, beside, precision)
        beside.rename(merged)
    torch.distributed.barrier()
    return merged


def _merge(base: Path, adapter: Path, target: Path, precision: str) -> None:
    """Done on whole weights: the same for every ZeRO stage."""
    from peft import PeftModel

    with whole_weights():
        model = PeftModel.from_pretrained(load_weights(base, precision=precision), str(adapter))
        model.merge_and_unload().save_pretrained(target)


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
