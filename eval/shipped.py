"""The tasks and the wordings that Residency ships: `eval/tasks/<name>.yaml` and `eval/prompts/<name>.jinja`.

A task's file holds the fields of its kind (`residency.eval.settings`) but the name; a recipe says only the name. No
torch here.
"""

from __future__ import annotations

from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from typing import Any

from ruamel.yaml import YAML

from residency.errors import ResidencyError


@cache
def task_names() -> list[str]:
    """Names of the shipped tasks, sorted."""
    return _names("tasks", ".yaml")


@cache
def template_names() -> list[str]:
    """Names of the shipped wordings, sorted."""
    return _names("prompts", ".jinja")


def shipped_task(name: str) -> dict[str, Any]:
    """Fields of a shipped task.

    Raises:
        ResidencyError: no task of this name; the nearest ones are named.
    """
    if name not in task_names():
        near = get_close_matches(name, task_names()) or task_names()
        raise ResidencyError(f"evaluation.tasks: no task {name!r}", cure=f"Did you mean {' or '.join(near)}?")
    text = files("residency.eval").joinpath("tasks", f"{name}.yaml").read_text(encoding="utf-8")
    return dict(YAML(typ="safe").load(text))


def template_text(template: str) -> str:
    """Jinja text of a wording: the template itself, or a shipped one by its name.

    Raises:
        ResidencyError: neither.
    """
    if "{{" in template or "{%" in template:
        return template
    if template not in template_names():
        near = get_close_matches(template, template_names()) or template_names()
        raise ResidencyError(
            f"templates: no wording {template!r}", cure=f"Give Jinja text, or one of {', '.join(near)}"
        )
    return files("residency.eval").joinpath("prompts", f"{template}.jinja").read_text(encoding="utf-8")


def _names(folder: str, ending: str) -> list[str]:
    entries = files("residency.eval").joinpath(folder).iterdir()
    return sorted(entry.name.removesuffix(ending) for entry in entries if entry.name.endswith(ending))
