"""Training curves reach a tracker that the recipe names; a tracker that is not installed is refused before any work."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from residency import events
from residency.artifact import RunPaths
from residency.errors import ResidencyError
from residency.recipes import check
from residency.recipes.plan import Plan
from residency.recipes.schema import load
from residency.train.launch import launch

if TYPE_CHECKING:
    from tests.train.conftest import World


def tracked(world: World, tracker: str) -> Plan:
    return Plan(load(world.recipe({"cpt": {}}, {}), [f"track=[{tracker}]"]), RunPaths(world.run))


@pytest.mark.slow
def test_tensorboard_holds_the_losses_of_the_events(world: World) -> None:
    plan = tracked(world, "tensorboard")
    check.check(plan)
    launch(world.attempt(plan, "cpt"), 2, plan.paths.logs / "cpt.log", lambda: None)
    curve = EventAccumulator(str(plan.paths.logs / "tensorboard" / "cpt"))
    curve.Reload()
    told = {event["step"]: event["loss"] for event in events.read(world.events) if event["event"] == "step"}
    assert {point.step: pytest.approx(point.value) for point in curve.Scalars("train/loss")} == told


@pytest.mark.skipif(find_spec("trackio") is not None, reason="trackio is installed")
def test_a_tracker_that_is_not_installed_is_named(world: World) -> None:
    with pytest.raises(ResidencyError, match=r"track: trackio not installed here.*residency\[track\]"):
        check.check(tracked(world, "trackio"))


def test_tracking_changes_no_identity(world: World) -> None:
    plain = world.plan({"cpt": {}})
    assert tracked(world, "tensorboard").stages["cpt"].identity == plain.stages["cpt"].identity
