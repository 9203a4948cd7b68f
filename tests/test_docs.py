"""Links between Markdown pages lead somewhere, and what they quote exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

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


def test_readme_quotes_only_files_that_exist(repository: Path) -> None:
    text = (repository / "README.md").read_text()
    for recipe in re.findall(r"recipes/[\w.-]+\.yaml", text):
        assert (repository / recipe).exists(), recipe
