"""Checkpoints of real stages on two ranks are scored while they train; a process that dies there harms nothing."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from residency import events
from residency.artifact import read_manifest
from residency.eval.records import read_table
from residency.recipes import chain

if TYPE_CHECKING:
    from tests.train.conftest import World

pytestmark = pytest.mark.slow
TASKS = [
    {"kind": "bits-per-byte", "name": "bits", "domain": "medicine", "items": "texts"},
    {"kind": "preference", "name": "pairs", "domain": "medicine", "items": "pairs"},
]
LORA = {"rank": 4, "alpha": 8.0, "finish": "keep"}


def evaluation(*stages: str, tasks: list[dict[str, Any]] | None = None, **during: Any) -> dict[str, Any]:
    return {
        "tasks": tasks or TASKS[:1],
        "during": {"stages": list(stages), "share": 0.5} | during,
        "max_length": 128,
    }


def points(artifact: Path) -> dict[int, dict[str, Any]]:
    return {point["step"]: point for point in read_manifest(artifact).measured["points"]}


def end_of(world: World, stage: str) -> float:
    return next(
        float(event["time"])
        for event in events.read(world.events)
        if (event["event"], event["stage"]) == ("stage_finished", stage)
    )


def test_eight_checkpoints_give_eight_points_while_the_stage_trains(world: World) -> None:
    world.evaluation = evaluation("cpt")
    plan = world.plan(
        {"cpt": {"tokens": 60_000, "save_every": 12, "keep_checkpoints": 1}}, zero=3, processes=2
    )
    chain.run(plan)
    found = points(plan.stages["cpt-curve"].artifact)
    end = end_of(world, "cpt")
    during = [step for step, point in found.items() if step and point["time"] < end]
    saved = [event["step"] for event in events.read(world.events) if event["event"] == "checkpoint"]
    assert sorted(found) == [0, *saved], "one point for each, though only one checkpoint was kept"
    assert len(during) >= 8, (during, saved)
    assert read_manifest(plan.stages["cpt-curve"].artifact).measured["missing"] == []
    values = [found[step]["tasks"]["bits"]["value"] for step in sorted(found)]
    assert values[-1] < values[0], values
    last = plan.stages["cpt"].artifact
    assert found[saved[-1]]["weights_sha256"] == read_manifest(last).measured["weights_sha256"]
    assert not plan.stages["cpt-curve"].attempt.exists()
    assert [line["stage"] for line in json.loads(plan.paths.curves.read_text())] == ["cpt"]


def test_adapters_are_swapped_on_the_resident_base(world: World) -> None:
    world.evaluation = evaluation("sft", "preference", tasks=TASKS)
    stages: dict[str, dict[str, Any]] = {
        "sft": {"lora": LORA, "save_every": 4},
        "preference": {"from": "sft", "lora": LORA | {"finish": "merge"}, "adapter": "merge"},
    }
    plan = world.plan(stages, zero=2, processes=2)
    chain.run(plan)
    first, second = (points(plan.stages[f"{name}-curve"].artifact) for name in stages)
    assert list(first[4]["weights_sha256"]) == ["adapter_model.safetensors"]
    ends = first[max(first)], second[0]
    for task in ("bits", "pairs"):
        one, other = (end["tasks"][task]["value"] for end in ends)
        assert one == pytest.approx(other, abs=1e-5), "the last point of one stage is the first of the next"
    for curve in (first, second):
        assert curve[max(curve)]["tasks"]["bits"]["value"] != curve[0]["tasks"]["bits"]["value"]
    assert len(read_table(plan.stages["sft-curve"].artifact / "step-0")) == 40


def test_a_scoring_process_that_is_killed_harms_nothing(world: World) -> None:
    world.evaluation = evaluation("cpt")
    plan = world.plan({"cpt": {"tokens": 20_000, "save_every": 10, "keep_checkpoints": 1}})
    payload = plan.stages["cpt-curve"].attempt / "payload"
    killed: list[int] = []

    def kill() -> None:
        until = time.monotonic() + 240
        while time.monotonic() < until and not killed:
            for child in psutil.Process().children():
                with contextlib.suppress(psutil.NoSuchProcess):
                    if "--beside" in child.cmdline() and list(payload.glob("step-*")):
                        child.kill()
                        killed.append(child.pid)
            time.sleep(0.05)

    hunter = threading.Thread(target=kill)
    hunter.start()
    chain.run(plan)
    hunter.join()
    assert killed
    found = points(plan.stages["cpt-curve"].artifact)
    saved = [event["step"] for event in events.read(world.events) if event["event"] == "checkpoint"]
    assert sorted(found) == [0, *saved], "what was held is scored after the stage"


def test_a_curve_that_cannot_be_made_leaves_the_chain_going(world: World) -> None:
    world.evaluation = evaluation("cpt", share=0.001, tasks=[TASKS[0] | {"limit": 20}])
    world.evaluation |= {"after": ["cpt"], "processes": 2}
    plan = world.plan({"cpt": {}})
    chain.run(plan)
    assert plan.stages["cpt"].finished and not plan.stages["cpt-curve"].finished
    assert len(read_table(plan.stages["cpt-evaluation"].artifact)) == 20, "evaluated by two ranks"
    assert (plan.paths.logs / "cpt-evaluation.log").exists()
    failed = [event for event in events.read(world.events) if event["event"] == "stage_failed"]
    assert [event["stage"] for event in failed] == ["cpt-curve"]
    assert "1 independent items" in failed[0]["reason"]
