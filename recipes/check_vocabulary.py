"""What can be known of a `vocab` stage before it runs. No torch here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from residency.errors import ResidencyError
from residency.model import base_of
from residency.recipes.check_handoff import leaves
from residency.recipes.plan import Plan
from residency.recipes.plan_stages import tokenizer_stage
from residency.train.settings import TrainingStage, VocabSettings
from residency.train.vocabulary import terms
from residency.train.vocabulary.embedding import rows_for
from residency.train.vocabulary.tokenizer import refuse_others


def check_vocabulary(plan: Plan, name: str, stage: VocabSettings) -> list[str]:
    """Validate a `vocab` stage; returns notes for the user.

    Raises:
        ResidencyError: a base whose tokenizer cannot grow, a parent that leaves an adapter, or terms that are no terms.
    """
    if leaves(plan, stage.parent) == "lora":
        raise ResidencyError(
            f"stages.{name}: {stage.parent} leaves an adapter, whose base has no new rows",
            cure="Set its lora.finish to merge, or put a stage of kind merge (method: adapter) between",
        )
    _check_terms(plan, name, stage)
    notes = _check_base(plan, name, stage)
    if not plan.stages[name].finished:
        behind = [other for other in plan.recipe.stages if tokenizer_stage(plan, other) == name]
        told = f"; {', '.join(behind)} will be tokenised with them" if behind else ""
        notes.append(f"{name}: up to {stage.tokens:,} words of {stage.corpus} become tokens{told}")
        notes += _untrained(plan, name)
    return notes


def _untrained(plan: Plan, name: str) -> list[str]:
    """A note on each stage behind whose adapters leave the new rows as they are."""
    return [
        f"{other}: its adapters leave the new rows of {name} as they start; lora.also_train: [embed_tokens, lm_head] "
        "trains them"
        for other, stage in plan.recipe.stages.items()
        if isinstance(stage, TrainingStage)
        and stage.parent == name
        and stage.lora
        and not stage.lora.also_train
    ]


def _check_terms(plan: Plan, name: str, stage: VocabSettings) -> None:
    if stage.terms is None or stage.terms in plan.recipe.corpora:
        typed = False
    else:
        typed = bool(terms.read(Path(stage.terms)).of_type)
    if stage.start == "type" and not typed:
        raise ResidencyError(f"stages.{name}.start = type: {terms.NO_TYPES}", cure=terms.CURE)


def _check_base(plan: Plan, name: str, stage: VocabSettings) -> list[str]:
    """A base from outside is looked at if it is here; one that the recipe makes can always grow."""
    if not plan.base or not plan.base.here or tokenizer_stage(plan, name) != "base":
        return []
    directory = plan.base.directory
    path = next(
        (
            at / "tokenizer.json"
            for at in (directory, base_of(directory)[0])
            if (at / "tokenizer.json").exists()
        ),
        None,
    )
    if path is None:
        raise ResidencyError(
            f"stages.{name}: {plan.base.model} holds no tokenizer.json",
            cure="Save the model's tokenizer in the fast (tokenizers) format",
        )
    form: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    refuse_others(form, f"stages.{name}: {plan.base.model}")
    ids = [*form["model"]["vocab"].values(), *(token["id"] for token in form.get("added_tokens", []))]
    rows, first = plan.base.config.get("vocab_size"), max(ids) + 1
    if rows is None:
        return []
    return [
        f"{name}: {plan.base.model} has {first:,} tokens and {rows:,} rows ({max(0, rows - first):,} to spare); "
        f"{stage.tokens:,} new tokens make up to {rows_for(rows, first + stage.tokens):,} rows"
    ]
