"""Submission without a Slurm: the scripts of a dry run, and what is refused. With one: tests/cluster."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from residency.artifact import RunPaths, StageFile
from residency.errors import Exit, ResidencyError
from residency.recipes.plan import Plan
from residency.recipes.schema import load
from residency.slurm.submit import submit_plan

RECIPE = """
name: tiny
base: {scratch: {layers: 1, width: 16, vocabulary: 300, tokenizer: [general]}}
corpora:
  general: {source: world:general}
stages:
  pretrain: {kind: pretrain, mixture: {general: 1.0}, tokens: 4k, batch_size: 6}
  cpt: {kind: cpt, from: pretrain, mixture: {general: 1.0}, tokens: 4k, batch_size: 6}
cluster: {nodes: 2, tasks_per_node: 1}
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(RECIPE)
    return path


def plan_of(recipe: Path, *overrides: str) -> Plan:
    return Plan(load(recipe, list(overrides)), RunPaths(recipe.parent / "runs" / "tiny"))


def test_dry_run_writes_one_script_per_stage_in_graph_order(recipe: Path) -> None:
    plan = plan_of(recipe)
    jobs = submit_plan(plan, dry_run=True, environment={"PATH": ""})
    assert [job.name for job in jobs] == list(plan.stages)
    assert {job.job_id for job in jobs} == {None}
    for job in jobs:
        stage = plan.stages[job.name]
        assert set(job.dependencies) == set(stage.parents.values())
        file = StageFile.model_validate_json((stage.attempt / "stage.json").read_text())
        assert file == plan.stage_file(stage)
        subprocess.run(["bash", "-n", str(job.script)], check=True)
    assert not (plan.paths.scripts / "jobs.json").exists()


def test_finished_stages_are_skipped(recipe: Path) -> None:
    plan = plan_of(recipe)
    corpus = plan.stages["corpus-general"]
    corpus.artifact.mkdir(parents=True)
    (corpus.artifact / "manifest.json").touch()
    jobs = {job.name: job for job in submit_plan(plan, dry_run=True, environment={})}
    assert "corpus-general" not in jobs
    assert jobs["base"].dependencies == []


def test_without_slurm(recipe: Path) -> None:
    with pytest.raises(ResidencyError, match=r"no sbatch on PATH.*--dry-run.*torchrun") as error:
        submit_plan(plan_of(recipe), environment={"PATH": str(recipe.parent)})
    assert error.value.code == Exit.ENVIRONMENT


def test_a_batch_that_the_ranks_cannot_share(recipe: Path) -> None:
    with pytest.raises(ResidencyError, match=r"batch_size = 6 does not divide by 4 ranks"):
        submit_plan(plan_of(recipe, "cluster.tasks_per_node=2"), dry_run=True)
