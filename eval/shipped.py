"""The tasks that Residency ships: one file each, `eval/tasks/<name>.yaml`. No torch here.

A file holds the fields of `TaskSettings` but the name. A recipe says only the name.
"""

from __future__ import annotations

from difflib import get_close_matches
from importlib.resources import files

from ruamel.yaml import YAML

from residency.errors import ResidencyError
from residency.eval.settings import TaskSettings


def task_names() -> list[str]:
    """Names of the shipped tasks, sorted."""
    folder = files("residency.eval").joinpath("tasks")
    return sorted(
        entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml")
    )


def load_task(name: str) -> TaskSettings:
    """A shipped task.

    Raises:
        ResidencyError: no task of this name; the nearest ones are named.
    """
    known = task_names()
    if name not in known:
        near = get_close_matches(name, known) or known
        raise ResidencyError(f"evaluation.tasks: no task {name!r}", cure=f"Did you mean {' or '.join(near)}?")
    text = files("residency.eval").joinpath("tasks", f"{name}.yaml").read_text(encoding="utf-8")
    return TaskSettings.model_validate({"name": name, **YAML(typ="safe").load(text)})
