"""Preference alignment: DPO and its kin, KTO, SimPO, CPO, ORPO; the reference is the parent.

What the reference says of all replies is computed once, before the first step, from the very weights that training
starts from; the first step therefore finds no difference, and that is asserted. How replies are laid out in rows, and
how their log-probabilities are computed, changes the time and not the numbers. Run by `residency.train.worker` on every
rank.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments

from residency.artifact import StageFile, read_manifest
from residency.errors import ResidencyError
from residency.train.adapters.prepare import prepare
from residency.train.batches import accumulation
from residency.train.engine import training_arguments
from residency.train.preferences import head, layouts, references
from residency.train.preferences.batches import Pairs
from residency.train.preferences.objective import Objective
from residency.train.preferences.trainer import FirstStepIsReference, PreferenceTrainer
from residency.train.settings import EngineSettings
from residency.train.watch import Watch

SAMPLED = 8
"""Forward passes by which the layout is chosen."""


def build(stage: StageFile, attempt: Path, world_size: int) -> tuple[PreferenceTrainer, Watch]:
    """Trainer over whole steps of pairs in an order drawn by the stage's seed.

    Raises:
        ResidencyError: fewer pairs than one step holds.
    """
    settings, objective = stage.settings, Objective(stage.settings)
    engine = EngineSettings.model_validate(stage.execution["engine"])
    pairs = Pairs(stage.parents["tokens"] / "pairs", prompts_scored=objective.prompts_scored)
    batch_size = settings["batch_size"]
    if len(pairs) < batch_size:
        raise ResidencyError(
            f"stages.{stage.name}.batch_size = {batch_size}: the corpus has only {len(pairs)} pairs",
            cure="Lower batch_size",
        )
    micro, _ = accumulation(stage.name, batch_size, engine, world_size)
    steps = pairs.place(
        epochs=settings["epochs"],
        batch_size=batch_size,
        world_size=world_size,
        micro=micro,
        seed=settings["seed"],
    )
    arguments = TrainingArguments(**training_arguments(stage, attempt, world_size, steps * batch_size))
    model, tokenizer = prepare(stage, attempt)  # after the arguments: ZeRO-3 shards weights while they load
    pairs.prefix = _virtual_prompt(model)
    _without_dropout(model)
    passes = [
        pairs.items(pairs.order[first : first + micro].tolist()) for first in _sampled(len(pairs), micro)
    ]
    layout = layouts.choose(stage.execution["layout"], head.causal(model), passes)
    scored = micro * (pairs.replies * pairs.longest_reply + objective.prompts_scored * pairs.longest_prompt)
    chosen_head = head.choose(engine.head, model, scored)
    head.attach(model, chosen_head)
    kept = _kept(stage, model, layout, chosen_head, micro) if objective.has_reference else None
    watch = Watch(attempt, stage, tokens=_tokens(stage, steps * batch_size, len(pairs.lengths)))
    watch.measured |= {"layout": layout, "head": chosen_head}
    trainer = PreferenceTrainer(
        pairs=pairs,
        objective=objective,
        layout=layout,
        kept=kept,
        reference_with_adapter=settings["adapter"] == "continue",
        model=model,
        args=arguments,
        processing_class=tokenizer,
        callbacks=[watch, *(_first_step(settings, model) if kept else [])],
    )
    return trainer, watch


def _first_step(settings: dict[str, Any], model: Any) -> list[FirstStepIsReference]:
    """The check of the first step; none for a new prompt, which says something before it is trained."""
    if settings["prompt_tuning"] and settings["adapter"] != "continue":
        return []
    exact = next(model.parameters()).dtype == torch.float32
    alone = settings["loss"] == "dpo" and not settings["sft_weight"]
    return [FirstStepIsReference(math.log(2) if alone else None, settings["beta"], exact=exact)]


def _sampled(places: int, micro: int) -> list[int]:
    """First places of some forward passes, spread over the stage."""
    passes = places // micro
    return [number * micro for number in range(0, passes, -(-passes // SAMPLED))]


def _virtual_prompt(model: Any) -> Any:
    """Ids of a learnt prompt's tokens, see `residency.model.virtual_prompt`; none where there is no such adapter."""
    import numpy as np

    adapter: Any = getattr(model, "active_peft_config", None)
    return -1 - np.arange(adapter.num_virtual_tokens if adapter and adapter.is_prompt_learning else 0)


def _without_dropout(model: Any) -> None:
    """Policy and reference must not differ by chance (as TRL's trainers have it)."""
    from trl.trainer.utils import disable_dropout_in_model

    disable_dropout_in_model(model)
    for module in model.modules():
        if isinstance(getattr(module, "attention_dropout", None), float):
            module.attention_dropout = 0.0


def _kept(stage: StageFile, model: Any, layout: str, chosen_head: str, micro: int) -> Path:
    """Where the reference's log-probabilities are kept."""
    settings = stage.settings
    how = {
        "adapter": settings["adapter"],
        "quantised": bool(settings["lora"] and settings["lora"].get("quantised")),
        "precision": str(next(model.parameters()).dtype),
        "attention": model.config._attn_implementation,
        "layout": layout,
        "head": chosen_head,
        "at_once": micro,
        "mismatched": settings["loss"] == "kto",
    }
    return references.place(stage, references.digest(stage, how))


def _tokens(stage: StageFile, places: int, pairs: int) -> int:
    """Tokens that the stage will see: prompt and both replies of every pair, every time."""
    whole: int = read_manifest(stage.parents["tokens"]).measured["tokens"]
    return round(whole * places / pairs)
