"""The chain on a small recipe without ranks: skipping, verifying, taking over, and what a failure leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from residency import events
from residency.artifact import RunPaths, commit, own, read_manifest
from residency.errors import Exit, ResidencyError
from residency.recipes import chain
from residency.recipes.plan import Plan
from residency.recipes.schema import load

RECIPE = """\
name: data-only
base: {scratch: {layers: 1, width: 32, vocabulary: 300, context: 64, tokenizer: [text]}}
corpora:
  text: {source: "world:general", size: 8}
stages: {}
"""


def plan(folder: Path, *overrides: str) -> Plan:
    (folder / "recipe.yaml").write_text(RECIPE)
    recipe = load(folder / "recipe.yaml", list(overrides))
    return Plan(recipe, RunPaths(folder / recipe.name))


def happened(made: Plan) -> list[tuple[str, str]]:
    return [(event["event"], event["stage"]) for event in events.read(made.paths.events)]


def test_a_second_run_skips_what_is_finished(tmp_path: Path) -> None:
    made = plan(tmp_path)
    chain.run(made)
    chain.run(made)
    assert happened(made)[-2:] == [("stage_skipped", "corpus-text"), ("stage_skipped", "base")]
    manifest = read_manifest(made.stages["base"].artifact)
    assert manifest.kind == "model" and manifest.parents == {
        "corpus:text": made.stages["corpus-text"].identity
    }
    assert json.loads(made.paths.recipe.read_text())["name"] == "data-only"
    assert made.paths.report.exists()


def test_what_is_skipped_is_concluded_again_when_it_was_not_what_ran_last(tmp_path: Path) -> None:
    made, other = plan(tmp_path), plan(tmp_path, "corpora.text.size=9")
    for each in (made, other):
        chain.run(each)
    written = made.paths.report.stat().st_mtime_ns
    chain.run(other)
    assert made.paths.report.stat().st_mtime_ns == written
    chain.run(made)
    assert made.paths.report.stat().st_mtime_ns > written
    assert (
        json.loads(made.paths.recipe.read_text())["stages"][0]["identity"]
        == made.stages["corpus-text"].identity
    )
    os.utime(made.paths.report, ns=(0, 0))  # killed before it was written
    made.paths.recipe.write_text("{")  # damaged
    chain.run(made)
    assert json.loads(made.paths.recipe.read_text())["name"] == "data-only"
    assert made.paths.report.stat().st_mtime_ns > written


def test_a_cut_file_is_found_by_size_and_a_changed_one_by_verify(tmp_path: Path) -> None:
    made = plan(tmp_path)
    chain.run(made)
    text = made.stages["corpus-text"].artifact / "train.jsonl"
    whole = text.read_bytes()
    text.write_bytes(whole.replace(b"a", b"o", 1))
    chain.run(made)
    with pytest.raises(ResidencyError, match=r"train\.jsonl was changed"):
        chain.run(made, verify=True)
    text.write_bytes(whole[:-1])
    with pytest.raises(ResidencyError, match="the manifest says"):
        chain.run(made)


def test_an_attempt_that_was_taken_over_cannot_commit(tmp_path: Path) -> None:
    from residency.artifact import open_attempt

    made = plan(tmp_path)
    attempt = open_attempt(made.paths, made.stage_file(made.stages["corpus-text"]))
    (attempt / "payload").mkdir()
    first = own(attempt)
    second = own(attempt)
    with pytest.raises(ResidencyError, match="another process owns") as caught:
        commit(attempt, attempt / "payload", "corpus", owner=first, measured={}, passport=[])
    assert caught.value.code == Exit.DO_NOT_REQUEUE
    assert commit(attempt, attempt / "payload", "corpus", owner=second, measured={}, passport=[]).exists()


def test_a_full_disk_in_a_stage_is_an_environment_error_and_leaves_no_artifact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: Path) -> Path:
        raise OSError(28, "No space left on device", "train.jsonl")

    made = plan(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr("residency.data.corpus.run", full)
        with pytest.raises(ResidencyError, match=r"train\.jsonl: No space left") as caught:
            chain.run(made)
    assert caught.value.code == Exit.ENVIRONMENT
    assert happened(made)[-1] == ("stage_failed", "corpus-text")
    assert not made.stages["corpus-text"].finished
    chain.run(made)


def test_a_last_line_cut_by_a_crash_is_no_event(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    events.emit(path, "step", "cpt", loss=float("nan"))
    with path.open("a") as file:
        file.write('{"event": "st')
    assert [(event["stage"], event["loss"]) for event in events.read(path)] == [("cpt", None)]


HOLDER = """
import os, sys, time
from pathlib import Path
from residency.artifact import RunPaths
from residency.recipes import chain
with chain.locked(RunPaths(Path(sys.argv[1]))):
    child = os.fork()
    if child == 0:
        print(os.getpid(), flush=True)
        time.sleep(60)
        os._exit(0)
    time.sleep(5)
"""


def test_a_process_that_was_forked_does_not_keep_the_lock(tmp_path: Path) -> None:
    killed = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert killed.stdout is not None
    child = int(killed.stdout.readline())
    killed.kill()
    killed.wait(timeout=60)
    try:
        with chain.locked(RunPaths(tmp_path)):
            pass
    finally:
        os.kill(child, signal.SIGKILL)
