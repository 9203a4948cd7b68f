"""From a recipe to the graph of stages that will run: every artifact with its parents and identity. No torch here.

The blocks `base`, `corpora` and `evaluation` are shorthand for stages; here they are written out. An identity hashes
what changes the result (settings, parents, sources), so it is known before anything runs, and so is every directory.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from residency.artifact import RunPaths, StageFile, identity_of
from residency.data import sources
from residency.data.settings import CorpusSettings, PairsSettings, TokensSettings
from residency.errors import ResidencyError
from residency.eval.settings import (
    HELD,
    AskedTask,
    CurveSettings,
    EvaluateSettings,
    ItemsTask,
    LmEvalTask,
    TaskSettings,
)
from residency.eval.shipped import template_text
from residency.recipes import corpus_graph
from residency.recipes.base import BaseModelFiles, find_base
from residency.recipes.schema import Recipe, ScratchBase
from residency.train.settings import (
    ExportSettings,
    PreferenceSettings,
    SftSettings,
    TextStage,
    TrainingStage,
)

TRAINING = ("pretrain", "cpt", "sft", "preference")


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
    outside: dict[str, tuple[Path, str]]
    """Role to directory and identity of a model that no stage makes."""
    serves: str | None
    """The stage of the recipe that this one was written out for."""
    artifact: Path
    attempt: Path

    @property
    def trains(self) -> bool:
        """Whether it runs as ranks of `residency.train.worker`."""
        return self.kind in TRAINING

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
        if any(step.kind == "decontaminate" for corpus in recipe.corpora.values() for step in corpus.steps):
            for task in self.exams:
                if not isinstance(task.items, str):
                    self._add_corpus(f"task-{task.name}", task.items, None)
        for name in corpus_graph.in_order(recipe):
            self._add_corpus(f"corpus-{name}", recipe.corpora[name], None)
        if isinstance(recipe.base, ScratchBase):
            scratch = recipe.base.scratch
            parents = {
                f"corpus:{name}": self._corpus(name, "base.scratch.tokenizer") for name in scratch.tokenizer
            }
            self._add("base", "scratch", self._seeded(scratch), parents)
        else:
            self.base = find_base(recipe.base)
        order = _in_order(recipe)
        self._evaluate_after("base")
        for name in order:
            stage = recipe.stages[name]
            if isinstance(stage, TrainingStage):
                during = recipe.evaluation.during
                quick = self._quick_suite() if during and name in during.stages else None
                self._add_training(name, stage)
                if quick:
                    self._add_curve(name, stage, *quick)
            elif isinstance(stage, ExportSettings):
                self._add(name, "export", self._dump(stage), {"model": stage.parent})
            else:
                self._add_evaluation(name, stage.parent, list(stage.tasks), stage.max_length, name)
            self._evaluate_after(name)

    def _add_corpus(self, name: str, corpus: CorpusSettings, serves: str | None) -> None:
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
        parents = corpus_graph.needed(name.removeprefix("corpus-"), corpus, self.exams)
        execution = {"curation": self.recipe.curation.model_dump()}
        self._add(
            name,
            "corpus",
            self._seeded(corpus),
            parents,
            execution,
            serves=serves,
            source=source,
            outside=outside,
        )

    def _add_training(self, name: str, stage: TrainingStage) -> None:
        template = self._chat_template(name)
        tokens: TokensSettings | PairsSettings
        if isinstance(stage, PreferenceSettings):
            tokens = PairsSettings(max_length=stage.max_length, limit=stage.limit, chat_template=template)
            corpora = [stage.corpus]
        else:
            text = isinstance(stage, TextStage)
            passes = None if isinstance(stage, TextStage) or stage.mixture.epochs else stage.epochs
            tokens = TokensSettings(
                mixture=stage.mixture,
                tokens=stage.tokens if isinstance(stage, TextStage) else None,
                epochs=passes,
                max_length=stage.max_length,
                truncate=isinstance(stage, SftSettings) and stage.truncate,
                chat_template=None if text else template,
                seed=self.recipe.seed if stage.seed is None else stage.seed,
            )
            corpora = stage.mixture.names
        parents = {f"corpus:{corpus}": self._corpus(corpus, f"stages.{name}") for corpus in corpora}
        self._add(
            f"{name}-tokens", tokens.kind, tokens.model_dump(), {"model": "base", **parents}, serves=name
        )
        engine = stage.engine or self.recipe.engine
        settings = self._seeded(
            stage, exclude={"engine", "mixture", "truncate", "save_every", "keep_checkpoints"}
        )
        settings |= {"precision": engine.precision, "clip": engine.clip, "chat_template": template}
        execution = {
            "engine": engine.model_dump(),
            "track": self.recipe.track,
            **stage.model_dump(include={"save_every", "keep_checkpoints"}),
        }
        self._add(name, stage.kind, settings, {"model": stage.parent, "tokens": f"{name}-tokens"}, execution)

    def _evaluate_after(self, name: str) -> None:
        """The evaluation of a stage, where the recipe's `evaluation` names it."""
        asked = self.recipe.evaluation
        if name in asked.after:
            self._add_evaluation(f"{name}-evaluation", name, list(asked.tasks), asked.max_length, name)

    def _add_evaluation(
        self, name: str, parent: str, tasks: list[TaskSettings], max_length: int, serves: str
    ) -> None:
        parents, wordings, outside = self._add_items(tasks)
        settings = EvaluateSettings.model_validate({"from": parent, "tasks": tasks, "max_length": max_length})
        self._add(
            name,
            "evaluate",
            self._dump(settings),
            {"model": parent, **parents},
            {"processes": self.recipe.evaluation.processes},
            serves=serves,
            source=wordings,
            outside=outside,
        )

    def _quick_suite(self) -> tuple[list[TaskSettings], dict[str, str], str, dict[str, tuple[Path, str]]]:
        """The tasks of a curve; their items are there before the stage begins."""
        evaluation = self.recipe.evaluation
        assert evaluation.during
        names, share = evaluation.during.tasks, evaluation.during.share
        tasks = [
            task.model_copy(update={"share": share})
            for task in evaluation.tasks
            if task.name in names or not names
        ]
        return tasks, *self._add_items(tasks)

    def _add_curve(
        self,
        name: str,
        stage: TrainingStage,
        tasks: list[TaskSettings],
        parents: dict[str, str],
        wordings: str,
        outside: dict[str, tuple[Path, str]],
    ) -> None:
        """The records of a stage's checkpoints. The stage holds their weights for it."""
        evaluation, curve = self.recipe.evaluation, f"{name}-curve"
        assert evaluation.during
        every = evaluation.during.every
        settings = CurveSettings.model_validate(
            {
                "from": name,
                "tasks": tasks,
                "every": every,
                "save_every": stage.save_every,
                "chat_template": self.stages[name].settings["chat_template"],
                "max_length": evaluation.max_length,
            }
        )
        parents = {"start": stage.parent, "model": name, **parents}
        execution = {"devices": evaluation.during.devices}
        self._add(
            curve,
            "curve",
            self._dump(settings),
            parents,
            execution,
            serves=name,
            source=wordings,
            outside=outside,
        )
        if not self.stages[curve].finished:
            held = self.stages[curve].attempt.relative_to(self.paths.root) / HELD
            self.stages[name].execution["hold"] = {"directory": str(held), "every": every}

    def curve_of(self, stage: PlannedStage) -> PlannedStage | None:
        """The stage that scores the checkpoints of a training stage."""
        return next(
            (one for one in self.stages.values() if one.kind == "curve" and one.serves == stage.name), None
        )

    def _add_items(
        self, tasks: list[TaskSettings]
    ) -> tuple[dict[str, str], str, dict[str, tuple[Path, str]]]:
        """Role to stage of the corpora that the tasks read, a digest of the tasks' wordings, and role to file and
        identity of the tasks that lm-eval reads itself."""
        parents: dict[str, str] = {}
        outside: dict[str, tuple[Path, str]] = {}
        wordings: list[str] = []
        for task in tasks:
            for role, corpus in corpora_of(task).items():
                if isinstance(corpus, str):
                    parents[f"{role}:{task.name}"] = self._corpus(corpus, f"task {task.name}")
                    continue
                made = f"task-{task.name}" if role == "items" else f"task-{task.name}-{role}"
                if made not in self.stages:
                    self._add_corpus(made, corpus, None)
                parents[f"{role}:{task.name}"] = made
            if isinstance(task, LmEvalTask):
                outside[f"items:{task.name}"] = self._of_lm_eval(task)
            if isinstance(task, AskedTask):
                wordings += [template_text(template) for template in task.templates]
        return parents, identity_of(wordings=wordings), outside

    def _of_lm_eval(self, task: LmEvalTask) -> tuple[Path, str]:
        """File and identity of a task of lm-eval; its documents are read for it."""
        from residency.eval import lm_eval_bridge

        try:
            return lm_eval_bridge.identify(task)
        except sources.AbsentError as error:
            self.absent[task.name] = error
            return Path(task.task), f"{task.task}@absent"

    def _add(
        self,
        name: str,
        kind: str,
        settings: dict[str, Any],
        parents: dict[str, str],
        execution: dict[str, Any] | None = None,
        *,
        serves: str | None = None,
        source: str = "",
        outside: dict[str, tuple[Path, str]] | None = None,
    ) -> None:
        outside = dict(outside or {})
        if self.base:
            for role in [role for role, parent in parents.items() if parent == "base"]:
                outside[role] = (self.base.directory, self.base.identity)
            parents = {role: parent for role, parent in parents.items() if role not in outside}
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

    def _corpus(self, name: str, place: str) -> str:
        if name not in self.recipe.corpora:
            raise ResidencyError(
                f"{place}: no corpus {name!r}",
                cure=f"Known corpora: {', '.join(self.recipe.corpora) or 'none'}",
            )
        return f"corpus-{name}"

    def _chat_template(self, name: str) -> str | None:
        """Text of the chat template in force at a stage, its own or the nearest above; None: the model's."""
        while name in self.recipe.stages:
            stage = self.recipe.stages[name]
            if isinstance(stage, SftSettings) and stage.chat_template:
                return read_template(name, stage.chat_template)
            name = stage.parent
        return None

    def _seeded(self, settings: Any, exclude: set[str] | None = None) -> dict[str, Any]:
        dump = self._dump(settings, exclude)
        return dump | ({"seed": self.recipe.seed} if dump.get("seed") is None else {})

    def _dump(self, settings: Any, exclude: set[str] | None = None) -> dict[str, Any]:
        dump = settings.model_dump(mode="json", exclude=exclude, by_alias=True)
        if isinstance(settings, EvaluateSettings | CurveSettings):
            for task in dump["tasks"]:
                for role in ("items", "shots_from", "validation"):
                    if isinstance(task.get(role), dict) and task[role]["seed"] is None:
                        task[role]["seed"] = self.recipe.seed
        return dict(dump)


def corpora_of(task: TaskSettings) -> dict[str, CorpusSettings | str]:
    """Role to the corpora that a task reads: its items, its solved examples, and those that choose its wording. One of
    lm-eval reads none."""
    found = {"items": task.items} if isinstance(task, ItemsTask) else {}
    if isinstance(task, AskedTask):
        if task.shots and task.shots_from:
            found["shots"] = task.shots_from
        if task.validation:
            found["validation"] = task.validation
    return found


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


def _in_order(recipe: Recipe) -> list[str]:
    """Stage names, every parent before its children.

    Raises:
        ResidencyError: a parent that does not exist, or a cycle.
    """
    known = dict.fromkeys(["base", *recipe.stages])
    for name, stage in recipe.stages.items():
        if name == "base":
            raise ResidencyError(
                "stages.base: this name is taken by the recipe's base", cure="Rename the stage"
            )
        if stage.parent not in known:
            raise ResidencyError(
                f"stages.{name}.from = {stage.parent!r}: no such stage",
                cure=f"Known: {', '.join(sorted(known))}",
            )
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
    done = ["base"]
    waiting = list(recipe.stages)
    while waiting:
        ready = [name for name in waiting if recipe.stages[name].parent in done]
        if not ready:
            raise ResidencyError(f"stages.{waiting[0]}.from: a cycle through {', '.join(waiting)}")
        done += ready
        waiting = [name for name in waiting if name not in ready]
    return done[1:]
