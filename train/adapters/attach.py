"""New adapters on a model, and a parent's that are trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from transformers import set_seed

from residency.errors import ResidencyError
from residency.train.settings import LoraSettings, PromptTuningSettings


def with_lora(model: Any, lora: LoraSettings, seed: int, task: str = "CAUSAL_LM") -> Any:
    """The model, frozen, with new low-rank adapters, whole on every rank; ZeRO splits them later.

    Args:
        task: peft's name for the kind of model; `SEQ_CLS` also trains its head.

    Raises:
        ResidencyError: names that match no module.
    """
    from peft import LoraConfig, get_peft_model

    set_seed(seed)  # the Trainer seeds only after the adapters have drawn their weights
    tied = bool(getattr(model.config.get_text_config(), "tie_word_embeddings", False))
    modules = [name.rpartition(".")[2] for name, _ in model.named_modules()]
    for name in lora.also_train:
        if name not in modules:
            raise ResidencyError(f"lora.also_train: the model has no module {name}", cure=_known(model))
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        use_dora=lora.dora,
        use_rslora=lora.rank_stabilised,
        modules_to_save=lora.also_train or None,
        ensure_weight_tying=tied and any(name in EMBEDDINGS for name in lora.also_train),
        target_modules=lora.targets,
        task_type=task,
    )
    try:
        return get_peft_model(model, config)
    except ValueError as error:
        raise ResidencyError(f"lora.targets = {lora.targets}: {str(error).splitlines()[0]}") from error


EMBEDDINGS = ("embed_tokens", "lm_head", "wte", "embed_in", "embed_out")


def with_prompt(model: Any, prompt: PromptTuningSettings, seed: int, tokenizer: Path) -> Any:
    """The model, frozen, behind a new prompt.

    Args:
        tokenizer: directory of the tokenizer that reads `prompt.text`.
    """
    from peft import PromptTuningConfig

    from residency.train.adapters.prompted import PromptedModel

    set_seed(seed)
    start: dict[str, Any] = {}
    if prompt.text:
        start = {
            "prompt_tuning_init": "TEXT",
            "prompt_tuning_init_text": prompt.text,
            "tokenizer_name_or_path": str(tokenizer),
        }
    config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=prompt.tokens, **start)
    return PromptedModel(model, config)


def continued(model: Any, adapter: Path) -> Any:
    """The model with a parent's adapter on it, to be trained on."""
    from peft import PeftConfig, PeftModel

    config = PeftConfig.from_pretrained(str(adapter))
    if not config.is_prompt_learning:
        if hasattr(model, "score"):
            return _beside_head(model, adapter)
        return PeftModel.from_pretrained(model, str(adapter), is_trainable=True)
    from residency.train.adapters.prompted import PromptedModel

    config.prompt_tuning_init = "RANDOM"  # what it started from is learnt over
    config.inference_mode = False
    prompted = PromptedModel(model, config)
    learnt = load_file(adapter / "adapter_model.safetensors")["prompt_embeddings"]
    prompted.prompt_encoder["default"].embedding.weight.data.copy_(learnt)
    return prompted


def _beside_head(model: Any, adapter: Path) -> Any:
    """A language model's adapter on a reward model, whose head is trained beside it."""
    from peft import (
        PeftConfig,
        get_peft_model,
        get_peft_model_state_dict,
        load_peft_weights,
        set_peft_model_state_dict,
    )

    config = PeftConfig.from_pretrained(str(adapter))
    config.task_type, config.inference_mode = "SEQ_CLS", False
    adapted = get_peft_model(model, config)
    started = get_peft_model_state_dict(adapted)
    head = {name: weight for name, weight in started.items() if name.endswith(".score.weight")}
    set_peft_model_state_dict(adapted, load_peft_weights(str(adapter), device="cpu") | head)
    return adapted


def _known(model: Any) -> str:
    """Names of the modules that hold weights."""
    names = {name.rpartition(".")[2] for name, part in model.named_modules() if hasattr(part, "weight")}
    return f"Known: {', '.join(sorted(names))}"
