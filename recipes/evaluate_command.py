"""`residency eval`, `compare` and `tasks`: one model on chosen tasks, without writing a recipe.

A model is a directory, a hub id or a finished stage; it becomes the base of a recipe without stages whose `evaluation`
looks at the base. So planning, identity, cache and manifests are those of every other run.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from residency.artifact import RunPaths, read_manifest, sha256
from residency.data.reading import sources
from residency.errors import ResidencyError
from residency.eval.settings import (
    TASK,
    AskedTask,
    ChoiceTask,
    ItemsTaskSettings,
    LmEvalTask,
    TaskSettings,
    load_task,
)
from residency.eval.shipped import task_names
from residency.model import base_of
from residency.recipes import chain, check
from residency.recipes.base import find_base
from residency.recipes.plan import Plan
from residency.recipes.schema import Recipe

SUITES = ("medicine", "general", "all-here")
EVALUATION = "base-evaluation"  # the name of the stage that measures a recipe's base


@dataclass(frozen=True)
class Asked:
    """Changes to tasks from the command line; None leaves a task as it is."""

    shots: int | None = None
    limit: int | None = None
    chat: bool = False
    template: str | None = None


def chosen(names: str | None, suite: str | None, asked: Asked) -> list[TaskSettings]:
    """The tasks of a command line.

    Args:
        names: of shipped tasks, or `lm-eval:` and a name or file of lm-eval's, between commas; or
        suite: one of `SUITES`: the tasks of a domain, or of both, whose data are here.

    Raises:
        ResidencyError: neither or both, an unknown name, or a change that does not fit a task.
    """
    if (names is None) == (suite is None):
        raise ResidencyError("eval: say what is measured", cure="Give --tasks NAME,NAME or --suite SUITE")
    if names is not None:
        listed = [name.strip() for name in names.split(",") if name.strip()]
        return [_changed(name, asked) for name in dict.fromkeys(listed)]
    if suite not in SUITES:
        raise ResidencyError(f"--suite {suite}: no such suite", cure=f"Known: {', '.join(SUITES)}")
    found = [_changed(name, asked, leniently=True) for name in _suite(suite or "")]
    if not found:
        raise ResidencyError(
            f"--suite {suite}: no data of its tasks are here", cure="`residency tasks` says what each needs"
        )
    return found


def evaluate(
    model: str,
    tasks: list[TaskSettings],
    *,
    against: str | None,
    runs: Path,
    max_length: int | None,
) -> list[Path]:
    """Measure a model, and the one that it is compared with; returns their records, the model's first.

    Everything that can be refused is refused before either model is loaded; progress goes to stderr.

    Raises:
        ResidencyError: absent data or model, an adapter of another base, or what stops a run.
    """
    plans = [plan_of(name, tasks, runs, max_length) for name in (model, *([against] if against else []))]
    if against:
        refuse_other_base(*(plan.base.directory for plan in plans if plan.base))
    for plan in plans:
        for absent in plan.absent.values():
            raise absent
        check.check(plan)
    with redirect_stdout(sys.stderr):
        for plan in reversed(plans):
            chain.run(plan)
    return [plan.stages[EVALUATION].artifact for plan in plans]


def plan_of(model: str, tasks: list[TaskSettings], runs: Path, max_length: int | None) -> Plan:
    """The plan that measures one model, in `<runs>/evaluation-<model>`."""
    evaluation: dict[str, Any] = {"tasks": tasks, "after": ["base"]}
    if max_length:
        evaluation["max_length"] = max_length
    name = f"evaluation-{re.sub('[^A-Za-z0-9._-]+', '-', _short(model))}"[:64]
    recipe = Recipe.model_validate({"name": name, "base": model, "stages": {}, "evaluation": evaluation})
    return Plan(recipe, RunPaths((runs / name).resolve()))


def refuse_other_base(model: Path, against: Path) -> None:
    """Refuse to compare an adapter with weights that it does not stand on, directly or through its ancestors.

    Raises:
        ResidencyError: another base, or a base that changed after the adapter was trained.
    """
    base, adapter = base_of(model)
    if adapter is None:
        return
    if (adapter / "manifest.json").exists():
        trained_on = read_manifest(adapter).parents["model"]  # `id@commit` where the hub's cache had it
        if "@" not in trained_on and find_base(str(_parent(adapter))).identity != trained_on:
            raise ResidencyError(
                f"{adapter}: its base {_parent(adapter)} is not the one that it was trained on",
                cure="Bring the old base back, or train the adapter again",
            )
    wanted = _weights(base_of(against)[0])
    if all(_weights(base_of(place)[0]) != wanted for place in _ancestors(model)):
        raise ResidencyError(
            f"{model} is an adapter on {base}, and {against} is neither that nor one of its ancestors",
            cure=f"Compare with --against {base}",
        )


def listing(*, here: bool) -> list[dict[str, str | int | None]]:
    """The shipped tasks: name, title, kind, domain, licence, rows of its source; what it `needs` if not here, and the
    `cure`."""
    found = []
    for name in task_names():
        task = load_task(name)
        needs = _needs(task)
        if here and needs:
            continue
        items = task.items
        found.append(
            {
                "name": name,
                "title": task.title or name,
                "kind": task.kind,
                "domain": task.domain,
                "licence": None if isinstance(items, str) else items.licence,
                "rows": None if needs else _rows(task),
                "needs": needs and needs[0],
                "cure": needs and needs[1],
            }
        )
    return found


def _suite(suite: str) -> Iterator[str]:
    """Shipped tasks of a domain whose data are here: not the invented worlds, nor costlier ways to ask one again."""
    for name in task_names():
        task = load_task(name)
        invented = not isinstance(task.items, str) and task.items.source.startswith(sources.WORLD)
        reasoned = isinstance(task, ChoiceTask) and (task.method != "direct" or task.samples > 1 or task.vote)
        judged = task.kind in ("rubric", "variance", "likert")
        wanted = task.domain in SUITES if suite == "all-here" else task.domain == suite
        if wanted and not (invented or reasoned or judged) and _needs(task) is None:
            yield name


def _changed(name: str, asked: Asked, *, leniently: bool = False) -> TaskSettings:
    """A task with the changes of the command line; `leniently` only those that fit it."""
    task = TASK.validate_python(name)
    changes: dict[str, Any] = {}
    if asked.limit is not None:
        changes["limit"] = asked.limit
    if isinstance(task, AskedTask):
        if asked.shots is not None and not (leniently and task.shots_from is None):
            changes["shots"] = asked.shots
        if asked.chat:
            changes["chat"] = True
        if asked.template is not None:
            changes |= {"templates": [asked.template], "validation": None}
    elif isinstance(task, LmEvalTask):
        given = {"shots": asked.shots, "chat": asked.chat or None}
        changes |= {key: value for key, value in given.items() if value is not None}
    try:
        return TASK.validate_python({"use": name, **changes})
    except ValidationError as error:
        fault = error.errors()[0]
        said = fault["msg"].removeprefix("Value error, ")
        raise ResidencyError(
            f"task {name} with {', '.join(f'{k} = {v}' for k, v in changes.items())}: {said}"
        )


def _needs(task: ItemsTaskSettings) -> tuple[str, str] | None:
    """What is missing to run a task here, in a few words, and the cure in one line; None where nothing is."""
    if isinstance(task.items, str):
        return f"corpus {task.items}", "Name the task in a recipe that has this corpus"
    if task.kind == "rubric" and task.judge is None:
        return "a judge", "Name the task in a recipe, with a local model as its judge"
    source = task.items.source
    try:
        if source.startswith(sources.WORLD) or sources.is_local(source) or sources.offline():
            sources.locate(task.items)
            return None
    except sources.AbsentError as error:
        return f"{source} ({', '.join(task.items.files) or 'all files'})", str(error)
    except ResidencyError as error:
        return "mended files", str(error)
    return None if _cached(source) else (f"{source} from the hub", "It is downloaded when it is used")


def _cached(source: str) -> bool:
    from huggingface_hub import constants

    return (Path(constants.HF_HUB_CACHE) / f"datasets--{source.replace('/', '--')}" / "snapshots").is_dir()


def _rows(task: ItemsTaskSettings) -> int | None:
    assert not isinstance(task.items, str)
    source = task.items.source
    if not source.startswith(sources.WORLD) and not sources.is_local(source):
        return None  # in the hub's cache, perhaps in part
    return sum(1 for _ in sources.read(task.items, 0, strict=False))


def _short(model: str) -> str:
    """A model's name: of a stage with its run, of a directory its last part, of a hub id both parts."""
    path = Path(model)
    if not path.is_dir():
        return model
    path = path.resolve()
    return f"{path.parent.name}-{path.name}" if (path / "manifest.json").exists() else path.name


def _ancestors(model: Path) -> Iterator[Path]:
    """A model and those that it was trained from, as far as their manifests and files are here."""
    while (model / "config.json").exists() or (model / "adapter_config.json").exists():
        yield model
        if (model / "adapter_config.json").exists() and not (model / "manifest.json").exists():
            model = base_of(model)[0]
        elif (model / "manifest.json").exists() and "model" in read_manifest(model).parent_paths:
            model = _parent(model)
        else:
            return


def _parent(model: Path) -> Path:
    return (model / read_manifest(model).parent_paths["model"]).resolve()


def _weights(directory: Path) -> list[str]:
    return [sha256(path) for path in sorted(directory.glob("*.safetensors"))]
