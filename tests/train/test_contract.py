"""The hand-off contract refuses with the cure, before any accelerator time is spent."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from residency.artifact import StageFile, read_stage
from residency.errors import ResidencyError
from residency.train import contract, lora

if TYPE_CHECKING:
    from tests.train.conftest import World


@pytest.fixture
def stage(world: World) -> StageFile:
    """A cpt stage whose parents fit."""
    return read_stage(world.attempt(world.plan({"cpt": {}}), "cpt"))


def outside(stage: StageFile, directory: Path) -> Path:
    """The stage's model as a plain directory that no stage made (so without a manifest)."""
    shutil.copytree(stage.parents["model"], directory, ignore=shutil.ignore_patterns("manifest.json"))
    stage.parents["model"] = directory
    return directory


def change(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_parents_that_fit_pass(stage: StageFile) -> None:
    contract.check(stage)


def test_another_tokenizer_is_refused(stage: StageFile, tmp_path: Path) -> None:
    tokenizer = outside(stage, tmp_path / "model") / "tokenizer.json"
    written = json.loads(tokenizer.read_text())
    written["model"]["merges"].pop()
    tokenizer.write_text(json.dumps(written))
    with pytest.raises(
        ResidencyError, match=r"cpt-tokens was made with another tokenizer than that of model"
    ):
        contract.check(stage)


def test_rows_longer_than_the_model_reads_are_refused(stage: StageFile) -> None:
    stage.settings["max_length"] = 129
    with pytest.raises(
        ResidencyError, match=r"stages\.cpt\.max_length = 129: .* Set max_length to 128 or less"
    ):
        contract.check(stage)


def test_a_token_behind_the_embedding_is_refused(stage: StageFile, tmp_path: Path) -> None:
    change(outside(stage, tmp_path / "model") / "config.json", vocab_size=100)
    with pytest.raises(ResidencyError, match=r"holds token \d+, the model's embedding has 100 rows"):
        contract.check(stage)


def test_a_parents_file_cut_short_is_refused(stage: StageFile) -> None:
    weights = stage.parents["model"] / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(
        ResidencyError, match=r"model\.safetensors has \d+ bytes, the manifest says \d+\. Remove "
    ):
        contract.check(stage)


def test_a_parents_missing_file_is_refused(stage: StageFile) -> None:
    (stage.parents["tokens"] / "loss.bin").unlink()
    with pytest.raises(ResidencyError, match=r"loss\.bin is missing"):
        contract.check(stage)


@pytest.mark.parametrize(
    ("said", "adapters", "left", "message"),
    [
        (None, None, True, "its parent left an adapter. Set adapter: continue or adapter: merge"),
        ("merge", None, False, "its parent left no adapter"),
        ("continue", None, True, "adapter = continue needs lora"),
        (
            "merge",
            {"finish": "keep"},
            True,
            "would stand on weights that are kept nowhere. Set lora.finish: merge",
        ),
    ],
)
def test_an_adapter_is_never_silently_stacked(
    stage: StageFile, tmp_path: Path, said: str | None, adapters: Any, left: bool, message: str
) -> None:
    stage.settings |= {"adapter": said, "lora": adapters}
    with pytest.raises(ResidencyError, match=message):
        lora.check_adapter(stage, tmp_path if left else None)
