"""A chain over two seeds: trained twice, judged together."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from residency.artifact import RunPaths, read_manifest
from residency.recipes import seeds
from residency.recipes.plan import Plan
from residency.recipes.schema import load

if TYPE_CHECKING:
    from tests.train.conftest import World


@pytest.mark.slow
def test_two_seeds_are_trained_and_judged_together(world: World) -> None:
    world.evaluation = {
        "tasks": [{"kind": "bits-per-byte", "name": "bits", "domain": "medicine", "items": "texts"}],
        "after": ["cpt", "more"],
        "processes": 1,
        "max_length": 128,
    }
    stages = {"cpt": {}, "more": {"kind": "cpt", "from": "cpt"}}
    recipe = load(world.recipe(stages, {"processes": 1}), ["seeds=2"])
    plan = Plan(recipe, RunPaths(world.run))
    seeds.run(plan)
    first, second = seeds.plans(plan).values()
    weights = [
        read_manifest(each.stages["more"].artifact).measured["weights_sha256"] for each in (first, second)
    ]
    assert weights[0] != weights[1]
    [found] = json.loads(plan.paths.seeds.read_text())
    assert (found["stage"], found["against"], found["seeds"]) == ("more", "cpt", [0, 1])
    assert found["deltas"] == [
        line["delta"]
        for each in (first, second)
        for line in json.loads(each.paths.verdict.read_text())
        if line["stage"] == "more"
    ]
    assert found["deviation"] > 0 and found["whole"][1] < found["delta_mean"] < found["whole"][2]
