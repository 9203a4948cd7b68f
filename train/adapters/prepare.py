"""The model that a stage trains: the parent's weights, and adapters where the stage asks for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from residency.artifact import StageFile
from residency.model import base_of, load_weights, refuse_other_base
from residency.train.adapters.attach import continued, with_lora, with_prompt
from residency.train.adapters.merging import merged_parent
from residency.train.adapters.rules import check_adapter, check_quantised
from residency.train.reward_model.score_head import start_head
from residency.train.settings import EngineSettings, LoraSettings, PromptTuningSettings


def prepare(stage: StageFile, attempt: Path, *, scores: bool = False) -> tuple[Any, Any]:
    """Model and tokenizer to train; a parent's adapter that is to be merged is written out in `attempt` first.

    Args:
        scores: a reward model, with a new head.

    Raises:
        ResidencyError: the parent left an adapter and the stage does not say what to do with it, one that was trained
            on other weights, or adapters that match no module.
    """
    parent, settings = stage.parents["model"], stage.settings
    engine = EngineSettings.model_validate(stage.execution["engine"])
    base, adapter = base_of(parent)
    check_adapter(stage, adapter)
    check_quantised(f"stages.{stage.name}", settings, engine.zero)
    if adapter:
        refuse_other_base(adapter, base)
    if adapter and settings["adapter"] == "merge":
        base, adapter = merged_parent(attempt, base, adapter, settings["precision"]), None
    lora, prompt = settings["lora"], settings["prompt_tuning"]
    model = load_weights(
        base,
        precision=settings["precision"],
        attention=engine.attention,
        scores=scores,
        quantised=bool(lora and lora.get("quantised")),
    )
    model.config.use_cache = False
    if scores:
        start_head(model, settings["seed"])
    if adapter:
        model = continued(model, adapter)
    elif lora:
        task = "SEQ_CLS" if scores else "CAUSAL_LM"
        model = with_lora(model, LoraSettings.model_validate(lora), settings["seed"], task)
    elif prompt:
        model = with_prompt(model, PromptTuningSettings.model_validate(prompt), settings["seed"], parent)
    tokenizer = AutoTokenizer.from_pretrained(parent)
    if settings["chat_template"]:
        tokenizer.chat_template = settings["chat_template"]
    return model, tokenizer
