"""Curation as a Slurm job array: the same bytes as in one process, over both nodes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.test_chain import environment

pytestmark = [pytest.mark.slow, pytest.mark.cluster]

RECIPE = """
name: curated
base: {{scratch: {{layers: 1, width: 16, vocabulary: 400, tokenizer: [notes]}}}}
corpora:
  notes:
    source: notes
    licence: CC0-1.0
    steps: [{{kind: paragraphs}}, {{kind: duplicates}}]
stages:
  pretrain: {{kind: pretrain, mixture: {{notes: 1.0}}, tokens: 1k, batch_size: 4, max_length: 64}}
curation: {{executor: {executor}, workers: 2, partition: {partition}, time: "5", memory_gb: 1}}
"""


def build(directory: Path, executor: str, partition: str) -> Path:
    (directory / "recipe.yaml").write_text(RECIPE.format(executor=executor, partition=partition))
    arguments = [sys.executable, "-m", "residency", "data", "build", "recipe.yaml", "--runs", executor]
    done = subprocess.run(
        arguments, cwd=directory, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return next((directory / executor / "curated").glob("corpus-notes-????????"))


def test_a_job_array_leaves_the_same_bytes(slurm: Path, tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    for file in range(4):
        rows = [
            f"Note {file} {row % 12}. " + " ".join(f"w{row % 12 * 97 + place}" for place in range(40))
            for row in range(16)
        ]
        lines = (json.dumps({"text": text}) + "\n" for text in rows)
        (tmp_path / "notes" / f"{file}.jsonl").write_text("".join(lines))
    shown = subprocess.run(["sinfo", "-h", "-o", "%R"], capture_output=True, text=True, check=True).stdout
    local = build(tmp_path, "local", "any")
    array = build(tmp_path, "slurm", shown.split()[0])
    assert (array / "train.jsonl").read_bytes() == (local / "train.jsonl").read_bytes()
    assert (array / "train.jsonl").read_text().count("\n") == 12
