"""The real chain on a real Slurm: two ranks on two nodes train the weights that two ranks of one machine train."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from residency.artifact import read_manifest

pytestmark = [pytest.mark.slow, pytest.mark.cluster]

RECIPE = """
name: tiny
base: {scratch: {layers: 1, width: 16, vocabulary: 400, tokenizer: [general]}}
corpora:
  general: {source: general.jsonl, licence: CC0-1.0}
stages:
  pretrain: {kind: pretrain, mixture: {general: 1.0}, tokens: 4k, batch_size: 4, max_length: 64}
  cpt: {kind: cpt, from: pretrain, mixture: {general: 1.0}, tokens: 4k, batch_size: 4, max_length: 64}
engine: {zero: 2, processes: 2}
cluster: {nodes: 2, tasks_per_node: 1, time: "10"}
"""
SECONDS = 420


def residency(directory: Path, command: str, runs: str) -> str:
    arguments = [sys.executable, "-m", "residency", command, "tiny.yaml", "--runs", runs]
    done = subprocess.run(
        arguments, cwd=directory, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def environment() -> dict[str, str]:
    """This process's, with a PYTHONPATH that holds in another directory too."""
    parts = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return {**os.environ, "PYTHONPATH": os.pathsep.join(str(Path(part).absolute()) for part in parts if part)}


def measured(run: Path, stage: str) -> dict[str, Any]:
    return read_manifest(next(run.glob(f"{stage}-????????"))).measured


def wait_for(run: Path, stage: str) -> None:
    """Until the artifact stands, or no job is left that could make it."""
    end = time.monotonic() + SECONDS
    while not list(run.glob(f"{stage}-????????")):
        queue = subprocess.run(
            ["squeue", "--noheader", "--me"], capture_output=True, text=True, check=True
        ).stdout
        logs = "\n".join(path.read_text()[-3000:] for path in sorted((run / "logs").glob("*.log")))
        assert queue, f"the jobs ended without {stage}\n{logs}"
        assert time.monotonic() < end, f"no {stage} within {SECONDS} s\n{queue}\n{logs}"
        time.sleep(0.5)


@pytest.mark.usefixtures("slurm")
def test_submitted_and_run_here_are_the_same_weights(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(RECIPE)
    rows = [
        {"text": f"Case {number}: the fever fell on day {number % 9} and the cough stayed."}
        for number in range(400)
    ]
    (tmp_path / "general.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    told = residency(tmp_path, "submit", "there")
    assert [line.split()[1] for line in told.splitlines()] == [
        "corpus-general", "base", "pretrain-tokens", "pretrain", "cpt-tokens", "cpt",
    ]  # fmt: skip
    wait_for(tmp_path / "there" / "tiny", "cpt")
    residency(tmp_path, "run", "here")
    for stage in ("pretrain", "cpt"):
        there, here = (measured(tmp_path / runs / "tiny", stage) for runs in ("there", "here"))
        assert there["weights_sha256"] == here["weights_sha256"]
        assert there["engine"]["zero"] == 2
        assert there["engine"]["world_size"] == 2
    assert residency(tmp_path, "submit", "there") == ""
