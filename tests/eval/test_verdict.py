"""The verdict on hand-made records, against a golden file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from residency.artifact import Manifest, write_json
from residency.errors import ResidencyError
from residency.eval.records import SCHEMA, write_records
from residency.eval.settings import TaskSettings
from residency.eval.verdict import write

GOLDEN = Path(__file__).with_name("golden_verdict.json")
TASKS = [
    TaskSettings(kind="choice", name="exam", title="Exam", domain="medicine", items="exam"),
    TaskSettings(kind="preference", name="pairs", domain="safety", items="pairs", margin=0.05),
    TaskSettings(kind="bits-per-byte", name="bits", domain="general", items="general", margin=0.02),
]


def answered(right: str) -> list[dict[str, Any]]:
    """Four options, each fact asked twice: `1` is a right answer."""
    return [
        blank("exam", place, "accuracy", f"fact/{place // 2}")
        | {"scores": [-1.0, -2.0, -3.0, -4.0], "correct": float(digit)}
        for place, digit in enumerate(right)
    ]


def preferred(right: str) -> list[dict[str, Any]]:
    return [
        blank("pairs", place, "preference_accuracy", str(place))
        | {"scores": [-5.0, -6.0], "correct": float(digit)}
        for place, digit in enumerate(right)
    ]


def compressed(nats: list[float]) -> list[dict[str, Any]]:
    return [
        blank("bits", place, "bits_per_byte", str(place)) | {"nats": value, "bytes": 100}
        for place, value in enumerate(nats)
    ]


def blank(task: str, place: int, metric: str, cluster: str) -> dict[str, Any]:
    return dict.fromkeys(SCHEMA) | {"task": task, "id": str(place), "metric": metric, "cluster": cluster}


@pytest.fixture
def make_records(tmp_path: Path) -> Callable[..., Path]:
    def make(stage: str, records: list[dict[str, Any]]) -> Path:
        directory = tmp_path / f"{stage}-evaluation-00000000"
        directory.mkdir()
        write_records(directory, records)
        manifest = Manifest(
            kind="records", stage=stage, stage_kind="evaluate", identity="0" * 64, parents={}, settings={}
        )
        write_json(directory / "manifest.json", manifest.model_dump())
        return directory

    return make


@pytest.fixture
def records(make_records: Callable[..., Path]) -> dict[str, Path]:
    """The exam gets better with each stage; pairs with the last; text is forgotten, then nearly won back."""
    text = [60.0, 70.0, 65.0, 68.0, 72.0, 61.0]
    rows = {
        "pretrain": answered("10010000" * 4) + preferred("10" * 6) + compressed(text),
        "cpt": answered("11110000" * 4) + preferred("10" * 6) + compressed([x * 1.1 for x in text]),
        "sft": answered("11110111" * 4)
        + preferred("1" * 12)
        + compressed([x + place % 2 for place, x in enumerate(text)]),
    }
    return {stage: make_records(stage, row) for stage, row in rows.items()}


def test_verdict_is_the_golden_one(tmp_path: Path, records: dict[str, Path]) -> None:
    lines = write(tmp_path / "verdict.json", records, against="pretrain", tasks=TASKS, resamples=2_000)
    assert json.loads((tmp_path / "verdict.json").read_text()) == lines
    golden = json.loads(GOLDEN.read_text())
    assert len(lines) == len(golden) == 9
    for line, expected in zip(lines, golden, strict=True):
        assert line == {name: approximate(value) for name, value in expected.items()}


def approximate(value: Any) -> Any:
    return pytest.approx(value, abs=1e-9) if isinstance(value, float) else value


def test_signs_and_words(tmp_path: Path, records: dict[str, Path]) -> None:
    lines = write(tmp_path / "verdict.json", records, against="pretrain", tasks=TASKS, resamples=2_000)
    said = {(line["task"], line["stage"]): line for line in lines}
    assert {stage: said["exam", stage]["verdict"] for stage in records} == {
        "pretrain": "reference",
        "cpt": "better",
        "sft": "better",
    }
    assert said["exam", "sft"]["chance"] == 0.25
    assert said["exam", "sft"]["p"] is None, "two items of a fact are not independent"
    assert said["pairs", "sft"]["p"] == pytest.approx(0.5**6)
    assert said["pairs", "cpt"]["verdict"] == "equivalent", "the same answers"
    assert said["bits", "cpt"]["delta"] > 0
    assert said["bits", "cpt"]["verdict"] == "worse", "more bits per byte"
    assert said["bits", "sft"]["delta_previous"] < 0
    for line in lines:
        assert line["value"] - line["reference"] == pytest.approx(line["delta"])
        assert line["ci_low"] <= line["delta"] <= line["ci_high"]


def test_the_reference_must_be_evaluated(tmp_path: Path, records: dict[str, Path]) -> None:
    with pytest.raises(ResidencyError, match="against = 'base': this stage was not evaluated"):
        write(tmp_path / "verdict.json", records, against="base", tasks=TASKS, resamples=10)


def test_other_items_are_not_compared(
    tmp_path: Path, records: dict[str, Path], make_records: Callable[..., Path]
) -> None:
    fewer = make_records("dpo", answered("1111"))
    with pytest.raises(ResidencyError, match="dpo and pretrain were evaluated on different items"):
        write(
            tmp_path / "verdict.json",
            {**records, "dpo": fewer},
            against="pretrain",
            tasks=TASKS[:1],
            resamples=10,
        )
