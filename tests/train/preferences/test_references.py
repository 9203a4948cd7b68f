"""What is kept of the reference is only found by a stage that would compute the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from residency.artifact import StageFile
from residency.train.preferences import references

HOW = {"layout": "padded", "head": "dense", "adapter": None}


@pytest.fixture
def stage(tmp_path: Path) -> StageFile:
    """A stage on a model and pairs that no run made; nothing in them is read, only hashed."""
    model, tokens = tmp_path / "model", tmp_path / "tokens"
    (tokens / "pairs").mkdir(parents=True)
    model.mkdir()
    for path in (model / "model.safetensors", model / "config.json", tokens / "pairs" / "data.arrow"):
        path.write_text("{}")
    parents = {"model": model, "tokens": tokens}
    facts: dict[str, Any] = {
        "name": "align",
        "kind": "preference",
        "identity": "0" * 64,
        "run": tmp_path / "run",
    }
    return StageFile(**facts, settings={}, execution={}, parents=parents)


def test_whatever_changes_the_numbers_changes_the_name(
    stage: StageFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [references.digest(stage, HOW), references.digest(stage, HOW)]
    assert names[0] == names[1]
    for key in HOW:
        names.append(references.digest(stage, HOW | {key: "other"}))
    for path in (
        stage.parents["model"] / "model.safetensors",
        stage.parents["model"] / "config.json",
        stage.parents["tokens"] / "pairs" / "data.arrow",
    ):
        path.write_text('{"other": 1}')
        names.append(references.digest(stage, HOW))
    monkeypatch.setattr(references, "version", lambda name: "99")
    names.append(references.digest(stage, HOW))
    assert len(set(names)) == len(names) - 1


def test_what_is_damaged_or_of_other_pairs_is_not_found(tmp_path: Path) -> None:
    path, sums = tmp_path / "kept" / "name.safetensors", torch.arange(6.0).view(3, 2)
    references.save(path, sums)
    assert torch.equal(references.load(path, (3, 2)), sums)  # type: ignore[arg-type]
    assert references.load(path, (4, 2)) is None
    content = path.read_bytes()
    for damaged in (content[:-1] + b"\x01", content[:-9], b""):
        path.write_bytes(damaged)
        assert references.load(path, (3, 2)) is None
