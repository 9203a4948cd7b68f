"""Everything about a plan that can be known without starting: no torch, no model loaded, seconds at most.

`check` raises on what would fail later and returns notes on what is derived or only known later.
"""

from __future__ import annotations

from importlib.util import find_spec

from residency.artifact import read_manifest
from residency.data.settings import CorpusSettings
from residency.data.steps.build import refuse_misfit
from residency.data.synthesis.settings import GenerateSettings
from residency.data.synthesis.user_function import load
from residency.errors import ResidencyError
from residency.recipes import gates, judging
from residency.recipes.check_handoff import check_handoff
from residency.recipes.check_rows import check_rows, first_form
from residency.recipes.check_steps import check_steps
from residency.recipes.check_vocabulary import check_vocabulary
from residency.recipes.plan import Plan, PlannedStage
from residency.train.batches import accumulation
from residency.train.launch import local_processes
from residency.train.replies.room import WRITTEN, reply_tokens
from residency.train.settings import (
    EngineSettings,
    TrainingStage,
    VocabSettings,
    WritingStage,
)
from residency.train.settings.rewards import FunctionReward


def check(plan: Plan, *, here: bool = True) -> list[str]:
    """Validate a plan; returns notes for the user.

    Args:
        here: the recipe will run on this machine (else as Slurm jobs of the `cluster` block).

    Raises:
        ResidencyError: whatever would make a stage fail.
    """
    notes: list[str] = []
    for name, settings in plan.recipe.corpora.items():
        notes += _check_corpus(plan, name, settings)
    for name, stage in plan.recipe.stages.items():
        if isinstance(stage, TrainingStage):
            notes += _check_training(plan, name, stage, here)
        if isinstance(stage, VocabSettings):
            notes += check_vocabulary(plan, name, stage)
        if isinstance(stage, WritingStage) and here:
            local_processes(plan.stages[name].execution["engine"]["processes"])
        for reward in getattr(stage, "rewards", []):
            if isinstance(reward, FunctionReward):
                load(reward.call)
    check_rows(plan)
    check_handoff(plan, here=here)
    notes += _check_base(plan)
    if here:
        local_processes(plan.recipe.evaluation.processes, "evaluation.processes")
    notes += gates.check(plan)
    judging.check_gates(plan)
    _check_trackers(plan, here)
    if others := plan.recipe.all_seeds[1:]:
        notes.append(f"seeds: the chain runs again in {', '.join(f'seed-{seed}' for seed in others)}")
    return list(dict.fromkeys(notes))


def _check_corpus(plan: Plan, name: str, settings: CorpusSettings) -> list[str]:
    """Its first row is read, so that a wrong file or wrong fields show now."""
    check_steps(name, settings, len(plan.exams))
    if f"corpus-{name}" in plan.absent:
        return [
            f"corpus {name}: {settings.source} is not here, and this machine is offline: `run` would stop"
        ]
    if settings.synthesis is not None:
        return _check_synthesis(plan, name, settings)
    form = first_form(name, settings)
    if form is None:
        return [f"corpus {name}: {settings.source} is read from the hub"]
    refuse_misfit(name, settings.steps, form)
    return []


def _check_synthesis(plan: Plan, name: str, settings: CorpusSettings) -> list[str]:
    """The writer is here: a function that can be imported, or a model."""
    if isinstance(settings.synthesis, GenerateSettings) and settings.synthesis.call:
        load(settings.synthesis.call)
    for directory, identity in plan.stages[f"corpus-{name}"].outside.values():
        if not (directory / "config.json").exists():
            raise ResidencyError(
                f"corpora.{name}.synthesis.model: {identity} is not here",
                cure="Download it, or give its directory",
            )
    return []


def _check_training(plan: Plan, name: str, stage: TrainingStage, here: bool) -> list[str]:
    planned = plan.stages[name]
    engine = EngineSettings.model_validate(planned.execution["engine"])
    cluster = plan.recipe.cluster
    world_size = local_processes(engine.processes) if here else cluster.nodes * cluster.tasks_per_node
    micro, accumulate = accumulation(name, stage.batch_size, engine, world_size)
    written = reply_tokens(stage.kind, planned.settings)[0] if stage.kind in WRITTEN else 0
    longest = stage.max_length + written
    notes = [
        f"{name}: {world_size} ranks x {micro} rows x {accumulate} accumulation = {stage.batch_size} rows "
        f"= up to {stage.batch_size * longest:,} tokens a step, ZeRO-{engine.zero}"
    ]
    return notes + _progress(planned)


def _check_trackers(plan: Plan, here: bool) -> None:
    absent = [name for name in plan.recipe.track if find_spec(name) is None]
    if here and absent:
        raise ResidencyError(
            f"track: {', '.join(absent)} not installed here", cure='pip install "residency[track]"'
        )


def _check_base(plan: Plan) -> list[str]:
    base = plan.base
    if base is None or base.here:
        return []
    return [f"base: {base.model} is not here yet; `run` downloads it, or stops if this machine is offline"]


def _progress(stage: PlannedStage) -> list[str]:
    if stage.finished:
        return [f"{stage.name}: finished in {read_manifest(stage.artifact).measured.get('seconds')} s"]
    return []
