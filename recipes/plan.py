"""From a recipe to the graph of stages that will run: every artifact with its parents and identity. No torch here.

The blocks `base`, `corpora` and `evaluation` are shorthand for stages; here they are written out. An identity hashes
what changes the result (settings, parents, sources), so it is known before anything runs, and so is every directory.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from residency.artifact import TRAINING, WRITING, RunPaths, StageFile, identity_of
from residency.data.reading import sources
from residency.data.settings import CorpusSettings
from residency.errors import ResidencyError
from residency.eval.settings import CurveSettings, EvaluateSettings
from residency.recipes import corpus_graph, plan_evaluation, plan_order, plan_stages
from residency.recipes.base import BaseModelFiles, find_base
from residency.recipes.schema import Recipe, ScratchBase
from residency.train.settings import ModelStage, TrainingStage, WritingStage

Outside = dict[str, tuple[Path, str]]
"""Role to directory and identity of what no stage makes."""


@dataclass(frozen=True)
class PlannedStage:
    """One node of the graph."""

    name: str
    kind: str
    identity: str
    settings: dict[str, Any]
    execution: dict[str, Any]
    parents: dict[str, str]
    """Role to the parent's stage name; a base from outside has no stage and stands in `outside`."""
    outside: Outside
    serves: str | None
    """The stage of the recipe that this one was written out for."""
    artifact: Path
    attempt: Path

    @property
    def trains(self) -> bool:
        """Whether it trains weights, under DeepSpeed."""
        return self.kind in TRAINING

    @property
    def has_ranks(self) -> bool:
        """Whether it runs as ranks of `residency.train.worker`."""
        return self.kind in TRAINING + WRITING

    @property
    def finished(self) -> bool:
        return (self.artifact / "manifest.json").exists()


class Plan:
    """The graph, in an order in which every parent comes first."""

    def __init__(self, recipe: Recipe, paths: RunPaths) -> None:
        self.recipe, self.paths = recipe, paths
        self.stages: dict[str, PlannedStage] = {}
        self.base: BaseModelFiles | None = None
        self.absent: dict[str, ResidencyError] = {}
        """Corpora that are not here while this process is offline; a run cannot start."""
        self._write_out()

    def _write_out(self) -> None:
        recipe = self.recipe
        self.exams = corpus_graph.exams(recipe)
        corpus_graph.in_order(recipe)  # refuses corpora that need each other
        order = plan_order.in_order(recipe)
        if any(step.kind == "decontaminate" for corpus in recipe.corpora.values() for step in corpus.steps):
            for task in self.exams:
                if not isinstance(task.items, str):
                    self.add_corpus(f"task-{task.name}", task.items)
        self._add_corpora()
        if isinstance(recipe.base, ScratchBase):
            scratch = recipe.base.scratch
            parents = {
                f"corpus:{name}": self.corpus(name, "base.scratch.tokenizer") for name in scratch.tokenizer
            }
            self.add("base", "scratch", self.seeded(scratch), parents)
        else:
            self.base = find_base(recipe.base)
        plan_evaluation.evaluate_after(self, "base")
        for name in order:
            self._add_stage(name)
            plan_evaluation.evaluate_after(self, name)

    def _add_corpora(self) -> None:
        """The corpora that can be made by now; one of a stage's replies has to wait for that stage."""
        for name in corpus_graph.in_order(self.recipe):
            writers = plan_order.writers_of(self.recipe, name)
            if f"corpus-{name}" not in self.stages and self.stages.keys() >= set(writers):
                self.add_corpus(f"corpus-{name}", self.recipe.corpora[name])

    def _add_stage(self, name: str) -> None:
        stage, during = self.recipe.stages[name], self.recipe.evaluation.during
        if isinstance(stage, TrainingStage):
            quick = plan_evaluation.quick_suite(self) if during and name in during.stages else None
            plan_stages.add_training(self, name, stage)
            if quick:
                plan_evaluation.add_curve(self, name, stage, quick)
        elif isinstance(stage, WritingStage):
            plan_stages.add_writing(self, name, stage)
            self._add_corpora()
        elif isinstance(stage, ModelStage):
            plan_stages.add_model(self, name, stage)
        else:
            plan_evaluation.evaluate(self, name, stage.parent, list(stage.tasks), stage.max_length, name)

    def add_corpus(self, name: str, corpus: CorpusSettings) -> None:
        """A corpus stage."""
        outside, source = {}, ""
        try:
            if not corpus.synthesis:
                source = sources.identity(corpus)
            elif corpus.synthesis.kind == "generate" and corpus.synthesis.model:
                writer = find_base(corpus.synthesis.model)
                outside["writer"] = (writer.directory, writer.identity)
        except sources.AbsentError as error:
            self.absent[name], source = error, f"{corpus.source}@absent"
        source += corpus_graph.files_digest(corpus)
        parents = corpus_graph.needed(self.recipe, name.removeprefix("corpus-"), corpus, self.exams)
        execution = {"curation": self.recipe.curation.model_dump()}
        self.add(name, "corpus", self.seeded(corpus), parents, execution, source=source, outside=outside)

    def curve_of(self, stage: PlannedStage) -> PlannedStage | None:
        """The stage that scores the checkpoints of a training stage."""
        return next(
            (one for one in self.stages.values() if one.kind == "curve" and one.serves == stage.name), None
        )

    def add(
        self,
        name: str,
        kind: str,
        settings: dict[str, Any],
        parents: dict[str, str],
        execution: dict[str, Any] | None = None,
        *,
        serves: str | None = None,
        source: str = "",
        outside: Outside | None = None,
    ) -> None:
        """A node of the graph.

        Args:
            parents: role to stage; all of them are in the plan already.
            source: identity of what is read from outside of the run.

        Raises:
            ResidencyError: a parent that is made of what a later stage writes.
        """
        outside = dict(outside or {})
        if self.base:
            for role in [role for role, parent in parents.items() if parent == "base"]:
                outside[role] = (self.base.directory, self.base.identity)
            parents = {role: parent for role, parent in parents.items() if role not in outside}
        for parent in parents.values():
            if parent not in self.stages:
                raise ResidencyError(
                    f"{name} needs {parent}, which is made later",
                    cure=f"Let {serves or name} begin behind what {parent} is made of",
                )
        identities = {role: self.stages[parent].identity for role, parent in parents.items()}
        identities |= {role: identity for role, (_, identity) in outside.items()}
        identity = identity_of(kind=kind, settings=settings, parents=identities, source=source)
        self.stages[name] = PlannedStage(
            name, kind, identity, settings, execution or {}, parents, outside, serves,
            self.paths.artifact(name, identity), self.paths.attempt(name, identity),
        )  # fmt: skip

    def stage_file(self, stage: PlannedStage) -> StageFile:
        """What a process needs to run the stage."""
        parents = {role: self.stages[parent].artifact for role, parent in stage.parents.items()}
        identities = {role: self.stages[parent].identity for role, parent in stage.parents.items()}
        return StageFile(
            name=stage.name,
            kind=stage.kind,
            identity=stage.identity,
            settings=stage.settings,
            execution=stage.execution,
            parents=parents | {role: path for role, (path, _) in stage.outside.items()},
            parent_identities=identities | {role: identity for role, (_, identity) in stage.outside.items()},
            run=self.paths.root,
        )

    def corpus(self, name: str, place: str) -> str:
        """The stage that leaves a corpus: one of `corpora`, or a stage that writes replies.

        Raises:
            ResidencyError: there is none of this name.
        """
        return corpus_graph.stage_of(self.recipe, name, place)

    def seeded(self, settings: Any, exclude: set[str] | None = None) -> dict[str, Any]:
        """Settings as plain values, the recipe's seed where they have none."""
        dump = self.dump(settings, exclude)
        return dump | ({"seed": self.recipe.seed} if dump.get("seed") is None else {})

    def dump(self, settings: Any, exclude: set[str] | None = None) -> dict[str, Any]:
        """Settings as plain values; corpora of tasks with the recipe's seed where they have none."""
        dump = settings.model_dump(mode="json", exclude=exclude, by_alias=True)
        if isinstance(settings, EvaluateSettings | CurveSettings):
            for task in dump["tasks"]:
                for role in ("items", "shots_from", "validation"):
                    if isinstance(task.get(role), dict) and task[role]["seed"] is None:
                        task[role]["seed"] = self.recipe.seed
        return dict(dump)
