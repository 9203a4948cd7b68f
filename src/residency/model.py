"""Loads a causal language model and its tokenizer from an artifact or a directory.

Shared by training and evaluation. Weights are safetensors only and no code from a repository is run. An artifact that
holds an adapter is loaded on the weights of its parent.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from residency.artifact import read_manifest
from residency.errors import ResidencyError


def load(
    directory: Path, *, precision: str = "auto", attention: str = "auto", tokenizer: Path | None = None
) -> tuple[Any, Any]:
    """Model (adapter applied, if any) and tokenizer, on the default device of the process.

    Args:
        precision: `float32`, `bfloat16`, or `auto`: bfloat16 on accelerators, float32 on CPU.
        attention: implementation, or `auto` for the best that the machine offers.
        tokenizer: directory of the tokenizer, where that is another one.
    """
    from transformers import AutoTokenizer

    base, adapter = base_of(directory)
    model = load_weights(base, precision=precision, attention=attention)
    if adapter:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, str(adapter))
    import torch

    if torch.cuda.is_available():
        model = model.to("cuda")
    # An adapter from elsewhere may come without a tokenizer: then its base's.
    spoken = tokenizer or (directory if (directory / "tokenizer_config.json").exists() else base)
    return model, AutoTokenizer.from_pretrained(spoken)


def load_weights(
    directory: Path, *, precision: str = "auto", attention: str = "auto", scores: bool = False
) -> Any:
    """The bare model of a directory that holds full weights.

    Args:
        scores: as a reward model, with a head `score` of one number. It is random where the weights have none.
    """
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    head: Any = AutoModelForSequenceClassification if scores else AutoModelForCausalLM
    return head.from_pretrained(
        directory,
        dtype=resolve_precision(precision),
        attn_implementation=resolve_attention(attention),
        use_safetensors=True,
        trust_remote_code=False,
        **({"num_labels": 1} if scores else {}),
    )


def base_of(directory: Path) -> tuple[Path, Path | None]:
    """Directory of the full weights, and of the adapter on them if there is one.

    The base of a stage's adapter stands in its manifest, that of any other in its `adapter_config.json`.

    Raises:
        ResidencyError: the base of an adapter is not here.
    """
    if not (directory / "adapter_config.json").exists():
        return directory, None
    if (directory / "manifest.json").exists():
        parent = (directory / read_manifest(directory).parent_paths["model"]).resolve()
    else:
        parent = _named_base(directory)
    if (parent / "adapter_config.json").exists():
        parent = base_of(parent)[0]
    return parent, directory


def _named_base(adapter: Path) -> Path:
    """The directory that an adapter's configuration names, or a hub id's in the mirror or the hub's cache."""
    config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    name = str(config.get("base_model_name_or_path") or "")
    mirror = os.environ.get("RESIDENCY_MIRROR")
    for place in [Path(name), adapter / name, *([Path(mirror, name)] if mirror else [])]:
        if name and (place / "config.json").exists():
            return place.resolve()
    if name.count("/") == 1 and not name.startswith((".", "/")):
        from huggingface_hub import try_to_load_from_cache

        cached = try_to_load_from_cache(name, "config.json", revision=config.get("revision"))
        if isinstance(cached, str):
            return Path(cached).parent
    raise ResidencyError(
        f"{adapter}: its base {name or '(not named)'} is not here",
        cure="Give its directory under base_model_name_or_path in adapter_config.json",
    )


def resolve_precision(precision: str) -> Any:
    """The torch dtype of a setting."""
    import torch

    if precision == "auto":
        precision = "bfloat16" if torch.cuda.is_available() else "float32"
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[precision]


def resolve_attention(attention: str) -> str:
    """The attention implementation of a setting.

    Raises:
        ResidencyError: one that this machine does not offer.
    """
    import torch
    from transformers.utils import is_flash_attn_2_available

    flash = torch.cuda.is_available() and is_flash_attn_2_available()
    if attention == "auto":
        return "flash_attention_2" if flash else "sdpa"
    if attention == "flash_attention_2" and not flash:
        raise ResidencyError(
            "engine.attention = flash_attention_2: not installed, or no GPU", cure="Use auto"
        )
    return attention
