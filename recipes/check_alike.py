"""Models that must speak alike, as far as a plan tells: those that are merged, and a reward model and whom it scores.

The same is checked of finished models by `residency.train.contract`; here it is known before any of them is trained.
No torch here.
"""

from __future__ import annotations

import json

from residency.data.tokenization.tokenizer import chat_template as new_template
from residency.data.tokenization.tokenizer import template_digest, template_of
from residency.errors import ResidencyError
from residency.model import base_of
from residency.recipes.plan import Plan
from residency.recipes.plan_order import rewards_of
from residency.recipes.plan_stages import chat_template, tokenizer_stage
from residency.recipes.schema import ScratchBase
from residency.train.settings import MergeSettings


def check_alike(plan: Plan, name: str) -> None:
    """A stage's models have one tokenizer and one chat template.

    Raises:
        ResidencyError: two of them differ.
    """
    stage = plan.recipe.stages[name]
    if isinstance(stage, MergeSettings) and stage.models:
        first, *others = stage.models
        _same_tokenizer(plan, name, [stage.parent, first, *others], "Merge models with one tokenizer")
        _same_template(plan, name, [first, *others], "Merge models with one chat template")
    for scorer in rewards_of(plan.recipe, name):
        cure = f"Train {scorer} from a model that speaks as {stage.parent}, whose replies it scores"
        _same_tokenizer(plan, name, [stage.parent, scorer], cure)
        _same_template(plan, name, [name, scorer], cure)


def template_text(plan: Plan, name: str) -> str | None:
    """The chat template of what a stage leaves; None where there is none, or where the base is not here to tell."""
    if text := chat_template(plan, name):
        return text
    if isinstance(plan.recipe.base, ScratchBase):
        return new_template()
    if plan.base is None or not plan.base.here:
        return None
    directory = plan.base.directory
    return template_of(directory) or template_of(base_of(directory)[0])


def _same_tokenizer(plan: Plan, place: str, models: list[str], cure: str) -> None:
    first = models[0]
    for other in models[1:]:
        if _words(plan, first) != _words(plan, other):
            raise ResidencyError(
                f"stages.{place}: {other} has the tokenizer of {tokenizer_stage(plan, other)}, {first} that of "
                f"{tokenizer_stage(plan, first)}: one row of their embeddings means different tokens",
                cure=cure,
            )


def _same_template(plan: Plan, place: str, models: list[str], cure: str) -> None:
    first = template_text(plan, models[0])
    for other in models[1:]:
        theirs = template_text(plan, other)
        unknown = plan.base is not None and not plan.base.here and not (first and theirs)
        if not unknown and template_digest(first) != template_digest(theirs):
            raise ResidencyError(
                f"stages.{place}: {other} has another chat template than {models[0]}", cure=cure
            )


def _words(plan: Plan, name: str) -> str:
    """What makes a stage's tokenizer: the `vocab` stages above it, which may be alike in two branches."""
    made_by = tokenizer_stage(plan, name)
    if made_by == "base":
        return ""
    own = {key: value for key, value in plan.stages[made_by].settings.items() if key not in ("from", "start")}
    return json.dumps([own, _words(plan, plan.recipe.stages[made_by].parent)], sort_keys=True)
