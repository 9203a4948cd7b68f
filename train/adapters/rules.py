"""What a stage may do with an adapter: the explicit rule for a parent's, and what a new one needs. No torch here."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from residency.artifact import StageFile, read_manifest
from residency.errors import ResidencyError
from residency.train.launch import count_accelerators

Settings = dict[str, Any]
PROMPTED = ("cpt", "sft")
"""Kinds of stages that can train a new prompt; preference training only continues one: its reference has one too."""
WITHOUT_DROPOUT = ("preference", "rl")
"""Kinds of stages that train without dropout, whatever the adapter had: their reference is the parent exactly."""
MODULES = (
    "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "embed_tokens", "lm_head", "score",
)  # fmt: skip
"""What can get an adapter in models built as Llama is; `score` is a reward model's head."""
SHAPE: dict[str, dict[str, tuple[str, Any]]] = {
    "prompt_tuning": {"tokens": ("num_virtual_tokens", None)},
    "lora": {
        "rank": ("r", None),
        "alpha": ("lora_alpha", None),
        "dora": ("use_dora", False),
        "rank_stabilised": ("use_rslora", False),
        "dropout": ("lora_dropout", 0.0),
        "targets": ("targets", "all-linear"),
        "also_train": ("also_train", []),
    },
}
"""Settings that make an adapter, with their keys in peft's `adapter_config.json` and what they are where it is
silent."""
OF_A_STAGE = ("targets", "also_train")
"""Those that peft writes otherwise than a recipe says them: compared where the stage that made the adapter is known."""
WRITTEN_OUT = "a learnt prompt is no weight of the model and cannot be merged"


def check_adapter(stage: StageFile, adapter: Path | None) -> None:
    """The explicit rule for a parent's adapter.

    Raises:
        ResidencyError: the stage does not say what to do with it, or what it says cannot be done.
    """
    place, said = f"stages.{stage.name}", stage.settings["adapter"]
    left = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8")) if adapter else None
    kind = "prompt" if left and left.get("peft_type") == "PROMPT_TUNING" else "lora"
    check_said(place, stage.kind, stage.settings, kind if left else None, _maker(stage))
    if left and said == "continue":
        check_shape(place, stage.kind, stage.settings, left)


def check_said(place: str, kind: str, settings: Settings, left: str | None, parent: str) -> None:
    """The same from settings alone, before anything is made.

    Args:
        place: of the stage in the recipe, `stages.sft`.
        left: what the parent leaves beside its weights, `lora` or `prompt`.
        parent: its stage.
    """
    said, lora, prompt = settings["adapter"], settings["lora"], settings["prompt_tuning"]
    going_on = kind == "preference" and left == "prompt" and said == "continue"
    if prompt and kind not in PROMPTED and not going_on:
        cure = "Learn the prompt in an sft stage and set adapter: continue, or use lora"
        raise ResidencyError(
            f"{place}.prompt_tuning: stages of kind {kind} cannot train a new prompt",
            cure=cure if kind == "preference" else "Use lora",
        )
    if left == "prompt" and kind not in (*PROMPTED, "preference"):
        raise ResidencyError(
            f"{place}: {parent}, its parent, left a learnt prompt, which stages of kind {kind} cannot train on",
            cure=f"Start from the parent of {parent}",
        )
    if left and said is None:
        choice = "adapter: continue" if left == "prompt" else "adapter: continue or adapter: merge"
        raise ResidencyError(f"{place}: {parent}, its parent, left an adapter", cure=f"Set {choice}")
    if not left and said is not None:
        raise ResidencyError(
            f"{place}.adapter = {said}: {parent}, its parent, left no adapter", cure="Remove the key"
        )
    if left == "prompt" and said == "merge":
        raise ResidencyError(
            f"{place}.adapter = merge: {parent} left a learnt prompt; {WRITTEN_OUT}",
            cure=f"Set adapter: continue and prompt_tuning, or start from the parent of {parent}",
        )
    wanted = "prompt_tuning" if left == "prompt" else "lora"
    if said == "continue" and not settings[wanted]:
        cure = f"Add {wanted}" + (", or merge" if left == "lora" else "")
        raise ResidencyError(f"{place}.adapter = continue needs {wanted}", cure=cure)
    if said == "merge" and (prompt or (lora and lora["finish"] == "keep")):
        cure = "Set lora.finish: merge, or put " if lora else "Put "
        raise ResidencyError(
            f"{place}: the new adapter would stand on weights that are kept nowhere",
            cure=f"{cure}a stage of kind merge with method: adapter between the two",
        )


def check_quantised(place: str, settings: Settings, zero: int, *, here: bool = True) -> None:
    """4-bit weights need a GPU and bitsandbytes, and are not split over the ranks.

    Args:
        here: the stage will run on this machine.

    Raises:
        ResidencyError: one of these is not so.
    """
    if not (settings["lora"] and settings["lora"]["quantised"]):
        return
    place = f"{place}.lora.quantised"
    if zero == 3:
        raise ResidencyError(f"{place}: ZeRO-3 does not split 4-bit weights", cure="Set engine.zero: 2")
    if here and not count_accelerators():
        raise ResidencyError(
            f"{place}: 4-bit weights need a GPU, this machine has none", cure="Remove quantised"
        )
    if here and find_spec("bitsandbytes") is None:
        raise ResidencyError(f"{place}: bitsandbytes is not installed", cure="pip install bitsandbytes")


def check_window(place: str, kind: str, settings: Settings, longest: int | None) -> None:
    """Rows, with the learnt prompt in them, fit the model and hold more than the prompt.

    Raises:
        ResidencyError: they do not.
    """
    if longest and settings["max_length"] > longest:
        raise ResidencyError(
            f"{place}.max_length = {settings['max_length']}: the model reads {longest} tokens at most",
            cure=f"Set max_length to {longest} or less",
        )
    prompt = settings.get("prompt_tuning")
    if prompt and longest and kind == "preference" and settings["max_length"] + prompt["tokens"] > longest:
        raise ResidencyError(
            f"{place}.max_length = {settings['max_length']}: with the {prompt['tokens']} virtual tokens before them "
            f"rows are longer than the {longest} tokens that the model reads",
            cure=f"Set max_length to {longest - prompt['tokens']} or less",
        )
    if prompt and prompt["tokens"] + 2 > settings["max_length"]:
        raise ResidencyError(
            f"{place}.prompt_tuning.tokens = {prompt['tokens']}: they fill the {settings['max_length']} tokens of "
            "max_length",
            cure="Lower tokens, or raise max_length",
        )


def check_modules(place: str, settings: Settings) -> None:
    """The modules that adapters are asked for, by their last names, are in a model built as Llama is.

    Raises:
        ResidencyError: one is not.
    """
    lora = settings["lora"] or {}
    targets, also = lora.get("targets", "all-linear"), lora.get("also_train", [])
    for key, names in (("targets", [] if targets == "all-linear" else targets), ("also_train", also)):
        for name in names:
            last = name.rpartition(".")[2]
            if last not in MODULES and not (key == "also_train" and last.endswith("norm")):
                raise ResidencyError(
                    f"{place}.lora.{key}: the model has no module {name} that could be trained so",
                    cure=f"Known: {', '.join(MODULES)}",
                )


def check_shape(place: str, kind: str, settings: Settings, left: Settings) -> None:
    """An adapter is continued as it is: settings that would make another one are not silently dropped.

    Args:
        left: `adapter_config.json` of the parent's adapter, or the same keys of one that is not made yet.

    Raises:
        ResidencyError: they would make another one.
    """
    key = "prompt_tuning" if settings["prompt_tuning"] else "lora"
    own, cure = settings[key], "" if key == "prompt_tuning" else ", or merge the adapter first"
    for name, (theirs, usual) in SHAPE[key].items():
        found, told = left.get(theirs, usual), own.get(name, usual)
        known = name not in OF_A_STAGE or theirs in left
        if known and told != found and not (name == "dropout" and kind in WITHOUT_DROPOUT):
            raise ResidencyError(
                f"{place}.{key}.{name} = {told}: the adapter that is continued has {found}",
                cure=f"Set {name} to {found}{cure}",
            )


def _maker(stage: StageFile) -> str:
    """The parent's stage, or its directory where no stage made it."""
    parent = stage.parents["model"]
    return read_manifest(parent).stage if (parent / "manifest.json").exists() else parent.name
