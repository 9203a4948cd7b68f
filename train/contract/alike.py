"""Models that are merged: one architecture, one tokenizer, the same tensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from residency.artifact import StageFile
from residency.data.tokenization.tokenizer import template_digest, template_of, tokenizer_digest
from residency.errors import ResidencyError
from residency.model import base_of
from residency.train.contract.files import config_of
from residency.train.contract.lineage import name_of
from residency.weights import tensors

NO_SHAPE = {
    "_name_or_path", "dtype", "torch_dtype", "transformers_version", "use_cache", "bos_token_id", "eos_token_id",
    "pad_token_id", "initializer_range", "attention_dropout", "pretraining_tp",
}  # fmt: skip
"""Entries of a configuration that do not say what the weights mean."""


def tied_names(model: Path) -> set[str]:
    """Names of tensors that only repeat the embedding, where a file holds them all the same."""
    tied = bool(config_of(model).get("tie_word_embeddings"))
    return {name for name in tensors(model) if tied and name.endswith("lm_head.weight")}


def check_alike(stage: StageFile, models: list[Path]) -> None:
    """Models can be added up, tensor by tensor.

    Args:
        models: the first is that of `from`; of several others, all speak with one template.

    Raises:
        ResidencyError: an adapter among them, another architecture or tokenizer, or missing tensors.
    """
    for model in models:
        if (model / "adapter_config.json").exists():
            raise ResidencyError(
                f"stages.{stage.name}: {name_of(model)} left an adapter, no whole weights",
                cure="Merge it into its base before, with a stage of kind merge and method: adapter",
            )
    first, *others = models
    for other in others:
        _check_architecture(stage, first, other)
        if tokenizer_digest(first) != tokenizer_digest(other):
            raise ResidencyError(
                f"stages.{stage.name}: {name_of(other)} has another tokenizer than {name_of(first)}: one row of their "
                "embeddings means different tokens",
                cure="Merge models with one tokenizer",
            )
        _check_tensors(stage, first, other)
        if template_digest(template_of(others[0])) != template_digest(template_of(other)):
            raise ResidencyError(
                f"stages.{stage.name}: {name_of(other)} was taught another chat template than {name_of(others[0])}",
                cure="Merge models with one chat template",
            )


def _check_architecture(stage: StageFile, first: Path, other: Path) -> None:
    ours, theirs = _meaning(first), _meaning(other)
    for key in sorted(ours.keys() | theirs.keys()):
        if ours.get(key) != theirs.get(key):
            raise ResidencyError(
                f"stages.{stage.name}: {name_of(other)} has another architecture than {name_of(first)}: {key} is "
                f"{theirs.get(key)}, not {ours.get(key)}",
                cure="Merge models of one family and size",
            )


def _check_tensors(stage: StageFile, first: Path, other: Path) -> None:
    ours, theirs = (
        {name: tensor.shape for name, tensor in tensors(model).items() if name not in tied_names(model)}
        for model in (first, other)
    )
    for name in sorted(ours.keys() | theirs.keys()):
        for model, found in ((first, ours), (other, theirs)):
            if name not in found:
                raise ResidencyError(
                    f"stages.{stage.name}: {name_of(model)} has no {name}", cure="Save the model again, whole"
                )
        if ours[name] != theirs[name]:
            raise ResidencyError(
                f"stages.{stage.name}: {name} has the shape {list(theirs[name])} in {name_of(other)}, "
                f"{list(ours[name])} in {name_of(first)}",
                cure="Merge models of one family and size",
            )


def _meaning(model: Path) -> dict[str, Any]:
    """The configuration as transformers reads it: other versions write other keys, and leave out other defaults."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(base_of(model)[0], trust_remote_code=False).to_dict()
    return {key: value for key, value in config.items() if key not in NO_SHAPE}
