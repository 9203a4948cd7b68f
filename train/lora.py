"""The model that a stage trains: the parent's weights, and adapters where the stage asks for them.

A parent's adapter is continued or merged by an explicit setting, never silently stacked.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, set_seed

from residency.artifact import StageFile
from residency.errors import ResidencyError
from residency.model import base_of, load_weights
from residency.train.settings import EngineSettings, LoraSettings


def prepare(stage: StageFile) -> tuple[Any, Any]:
    """Model and tokenizer to train.

    Raises:
        ResidencyError: the parent left an adapter and the stage does not say what to do with it, or adapters that
            match no module.
    """
    parent, settings = stage.parents["model"], stage.settings
    engine = EngineSettings.model_validate(stage.execution["engine"])
    base, adapter = base_of(parent)
    check_adapter(stage, adapter)
    model = load_weights(base, precision=settings["precision"], attention=engine.attention)
    model.config.use_cache = False
    if adapter and settings["adapter"] == "merge":
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()
    elif adapter:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, str(adapter), is_trainable=True)
    if settings["lora"] and not (adapter and settings["adapter"] == "continue"):
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


def merge(stage: StageFile, trained: Path, payload: Path) -> None:
    """Write `trained` (an adapter's directory) merged into the weights it was trained on.

    Done on one process on plain weights: the same for every ZeRO stage.
    """
    from peft import PeftModel

    base, adapter = base_of(stage.parents["model"])
    model = load_weights(base, precision=stage.settings["precision"])
    if adapter and stage.settings["adapter"] == "merge":
        model = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()
    model = PeftModel.from_pretrained(model, str(trained)).merge_and_unload()
    model.save_pretrained(payload)
