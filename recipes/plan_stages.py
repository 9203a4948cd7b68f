"""The stages of the recipe in a plan: those that train, those that write, and those that make models; each with the
data that is prepared for it."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from residency.data.reading import sources
from residency.data.settings import (
    PairsSettings,
    PromptsSettings,
    RepliesSettings,
    TokensSettings,
)
from residency.errors import ResidencyError
from residency.recipes.plan_order import corpora_of, rewards_of
from residency.train.settings import (
    MergeSettings,
    ModelStage,
    PreferenceSettings,
    RewardSettings,
    SftSettings,
    TextStage,
    TrainingStage,
    VocabSettings,
    WritingStage,
)

if TYPE_CHECKING:
    from residency.recipes.plan import Plan

NOT_LEARNT = {"engine", "save_every", "keep_checkpoints", "layout", "guard"}
"""Fields of a stage that say how it is computed: recorded, not hashed. Of `guard` the skips are, see `_guard`."""


def add_training(plan: Plan, name: str, stage: TrainingStage) -> None:
    """A training stage, behind the rows that are made for it."""
    template = chat_template(plan, name)
    prepared = _prepared(plan, stage, template)
    roles = {
        f"corpus:{corpus}": plan.corpus(corpus, f"stages.{name}") for corpus in corpora_of(plan.recipe, name)
    }
    plan.add(
        f"{name}-tokens",
        prepared.kind,
        prepared.model_dump(),
        {"model": tokenizer_stage(plan, name), **roles},
        serves=name,
    )
    engine = stage.engine or plan.recipe.engine
    settings = plan.seeded(stage, exclude={*NOT_LEARNT, "mixture", "truncate"})
    settings |= {"precision": engine.precision, "clip": engine.clip, "chat_template": template}
    settings |= {"guard": stage.guard.model_dump(exclude={"stop_on"})}
    execution = {
        "engine": engine.model_dump(),
        "track": plan.recipe.track,
        "stop_on": stage.guard.stop_on,
        **stage.model_dump(include={"save_every", "keep_checkpoints", "layout"}),
    }
    plan.add(
        name,
        stage.kind,
        settings,
        {"model": stage.parent, "tokens": f"{name}-tokens", **_rewards(plan, name)},
        execution,
    )


def add_writing(plan: Plan, name: str, stage: WritingStage) -> None:
    """A stage that writes replies, behind the prompts that are made for it."""
    template = chat_template(plan, name)
    prompts = PromptsSettings(max_length=stage.max_length, limit=stage.limit, chat_template=template)
    role = {f"corpus:{stage.corpus}": plan.corpus(stage.corpus, f"stages.{name}")}
    tokens = f"{name}-tokens"
    plan.add(
        tokens, "prompts", prompts.model_dump(), {"model": tokenizer_stage(plan, name), **role}, serves=name
    )
    engine = stage.engine or plan.recipe.engine
    settings = plan.seeded(stage, exclude=NOT_LEARNT & type(stage).model_fields.keys())
    settings |= {"precision": engine.precision, "chat_template": template}
    execution = {"engine": engine.model_dump()}
    parents = {"model": stage.parent, "tokens": tokens, **_rewards(plan, name)}
    plan.add(name, stage.kind, settings, parents, execution)


def add_model(plan: Plan, name: str, stage: ModelStage) -> None:
    """A stage that makes a model without training."""
    parents, source = {"model": stage.parent}, ""
    if isinstance(stage, VocabSettings):
        for corpus in corpora_of(plan.recipe, name):
            parents[f"corpus:{corpus}"] = plan.corpus(corpus, f"stages.{name}")
        source = "" if stage.terms in plan.recipe.corpora else _digest(f"stages.{name}.terms", stage.terms)
    if isinstance(stage, MergeSettings):
        parents |= {f"model:{other}": other for other in stage.models}
    seeded = isinstance(stage, MergeSettings)
    plan.add(name, stage.kind, plan.seeded(stage) if seeded else plan.dump(stage), parents, source=source)


def tokenizer_stage(plan: Plan, name: str) -> str:
    """The nearest stage above that changed the tokenizer, or the base."""
    stages = plan.recipe.stages
    while name in stages:
        name = _speaks_as(stages[name])
        if name in stages and isinstance(stages[name], VocabSettings):
            return name
    return "base"


def chat_template(plan: Plan, name: str) -> str | None:
    """Text of the chat template in force at a stage, its own or the nearest above; None: the model's."""
    while name in plan.recipe.stages:
        stage = plan.recipe.stages[name]
        if isinstance(stage, SftSettings) and stage.chat_template:
            return read_template(name, stage.chat_template)
        name = _speaks_as(stage)
    return None


def _speaks_as(stage: Any) -> str:
    """The stage whose tokenizer and template a stage has: of a merge the first of its models, whose ancestor may never
    have been taught to talk."""
    return str(next(iter(getattr(stage, "models", ())), stage.parent))


def read_template(stage: str, template: str) -> str:
    """Text of a shipped chat template by its name, or of a file.

    Raises:
        ResidencyError: neither.
    """
    shipped = files("residency.recipes") / "templates"
    if (shipped / f"{template}.jinja").is_file():
        return (shipped / f"{template}.jinja").read_text(encoding="utf-8")
    if not Path(template).is_file():
        names = ", ".join(sorted(entry.name.removesuffix(".jinja") for entry in shipped.iterdir()))
        raise ResidencyError(
            f"stages.{stage}.chat_template = {template}: no such file",
            cure=f"Give a Jinja file, or one of: {names}",
        )
    return Path(template).read_text(encoding="utf-8")


def _prepared(plan: Plan, stage: TrainingStage, template: str | None) -> Any:
    """Settings of the rows that a stage reads: token shards for text and dialogues, an Arrow file for judgements."""
    common: dict[str, Any] = {"max_length": stage.max_length, "chat_template": template}
    virtual = stage.prompt_tuning.tokens if stage.prompt_tuning else 0
    if isinstance(stage, TextStage):
        seed = plan.recipe.seed if stage.seed is None else stage.seed
        return TokensSettings(
            mixture=stage.mixture,
            tokens=stage.tokens,
            max_length=stage.max_length,
            virtual_tokens=virtual,
            seed=seed,
        )
    if isinstance(stage, SftSettings):
        return TokensSettings(
            **common,
            virtual_tokens=virtual,
            mixture=stage.mixture,
            epochs=None if stage.mixture.epochs else stage.epochs,
            truncate=stage.truncate,
            seed=plan.recipe.seed if stage.seed is None else stage.seed,
        )
    if isinstance(stage, PreferenceSettings):
        return PairsSettings(**common, limit=stage.limit, labelled=stage.loss == "kto")
    common |= {"limit": stage.limit, "held_out": stage.held_out}
    return RepliesSettings(**common) if isinstance(stage, RewardSettings) else PromptsSettings(**common)


def _rewards(plan: Plan, name: str) -> dict[str, str]:
    return {f"reward:{other}": other for other in rewards_of(plan.recipe, name)}


def _digest(place: str, path: str | None) -> str:
    if path is None:
        return ""
    if not Path(path).is_file():
        raise ResidencyError(f"{place} = {path}: no such file")
    return sources.digest(Path(path))
