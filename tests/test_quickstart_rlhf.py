"""Alignment in the embedded world does what it claims, on facts that no stage of it ever asked (group C of four).

Slow: trains both shipped recipes once, in one run directory, so that the second finds what the first has made.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from residency.artifact import read_manifest
from residency.errors import Exit
from tests.rank_server import SERVER

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]
RECIPES = Path(__file__).resolve().parent.parent / "recipes"
NAMES = 12  # values of a relation in a world of 48 diseases: what a guess gets right is one of as many
Score = dict[tuple[str, str], dict[str, Any]]


def residency(recipe: str, runs: Path, rank_server: Path) -> Score:
    """Run a recipe in a process of its own; returns the verdict by task and stage."""
    arguments = ["run", str(RECIPES / recipe), "name=shared", "--runs", str(runs)]
    command = [sys.executable, str(SERVER), "residency", str(rank_server), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == Exit.DONE, done.stdout + done.stderr
    rows = json.loads((runs / "shared/verdict.json").read_text())
    return {(row["task"], row["stage"]): row for row in rows}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def rlhf(runs: Path, rank_server: Path) -> Score:
    return residency("quickstart-rlhf.yaml", runs, rank_server)


@pytest.fixture(scope="module")
def selftrain(runs: Path, rlhf: Score, rank_server: Path) -> Score:
    return residency("quickstart-selftrain.yaml", runs, rank_server)


def artifact_of(runs: Path, stage: str) -> Path:
    """The one artifact of a stage."""
    pattern = re.compile(f"{stage}-[0-9a-f]{{8}}")
    [found] = [path for path in (runs / "shared").iterdir() if pattern.fullmatch(path.name)]
    return found


def measured(runs: Path, stage: str) -> dict[str, Any]:
    """What a stage's manifest says that it measured."""
    return read_manifest(artifact_of(runs, stage)).measured


def told(row: dict[str, Any]) -> str:
    return f"{row['value']:.3f}, {row['delta']:+.3f} [{row['ci_low']:+.3f}, {row['ci_high']:+.3f}], {row['verdict']}"


def test_a_check_of_the_answer_unlocks_what_was_only_read(runs: Path, rlhf: Score) -> None:
    assert rlhf["world-written-c", "sft"]["value"] <= 0.6
    read_only, nowhere = (rlhf[f"world-written-{group}", "rl"] for group in "cd")
    print(f"rl: read only {told(read_only)}; told nowhere {told(nowhere)}")
    assert read_only["ci_low"] > 0 and read_only["verdict"] == "better"
    assert nowhere["value"] <= 1 / NAMES + 0.12  # 36 facts: 2.6 standard errors
    divergence = measured(runs, "rl")
    print(f"KL to the parent: last {divergence['kl_last']:.3f}, largest {divergence['kl_largest']:.3f}")
    assert divergence["kl_last"] <= 0.5 and divergence["kl_largest"] <= 1


def test_the_reward_model_judges_pairs_that_it_has_not_seen(runs: Path, rlhf: Score) -> None:
    found = measured(runs, "reward")
    accuracy, low, high = (found[f"held_out_{key}"] for key in ("accuracy", "low", "high"))
    print(f"reward model on held-out pairs: {accuracy:.3f} [{low:.3f}, {high:.3f}]")
    assert accuracy >= 0.85


def test_a_reward_model_raises_its_own_score_and_spares_the_exam(runs: Path, rlhf: Score) -> None:
    found = measured(runs, "rlhf")
    rise = found["held_out_rise"]
    exam = rlhf["world-written-c", "rlhf"]
    print(f"reward model's score of held-out replies {rise}; exam {told(exam)}; KL {found['kl_last']:.3f}")
    assert rise["low"] > 0
    assert exam["non_inferior"]


def test_the_models_own_right_answers_teach_it(selftrain: Score) -> None:
    for stage in ("rejection", "distilled", "preference"):
        for group in "bcd":
            print(f"{stage} {group}: {told(selftrain[f'world-written-{group}', stage])}")
    assert selftrain["world-written-c", "rejection"]["ci_low"] > 0
    assert selftrain["world-written-d", "rejection"]["value"] <= 1 / NAMES + 0.12
