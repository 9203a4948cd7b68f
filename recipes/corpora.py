"""Corpora that are described once and used by name: `source: shipped:gap-replay/guidelines`, or `FILE.yaml:NAME`.

A file under `recipes/corpora/` (or one of the user's) maps names to what stands under `corpora:` in a recipe: source,
fields, licence, consent, languages. The recipe's own keys go on top. `residency.recipes.schema.load` resolves them, so
that a resolved recipe holds no reference."""

from __future__ import annotations

import difflib
import json
from importlib.resources import files
from pathlib import Path
from typing import Any

from residency.data.settings import CorpusSettings
from residency.errors import ResidencyError
from residency.recipes.reading import Raw, merge, read_file

SHIPPED = "shipped:"


def resolve(raw: Raw, folder: Path) -> None:
    """Replace references among a recipe's corpora by what they name; keys that the recipe gives stay.

    Args:
        folder: the recipe's, from which the paths of the user's own files count.

    Raises:
        ResidencyError: no such file or corpus.
    """
    corpora = raw.values.get("corpora")
    if not isinstance(corpora, dict):
        return
    for name, corpus in corpora.items():
        source = corpus.get("source") if isinstance(corpus, dict) else None
        if not isinstance(source, str) or not (source.startswith(SHIPPED) or ".yaml:" in source):
            continue
        path, key = ("corpora", name), ("corpora", name, "source")
        found = _find(source, folder, raw.place(key))
        for written, place in found.places.items():
            raw.places.setdefault((*path, *written), place)
        raw.places[key] = found.place(("source",))
        own = {field: value for field, value in corpus.items() if field != "source"}
        corpora[name] = merge(found.values, own)


def shipped() -> dict[str, list[str]]:
    """The shipped files by name, and the corpora in each."""
    folder = Path(str(files("residency.recipes").joinpath("corpora")))
    return {path.stem: list(read_file(path).values) for path in sorted(folder.glob("*.yaml"))}


def json_schema() -> str:
    """JSON Schema of a file of corpora, for editors."""
    corpus = CorpusSettings.model_json_schema(by_alias=True)
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$defs": corpus.pop("$defs", {}) | {"CorpusSettings": corpus},
        "type": "object",
        "additionalProperties": {"$ref": "#/$defs/CorpusSettings"},
    }
    return json.dumps(schema, indent=1) + "\n"


def _find(source: str, folder: Path, place: str) -> Raw:
    if source.startswith(SHIPPED):
        file, _, name = source.removeprefix(SHIPPED).partition("/")
        path = Path(str(files("residency.recipes").joinpath("corpora", f"{file}.yaml")))
        if not path.is_file():
            raise ResidencyError(
                f"{place}: source = {source}: no shipped file {file!r}", cure=_near(file, list(shipped()))
            )
    else:
        stem, _, name = source.rpartition(":")
        path = folder / stem
        if not path.is_file():
            raise ResidencyError(f"{place}: source = {source}: no file {path}")
    raw = read_file(path)
    if name not in raw.values:
        raise ResidencyError(
            f"{place}: source = {source}: {path.name} has no corpus {name!r}",
            cure=_near(name, list(raw.values)),
        )
    values: Any = raw.values[name]
    if not isinstance(values, dict) or "source" not in values:
        raise ResidencyError(f"{raw.place((name,))}: corpus {name} gives no source")
    places = {written[1:]: where for written, where in raw.places.items() if written[:1] == (name,)}
    return Raw(values, places)


def _near(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"Did you mean {near[0]}?" if near else f"Known: {', '.join(known)}"


if __name__ == "__main__":
    print(json_schema(), end="")
