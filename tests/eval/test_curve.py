"""The curve on held checkpoints of a tiny model: points, events, one process at a time, and what is let go."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from residency import events
from residency.artifact import Manifest, StageFile, read_manifest, write_json
from residency.errors import ResidencyError
from residency.eval import curve
from residency.eval.comparison import curve_view
from residency.eval.records import read_table
from residency.eval.settings import ENDED, HELD

TEXTS = [{"id": f"t{place}", "text": "The liver is red. " * (place + 1)} for place in range(4)]
BITS = {"kind": "bits-per-byte", "name": "bits", "domain": "general", "items": "texts", "margin": 0.01}


@pytest.fixture
def make_curve(
    tmp_path: Path, model: Any, tokenizer: Any, make_corpus: Callable[..., Path]
) -> Callable[..., Path]:
    """An attempt whose stage has held checkpoints at these steps; trained to step 6, or still at it."""

    def make(*held: int, trained: bool = True, tasks: tuple[dict[str, Any], ...] = (BITS,)) -> Path:
        run = tmp_path / "run"
        attempt = run / "cpt-curve-11111111.attempt"
        for step in (0, 6, *held):
            place = attempt / HELD / f"step-{step}" if step in held else run / f"model-{step}"
            with torch.no_grad():
                model.lm_head.weight += 0.01 * step
                model.save_pretrained(place)
                model.lm_head.weight -= 0.01 * step
            tokenizer.save_pretrained(place)
        if trained:
            manifest = Manifest(
                kind="model", stage="cpt", stage_kind="cpt", identity="2" * 64, parents={}, settings={},
                measured={"steps": 6},
            )  # fmt: skip
            write_json(run / "model-6" / "manifest.json", manifest.model_dump())
        else:
            (run / "model-6" / "config.json").unlink()
        parents = {
            "start": run / "model-0",
            "model": run / "model-6",
            "items:bits": make_corpus("texts", TEXTS),
        }
        stage = StageFile(
            name="cpt-curve",
            kind="curve",
            identity="1" * 64,
            settings={"kind": "curve", "from": "cpt", "tasks": list(tasks), "every": 1, "save_every": 2},
            execution={"devices": ""},
            parents=parents,
            parent_identities=dict.fromkeys(parents, "0" * 64),
            run=run,
        )
        write_json(attempt / "stage.json", json.loads(stage.model_dump_json()))
        return attempt

    return make


def test_each_checkpoint_leaves_a_point_and_its_weights_go(make_curve: Callable[..., Path]) -> None:
    attempt = make_curve(2, 4)
    artifact = curve.run(attempt)
    measured = read_manifest(artifact).measured
    assert [point["step"] for point in measured["points"]] == [0, 2, 4, 6]
    assert measured["missing"] == []
    values = [point["tasks"]["bits"]["value"] for point in measured["points"]]
    assert len(set(values)) == 4
    for point in measured["points"]:
        bits = point["tasks"]["bits"]
        assert bits["low"] <= bits["value"] <= bits["high"] and bits["n"] == 4
        rows = read_table(artifact / f"step-{point['step']}")
        assert [row["id"] for row in rows] == [row["id"] for row in TEXTS]
    scored = list(events.read(artifact.parent / "events.jsonl"))
    assert [(event["event"], event["of"], event["step"]) for event in scored] == [
        ("checkpoint_scored", "cpt", step) for step in (0, 2, 4, 6)
    ]
    assert not attempt.exists()
    assert curve.run(attempt) == artifact, "a second process finds it"


def test_the_view_is_of_the_same_items_at_every_point(make_curve: Callable[..., Path]) -> None:
    artifact = curve.run(make_curve(2, 4))
    [found] = curve_view.view(artifact, resamples=200)
    assert (found.stage, found.task, found.n, found.lower_is_better) == ("cpt", "bits", 4, True)
    assert [point.step for point in found.points] == [0, 2, 4, 6]
    values = [point.value for point in found.points]
    for point, known in zip(found.points, read_manifest(artifact).measured["points"], strict=True):
        assert point.value == pytest.approx(known["tasks"]["bits"]["value"])
        assert point.low <= point.value <= point.high
        if point.delta:
            assert point.delta[0] == pytest.approx(point.value - values[0])
    assert found.best == 2 * values.index(min(values))
    assert found.gap == pytest.approx(values[found.bottom // 2] - values[0])
    assert found.first_to_last[0] == pytest.approx(values[-1] - values[0])
    scores = curve_view.read_curve(artifact)["bits"]
    assert scores.scaled.mean(axis=1) == pytest.approx(values)


def test_a_checkpoint_that_was_not_held_is_missing(make_curve: Callable[..., Path]) -> None:
    measured = read_manifest(curve.run(make_curve(2))).measured
    assert [point["step"] for point in measured["points"]] == [0, 2, 6]
    assert measured["missing"] == [4]


def test_a_point_is_whole_or_not_there(
    make_curve: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt = make_curve(2, 4)
    from residency.artifact import write_json as whole

    def killed(path: Path, value: Any) -> None:
        if path.name == curve.POINT and value["step"] == 2:
            raise KeyboardInterrupt
        whole(path, value)

    with monkeypatch.context() as patched:
        patched.setattr(curve, "write_json", killed)
        with pytest.raises(KeyboardInterrupt):
            curve.run(attempt)
    assert [path.name for path in (attempt / "payload").glob("step-*")] == ["step-0"]
    assert (attempt / HELD / "step-2").exists()
    artifact = curve.run(attempt)
    assert [point["step"] for point in read_manifest(artifact).measured["points"]] == [0, 2, 4, 6]


@pytest.mark.slow
def test_a_process_beside_scores_what_comes_until_the_training_ends(make_curve: Callable[..., Path]) -> None:
    attempt = make_curve(2, trained=False)
    command = [sys.executable, "-m", "residency.eval.curve", "--beside", str(attempt)]
    process = subprocess.Popen(command)
    try:
        until = time.monotonic() + 120
        while not (attempt / "payload" / "step-2").exists():
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.1)
        assert process.poll() is None, "it waits for more"
        (attempt / ENDED).touch()
        assert process.wait(timeout=60) == 0
    finally:
        process.kill()
    assert not (attempt.parent / "cpt-curve-11111111").exists(), "the stage is not trained"
    with pytest.raises(ResidencyError, match="is not finished"):
        curve.run(attempt)


def test_a_failure_says_why(make_curve: Callable[..., Path]) -> None:
    attempt = make_curve(2, tasks=(BITS | {"limit": 1},))
    with pytest.raises(SystemExit) as caught:
        curve.main([str(attempt)])
    assert caught.value.code == 2
    outcome = json.loads((attempt / "attempt.json").read_text())
    assert outcome["status"] == "failed" and "1 independent items" in outcome["reason"]
