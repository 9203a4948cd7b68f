"""Every YAML of the repository is loaded, and the recipes can be planned without network or torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from residency.artifact import RunPaths
from residency.eval.settings import load_task
from residency.recipes import check
from residency.recipes.plan import Plan
from residency.recipes.schema import json_schema, load

REPOSITORY = Path(__file__).resolve().parent.parent.parent
RECIPES = sorted((REPOSITORY / "recipes").glob("*.yaml"))
TASKS = sorted((REPOSITORY / "eval/tasks").glob("*.yaml"))
CORPORA = sorted((REPOSITORY / "recipes/corpora").glob("*.yaml"))


def test_no_yaml_is_forgotten() -> None:
    found = [
        path
        for path in REPOSITORY.rglob("*.yaml")
        if not {".venv", "runs", "tests"} & set(path.relative_to(REPOSITORY).parts)
        and not path.is_symlink()
        and "src" not in path.relative_to(REPOSITORY).parts
        and not path.name.startswith(".")
    ]
    assert sorted(found) == sorted([*RECIPES, *TASKS, *CORPORA])
    assert (len(RECIPES), len(TASKS), len(CORPORA)) == (10, 69, 5)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipe_can_be_checked(
    path: Path, mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RESIDENCY_MIRROR", str(mirror))
    recipe = load(path)
    assert recipe.name == path.stem
    plan = Plan(recipe, RunPaths(tmp_path / recipe.name))
    check.check(plan, here=recipe.cluster.nodes == 1)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipe_opens_with_schema_and_command(path: Path) -> None:
    first, second = path.read_text().splitlines()[:2]
    assert first == "# yaml-language-server: $schema=../docs/recipe.schema.json"
    assert second.startswith(("# residency run recipes/", "# residency submit recipes/"))


@pytest.mark.parametrize("path", TASKS, ids=lambda path: path.stem)
def test_task_loads(path: Path) -> None:
    assert load_task(path.stem).name == path.stem


def test_schema_file_is_current() -> None:
    committed = (REPOSITORY / "docs/recipe.schema.json").read_text()
    assert committed == json_schema(), "run: make schema"


def test_schema_lets_a_recipe_hold_only_what_differs() -> None:
    schema = json.loads(json_schema())
    assert schema["anyOf"] == [{"required": ["extends"]}, {"required": ["name", "base", "stages"]}]
    assert '"required"' not in json.dumps(schema["$defs"])
    (entry,) = schema["properties"]["stages"]["patternProperties"].values()
    kinds, null = entry["anyOf"]
    assert len(kinds["anyOf"]) == 12 and null == {"type": "null"}


@pytest.mark.parametrize(
    "command", [["--help"], ["check", str(REPOSITORY / "recipes/quickstart.yaml")], ["schema"]]
)
def test_light_commands_import_no_torch(command: list[str]) -> None:
    program = (
        "import sys\nfrom residency.cli import main\n"
        f"sys.argv = ['residency', *{command!r}]\n"
        "try:\n    main()\nexcept SystemExit as leave:\n    assert not leave.code, leave.code\n"
        "heavy = {'torch', 'transformers', 'deepspeed', 'datasets', 'trl'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
