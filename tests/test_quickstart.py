"""The embedded default does what it claims: facts that were only read are answered, and replay is what protects.

Every bar is over facts that no training question ever asked. Slow: trains the shipped recipe for two seeds.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from residency import events
from residency.errors import Exit
from tests.rank_server import SERVER

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]
RECIPES = Path(__file__).resolve().parent.parent / "recipes"
Score = dict[tuple[str, str], dict[str, Any]]
FIRST_SEED = pytest.mark.parametrize("run", [0], ids=["seed0"], indirect=True)


def residency(*arguments: str, runs: Path, rank_server: Path | None = None) -> Score:
    """Run a recipe in a process of its own, with torchrun or with that server's ranks; returns the verdict by task and
    stage."""
    start = ["-m", "residency"] if rank_server is None else [str(SERVER), "residency", str(rank_server)]
    command = [sys.executable, *start, "run", *arguments, "--runs", str(runs)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == Exit.DONE, done.stdout + done.stderr
    rows = json.loads((runs / "quickstart/verdict.json").read_text())
    return {(row["task"], row["stage"]): row for row in rows}


@pytest.fixture(scope="module", params=[0, 1], ids=["seed0", "seed1"])
def run(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, rank_server: Path
) -> tuple[Path, Score, str]:
    """The first seed as a user runs it."""
    runs, seed = tmp_path_factory.mktemp("runs"), f"seed={request.param}"
    server = rank_server if request.param else None
    return runs, residency(str(RECIPES / "quickstart.yaml"), seed, runs=runs, rank_server=server), seed


def test_reading_stores_the_facts_and_questions_unlock_them(run: tuple[Path, Score, str]) -> None:
    _, score, _ = run
    assert score["world-general", "pretrain"]["value"] >= 0.90
    assert score["world-exam", "pretrain"]["value"] <= 0.40
    assert score["world-cloze", "cpt"]["value"] >= 0.90
    exam = score["world-exam", "sft"]
    assert exam["value"] >= 0.60 and exam["verdict"] == "better" and exam["ci_low"] > 0
    unseen = score["world-exam-unseen-form", "sft"]
    assert unseen["verdict"] == "better" and unseen["ci_low"] > 0
    assert score["world-exam-stem-removed", "sft"]["value"] <= 0.35


def test_the_verdict_tells_knowledge_from_luck(run: tuple[Path, Score, str]) -> None:
    _, score, _ = run
    read, never_read = score["world-exam", "cpt"], score["world-unseen", "cpt"]
    assert read["verdict"] == "better" and read["ci_low"] > 0, (
        "reading alone raises the exam of what was read"
    )
    assert never_read["p_holm"] > 0.05, "a world that was never read"
    assert score["world-general", "cpt"]["non_inferior"], "replay"


def test_replay_keeps_what_the_base_knew(run: tuple[Path, Score, str]) -> None:
    _, score, _ = run
    base, kept = (score["world-general", stage]["value"] for stage in ("pretrain", "cpt"))
    assert kept >= base - 0.05


@FIRST_SEED
def test_without_replay_it_is_forgotten(run: tuple[Path, Score, str], rank_server: Path) -> None:
    runs, score, seed = run
    base = score["world-general", "pretrain"]["value"]
    # In the same run directory: the base is there already, only what hangs on the mixture is trained.
    without = residency(
        str(RECIPES / "quickstart-no-replay.yaml"), "name=quickstart", seed, "stages.sft=null",
        "stages.preference=null", "evaluation.after=[pretrain, cpt]", runs=runs, rank_server=rank_server,
    )  # fmt: skip
    assert without["world-general", "cpt"]["value"] <= base - 0.20
    assert without["world-general", "cpt"]["verdict"] == "worse"


def test_questions_alone_teach_no_unread_fact(run: tuple[Path, Score, str], rank_server: Path) -> None:
    runs, _, seed = run
    control = residency(
        str(RECIPES / "quickstart.yaml"), seed, "stages.sft.from=pretrain", "stages.cpt=null",
        "stages.sft.mixture={dialogues: 1}", "stages.preference=null", "evaluation.after=[pretrain, sft]",
        runs=runs, rank_server=rank_server,
    )  # fmt: skip
    assert control["world-exam", "sft"]["value"] <= 0.35


def test_preference_is_learnt_for_unseen_facts(run: tuple[Path, Score, str]) -> None:
    _, score, _ = run
    preference, before = (score["world-preference", stage] for stage in ("preference", "sft"))
    assert preference["value"] >= 0.80
    assert before["value"] >= 0.95 or preference["ci_previous_low"] > 0


@FIRST_SEED
def test_a_second_run_skips_all_within_five_seconds_and_one_setting_reruns_its_descendants(
    run: tuple[Path, Score, str], rank_server: Path
) -> None:
    runs, _, seed = run
    started = time.monotonic()
    residency(str(RECIPES / "quickstart.yaml"), seed, runs=runs)
    seconds = time.monotonic() - started
    log = runs / "quickstart/events.jsonl"
    last = [event for event in events.read(log) if event["time"] > time.time() - seconds - 1]
    assert {event["event"] for event in last} == {"stage_skipped"}
    print(f"second run: {seconds:.1f} s")
    begun = time.time()
    changed = "stages.sft.weight_decay=0.01"
    residency(str(RECIPES / "quickstart.yaml"), seed, changed, runs=runs, rank_server=rank_server)
    ran = {e["stage"] for e in events.read(log) if e["time"] > begun and e["event"] == "stage_started"}
    assert ran == {"sft", "sft-evaluation", "preference", "preference-evaluation"}
