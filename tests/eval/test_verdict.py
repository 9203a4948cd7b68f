"""The verdict on hand-made records, against a golden file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from residency.artifact import Manifest, write_json
from residency.errors import ResidencyError
from residency.eval.comparison.verdict import write
from residency.eval.comparison.views import Evaluation
from residency.eval.records import SCHEMA, write_records

GOLDEN = Path(__file__).with_name("golden_verdict.json")
TASKS: list[dict[str, Any]] = [
    {"kind": "choice", "name": "exam", "title": "Exam", "domain": "medicine"},
    {"kind": "preference", "name": "pairs", "domain": "safety", "margin": 0.05},
    {"kind": "bits-per-byte", "name": "bits", "domain": "general", "margin": 0.02},
]
FLOORS = {"exam": {"floors": {"chance": 0.25, "constant": 0.5, "longest": 0.3}}}


def answered(right: str) -> list[dict[str, Any]]:
    """Four options, each fact asked twice: `1` is a right answer."""
    return [
        blank("exam", place, "accuracy", f"fact/{place // 2}")
        | {
            "scores": [-1.0, -2.0, -3.0, -4.0],
            "prediction": 0,
            "answer": int(digit == "0"),
            "correct": float(digit),
        }
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
    known = {
        "task": task,
        "id": str(place),
        "metric": metric,
        "cluster": cluster,
        "main": True,
        "cut_tokens": 0,
    }
    return dict.fromkeys(SCHEMA) | known


@pytest.fixture
def make_records(tmp_path: Path) -> Callable[..., Path]:
    def make(stage: str, records: list[dict[str, Any]]) -> Path:
        directory = tmp_path / f"{stage}-evaluation-00000000"
        directory.mkdir()
        write_records(directory, records)
        manifest = Manifest(
            kind="records",
            stage=stage,
            stage_kind="evaluate",
            identity="0" * 64,
            parents={},
            settings={"tasks": TASKS},
            measured={"tasks": FLOORS},
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
    lines = write(tmp_path / "verdict.json", records, against="pretrain", resamples=2_000)
    written = json.loads((tmp_path / "verdict.json").read_text())
    assert written == [line.model_dump() for line in lines]
    golden = json.loads(GOLDEN.read_text())
    assert len(written) == len(golden) == 9
    for line, expected in zip(written, golden, strict=True):
        assert line == {name: approximate(value) for name, value in expected.items()}


def approximate(value: Any) -> Any:
    return pytest.approx(value, abs=1e-9) if isinstance(value, float) else value


def test_signs_and_words(tmp_path: Path, records: dict[str, Path]) -> None:
    lines = write(tmp_path / "verdict.json", records, against="pretrain", resamples=2_000)
    said = {(line.task, line.stage): line for line in lines}
    assert {stage: said["exam", stage].verdict for stage in records} == {
        "pretrain": "reference",
        "cpt": "better",
        "sft": "better",
    }
    exam = said["exam", "sft"]
    assert (exam.chance, exam.constant, exam.longest) == (0.25, 0.5, 0.3)
    assert exam.test == "sign-flip", "two items of a fact are not independent"
    assert (exam.gained, exam.lost) == (20, 0)
    pairs = said["pairs", "sft"]
    assert pairs.test == "mcnemar"
    assert pairs.p == pytest.approx(0.5**6)
    assert pairs.p_holm == pytest.approx(max(2 * 0.5**6, 1.0 * 0.5**6)), (
        "the larger of its step and the one before"
    )
    assert said["pairs", "cpt"].verdict == "equivalent", "the same answers"
    bits = said["bits", "cpt"]
    assert bits.delta > 0 and bits.lower_is_better
    assert bits.verdict == "worse" and not bits.non_inferior, "more bits per byte"
    assert bits.margin == pytest.approx(0.02 * bits.reference)
    assert (said["bits", "sft"].delta_previous or 0) < 0
    for line in lines:
        assert line.value - line.reference == pytest.approx(line.delta)
        assert line.ci_low <= line.delta <= line.ci_high


def test_steps_of_the_chain_add_up_and_forgetting_is_told(tmp_path: Path, records: dict[str, Path]) -> None:
    write(tmp_path / "verdict.json", records, against="pretrain", resamples=2_000)
    views = Evaluation.model_validate_json((tmp_path / "evaluation.json").read_text())
    assert [step.previous for step in views.attribution[0].steps] == ["pretrain", "cpt"]
    for part in views.attribution:
        assert sum(step.delta[0] for step in part.steps) == pytest.approx(part.total[0])
    assert {(each.stage, each.state) for each in views.forgetting} == {("cpt", "lost"), ("sft", "kept")}
    suites = {(each.stage, each.domain): each for each in views.suites}
    assert suites["sft", "medicine"].better == 1
    assert suites["sft", "general"].delta is None, "bits per byte are no share"
    assert {(each.task, each.kind) for each in views.flips if each.stage == "sft"} == {
        ("exam", "gained"),
        ("pairs", "gained"),
    }
    assert [each.task for each in views.calibration].count("exam") == 3


def test_a_branch_is_compared_with_its_own_parent(tmp_path: Path, records: dict[str, Path]) -> None:
    before = {"cpt": "pretrain", "sft": "pretrain"}
    lines = write(tmp_path / "verdict.json", records, against="pretrain", previous=before, resamples=100)
    sft = next(line for line in lines if (line.task, line.stage) == ("exam", "sft"))
    assert (sft.previous, sft.delta_previous) == ("pretrain", sft.delta)
    views = Evaluation.model_validate_json((tmp_path / "evaluation.json").read_text())
    assert [step.stage for step in views.attribution[0].steps] == ["sft"], "the way to the last stage"


def test_items_of_the_training_text_are_told_apart(tmp_path: Path, records: dict[str, Path]) -> None:
    corpus = tmp_path / "corpus-book-00000000"
    corpus.mkdir()
    steps = [{"kind": "decontaminate", "mode": "flag"}]
    manifest = Manifest(
        kind="corpus",
        stage="book",
        stage_kind="corpus",
        identity="0" * 64,
        parents={},
        settings={"steps": steps},
    )
    write_json(corpus / "manifest.json", manifest.model_dump())
    hits = [{"task": "pairs", "item": str(place), "document": "d", "coverage": 1.0} for place in (0, 1)]
    (corpus / "contamination.jsonl").write_text("".join(json.dumps(hit) + "\n" for hit in hits))
    write(tmp_path / "verdict.json", records, against="pretrain", corpora=[corpus], resamples=100)
    views = Evaluation.model_validate_json((tmp_path / "evaluation.json").read_text())
    found = [(each.stage, each.task, each.flagged_items, each.clean_items) for each in views.contamination]
    assert found == [("cpt", "pairs", 2, 10), ("sft", "pairs", 2, 10)]


def test_the_reference_must_be_evaluated(tmp_path: Path, records: dict[str, Path]) -> None:
    with pytest.raises(ResidencyError, match="against = 'base': this stage was not evaluated"):
        write(tmp_path / "verdict.json", records, against="base", resamples=10)


def test_other_items_are_not_compared(
    tmp_path: Path, records: dict[str, Path], make_records: Callable[..., Path]
) -> None:
    fewer = make_records("dpo", answered("1111"))
    with pytest.raises(
        ResidencyError,
        match="task exam: different items were evaluated: 32 and 32 and 32 and 4, of which 4 are the same",
    ):
        write(
            tmp_path / "verdict.json",
            {**records, "dpo": fewer},
            against="pretrain",
            resamples=10,
        )
