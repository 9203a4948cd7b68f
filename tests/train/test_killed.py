"""A stage that trains nothing and ends in the middle leaves nothing half-made, and runs through the next time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from residency import artifact
from residency.artifact import check_files, open_attempt
from residency.recipes import chain
from residency.train import merge

if TYPE_CHECKING:
    from tests.train.conftest import World

MORE: dict[str, Any] = {"kind": "vocab", "from": "base", "corpus": "texts", "tokens": 3}
STAGES: dict[str, dict[str, Any]] = {
    "merge": {"kind": "merge", "from": "more", "method": "dare", "models": {"again": 1}},
    "export": {"kind": "export", "from": "more"},
    "more": MORE,
}


def die(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("name", "module", "where"),
    [
        ("merge", merge, "save_file"),
        ("merge", artifact, "_fsync"),
        ("export", artifact, "file_digests"),
        ("more", artifact, "file_digests"),
    ],
)
def test_a_stage_that_was_ended_is_made_anew(
    world: World, monkeypatch: pytest.MonkeyPatch, name: str, module: Any, where: str
) -> None:
    world.vocabulary = 290  # too few for the words of the texts
    plan = world.plan({"more": MORE, "again": MORE, name: STAGES[name]})
    attempt, stage = world.attempt(plan, name), plan.stages[name]
    with monkeypatch.context() as patched:
        patched.setattr(module, where, die)
        with pytest.raises(KeyboardInterrupt):
            chain.run_in_process(attempt)
    assert attempt.exists() and not stage.artifact.exists()
    chain.run_in_process(open_attempt(plan.paths, plan.stage_file(stage)))
    assert stage.finished and not attempt.exists()
    assert check_files(stage.artifact, rehash=True) == []


def test_what_is_left_of_a_removed_artifact_makes_way(world: World) -> None:
    plan = world.plan({"cpt": {}})
    world.attempt(plan, "cpt")
    tokens = plan.stages["cpt-tokens"]
    (tokens.artifact / "manifest.json").unlink()
    chain.run_in_process(open_attempt(plan.paths, plan.stage_file(tokens)))
    assert tokens.finished
    assert check_files(tokens.artifact, rehash=True) == []
