"""What the sources of a recipe forbid, known before anything runs: the passports that its stages will carry.

Publishing, tracking and licences are judged again where they happen, from manifests. No torch here."""

from __future__ import annotations

from residency.artifact import WRITING, read_manifest
from residency.data.passport import (
    Entry,
    contradiction,
    forbidden,
    is_remote,
    of_corpus,
    of_replies,
)
from residency.data.settings import CorpusSettings
from residency.errors import Exit, ResidencyError
from residency.recipes.plan import Plan, PlannedStage

LOCAL = "Use tensorboard, or set WANDB_MODE=offline"


def check(plan: Plan) -> list[str]:
    """Judge every stage of a plan; returns notes on what may not be published.

    Raises:
        ResidencyError: exit code 3; the sources forbid what the recipe asks for.
    """
    notes = []
    for stage in plan.stages.values():
        if stage.kind == "corpus":
            _check_writer(plan, stage)
        elif stage.trains:
            _check_trackers(plan, stage)
        elif stage.kind == "export":
            passport = planned(plan, stage)
            if reason := contradiction(passport, stage.settings["licence"]):
                raise ResidencyError(f"stages.{stage.name}.licence: {reason}", code=Exit.GATE_REFUSED)
            if reason := forbidden(passport, "publish"):
                notes.append(f"{stage.name}: {reason}")
    return notes


def planned(plan: Plan, stage: PlannedStage, known: dict[str, list[Entry]] | None = None) -> list[Entry]:
    """The entries that a stage's passport will have, corpus by corpus.

    Args:
        known: of stages that were asked for already; a model that learns from itself has each ancestor many times over.
    """
    known = {} if known is None else known
    if stage.name not in known:
        known[stage.name] = _planned(plan, stage, known)
    return known[stage.name]


def _planned(plan: Plan, stage: PlannedStage, known: dict[str, list[Entry]]) -> list[Entry]:
    if stage.kind == "corpus":
        return [_of_corpus(plan, stage, known)]
    found = []
    for directory, _ in stage.outside.values():
        if (directory / "manifest.json").exists():
            found += read_manifest(directory).passport
    for parent in stage.parents.values():
        found += [entry for entry in planned(plan, plan.stages[parent], known) if entry not in found]
    return [of_replies(stage.name, stage.settings["from"], found)] if stage.kind in WRITING else found


def _of_corpus(plan: Plan, stage: PlannedStage, known: dict[str, list[Entry]]) -> Entry:
    settings = CorpusSettings.model_validate(stage.settings)
    name = stage.name.removeprefix("corpus-")
    return of_corpus(name, settings, made_from=_made_from(plan, stage, settings, known))


def _made_from(
    plan: Plan, stage: PlannedStage, settings: CorpusSettings, known: dict[str, list[Entry]]
) -> list[Entry]:
    """Entries of what a synthetic corpus is made of, the writing model's among them."""
    made_of = [
        entry
        for name in settings.made_of
        for entry in planned(plan, plan.stages[plan.corpus(name, f"corpora.{stage.name}")], known)
    ]
    for directory, _ in stage.outside.values():
        if (directory / "manifest.json").exists():
            made_of += read_manifest(directory).passport
    return made_of


def _check_writer(plan: Plan, stage: PlannedStage) -> None:
    """A function of the user's may send what it reads elsewhere; a model in a directory cannot."""
    settings = CorpusSettings.model_validate(stage.settings)
    synthesis = settings.synthesis
    if synthesis is None or synthesis.kind != "generate" or synthesis.call is None:
        return
    if reason := forbidden(_made_from(plan, stage, settings, {}), "judge"):
        raise ResidencyError(
            f"corpora.{stage.name.removeprefix('corpus-')}.synthesis.call = {synthesis.call}: {reason}",
            cure="Use a model that runs here: synthesis.model",
            code=Exit.GATE_REFUSED,
        )


def _check_trackers(plan: Plan, stage: PlannedStage) -> None:
    remote = [tracker for tracker in plan.recipe.track if is_remote(tracker)]
    if remote and (reason := forbidden(planned(plan, stage), "text-logging")):
        raise ResidencyError(
            f"track: {', '.join(remote)}: stage {stage.name}: {reason}", cure=LOCAL, code=Exit.GATE_REFUSED
        )
