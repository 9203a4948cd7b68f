"""Links between Markdown pages lead somewhere, and what they quote exists."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from residency.recipes.schema import Recipe, load

PAGES = [
    path
    for path in sorted(Path(__file__).resolve().parent.parent.rglob("*.md"))
    if not {".venv", "node_modules", "runs"} & set(path.parts)
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_local_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", text) + re.findall(r'(?:src|href)="([^"#]+)"', text)
    broken = [t for t in targets if not t.startswith(("http", "mailto:")) and not (page.parent / t).exists()]
    assert not broken, f"{page}: {broken}"


def anchors(page: Path) -> set[str]:
    """What GitHub calls the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", page.read_text(), flags=re.S), flags=re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_to_headings_lead_to_one(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]*)#([^)\s]+)\)", page.read_text())
    local = [(page.parent / path if path else page, anchor) for path, anchor in links if ":" not in path]
    assert not [anchor for path, anchor in local if anchor not in anchors(path)]


def recipe_of(block: str) -> dict[str, Any]:
    """A block of YAML made up to a whole recipe: it is a part of one, or some of its stages or corpora."""
    part: dict[str, Any] = YAML(typ="safe", pure=True).load(block)
    if not set(part) <= {*(field.alias or name for name, field in Recipe.model_fields.items())}:
        part = {"stages" if all("kind" in value for value in part.values()) else "corpora": part}
    stages = {"cpt": {"kind": "cpt", "mixture": {"a": 1}, "tokens": "1M"}}
    return {"name": "quoted", "base": "owner/name", "stages": stages} | part


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_quoted_recipes_are_valid(page: Path, tmp_path: Path) -> None:
    (tmp_path / "corpora.yaml").write_text("discharge-letters: {source: letters.jsonl, licence: unknown}\n")
    blocks = re.findall(r"```yaml\n(.*?)```", page.read_text(), flags=re.S)
    for block in blocks:
        if block.startswith(("mixture:", "- ")):  # several ways to write one key; an entry of a list
            continue
        path = tmp_path / "quoted.yaml"
        with path.open("w") as file:
            YAML().dump(recipe_of(block), file)
        load(path)


def test_readme_quotes_only_files_that_exist(repository: Path) -> None:
    text = (repository / "README.md").read_text()
    for recipe in re.findall(r"recipes/[\w.-]+\.yaml", text):
        assert (repository / recipe).exists(), recipe
