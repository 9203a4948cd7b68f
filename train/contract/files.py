"""Weights and adapters: whole, of the configuration's shapes, and the adapter on the weights it was trained on."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

from residency.artifact import check_files
from residency.errors import ResidencyError
from residency.model import base_of, refuse_other_base
from residency.train.contract.lineage import manifest_of, name_of
from residency.weights import Tensor, tensors

Config = dict[str, Any]
LLAMA_LIKE = ("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2")
"""Architectures whose tensors have the shapes of `_expected`."""
TRAINABLE = ("F64", "F32", "BF16", "F16")
ADAPTERS = ("LORA", "PROMPT_TUNING")
"""peft's names for the kinds of adapters that are continued, merged and read."""
GATHER = (
    "Save the whole weights: DeepSpeed's zero_to_fp32.py makes them of a ZeRO-3 checkpoint, and "
    "stage3_gather_16bit_weights_on_model_save saves them so"
)
EMBEDDING = re.compile(r"(?:^|\.)(?:embed_tokens|wte|embed_in)\.weight$")
LAYER = re.compile(r"^(.*\.(?:layers|h|blocks)\.)(\d+)(\..*)$")


def check_whole(stage: str, parent: Path) -> None:
    """No file of an artifact is missing or cut.

    Raises:
        ResidencyError: one is.
    """
    if (parent / "manifest.json").exists() and (faults := check_files(parent)):
        raise ResidencyError(f"stage {stage}: {faults[0]}", cure=f"Remove {parent} and run again")


def config_of(model: Path) -> Config:
    """The configuration of the language model in a directory's base."""
    config: Config = json.loads((base_of(model)[0] / "config.json").read_text(encoding="utf-8"))
    inner = config.get("text_config")
    return config | inner if isinstance(inner, dict) else config


def rows_of(model: Path) -> int:
    """Rows of the embedding; configurations of several modalities may leave the number out (Gemma 3)."""
    said = config_of(model).get("vocab_size")
    if said is None:
        found = tensors(base_of(model)[0])
        said = next((tensor.shape[0] for name, tensor in found.items() if EMBEDDING.search(name)), 0)
    return int(said)


def check_weights(stage: str, model: Path, *, scores: bool = False) -> None:
    """A model's weights are whole and trainable, and so is an adapter, which stands on its own base.

    Args:
        scores: it has to be a reward model; else a language model.

    Raises:
        ResidencyError: something else.
    """
    base, adapter = base_of(model)
    if adapter:
        try:
            refuse_other_base(adapter, base)
        except ResidencyError as error:
            raise ResidencyError(f"stage {stage}: {error}") from error
        _check_adapter(stage, adapter, base)
    _check_kind(stage, model, scores)
    config, found = config_of(base), tensors(base)
    if config.get("quantization_config"):
        raise ResidencyError(
            f"stage {stage}: the weights of {name_of(base)} are quantised ({_method(config)}) and cannot be trained",
            cure="Start from whole weights; lora.quantised quantises them while they are loaded",
        )
    _check_partial(stage, base, found, config)


def _check_kind(stage: str, model: Path, scores: bool) -> None:
    manifest = manifest_of(model)
    names = [str(name) for name in config_of(model).get("architectures") or []]
    is_scorer = bool(manifest and manifest.stage_kind == "reward") or any(
        name.endswith(("ForSequenceClassification", "ForTokenClassification")) for name in names
    )
    if is_scorer and not scores:
        raise ResidencyError(
            f"stage {stage}: {name_of(model)} left a reward model, which scores and cannot speak",
            cure="Start from a language model, and name this one under rewards",
        )
    if scores and not is_scorer:
        raise ResidencyError(
            f"stage {stage}: {name_of(model)} left no reward model", cure="Name one under rewards"
        )


def _check_partial(stage: str, base: Path, found: dict[str, Tensor], config: Config) -> None:
    """Every tensor is there, and as large as the configuration says."""
    of = f"{name_of(base)}"
    for name, tensor in found.items():
        if not math.prod(tensor.shape):
            raise ResidencyError(
                f"stage {stage}: {name} of {of} is empty: it holds the part of one ZeRO-3 rank, not the model",
                cure=GATHER,
            )
        if tensor.dtype not in TRAINABLE and name.endswith("weight"):
            raise ResidencyError(
                f"stage {stage}: {name} of {of} is stored as {tensor.dtype}",
                cure="Convert it to bfloat16 or float32",
            )
        wanted = _expected(name, config)
        if wanted and wanted != tensor.shape:
            raise ResidencyError(
                f"stage {stage}: {name} of {of} has the shape {list(tensor.shape)}, its configuration says "
                f"{list(wanted)}: these are not the whole weights of this model",
                cure=GATHER,
            )
    if missing := _missing(found, config):
        raise ResidencyError(
            f"stage {stage}: {of} has no {missing}: these are not the whole weights of this model",
            cure=GATHER,
        )


def _expected(name: str, config: Config) -> tuple[int, ...] | None:
    """The shape of a tensor, as far as its name and the configuration tell."""
    width, vocabulary = config.get("hidden_size") or config.get("n_embd"), config.get("vocab_size")
    last = name.rpartition(".weight")[0].rpartition(".")[2]
    if last in ("embed_tokens", "wte", "embed_in", "lm_head", "embed_out") and width and vocabulary:
        per_layer = "per_layer" in name or "embedding_size" in config or "word_embed_proj_dim" in config
        return None if per_layer else (vocabulary, width)
    if config.get("model_type") not in LLAMA_LIKE or not name.endswith(".weight"):
        return None
    heads, inner = config["num_attention_heads"], config["intermediate_size"]
    size = config.get("head_dim") or width // heads
    pairs = config.get("num_key_value_heads") or heads
    return {
        "q_proj": (heads * size, width),
        "k_proj": (pairs * size, width),
        "v_proj": (pairs * size, width),
        "o_proj": (width, heads * size),
        "gate_proj": (inner, width),
        "up_proj": (inner, width),
        "down_proj": (width, inner),
        "input_layernorm": (width,),
        "post_attention_layernorm": (width,),
        "norm": (width,),
    }.get(last)


def _missing(found: dict[str, Tensor], config: Config) -> str | None:
    """A tensor that has to be there and is not."""
    layers: dict[int, set[str]] = {}
    for name in found:
        if match := LAYER.match(name):
            layers.setdefault(int(match[2]), set()).add(match[3])
    depth = config.get("num_hidden_layers") or config.get("n_layer")
    if depth and layers and (absent := set(range(depth)) - layers.keys()):
        return f"layer {min(absent)}"
    if config.get("model_type") not in LLAMA_LIKE:
        return None
    usual = set().union(*layers.values()) if layers else set()
    for number, names in sorted(layers.items()):
        if lacking := sorted(usual - names):
            return f"model.layers.{number}{lacking[0]}"
    ends = [("embed_tokens.weight", "model.embed_tokens.weight"), (".norm.weight", "model.norm.weight")]
    if not config.get("tie_word_embeddings", config["model_type"].startswith("gemma")) and not _is_scorer(
        config
    ):
        ends.append(("lm_head.weight", "lm_head.weight"))
    for end, called in ends:
        if not any(name.endswith(end) or name == called for name in found):
            return called
    return None if layers else "layer 0"


def _is_scorer(config: Config) -> bool:
    return any("Classification" in str(name) for name in config.get("architectures") or [])


def _check_adapter(stage: str, adapter: Path, base: Path) -> None:
    """The adapter is of a kind that can be built on, and its matrices fit those of the base."""
    kind = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8")).get("peft_type")
    if kind not in ADAPTERS:
        raise ResidencyError(
            f"stage {stage}: {name_of(adapter)} is an adapter of kind {kind}",
            cure=f"Known: {', '.join(ADAPTERS)}; merge others into their base with peft, and start from that",
        )
    below: dict[str, list[Tensor]] = {}
    for name, tensor in tensors(base).items():
        below.setdefault(_place(name), []).append(tensor)
    width = config_of(base).get("hidden_size")
    for name, tensor in tensors(adapter).items():
        if not math.prod(tensor.shape):
            raise ResidencyError(
                f"stage {stage}: {name} of {name_of(adapter)} is empty: it holds the part of one ZeRO-3 rank",
                cure=GATHER,
            )
        module = name.removeprefix("base_model.model.").partition(".lora_")[0]
        under = below.get(_place(f"{module}.weight"), [])
        fits = True
        if ".lora_" in name and not under:
            fits = module.endswith(("lm_head", "score"))
        elif under and name.endswith("lora_A.weight"):
            fits = any(
                tensor.shape[-1] in weight.shape for weight in under
            )  # GPT-2 writes them the other way round
        elif under and name.endswith("lora_B.weight"):
            fits = any(tensor.shape[0] in weight.shape for weight in under)
        elif name == "prompt_embeddings" and width:
            fits = tensor.shape[-1] == width
        if not fits:
            raise ResidencyError(
                f"stage {stage}: {name_of(adapter)} left an adapter of another base: {name} {list(tensor.shape)} does "
                f"not fit {name_of(base)}",
                cure="Give the base that it was trained on under base_model_name_or_path in adapter_config.json",
            )


def _place(name: str) -> str:
    """A tensor's name from its layer on: what stands before it is not the same in files and in adapters (GPT-2 on the
    hub, models of several modalities)."""
    found = LAYER.match(f".{name}")
    return f"{found[2]}{found[3]}" if found else name


def _method(config: Config) -> str:
    return str(config["quantization_config"].get("quant_method", "unknown"))
