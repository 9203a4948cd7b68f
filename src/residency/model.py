"""Loads a causal language model and its tokenizer from an artifact or a directory.

Shared by training and evaluation. Weights are safetensors only and no code from a repository is run. An artifact that
holds an adapter is loaded on the weights of its parent.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from residency.artifact import read_manifest
from residency.errors import ResidencyError


def load(directory: Path, *, precision: str = "auto", attention: str = "auto") -> tuple[Any, Any]:
    """Model (adapter applied, if any) and tokenizer, on the default device of the process.

    Args:
        precision: `float32`, `bfloat16`, or `auto`: bfloat16 on accelerators, float32 on CPU.
        attention: implementation, or `auto` for the best that the machine offers.
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
    return model, AutoTokenizer.from_pretrained(directory)


def load_weights(directory: Path, *, precision: str = "auto", attention: str = "auto") -> Any:
    """The bare model of a directory that holds full weights."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(
        directory,
        dtype=resolve_precision(precision),
        attn_implementation=resolve_attention(attention),
        use_safetensors=True,
        trust_remote_code=False,
    )


def base_of(directory: Path) -> tuple[Path, Path | None]:
    """Directory of the full weights, and of the adapter on them if there is one."""
    if not (directory / "adapter_config.json").exists():
        return directory, None
    parent = (directory / read_manifest(directory).parent_paths["model"]).resolve()
    if (parent / "adapter_config.json").exists():
        parent = base_of(parent)[0]
    return parent, directory


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
