"""What the stages of a recipe need of each other, and an order in which every stage comes behind what it needs."""

from __future__ import annotations

from residency.errors import ResidencyError
from residency.recipes.schema import Recipe
from residency.train.settings import (
    MergeSettings,
    PreferenceSettings,
    RewardSettings,
    RlSettings,
    SftSettings,
    TextStage,
    TrainingStage,
    VocabSettings,
    WritingStage,
)
from residency.train.settings.rewards import ModelReward

Needed = dict[str, str]
"""Place in the recipe to the stage that it names."""


def corpora_of(recipe: Recipe, name: str) -> list[str]:
    """Names of the corpora that a stage reads, stages that write corpora among them."""
    stage = recipe.stages[name]
    if isinstance(stage, TextStage | SftSettings):
        return stage.mixture.names
    if isinstance(stage, RewardSettings | RlSettings):
        return [stage.corpus, *([stage.held_out] if stage.held_out else [])]
    if isinstance(stage, VocabSettings):
        return [stage.corpus, *([stage.terms] if stage.terms in recipe.corpora else [])]
    if isinstance(stage, PreferenceSettings | WritingStage):
        return [stage.corpus]
    return []


def rewards_of(recipe: Recipe, name: str) -> list[str]:
    """Stages whose models score a stage's replies."""
    rewards = getattr(recipe.stages[name], "rewards", [])
    return list(dict.fromkeys(reward.stage for reward in rewards if isinstance(reward, ModelReward)))


def writers_of(recipe: Recipe, corpus: str) -> list[str]:
    """Stages that a corpus is made of, at any remove; the name of such a stage is a corpus itself."""
    if corpus not in recipe.corpora:
        return [corpus] if isinstance(recipe.stages.get(corpus), WritingStage) else []
    made_of = [other for other in recipe.corpora[corpus].made_of if other != corpus]
    return [stage for other in made_of for stage in writers_of(recipe, other)]


def needs(recipe: Recipe, name: str) -> Needed:
    """Stages that must have ended before a stage begins."""
    stage, place = recipe.stages[name], f"stages.{name}"
    found = {f"{place}.from": stage.parent}
    for corpus in corpora_of(recipe, name):
        found |= {f"{place}: corpus {corpus} ({writer})": writer for writer in writers_of(recipe, corpus)}
    found |= {f"{place}.rewards ({other})": other for other in rewards_of(recipe, name)}
    if isinstance(stage, MergeSettings):
        found |= {f"{place}.models.{other}": other for other in stage.models}
    return found


def in_order(recipe: Recipe) -> list[str]:
    """Stage names, each behind all that it needs.

    Raises:
        ResidencyError: a name that does not exist or is of a wrong kind, or a cycle.
    """
    known = dict.fromkeys(["base", *recipe.stages])
    _check_names(recipe, known)
    done, waiting = ["base"], list(recipe.stages)
    while waiting:
        ready = [name for name in waiting if set(needs(recipe, name).values()) <= set(done)]
        if not ready:
            raise ResidencyError(f"stages.{waiting[0]}.from: a cycle through {', '.join(waiting)}")
        done += ready
        waiting = [name for name in waiting if name not in ready]
    return done[1:]


def _check_names(recipe: Recipe, known: dict[str, None]) -> None:
    for name in recipe.stages:
        if name == "base":
            raise ResidencyError(
                "stages.base: this name is taken by the recipe's base", cure="Rename the stage"
            )
        if name in recipe.corpora:
            raise ResidencyError(f"stages.{name}: a corpus has this name too", cure="Rename one of the two")
        for place, other in needs(recipe, name).items():
            if other not in known:
                known_names = ", ".join(sorted(known))
                raise ResidencyError(f"{place} = {other!r}: no such stage", cure=f"Known: {known_names}")
        _check_kinds(recipe, name)
    for name in recipe.evaluation.during.stages if recipe.evaluation.during else []:
        if not isinstance(recipe.stages.get(name), TrainingStage):
            trained = [name for name, stage in recipe.stages.items() if isinstance(stage, TrainingStage)]
            raise ResidencyError(
                f"evaluation.during.stages: {name!r} is no training stage",
                cure=f"Known: {', '.join(trained) or 'none'}",
            )
    for name in recipe.evaluation.after + ([recipe.evaluation.against] if recipe.evaluation.against else []):
        if name not in known:
            raise ResidencyError(f"evaluation: no stage {name!r}", cure=f"Known: {', '.join(known)}")
        if name in recipe.stages and not _gives_language_model(recipe, name):
            raise ResidencyError(
                f"evaluation: {name} is of kind {recipe.stages[name].kind} and answers nothing"
            )


def _check_kinds(recipe: Recipe, name: str) -> None:
    """What a stage starts from is a language model, and what scores its replies a reward model."""
    stage = recipe.stages[name]
    models = {"from": stage.parent}
    if isinstance(stage, MergeSettings):
        models |= {f"models.{other}": other for other in stage.models}
    for key, other in models.items():
        if other in recipe.stages and not _gives_language_model(recipe, other):
            raise ResidencyError(
                f"stages.{name}.{key} = {other!r} is of kind {recipe.stages[other].kind}",
                cure="Name a stage that leaves a language model",
            )
    for other in rewards_of(recipe, name):
        if not isinstance(recipe.stages.get(other), RewardSettings):
            raise ResidencyError(f"stages.{name}.rewards: {other!r} is no stage of kind reward")


def _gives_language_model(recipe: Recipe, name: str) -> bool:
    return recipe.stages[name].kind not in ("reward", "sample", "tree", "evaluate")
