"""The rooms, the one-way arrow of imports, and the budgets that keep the code small."""

from __future__ import annotations

import ast
import statistics
from collections.abc import Iterator
from pathlib import Path

ROOMS = ("recipes", "data", "train", "eval", "slurm")
FRONT_DOOR = {"cli", "__main__"}
NOUNS = {"answers", "generation", "artifact", "events", "errors", "model", "prompted", "weights", "__init__"}
# A module may import from its own level and from those to the right of it.
LEVELS = [FRONT_DOOR, {"slurm"}, {"recipes"}, {"train", "eval"}, {"data"}, NOUNS]
# `slurm.settings` is joined by the recipe; settings hold no behaviour.
SETTINGS_MAY_GO_UP = {("recipes", "slurm.settings")}


def modules(repository: Path) -> Iterator[tuple[str, Path]]:
    for room in ROOMS:
        for path in sorted((repository / room).rglob("*.py")):
            yield room, path
    for path in sorted((repository / "src/residency").glob("*.py")):
        yield path.stem, path
    for noun in ("answers", "generation"):
        for path in sorted((repository / "src/residency" / noun).glob("*.py")):
            yield noun, path


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("residency"):
            inside = (node.module or "").removeprefix("residency").lstrip(".")
            yield from ([inside] if inside else [alias.name for alias in node.names])
        elif isinstance(node, ast.Import):
            yield from (
                a.name.removeprefix("residency.") for a in node.names if a.name.startswith("residency.")
            )


def level(room: str) -> int:
    return next(index for index, rooms in enumerate(LEVELS) if room in rooms)


def test_links_resolve_to_their_rooms(repository: Path) -> None:
    for room in ROOMS:
        link = repository / "src/residency" / room
        assert link.is_symlink() and link.resolve() == (repository / room).resolve(), (
            f"{link} is no link to {room}/: clone with git -c core.symlinks=true clone ..."
        )


def test_imports_point_one_way(repository: Path) -> None:
    wrong = []
    for room, path in modules(repository):
        for name in imports(path):
            target = name.partition(".")[0]
            if target == "__version__" or (room, name) in SETTINGS_MAY_GO_UP:
                continue
            sideways = level(target) == level(room) and target != room and room in ("train", "eval")
            if level(target) < level(room) or sideways:
                wrong.append(f"{path.relative_to(repository)} imports residency.{name}")
    assert not wrong, "\n".join(wrong)


def test_files_and_functions_stay_small(repository: Path) -> None:
    paths = [path for _, path in modules(repository) if path.stat().st_size]
    lines = {path: len(path.read_text().splitlines()) for path in paths}
    functions = [
        (node.end_lineno or 0) - node.lineno + 1
        for path in paths
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    assert statistics.median(lines.values()) <= 150, statistics.median(lines.values())
    assert max(lines.values()) <= 500, max(lines, key=lambda path: lines[path])
    assert statistics.quantiles(functions, n=10)[-1] <= 40
    assert max(functions) <= 120


def test_every_module_says_what_it_is(repository: Path) -> None:
    silent = [
        path
        for _, path in modules(repository)
        if path.stat().st_size and not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert not silent, silent


def test_nothing_unpickles_or_runs_foreign_code(repository: Path) -> None:
    for _, path in modules(repository):
        text = path.read_text()
        for banned in (
            "weights_only=False",
            "trust_remote_code=True",
            "yaml.load(",
            "shell=True",
            "pickle.load",
        ):
            assert banned not in text, f"{path}: {banned}"
