"""Submitted jobs on a real two-node Slurm, with a stand-in for the worker: order, failure, signals, secrets."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from residency.artifact import RunPaths
from residency.errors import Exit, ResidencyError
from residency.recipes.plan import Plan
from residency.recipes.schema import load
from residency.slurm.submit import Submitted, submit_plan

pytestmark = [pytest.mark.slow, pytest.mark.cluster]

TOKEN = "hf_planted_in_the_shell"
RECIPE = """
name: chain
base: {scratch: {layers: 1, width: 16, vocabulary: 300, tokenizer: [general]}}
corpora:
  general: {source: world:general}
stages:
  pretrain: {kind: pretrain, mixture: {general: 1.0}, tokens: 4k, batch_size: 8}
  cpt: {kind: cpt, from: pretrain, mixture: {general: 1.0}, tokens: 4k, batch_size: 8}
cluster: {nodes: 2, tasks_per_node: 1, gpus_per_node: 1, time: "5", setup: ["export FROM_SETUP='a b'"]}
"""


class Cluster:
    """A plan whose stages but `pretrain` and `cpt` are finished, and the Slurm that it is submitted to."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        recipe = directory / "chain.yaml"
        recipe.write_text(RECIPE)
        self.plan = Plan(load(recipe), RunPaths(directory / 'it\'s "here" $(id) 50%' / "chain"))
        self.run = self.plan.paths.root
        for stage in self.plan.stages.values():
            if not stage.trains:
                stage.artifact.mkdir(parents=True)
                (stage.artifact / "manifest.json").write_text("{}")
        self.python = directory / "stand-in python"
        stand_in = Path(__file__).parent / "stand_in.py"
        self.python.write_text(f'#!/bin/sh\nexec {shlex.join([sys.executable, str(stand_in)])} "$@"\n')
        self.python.chmod(0o755)

    def act(self, **acts: str) -> None:
        (self.run / "acts.json").write_text(json.dumps(acts))

    def submit(self) -> dict[str, Submitted]:
        # a site's habit that must not win over the script
        shell = {**os.environ, "HF_TOKEN": TOKEN, "SBATCH_EXPORT": "ALL", "HF_HOME": "/data/hf home"}
        jobs = submit_plan(self.plan, environment=shell, python=str(self.python))
        return {job.name: job for job in jobs}

    def records(self, stage: str) -> list[dict[str, Any]]:
        """What the ranks of a stage wrote, by rank, then by life."""
        paths = sorted((self.run / "records").glob(f"{stage}-*.json"))
        return [json.loads(path.read_text()) for path in paths]

    def log(self, job: Submitted) -> str:
        return (self.run / "logs" / f"{job.name}-{job.job_id}.log").read_text()


@pytest.fixture
def cluster(slurm: Path, tmp_path: Path) -> Cluster:
    return Cluster(tmp_path)


def slurm_says(job: str | None) -> dict[str, str]:
    text = subprocess.run(
        ["scontrol", "show", "job", "--oneliner", str(job)], capture_output=True, text=True, check=True
    ).stdout
    return dict(word.partition("=")[::2] for word in text.split() if "=" in word)


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.2)


def state_at_end(job: Submitted) -> str:
    under_way = ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING")
    wait_for(lambda: slurm_says(job.job_id)["JobState"] not in under_way)
    return slurm_says(job.job_id)["JobState"]


def test_a_chain_runs_in_order_on_both_nodes(cluster: Cluster) -> None:
    jobs = cluster.submit()
    assert list(jobs) == ["pretrain", "cpt"]
    assert [state_at_end(job) for job in jobs.values()] == ["COMPLETED", "COMPLETED"]
    pretrain, cpt = cluster.records("pretrain"), cluster.records("cpt")
    assert max(rank["end"] for rank in pretrain) <= min(rank["start"] for rank in cpt)
    assert [rank["environment"]["SLURMD_NODENAME"] for rank in cpt] == ["n1", "n2"]
    assert cpt[0]["argv"] == ["-m", "residency.train.worker", str(cluster.plan.stages["cpt"].attempt)]
    assert cpt[0]["directory"] == str(Path.cwd())
    for number, rank in enumerate(cpt):
        environment = rank["environment"]
        assert environment["RANK"] == str(number)
        assert (environment["WORLD_SIZE"], environment["LOCAL_RANK"]) == ("2", "0")
        assert environment["MASTER_ADDR"] == "127.0.0.1"
        assert environment["MASTER_PORT"] == str(10000 + int(jobs["cpt"].job_id or 0))
        assert environment["CUDA_VISIBLE_DEVICES"] == "0"
        assert environment["HF_HOME"] == "/data/hf home"
        assert environment["FROM_SETUP"] == "a b"
        assert "HF_TOKEN" not in environment
    assert cluster.submit() == {}, "a finished chain has nothing to submit"


def test_after_a_failed_stage_nothing_starts_and_submitting_again_mends_it(cluster: Cluster) -> None:
    cluster.act(pretrain="fail")
    jobs = cluster.submit()
    assert state_at_end(jobs["pretrain"]) == "FAILED"
    assert slurm_says(jobs["pretrain"].job_id)["ExitCode"] == "5:0"
    assert state_at_end(jobs["cpt"]) == "CANCELLED"
    assert cluster.records("cpt") == []
    cluster.act()
    again = cluster.submit()
    assert [state_at_end(job) for job in again.values()] == ["COMPLETED", "COMPLETED"]


def test_submitting_twice_keeps_the_jobs(cluster: Cluster) -> None:
    cluster.act(pretrain="save")
    first = cluster.submit()
    assert cluster.submit() == first
    subprocess.run(["scancel", *(job.job_id or "" for job in first.values())], check=True)


def test_a_warned_job_saves_and_starts_again(cluster: Cluster) -> None:
    """The warning comes while the ranks cannot save yet: it is repeated, both leave with 75, the same job continues."""
    cluster.act(pretrain="save")
    jobs = cluster.submit()
    pretrain = jobs["pretrain"]
    wait_for(lambda: slurm_says(pretrain.job_id)["JobState"] == "RUNNING")
    time.sleep(1.5)
    subprocess.run(["scancel", "--batch", "--signal=USR1", str(pretrain.job_id)], check=True)
    wait_for(lambda: slurm_says(pretrain.job_id)["Restarts"] == "1")
    assert slurm_says(jobs["cpt"].job_id)["JobState"] == "PENDING"
    assert [state_at_end(job) for job in jobs.values()] == ["COMPLETED", "COMPLETED"], cluster.log(pretrain)
    lives = [record["environment"].get("SLURM_RESTART_COUNT", "0") for record in cluster.records("pretrain")]
    assert lives == ["0", "1", "0", "1"]


def test_a_job_whose_parent_is_gone_stops(cluster: Cluster) -> None:
    """Slurm takes `afterok` of a job that it does not know as met; the script looks for itself."""
    script = cluster.submit()["cpt"].script
    wait_for(lambda: cluster.plan.stages["cpt"].finished)
    for name in ("cpt", "pretrain"):
        (cluster.plan.stages[name].artifact / "manifest.json").unlink()
    sbatch = ["sbatch", "--parsable", "--dependency=afterok:99999", str(script)]
    number = subprocess.run(sbatch, capture_output=True, text=True, check=True).stdout.strip()
    job = Submitted("cpt", script, number, [])
    assert state_at_end(job) == "FAILED"
    assert slurm_says(number)["ExitCode"] == "2:0"
    missing = cluster.plan.stages["pretrain"].artifact / "manifest.json"
    assert f"{missing} is missing. Run that stage first" in cluster.log(job)


def test_the_shells_token_stays_out_of_slurms_state(cluster: Cluster, slurm: Path) -> None:
    jobs = cluster.submit()
    assert [state_at_end(job) for job in jobs.values()] == ["COMPLETED", "COMPLETED"]
    assert holding(TOKEN, slurm) == holding(TOKEN, cluster.run) == []
    careless = ["sbatch", "--export=ALL", "--output=/dev/null", "--wrap=true"]
    subprocess.run(careless, env={**os.environ, "HF_TOKEN": "hf_careless"}, check=True)
    assert holding("hf_careless", slurm / "state"), "the search itself must be able to find a token"


def holding(word: str, directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file() and word.encode() in path.read_bytes()]


def test_what_sbatch_refuses_is_told(cluster: Cluster) -> None:
    cluster.plan = Plan(load(cluster.directory / "chain.yaml", ["cluster.nodes=4"]), cluster.plan.paths)
    with pytest.raises(ResidencyError, match=r"sbatch refused .*Node count specification invalid") as error:
        cluster.submit()
    assert error.value.code == Exit.USER_INPUT


def test_a_controller_that_does_not_answer(
    cluster: Cluster, slurm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conf = cluster.directory / "slurm.conf"
    conf.write_text((slurm / "etc" / "slurm.conf").read_text().replace("SlurmctldPort=", "SlurmctldPort=1 #"))
    (cluster.directory / "gres.conf").write_text("")
    monkeypatch.setenv("SLURM_CONF", str(conf))
    with pytest.raises(ResidencyError, match="Unable to contact slurm controller") as error:
        cluster.submit()
    assert error.value.code == Exit.ENVIRONMENT


def test_a_stage_started_by_hand(cluster: Cluster) -> None:
    cluster.submit()
    wait_for(lambda: cluster.plan.stages["cpt"].finished)
    attempt = cluster.plan.stages["cpt"].attempt
    (attempt.with_suffix("") / "manifest.json").unlink()
    attempt.with_suffix("").rmdir()
    (cluster.directory / "bin").mkdir()
    (cluster.directory / "bin" / "python").symlink_to(cluster.python)
    script = str(files("residency.slurm").joinpath("stage.sbatch"))
    number = subprocess.run(
        ["sbatch", "--parsable", "--nodes=2", "--ntasks-per-node=1", script, str(attempt)],
        env={**os.environ, "PATH": f"{cluster.directory / 'bin'}:{os.environ['PATH']}"},
        cwd=cluster.directory,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    assert state_at_end(Submitted("cpt", Path(script), number, [])) == "COMPLETED"
    assert cluster.plan.stages["cpt"].finished
