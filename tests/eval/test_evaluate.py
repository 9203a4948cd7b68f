"""The whole stage on a tiny model: records, manifest, events."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from residency.artifact import read_manifest
from residency.errors import ResidencyError
from residency.eval.evaluate import run
from residency.eval.records import read_records

ITEMS = [
    {
        "id": f"i{place}",
        "cluster": f"fact/{place // 2}",
        "prompt": "The drug is",
        "options": [" a", " b"],
        "answer": 0,
    }
    for place in range(4)
]
TEXTS = [{"id": f"t{place}", "text": "The liver is red. " * 12} for place in range(3)]


@pytest.fixture
def directory(tmp_path: Path, model: Any, tokenizer: Any) -> Path:
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def settings(*tasks: dict[str, Any]) -> dict[str, Any]:
    return {"kind": "evaluate", "from": "sft", "tasks": list(tasks), "max_length": 2048}


CHOICE = {"kind": "choice", "name": "exam", "domain": "medicine", "items": "exam"}
BITS = {"kind": "bits-per-byte", "name": "bits", "domain": "general", "items": "general"}


def test_a_run_leaves_records_measures_and_events(
    directory: Path, make_corpus: Callable[..., Path], make_attempt: Callable[..., Path]
) -> None:
    parents = {
        "model": directory,
        "items:exam": make_corpus("exam", ITEMS),
        "items:bits": make_corpus("general", TEXTS),
    }
    artifact = run(make_attempt(settings(CHOICE, BITS), parents))
    records = read_records(artifact)
    assert {task: len(rows) for task, rows in records.items()} == {"exam": 4, "bits": 3}
    assert records["exam"][0]["cluster"] == "fact/0"
    assert records["bits"][0]["correct"] is None
    measured = read_manifest(artifact).measured
    assert measured["tasks"]["exam"]["n"] == 4
    assert measured["max_length"] == 128, "never beyond the model's own window"
    assert measured["weights_sha256"].keys() == {"model.safetensors"}
    assert len(measured["key"]) == 64
    events = [json.loads(line) for line in (artifact.parent / "events.jsonl").read_text().splitlines()]
    assert [(event["event"], event["task"]) for event in events] == [
        ("task_scored", "exam"),
        ("task_scored", "bits"),
    ]


def test_a_bad_task_is_refused_before_the_model_is_read(
    tmp_path: Path, make_corpus: Callable[..., Path], make_attempt: Callable[..., Path]
) -> None:
    (tmp_path / "nothing").mkdir()
    (tmp_path / "nothing" / "config.json").write_text("{}")
    parents = {"model": tmp_path / "nothing", "items:exam": make_corpus("general", TEXTS)}
    with pytest.raises(ResidencyError, match="choice needs 'options'"):
        run(make_attempt(settings(CHOICE), parents))
