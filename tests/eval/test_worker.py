"""Two ranks leave the records of one process: same rows, same order, scores up to float error."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from residency.artifact import read_manifest
from residency.eval import evaluate
from residency.eval.records import read_table

EXACT = (
    "task",
    "id",
    "cluster",
    "group",
    "main",
    "scorer",
    "template",
    "order",
    "prediction",
    "prompt_digest",
)
WORDINGS = ["question", "{{ question }}\n\nIt is", "Say it: {{ question }}"]


def items(count: int, first: int = 0) -> list[dict[str, Any]]:
    return [
        {
            "id": f"i{place}",
            "cluster": f"fact/{place // 2}",
            "group": ("heart", "liver")[place % 2],
            "prompt": f"Drug {place} of all the {place * 7} drugs is",
            "options": [" good", " bad and bitter", " c", f" {place}"],
            "answer": place % 4,
        }
        for place in range(first, first + count)
    ]


@pytest.fixture
def attempt(
    tmp_path: Path,
    model: Any,
    tokenizer: Any,
    make_corpus: Callable[..., Path],
    make_attempt: Callable[..., Path],
) -> Path:
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    corpora = {
        "exam": make_corpus("exam", items(7)),
        "train": make_corpus("shots", items(9, first=50)),
        "validation": make_corpus("validation", items(8, first=90)),
        "texts": make_corpus(
            "texts", [{"id": f"t{n}", "text": "The liver is red. " * 9 * (n + 1)} for n in range(3)]
        ),
        "one": make_corpus("one", items(2, first=31)),
    }
    source = {"source": "none.jsonl", "licence": "CC0-1.0"}
    asked = {"kind": "choice", "domain": "medicine", "items": "exam"}
    tasks = [
        asked
        | {"name": "ways", "templates": WORDINGS[:2], "orders": 2, "scorers": ["option-text", "letter"]},
        asked | {"name": "nearest", "shots": 2, "shots_from": source, "shots_by": "nearest"},
        asked | {"name": "chosen", "templates": WORDINGS, "validation": source},
        asked | {"name": "few", "items": "one"},
        {"kind": "bits-per-byte", "name": "bits", "domain": "general", "items": "texts"},
    ]
    parents = {
        "model": tmp_path / "model",
        **{f"items:{name}": corpora["exam"] for name in ("ways", "nearest", "chosen")},
        "items:few": corpora["one"],
        "items:bits": corpora["texts"],
        "shots:nearest": corpora["train"],
        "validation:chosen": corpora["validation"],
    }
    settings = {"kind": "evaluate", "from": "sft", "tasks": tasks, "max_length": 128}
    return make_attempt(settings, parents)


def on_ranks(attempt: Path, ranks: int) -> subprocess.CompletedProcess[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*launcher, "-m", "residency.eval.worker", str(attempt)],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.slow
def test_three_ranks_leave_the_records_of_one_process(attempt: Path) -> None:
    copy = shutil.copytree(attempt, attempt.parent / "copy")
    alone = evaluate.run(attempt)
    expected, measured = read_table(alone), read_manifest(alone).measured
    shutil.rmtree(alone)
    shutil.rmtree(alone.parent.parent / ".records")  # else every task comes from the cache
    copy.rename(attempt)
    done = on_ranks(attempt, 3)
    assert done.returncode == 0, done.stderr
    found = read_table(alone)
    assert [[row[name] for name in EXACT] for row in found] == [
        [row[name] for name in EXACT] for row in expected
    ]
    for row, wanted in zip(found, expected, strict=True):
        if wanted["sums"] is not None:
            assert row["sums"] == pytest.approx(wanted["sums"], abs=1e-4)
        if wanted["nats"] is not None:
            assert row["nats"] == pytest.approx(wanted["nats"], abs=1e-3)
    shared = read_manifest(alone).measured
    assert shared["key"] == measured["key"]
    assert len(shared["tasks"]["chosen"]["templates"]) == 1
    assert not any(task["cached"] for task in shared["tasks"].values())
    assert not attempt.exists(), "the parts are gone with the attempt"


@pytest.mark.slow
def test_the_reason_of_a_failed_rank_stands_in_the_attempt(attempt: Path) -> None:
    (attempt.parent.parent / "model" / "model.safetensors").write_bytes(b"no weights")
    assert on_ranks(attempt, 2).returncode != 0
    outcome = json.loads((attempt / "attempt.json").read_text())
    assert outcome["status"] == "failed" and outcome["exit_code"] != 0 and outcome["reason"]
