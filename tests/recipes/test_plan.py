"""What changes an identity, and with it what is run again."""

from __future__ import annotations

from pathlib import Path

import pytest

from residency.artifact import RunPaths
from residency.recipes.plan import Plan
from residency.recipes.schema import load

QUICKSTART = Path(__file__).resolve().parent.parent.parent / "recipes/quickstart.yaml"


def identities(*overrides: str) -> dict[str, str]:
    plan = Plan(load(QUICKSTART, list(overrides)), RunPaths(Path("/nowhere")))
    return {stage.name: stage.identity for stage in plan.stages.values()}


def changed(*overrides: str) -> set[str]:
    before, after = identities(), identities(*overrides)
    assert before.keys() == after.keys()
    return {name for name in before if before[name] != after[name]}


def test_one_setting_of_a_stage_changes_it_and_its_descendants() -> None:
    assert changed("stages.sft.learning_rate=2e-4") == {
        "sft", "sft-evaluation", "preference", "preference-evaluation",
    }  # fmt: skip


def test_a_data_setting_changes_the_tokens_too() -> None:
    assert changed("stages.sft.epochs=7") == {
        "sft-tokens", "sft", "sft-evaluation", "preference", "preference-evaluation",
    }  # fmt: skip


@pytest.mark.parametrize(
    "override",
    [
        "engine.zero=3",
        "engine.processes=1",
        "engine.micro_batch_size=1",
        "engine.attention=eager",
        "stages.sft.save_every=3",
        "stages.sft.keep_checkpoints=5",
        "cluster.nodes=4",
        "evaluation.resamples=100",
        "name=other",
    ],
)
def test_how_it_is_computed_changes_no_identity(override: str) -> None:
    assert changed(override) == set()


@pytest.mark.parametrize("override", ["engine.precision=bfloat16", "engine.clip=0.5"])
def test_precision_and_clipping_change_what_is_learnt(override: str) -> None:
    assert {"pretrain", "cpt", "sft", "preference"} <= changed(override)


def test_the_seed_changes_everything_but_the_world_with_a_seed_of_its_own() -> None:
    assert changed("seed=1") == set(identities()) - {"task-world-unseen"}


def test_a_local_source_counts_by_its_bytes(tmp_path: Path) -> None:
    text = tmp_path / "text.jsonl"
    override = f"corpora.general={{source: {text}, licence: CC0-1.0}}"
    text.write_text('{"text": "one"}\n')
    first = identities(override)
    text.write_text('{"text": "two"}\n')
    second = identities(override)
    assert {name for name in first if first[name] != second[name]} >= {
        "corpus-general",
        "pretrain",
        "cpt-tokens",
    }
    assert first["corpus-medicine"] == second["corpus-medicine"]


def test_parents_come_first() -> None:
    plan = Plan(load(QUICKSTART), RunPaths(Path("/nowhere")))
    seen: set[str] = set()
    for stage in plan.stages.values():
        assert set(stage.parents.values()) <= seen, stage.name
        seen.add(stage.name)
