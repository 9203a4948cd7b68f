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
from residency.weights import ADAPTER, fingerprint, tensors

PRECISIONS = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}
"""Types that weights are stored in, as safetensors and as torch name them."""


def load(
    directory: Path, *, precision: str = "auto", attention: str = "auto", tokenizer: Path | None = None
) -> tuple[Any, Any]:
    """Model (adapter applied, if any) and tokenizer, on the default device of the process.

    Args:
        precision: `float32`, `bfloat16`, or `auto`: bfloat16 on accelerators, float32 on CPU.
        attention: implementation, or `auto` for the best that the machine offers.
        tokenizer: directory of the tokenizer, where that is another one.

    Raises:
        ResidencyError: an adapter that was trained on other weights than its base holds now.
    """
    from transformers import AutoTokenizer

    base, adapter = base_of(directory)
    model = load_weights(base, precision=precision, attention=attention)
    if adapter:
        refuse_other_base(adapter, base)
        model = with_adapter(model, adapter)
    import torch

    if torch.cuda.is_available():
        model = model.to("cuda")
    # An adapter from elsewhere may come without a tokenizer: then its base's.
    spoken = tokenizer or (directory if (directory / "tokenizer_config.json").exists() else base)
    return model, AutoTokenizer.from_pretrained(spoken)


def with_adapter(model: Any, adapter: Path, name: str = "default") -> Any:
    """The model with an adapter on it. One with a learnt prompt reads it where `virtual_prompt` stands."""
    if not is_prompt(adapter):
        from peft import PeftModel

        return PeftModel.from_pretrained(model, str(adapter), adapter_name=name)
    from safetensors.torch import load_file

    from residency.prompted import PromptedEmbedding

    words = without_prompt(model).get_input_embeddings()
    learnt = load_file(adapter / ADAPTER)["prompt_embeddings"]  # [tokens, width]
    model.set_input_embeddings(PromptedEmbedding(words, learnt.to(words.weight)))
    model.virtual_tokens = len(learnt)
    return model


def without_prompt(model: Any) -> Any:
    """The same model, its learnt prompt taken off if it has one."""
    if getattr(model, "virtual_tokens", 0):
        model.set_input_embeddings(model.get_input_embeddings().words)
        model.virtual_tokens = 0
    return model


def virtual_prompt(model: Any) -> list[int]:
    """Ids of the virtual tokens of a learnt prompt, to be put before what the model reads; none for other models.

    They are negative, so that they are no ids of any tokenizer: -1, -2, and so on.
    """
    return list(range(-1, -getattr(model, "virtual_tokens", 0) - 1, -1))


def load_weights(
    directory: Path,
    *,
    precision: str = "auto",
    attention: str = "auto",
    scores: bool = False,
    quantised: bool = False,
) -> Any:
    """The bare model of a directory that holds full weights.

    Args:
        scores: as a reward model, with a head `score` of one number. It is random where the weights have none.
        quantised: hold them in 4 bits (NF4, arXiv 2305.14314); needs a GPU and bitsandbytes.

    Raises:
        ResidencyError: a tensor of the model is not in its files, or it is a reward model and shall write.
    """
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    head: Any = AutoModelForSequenceClassification if scores else AutoModelForCausalLM
    model, read = head.from_pretrained(
        directory,
        dtype=resolve_precision(precision),
        attn_implementation=resolve_attention(attention),
        use_safetensors=True,
        trust_remote_code=False,
        output_loading_info=True,
        **({"num_labels": 1} if scores else {}),
        **(_four_bits(precision) if quantised else {}),
    )
    if "score.weight" in read["unexpected_keys"]:  # with a tied head nothing is missing
        raise ResidencyError(
            f"{directory} is a reward model: it scores replies and writes none", cure="Give a language model"
        )
    if missing := sorted(set(read["missing_keys"]) - ({"score.weight"} if scores else set())):
        raise ResidencyError(
            f"{directory}: {len(missing)} tensors are not in its files, {missing[0]} among them: they would be random",
            cure="Save the model again, whole",
        )
    return model


def _four_bits(precision: str) -> dict[str, Any]:
    import torch
    from transformers import BitsAndBytesConfig

    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=resolve_precision(precision),
    )
    return {"quantization_config": config, "device_map": {"": torch.cuda.current_device()}}


def stored_precision(directory: Path) -> str:
    """The type in which most of a model's weights are stored: `float32`, `bfloat16`, `float16`."""
    sizes: dict[str, int] = {}
    for tensor in tensors(directory).values():
        sizes[tensor.dtype] = sizes.get(tensor.dtype, 0) + tensor.stop - tensor.start
    return PRECISIONS.get(max(sizes, key=lambda dtype: sizes[dtype]), "float32")


def is_prompt(directory: Path) -> bool:
    """Whether a directory holds a learnt prompt (peft's prompt tuning)."""
    config = directory / "adapter_config.json"
    return config.exists() and json.loads(config.read_text(encoding="utf-8"))["peft_type"] == "PROMPT_TUNING"


def refuse_other_base(adapter: Path, base: Path) -> None:
    """An adapter fits the weights that it was trained on and no others: their fingerprint stands in its manifest.

    Raises:
        ResidencyError: `base` holds other weights.
    """
    if not (adapter / "manifest.json").exists():
        return
    manifest = read_manifest(adapter)
    trained_on = manifest.measured.get("base_fingerprint")
    if trained_on and trained_on != fingerprint(base):
        raise ResidencyError(
            f"{adapter.name}: stage {manifest.stage} trained this adapter on other weights than {base} holds now",
            cure=f"Bring the weights back, or remove {adapter} and run its stage again",
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
        if not parent.exists():
            raise ResidencyError(
                f"{directory}: the base of this adapter, {parent}, is gone",
                cure="Bring it back, or run its stage again",
            )
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
    return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[precision]


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
