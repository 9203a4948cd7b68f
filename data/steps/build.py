"""From the steps of a recipe to objects that do the work. No torch here.

What a step needs from other artifacts (an index of exam items, a model of a reference corpus) is made once, in the
stage's own process, and lies in `work`, from where every task reads it."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from residency.data.curation import parts
from residency.data.curation.exam_index import ExamIndex
from residency.data.curation.run import Named, Steps
from residency.data.steps import settings as kinds
from residency.errors import ResidencyError

EXAM, REFERENCE = "exam:", "corpus:"  # roles of a corpus stage's parents


def refuse_misfit(corpus: str, steps: list[Any], schema: str) -> None:
    """Refuse steps that would spoil rows of a layout, or each other's work.

    Raises:
        ResidencyError: shared paragraphs would be removed from answers, where many share a fact; or identifiers of
            patients that are written as entities would come to light behind the step that looks for them.
    """
    order = [step.kind for step in steps]
    if "phi" in order and "normalise" in order[order.index("phi") :]:
        raise ResidencyError(
            f"corpus {corpus}: normalise stands behind phi, and may bring to light what phi did not see",
            cure="Put normalise first",
        )
    if schema != "text" and any(isinstance(step, kinds.ParagraphsSettings) for step in steps):
        raise ResidencyError(
            f"corpus {corpus}: the step paragraphs is for running text, these rows are {schema}",
            cure="Leave it out: many answers may rightly share a paragraph",
        )


def build(steps: list[Any], parents: dict[str, Path], work: Path) -> Steps:
    """The steps in their order, each named `<place>-<kind>`.

    Args:
        parents: role (`exam:<task>`, `corpus:<name>`) to artifact.

    Raises:
        ResidencyError: what a step's settings ask for is not there.
    """
    return [
        Named(f"{number}-{step.kind}", _step(step, parents, work)) for number, step in enumerate(steps, 1)
    ]


def _step(step: Any, parents: dict[str, Path], work: Path) -> Any:
    """An object of the class that is named like the step's kind, in the module of that name."""
    made = getattr(import_module(f"residency.data.steps.{step.kind}"), step.kind.capitalize())
    match step:
        case kinds.DecontaminateSettings():
            return made(step, _exam_index(parents, work / "exams"))
        case kinds.RankSettings(like=str(name)) | kinds.DifficultySettings(like=str(name)):
            return made(step, _model(parents, name, work))
        case kinds.DomainSettings():
            return made(step, _model(parents, step.like, work), _model(parents, step.unlike, work))
    return made(step)


def _exam_index(parents: dict[str, Path], directory: Path) -> Path:
    if not (directory / "items.json").exists():
        exams = {
            role.removeprefix(EXAM): _items(role.removeprefix(EXAM), artifact)
            for role, artifact in parents.items()
            if role.startswith(EXAM)
        }
        ExamIndex.build(exams).save(directory)
    return directory


def _items(task: str, artifact: Path) -> Iterator[dict[str, Any]]:
    for row in _rows(artifact):
        if "prompt" not in row:
            raise ResidencyError(
                f"task {task}: its items have no question to look for",
                cure="Leave it out, or give exam items",
            )
        yield row


def _model(parents: dict[str, Path], name: str, work: Path) -> Path:
    from residency.data.curation.ngram_model import train_model

    path = work / f"model-{name}.npz"
    if not path.exists():
        train_model(_rows(parents[REFERENCE + name], parts_of=("train",))).save(path)
    return path


def _rows(artifact: Path, parts_of: tuple[str, ...] = ("train", "held_out")) -> Iterator[dict[str, Any]]:
    for part in parts_of:
        if (artifact / f"{part}.jsonl").exists():
            yield from parts.load(artifact / f"{part}.jsonl")
