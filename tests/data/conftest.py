"""What the tests of the data stages share: an attempt made by hand, and a directory with a tokenizer."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from residency.artifact import RunPaths, StageFile, identity_of, open_attempt
from residency.data import corpus
from residency.data.settings import CorpusSettings
from residency.data.tokenization.tokenizer import train_tokenizer

Attempt = Callable[..., Path]
Corpus = Callable[..., Path]
TEXT = [
    "The liver makes bile.",
    "Bile helps to digest fat.",
    "A kidney filters blood; the blood returns clean.",
]


@pytest.fixture
def attempt(tmp_path: Path) -> Attempt:
    """Makes the attempt directory of a stage."""

    def make(name: str, kind: str, settings: dict[str, Any], parents: dict[str, Path]) -> Path:
        stage = StageFile(
            name=name,
            kind=kind,
            identity=identity_of(name=name, settings=settings),
            settings=settings,
            parents=parents,
            run=tmp_path / "run",
        )
        return open_attempt(RunPaths(stage.run), stage)

    return make


@pytest.fixture
def make_corpus(tmp_path: Path, attempt: Attempt) -> Corpus:
    """Writes rows to a JSONL file and runs the corpus stage on it."""

    def make(name: str, rows: list[dict[str, Any]], **settings: Any) -> Path:
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        filled = CorpusSettings(source=str(path), seed=7, **{"licence": "CC0-1.0", **settings})
        return corpus.run(attempt(f"corpus-{name}", "corpus", filled.model_dump(), {}))

    return make


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a tokenizer and the least that counts as a model."""
    directory = tmp_path_factory.mktemp("base")
    train_tokenizer(iter(TEXT * 3), 300, 512).save_pretrained(directory)
    (directory / "config.json").write_text("{}")
    return directory
