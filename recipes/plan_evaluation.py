"""The evaluations of a plan: of a stage when it has ended, and of its checkpoints while it trains."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from residency.artifact import identity_of
from residency.data.reading import sources
from residency.data.settings import CorpusSettings
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

if TYPE_CHECKING:
    from residency.recipes.plan import Outside, Plan
    from residency.train.settings import TrainingStage


@dataclass(frozen=True)
class Suite:
    """Tasks with all that they read."""

    tasks: list[TaskSettings]
    parents: dict[str, str]
    """Role to stage of the corpora."""
    wordings: str
    """Digest of the tasks' wordings."""
    outside: Outside
    """Role to file and identity of the tasks that lm-eval reads itself."""


def evaluate_after(plan: Plan, name: str) -> None:
    """The evaluation of a stage, where the recipe's `evaluation` names it."""
    asked = plan.recipe.evaluation
    if name in asked.after:
        evaluate(plan, f"{name}-evaluation", name, list(asked.tasks), asked.max_length, name)


def evaluate(
    plan: Plan, name: str, parent: str, tasks: list[TaskSettings], max_length: int, serves: str
) -> None:
    """An evaluation stage of its own."""
    suite = _suite(plan, tasks)
    settings = EvaluateSettings.model_validate({"from": parent, "tasks": tasks, "max_length": max_length})
    plan.add(
        name,
        "evaluate",
        plan.dump(settings),
        {"model": parent, **suite.parents},
        {"processes": plan.recipe.evaluation.processes},
        serves=serves,
        source=suite.wordings,
        outside=suite.outside,
    )


def quick_suite(plan: Plan) -> Suite:
    """The tasks of a curve; their items are there before the stage begins."""
    evaluation = plan.recipe.evaluation
    assert evaluation.during
    names, share = evaluation.during.tasks, evaluation.during.share
    tasks = [
        task.model_copy(update={"share": share})
        for task in evaluation.tasks
        if task.name in names or not names
    ]
    return _suite(plan, tasks)


def add_curve(plan: Plan, name: str, stage: TrainingStage, suite: Suite) -> None:
    """The records of a stage's checkpoints. The stage holds their weights for it."""
    evaluation, curve = plan.recipe.evaluation, f"{name}-curve"
    assert evaluation.during
    every = evaluation.during.every
    settings = CurveSettings.model_validate(
        {
            "from": name,
            "tasks": suite.tasks,
            "every": every,
            "save_every": stage.save_every,
            "chat_template": plan.stages[name].settings["chat_template"],
            "max_length": evaluation.max_length,
        }
    )
    plan.add(
        curve,
        "curve",
        plan.dump(settings),
        {"start": stage.parent, "model": name, **suite.parents},
        {"devices": evaluation.during.devices},
        serves=name,
        source=suite.wordings,
        outside=suite.outside,
    )
    if not plan.stages[curve].finished:
        held = plan.stages[curve].attempt.relative_to(plan.paths.root) / HELD
        plan.stages[name].execution["hold"] = {"directory": str(held), "every": every}


def _suite(plan: Plan, tasks: list[TaskSettings]) -> Suite:
    parents: dict[str, str] = {}
    outside: Outside = {}
    wordings: list[str] = []
    for task in tasks:
        for role, corpus in corpora_of(task).items():
            if isinstance(corpus, str):
                parents[f"{role}:{task.name}"] = plan.corpus(corpus, f"task {task.name}")
                continue
            made = f"task-{task.name}" if role == "items" else f"task-{task.name}-{role}"
            if made not in plan.stages:
                plan.add_corpus(made, corpus)
            parents[f"{role}:{task.name}"] = made
        if isinstance(task, LmEvalTask):
            outside[f"items:{task.name}"] = _of_lm_eval(plan, task)
        if isinstance(task, AskedTask):
            wordings += [template_text(template) for template in task.templates]
    return Suite(tasks, parents, identity_of(wordings=wordings), outside)


def _of_lm_eval(plan: Plan, task: LmEvalTask) -> tuple[Path, str]:
    """File and identity of a task of lm-eval; its documents are read for it."""
    from residency.eval import lm_eval_bridge

    try:
        return lm_eval_bridge.identify(task)
    except sources.AbsentError as error:
        plan.absent[task.name] = error
        return Path(task.task), f"{task.task}@absent"


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
