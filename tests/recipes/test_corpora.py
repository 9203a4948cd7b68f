"""Corpora that are described once: every shipped one loads in a recipe, and references resolve or are explained."""

from __future__ import annotations

from pathlib import Path

import pytest

from residency.data.passport import of_corpus
from residency.data.settings import CorpusSettings
from residency.errors import ResidencyError
from residency.recipes import corpora
from residency.recipes.schema import Recipe, load

REPOSITORY = Path(__file__).resolve().parent.parent.parent
SHIPPED = [f"{file}/{name}" for file, names in corpora.shipped().items() for name in names]
RECIPE = """\
name: described
base: someone/something
corpora:
  text: {{source: {source}, hold_out: 0.1}}
stages:
  export: {{kind: export, from: base}}
"""


def read(folder: Path, source: str, *overrides: str) -> Recipe:
    (folder / "recipe.yaml").write_text(RECIPE.format(source=source))
    return load(folder / "recipe.yaml", list(overrides))


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_corpus_loads(tmp_path: Path, name: str) -> None:
    settings = read(tmp_path, f"shipped:{name}").corpora["text"]
    assert settings.hold_out == 0.1 and not settings.source.startswith("shipped:")
    entry = of_corpus("text", settings)
    assert settings.source.count("/") == 1 and entry["licence"]
    assert entry["consent"] or entry["licence"] == "unknown"
    assert entry["languages"] or entry["synthetic"]


@pytest.mark.parametrize(
    "path", sorted((REPOSITORY / "recipes/corpora").glob("*.yaml")), ids=lambda path: path.stem
)
def test_shipped_file_opens_with_its_schema(path: Path) -> None:
    first, second = path.read_text().splitlines()[:2]
    assert first == "# yaml-language-server: $schema=../../docs/corpora.schema.json"
    assert second.startswith("# ")


def test_schema_file_is_current() -> None:
    committed = (REPOSITORY / "docs/corpora.schema.json").read_text()
    assert committed == corpora.json_schema(), (
        "run: python -m residency.recipes.corpora > docs/corpora.schema.json"
    )


def test_a_recipe_changes_what_it_refers_to(tmp_path: Path) -> None:
    changed = read(
        tmp_path, "shipped:exams/medmcqa", "corpora.text.file=data/test-*.parquet", "corpora.text.limit=5"
    )
    assert changed.corpora["text"] == CorpusSettings(
        source="openlifescienceai/medmcqa", file="data/test-*.parquet", licence="Apache-2.0", languages=["en"],
        phi="none", hold_out=0.1, limit=5,
    )  # fmt: skip


def test_a_file_of_ones_own_stands_beside_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "ours.yaml").write_text("notes:\n  source: world:general\n  siez: 8\n")
    with pytest.raises(
        ResidencyError, match=r"ours\.yaml:3: unknown key corpora\.text\.siez\. Did you mean size"
    ):
        read(tmp_path, "ours.yaml:notes")
    (tmp_path / "ours.yaml").write_text("notes: {source: world:general, size: 8}\n")
    assert read(tmp_path, "ours.yaml:notes").corpora["text"].size == 8


@pytest.mark.parametrize(
    ("source", "told"),
    [
        (
            "shipped:gap-reply/papers",
            r"recipe\.yaml:4: .*no shipped file 'gap-reply'. Did you mean gap-replay",
        ),
        ("shipped:gap-replay/paper", "gap-replay.yaml has no corpus 'paper'. Did you mean papers"),
        ("shipped:gap-replay", "has no corpus ''. Known: guidelines, abstracts"),
        ("mine.yaml:notes", "no file .*mine.yaml"),
    ],
)
def test_a_wrong_reference_is_explained(tmp_path: Path, source: str, told: str) -> None:
    with pytest.raises(ResidencyError, match=told):
        read(tmp_path, source)


def test_a_missing_licence_is_asked_for_at_its_line(tmp_path: Path) -> None:
    with pytest.raises(
        ResidencyError, match=r"recipe\.yaml:4: corpora\.text\.licence = None: state the licence"
    ):
        read(tmp_path, "some/data")
