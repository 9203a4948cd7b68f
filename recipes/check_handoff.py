"""The hand-off contract as far as a plan alone, or what is finished of it, tells. No torch, no weights read."""

from __future__ import annotations

import json
from typing import Any

from residency.data.tokenization.tokenizer import BEGIN, END_OF_TEXT, PAD, SPECIAL
from residency.errors import ResidencyError
from residency.model import base_of, is_prompt
from residency.recipes.check_alike import check_alike, template_text
from residency.recipes.plan import Plan
from residency.recipes.schema import ScratchBase
from residency.train import contract
from residency.train.adapters import rules
from residency.train.contract import files, words
from residency.train.replies.room import WRITTEN, check_room
from residency.train.settings import (
    EngineSettings,
    ExportSettings,
    MergeSettings,
    TrainingStage,
    VocabSettings,
    WritingStage,
)

MERGE_FIRST = "Put a stage of kind merge with method: adapter between the two"


def check_handoff(plan: Plan, *, here: bool) -> None:
    """Stages fit what their parents will leave, or have left.

    Args:
        here: the recipe will run on this machine.

    Raises:
        ResidencyError: an adapter that would be stacked or cannot be merged, a window that is too short, a model
            without chat template, or finished parents that do not fit.
    """
    for name, stage in plan.recipe.stages.items():
        check_alike(plan, name)
        if isinstance(stage, TrainingStage):
            _check_training(plan, name, stage, here)
        elif isinstance(stage, MergeSettings):
            _check_merge(plan, name, stage)
        elif isinstance(stage, ExportSettings | VocabSettings):
            _check_whole(plan, name, stage)
        if stage.kind in WRITTEN:
            longest = ("max_length", plan.stages[name].settings["max_length"])
            check_room(
                name, stage.kind, plan.stages[name].settings, longest, _window_behind(plan, stage.parent)
            )
        if isinstance(stage, TrainingStage | WritingStage):
            _check_template(plan, name)
            _check_finished(plan, name, here)
    _check_base(plan)


def leaves(plan: Plan, name: str) -> str | None:
    """What a stage leaves beside its weights: `lora`, `prompt`, or nothing."""
    if name == "base":
        directory = plan.base.directory if plan.base and plan.base.here else None
        if directory is None or base_of(directory)[1] is None:
            return None
        return "prompt" if is_prompt(directory) else "lora"
    stage = plan.recipe.stages[name]
    if not isinstance(stage, TrainingStage):
        return None
    if stage.prompt_tuning:
        return "prompt"
    return "lora" if stage.lora and stage.lora.finish == "keep" else None


def _check_training(plan: Plan, name: str, stage: TrainingStage, here: bool) -> None:
    settings, place = plan.stages[name].settings, f"stages.{name}"
    rules.check_said(place, stage.kind, settings, leaves(plan, stage.parent), stage.parent)
    if stage.adapter == "continue" and (left := _adapter_of(plan, stage.parent)):
        rules.check_shape(place, stage.kind, settings, left)
    if stage.adapter != "continue" and _config(plan).get("model_type") in files.LLAMA_LIKE:
        rules.check_modules(place, settings)
    engine = EngineSettings.model_validate(plan.stages[name].execution["engine"])
    rules.check_quantised(place, settings, engine.zero, here=here)
    rules.check_window(place, stage.kind, settings, _window(plan))


def _adapter_of(plan: Plan, name: str) -> dict[str, Any]:
    """What `adapter_config.json` of a stage's adapter will say of its shape; nothing of a base that is not here."""
    stage = plan.recipe.stages.get(name)
    if isinstance(stage, TrainingStage) and stage.adapter != "continue":
        key = "prompt_tuning" if stage.prompt_tuning else "lora"
        own = plan.stages[name].settings[key]
        return {theirs: own[ours] for ours, (theirs, _) in rules.SHAPE[key].items()}
    if isinstance(stage, TrainingStage):
        return _adapter_of(plan, stage.parent)
    directory = plan.base.directory if plan.base and plan.base.here else None
    path = directory / "adapter_config.json" if directory else None
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path and path.exists() else {}


def _check_merge(plan: Plan, name: str, stage: MergeSettings) -> None:
    left, place = leaves(plan, stage.parent), f"stages.{name}"
    if stage.method == "adapter":
        if left is None:
            raise ResidencyError(
                f"{place}: {stage.parent} leaves no adapter to merge", cure="Remove the stage"
            )
        if left == "prompt":
            raise ResidencyError(
                f"{place}: {stage.parent} leaves a learnt prompt; {rules.WRITTEN_OUT}",
                cure="Use it where it is",
            )
        return
    for other in [stage.parent, *stage.models]:
        if leaves(plan, other):
            raise ResidencyError(f"{place}: {other} leaves an adapter, no whole weights", cure=MERGE_FIRST)


def _check_whole(plan: Plan, name: str, stage: ExportSettings | VocabSettings) -> None:
    if isinstance(stage, ExportSettings) and stage.parent == "base" and plan.base:
        raise ResidencyError(
            f"stages.{name}: {plan.base.model} comes from outside, no stage has made anything of it",
            cure="Name a stage; to put an adapter from outside into its base, one of kind merge",
        )
    if leaves(plan, stage.parent) == "prompt":
        exported = isinstance(stage, ExportSettings)
        cure = f"Pass on the directory of {stage.parent} itself: peft loads it"
        raise ResidencyError(
            f"stages.{name}: {stage.parent} leaves a learnt prompt; {rules.WRITTEN_OUT}",
            cure=cure if exported else f"Start from the parent of {stage.parent}",
        )


def _check_template(plan: Plan, name: str) -> None:
    """There is a template, and the model's tokenizer has what it writes as single tokens."""
    planned, place = plan.stages[name], f"stages.{name}"
    if planned.kind not in words.TALKING:
        return
    text = template_text(plan, name)
    if plan.base is None:
        assert text is not None, "a new tokenizer has a template"
        named = {"bos_token": BEGIN, "eos_token": END_OF_TEXT, "pad_token": PAD}
        words.check_marks(place, "the new base", text, SPECIAL, named)
    elif plan.base.here and text is None:
        above = "" if planned.kind == "sft" else " in an sft stage above"
        raise ResidencyError(
            f"{place}: {plan.base.model} has no chat template",
            cure=f"Set chat_template to a Jinja file{above}",
        )
    elif plan.base.here and text is not None:
        words.check_stop(place, plan.base.directory, text)


def _check_finished(plan: Plan, name: str, here: bool) -> None:
    """The contract itself, where everything that the stage starts from is there."""
    planned = plan.stages[name]
    ready = all(plan.stages[parent].finished for parent in planned.parents.values())
    here_too = plan.base is None or plan.base.here
    if ready and here_too and not planned.finished:
        contract.check(plan.stage_file(planned), here=here)


def _check_base(plan: Plan) -> None:
    """A base from outside that is here and that stages build on: its weights are whole, its special tokens inside the
    embedding."""
    built_on = any(stage.kind != "evaluate" for stage in plan.recipe.stages.values())
    if plan.base is None or not plan.base.here or not built_on:
        return
    directory, (weights, adapter) = plan.base.directory, base_of(plan.base.directory)
    reads = any(isinstance(stage, TrainingStage | WritingStage) for stage in plan.recipe.stages.values())
    if adapter and reads and not (adapter / "tokenizer.json").exists():
        raise ResidencyError(
            f"base: the adapter {plan.base.model} holds no tokenizer.json, data are prepared with it",
            cure=f"Copy tokenizer.json and tokenizer_config.json of {weights} into it",
        )
    files.check_weights("base", directory)
    words.check_special("base", directory)


def _config(plan: Plan) -> dict[str, Any]:
    """Configuration of the base; empty where it is not here."""
    if isinstance(plan.recipe.base, ScratchBase):
        return {"model_type": "llama", "max_position_embeddings": plan.recipe.base.scratch.context}
    return files.config_of(plan.base.directory) if plan.base and plan.base.here else {}


def _window(plan: Plan) -> int | None:
    longest = _config(plan).get("max_position_embeddings")
    return int(longest) if longest else None


def _window_behind(plan: Plan, name: str) -> int | None:
    """What a learnt prompt that a stage leaves, if it leaves one, leaves of the window."""
    prompt = _adapter_of(plan, name) if leaves(plan, name) == "prompt" else {}
    longest = _window(plan)
    return longest and longest - prompt.get("num_virtual_tokens", 0)
