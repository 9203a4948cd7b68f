"""Sampling and tree search on ranks: the same bytes whatever happens, and corpora that every consumer can read."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from residency.artifact import Manifest, read_attempt, read_manifest
from residency.data import corpus
from residency.errors import Exit, ResidencyError
from residency.recipes.check import check
from tests.train.conftest import World, dialogues, texts

if TYPE_CHECKING:
    from residency.recipes.plan import Plan

pytestmark = pytest.mark.slow
PATIENCE = 240.0
BATCHES = 12  # of one prompt each: its replies fill the budget of a batch
REWARDS = [{"kind": "format", "pattern": ".*[a-g].*"}, {"kind": "length", "tokens": 8, "weight": 0.5}]
SAMPLE: dict[str, Any] = {
    "kind": "sample", "corpus": "dialogues", "replies": 240, "max_new_tokens": 12, "max_length": 64, "rewards": REWARDS,
    "limit": BATCHES,
}  # fmt: skip
TREE: dict[str, Any] = {
    "kind": "tree", "corpus": "exam", "simulations": 6, "branches": 3, "depth": 3, "step_end": "e", "max_length": 64,
    "max_step_tokens": 12,
}  # fmt: skip


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory, rank_server: Path) -> World:
    """A world with exam items, in which the stages' prompts are made once."""
    root = tmp_path_factory.mktemp("own")
    for make in (texts, dialogues, exam):
        (root / f"{make.__name__}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in make()))
    return World(root, root, rank_server)


def exam() -> list[dict[str, Any]]:
    """Arithmetic that the model gets right by chance at most."""
    return [{"question": f"How many legs have {n} lungs?", "answers": [str(n)]} for n in range(6)]


@pytest.fixture(scope="module")
def unbroken(own: World) -> Path:
    """The corpus of two ranks that nobody disturbs."""
    return own.train_all({"draws": SAMPLE})


@contextmanager
def started(world: World, plan: Plan, name: str) -> Iterator[tuple[Path, subprocess.Popen[bytes]]]:
    """The ranks of a stage, running, and its attempt."""
    attempt = world.attempt(plan, name)
    log = world.root / "ranks.txt"
    with log.open("ab") as output:
        command = [*world.launcher(2), "residency.train.worker", str(attempt)]
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        yield attempt, process
    finally:
        process.kill()
        process.wait()


def wait_for(moment: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + PATIENCE
    while not moment():
        assert process.poll() is None, f"ended with {process.returncode} before the moment came"
        assert time.monotonic() < until, "the moment did not come"
        time.sleep(0.01)


def ranks(attempt: Path) -> list[psutil.Process]:
    """All ranks, by what rank 0 left."""
    parent = psutil.Process(read_attempt(attempt)["pid"]).parent()
    assert parent is not None
    return list(parent.children())


def batches(attempt: Path) -> list[Path]:
    return sorted(attempt.glob("batches-*/*.jsonl"))


def rows(artifact: Path) -> list[dict[str, Any]]:
    return list(corpus.rows(artifact, "train"))


def test_killed_and_stopped_it_goes_on_and_leaves_the_same_bytes_on_one_rank(
    own: World, unbroken: Path
) -> None:
    plan, aside = own.plan({"draws": SAMPLE}), own.root / "aside"
    unbroken.rename(aside)
    try:
        with started(own, plan, "draws") as (attempt, process):
            wait_for(lambda: len(batches(attempt)) >= 1, process)
            for rank in ranks(attempt):
                rank.kill()
            process.wait(PATIENCE)
        kept = {path: path.stat().st_mtime_ns for path in batches(attempt)}
        assert 1 <= len(kept) < BATCHES - 1, "killed in the middle"
        with started(own, plan, "draws") as (attempt, process):
            wait_for(lambda: len(batches(attempt)) > len(kept), process)
            os.kill(read_attempt(attempt)["pid"], signal.SIGUSR1)
            assert process.wait(PATIENCE) == Exit.RUN_AGAIN
        outcome = read_attempt(attempt)
        assert (outcome["status"], outcome["step"]) == ("saved", len(batches(attempt)))
        assert all(path.stat().st_mtime_ns == at for path, at in kept.items()), "no batch is written twice"
        alone = own.train_all({"draws": SAMPLE}, processes=1)
        assert (alone / "train.jsonl").read_bytes() == (aside / "train.jsonl").read_bytes()
        assert read_manifest(alone).measured["ranks"] == 1
        shutil.rmtree(alone)
    finally:
        aside.rename(unbroken)


def test_replies_are_ranked_counted_and_kept_once(unbroken: Path) -> None:
    manifest, found = read_manifest(unbroken), rows(unbroken)
    measured = manifest.measured
    assert (manifest.kind, measured["schema"], measured["documents"]) == ("corpus", "ranked", 12)
    assert [row["id"] for row in found] == [f"dialogues:{number}" for number in range(1, 13)]
    for row in found:
        scores = row["scores"]
        assert scores == sorted(scores, reverse=True)
        assert row["ranks"] == [1 + sum(other > score for other in scores) for score in scores]
        assert len(set(row["replies"])) == len(row["replies"]) == len(row["drawn"]) == len(row["truncated"])
        assert all(reply.strip() and "\0" not in reply for reply in row["replies"])
        parts = zip(row["rewards"]["format"], row["rewards"]["length"], strict=True)
        assert scores == pytest.approx([form + 0.5 * length for form, length in parts], abs=2e-6)
    drawn = sum(sum(row["drawn"]) for row in found)
    assert drawn + measured["dropped"]["no text"] == measured["replies"] == 12 * 240
    mean = sum(s * n for row in found for s, n in zip(row["scores"], row["drawn"], strict=True)) / drawn
    assert measured["mean_score"] == pytest.approx(mean, abs=1e-5)
    assert measured["best_score"] == pytest.approx(sum(row["scores"][0] for row in found) / 12, abs=1e-5)
    assert measured["best_score"] > measured["mean_score"]
    assert measured["weights_sha256"]


def test_the_passport_says_who_wrote_and_inherits(unbroken: Path) -> None:
    [entry] = read_manifest(unbroken).passport
    assert entry["corpus"] == "draws" and entry["synthetic"] == "written by base"
    assert (entry["licence"], entry["documents"]) == ("CC0-1.0", 12)


CHAIN = {
    "draws": SAMPLE,
    "sft": {"mixture": {"best": 1}, "epochs": 1.0, "max_length": 128},
    "preference": {"from": "sft", "corpus": "better", "max_length": 128},
}
MADE = {
    "best": {"source": "corpus:draws", "synthesis": {"kind": "best", "top": 2, "least": 1.0}},
    "better": {"source": "corpus:draws", "synthesis": {"kind": "pairs", "margin": 0.5}},
}


def test_corpora_of_a_stages_replies_feed_other_stages(own: World, unbroken: Path) -> None:
    own.synthesis = MADE
    plan = own.plan(CHAIN)
    assert list(plan.stages).index("draws") < list(plan.stages).index("corpus-best")
    check(plan)
    own.attempt(plan, "sft")
    best, found = plan.stages["corpus-best"].artifact, {row["id"]: row for row in rows(unbroken)}
    manifest: Manifest = read_manifest(best)
    assert (manifest.measured["schema"], manifest.passport[0]["synthetic"]) == (
        "messages",
        "best replies of draws",
    )
    assert manifest.passport[0]["licence"] == "CC0-1.0"
    told = [row["messages"][-1]["content"] for row in rows(best)]
    whole = [
        [reply for reply, score, cut in zip(row["replies"], row["scores"], row["truncated"], strict=True)
         if score >= 1.0 and not cut][:2]
        for row in found.values()
    ]  # fmt: skip
    assert told == [reply for some in whole for reply in some]
    assert sum(manifest.measured["dropped"].values()) == sum(not some for some in whole)
    own.attempt(plan, "preference")
    better = rows(plan.stages["corpus-better"].artifact)
    assert better and all(row["margin"] >= 0.5 for row in better)
    assert read_manifest(plan.stages["preference-tokens"].artifact).measured["pairs"] == len(better)


def test_self_distillation_asks_for_one_thing_and_answers_another(own: World) -> None:
    own.synthesis = {"own": {"source": "corpus:said", "synthesis": {"kind": "best"}}}
    ask = "Say it in your own words. {prompt} {reference}"
    said = SAMPLE | {"rewards": [], "replies": 2, "ask": ask, "max_new_tokens": 8, "limit": 4}
    artifact = own.train_all({"said": said}, processes=1)
    found = rows(artifact)
    assert [row["prompt"] for row in found] == [row["messages"][:1] for row in list(dialogues())[:4]]
    assert all(set(row["ranks"]) == {1} and "scores" not in row and "rewards" not in row for row in found)
    plan = own.plan({"said": said, "sft": {"mixture": {"own": 1}}})
    check(plan)
    with pytest.raises(ResidencyError, match=r"stages.said: the longest prompt = .* max_new_tokens = 100"):
        own.train_all({"said": said | {"max_new_tokens": 100, "ask": ask * 3}}, processes=1)


def test_trees_are_the_same_on_one_rank_and_on_two(own: World) -> None:
    own.synthesis = {"valued": {"source": "corpus:trees", "synthesis": {"kind": "steps"}}}
    both = []
    for processes in (2, 1):
        artifact = own.train_all({"trees": TREE}, processes=processes)
        both.append((artifact / "train.jsonl").read_bytes())
        measured, found = read_manifest(artifact).measured, rows(artifact)
        if processes == 2:
            artifact.rename(own.root / "trees")
    assert both[0] == both[1]
    assert measured["schema"] == "tree" and measured["simulations"] <= 6 * 6
    assert measured["nodes"] == sum(len(row["nodes"]) for row in found) > 0
    for row in found:
        for place, node in enumerate(row["nodes"]):
            assert node["parent"] is None or node["parent"] < place
            assert (node["correct"] is not None) == node["end"] and node["visits"] > 0
    plan = own.plan({"trees": TREE, "reward": {"corpus": "valued", "held_out": None, "max_length": 128}})
    check(plan)
    own.attempt(plan, "reward")
    assert read_manifest(plan.stages["reward-tokens"].artifact).measured["form"] == "steps"
