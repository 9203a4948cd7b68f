"""What corpora need of each other: a reference to rank by, a corpus that another is made of, the items of the exams
that training text must not hold. No torch here."""

from __future__ import annotations

from pathlib import Path

from residency.data.reading import sources
from residency.data.settings import CorpusSettings
from residency.data.steps.settings import (
    DecontaminateSettings,
    DifficultySettings,
    DomainSettings,
    PhiSettings,
    RankSettings,
)
from residency.data.synthesis.settings import EntitiesSettings
from residency.errors import ResidencyError
from residency.eval.settings import BitsPerByteTask, ItemsTask, TaskSettings
from residency.recipes.schema import Recipe
from residency.train.settings import WritingStage


def stage_of(recipe: Recipe, name: str, place: str) -> str:
    """The stage that leaves a corpus: one of `corpora`, or a stage that writes replies.

    Raises:
        ResidencyError: there is none of this name.
    """
    if name in recipe.corpora:
        return f"corpus-{name}"
    if isinstance(recipe.stages.get(name), WritingStage):
        return name
    known = [
        *recipe.corpora,
        *(key for key, stage in recipe.stages.items() if isinstance(stage, WritingStage)),
    ]
    raise ResidencyError(f"{place}: no corpus {name!r}", cure=f"Known corpora: {', '.join(known) or 'none'}")


def needed(recipe: Recipe, name: str, corpus: CorpusSettings, tasks: list[ItemsTask]) -> dict[str, str]:
    """Role to stage name of what a corpus needs: `corpus:<name>`, and `exam:<task>` where it is decontaminated."""
    names = list(corpus.made_of)
    for step in corpus.steps:
        if isinstance(step, RankSettings | DifficultySettings) and step.like:
            names.append(step.like)
        elif isinstance(step, DomainSettings):
            names += [step.like, step.unlike]
    found = {f"corpus:{other}": stage_of(recipe, other, f"corpora.{name}") for other in names}
    if any(isinstance(step, DecontaminateSettings) for step in corpus.steps):
        for task in tasks:
            stage = f"corpus-{task.items}" if isinstance(task.items, str) else f"task-{task.name}"
            if stage != f"corpus-{name}":
                found[f"exam:{task.name}"] = stage
    return found


def files_digest(corpus: CorpusSettings) -> str:
    """sha256 of the files that the steps and the synthesis of a corpus name, in their order; empty without any."""
    named = [step.kenlm for step in corpus.steps if isinstance(step, RankSettings)]
    if isinstance(corpus.synthesis, EntitiesSettings):
        named.append(corpus.synthesis.terms)
    named += [step.names_model for step in corpus.steps if isinstance(step, PhiSettings)]
    paths = [Path(name) for name in named if name]
    files = [file for path in paths for file in ([path] if path.is_file() else sorted(path.rglob("*")))]
    return " ".join(sources.digest(file) for file in files if file.is_file() and file.stat().st_size)


def exams(recipe: Recipe) -> list[ItemsTask]:
    """The recipe's tasks that have questions; compression of running text has none. Those of lm-eval are not among
    them: their documents are read by lm-eval itself."""
    tasks: list[TaskSettings] = list(recipe.evaluation.tasks)
    for stage in recipe.stages.values():
        if stage.kind == "evaluate":
            tasks += stage.tasks
    for task in tasks:
        _refuse_misfit(recipe, task, tasks)
    asked = [task for task in tasks if isinstance(task, ItemsTask) and not isinstance(task, BitsPerByteTask)]
    return list({task.name: task for task in asked}.values())


def _refuse_misfit(recipe: Recipe, task: TaskSettings, tasks: list[TaskSettings]) -> None:
    if any(other.name == task.name and other != task for other in tasks):
        raise ResidencyError(
            f"task {task.name}: two tasks of this name differ", cure="Give one of them another name"
        )
    if not isinstance(task, ItemsTask) or isinstance(task.items, str):
        return
    if needed(recipe, task.name, task.items, [task]):
        raise ResidencyError(
            f"task {task.name}: its items have steps that need other corpora",
            cure="Make a corpus of them under corpora, and name it as items",
        )


def in_order(recipe: Recipe) -> list[str]:
    """Names of the corpora, each behind those that it needs.

    Raises:
        ResidencyError: one needs a corpus that does not exist, or two need each other.
    """
    tasks = exams(recipe)
    waiting = {
        name: {
            stage.removeprefix("corpus-")
            for stage in needed(recipe, name, corpus, tasks).values()
            if stage.startswith("corpus-")
        }
        for name, corpus in recipe.corpora.items()
    }
    done: list[str] = []
    while waiting:
        ready = [name for name, others in waiting.items() if others <= set(done)]
        if not ready:
            raise ResidencyError(f"corpora.{next(iter(waiting))}: a cycle through {', '.join(waiting)}")
        done += ready
        waiting = {name: others for name, others in waiting.items() if name not in ready}
    return done
