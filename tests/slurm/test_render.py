"""Rendered job scripts: golden text, bash syntax, and values that would break a careless script."""

from __future__ import annotations

import difflib
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from residency.artifact import StageFile
from residency.errors import ResidencyError
from residency.slurm.render import render
from residency.slurm.settings import ClusterSettings

GOLDEN = Path(__file__).parent / "golden"
RUN = Path("/runs/quickstart")
CLUSTER = ClusterSettings(
    nodes=2,
    tasks_per_node=4,
    gpus_per_node=4,
    cpus_per_task=8,
    memory="64G",
    time="36:00:00",
    partition="gpu",
    account="med-01",
    constraint="a100",
    setup=["module load cuda"],
)
HOSTILE = 'it\'s "quoted" $(touch pwned) `id` 50%'


def stage(kind: str, run: Path = RUN, **parents: Path) -> StageFile:
    return StageFile(
        name=kind, kind=kind, identity="1a2b3c4d" * 8, settings={}, parents=dict(parents), run=run
    )


def script(stage: StageFile, cluster: ClusterSettings = CLUSTER, **changes: Any) -> str:
    given: dict[str, Any] = {
        "python": "/opt/residency/bin/python",
        "directory": Path("/home/ada"),
        "environment": {},
    }
    return render(stage, cluster, **given | changes)


def golden_cases() -> dict[str, str]:
    environment = {
        "HF_HOME": "/data/hf",
        "RESIDENCY_MIRROR": "/mirror",
        "HF_TOKEN": "hf_secret",
        "EDITOR": "vi",
    }
    cpt = stage("cpt", model=RUN / "base-0a0a0a0a", tokens=RUN / "cpt-tokens-0b0b0b0b")
    hold = {"directory": "cpt-curve-0c0c0c0c.attempt/held", "every": 1}
    return {
        "training": script(cpt, environment=environment),
        "training-scored": script(cpt.model_copy(update={"execution": {"hold": hold}})),
        "training-small": script(stage("sft", model=Path("/models/llama")), ClusterSettings()),
        "corpus": script(stage("corpus")),
        "evaluate": script(stage("evaluate", model=RUN / "cpt-1a2b3c4d")),
        "hostile-paths": script(
            stage("cpt", run=Path("/runs") / HOSTILE, model=Path("/runs") / HOSTILE / "base-0a0a0a0a"),
            python=f"/opt/{HOSTILE}/python",
            directory=Path("/home") / HOSTILE,
            environment={"PYTHONPATH": HOSTILE},
        ),
    }


@pytest.mark.parametrize("name", golden_cases())
def test_script_is_the_golden_one(name: str) -> None:
    text, path = golden_cases()[name], GOLDEN / f"{name}.sbatch"
    if os.environ.get("ACCEPT_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    difference = "".join(
        difflib.unified_diff(
            path.read_text().splitlines(keepends=True) if path.exists() else [],
            text.splitlines(keepends=True),
            str(path),
            "rendered",
        )
    )
    accept = f"ACCEPT_GOLDEN=1 python -m pytest {Path(__file__).relative_to(Path(__file__).parents[2])}"
    assert not difference, f"\n{difference}\nIf this change is meant: {accept}"


@pytest.mark.parametrize("name", golden_cases())
def test_script_is_bash(name: str) -> None:
    done = subprocess.run(
        ["bash", "-n"], input=golden_cases()[name], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_token_is_not_carried() -> None:
    assert "hf_secret" not in golden_cases()["training"]


def test_hostile_paths_are_words_to_bash(tmp_path: Path) -> None:
    """The script's part before the launch runs, expands nothing, and stops at the missing parent."""
    run = tmp_path / HOSTILE
    run.mkdir()
    text = script(stage("cpt", run=run, model=run / "base-0a0a0a0a"), ClusterSettings(), directory=tmp_path)
    done = subprocess.run(["bash"], input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == (
        f"residency: stage cpt: {run}/base-0a0a0a0a/manifest.json is missing. Run that stage first\n"
    )
    assert list(tmp_path.rglob("pwned")) == []


def test_a_finished_stage_is_skipped(tmp_path: Path) -> None:
    (tmp_path / "cpt-1a2b3c4d").mkdir()
    (tmp_path / "cpt-1a2b3c4d" / "manifest.json").touch()
    text = script(
        stage("cpt", run=tmp_path, model=tmp_path / "gone-0a0a0a0a"), ClusterSettings(), directory=tmp_path
    )
    done = subprocess.run(["bash"], input=text, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "residency: stage cpt is finished\n")


@pytest.mark.parametrize("name", ["two\nlines", "back\\slash", "bell\a"])
def test_what_quoting_cannot_mend_is_refused(name: str) -> None:
    with pytest.raises(ResidencyError, match="cannot stand in a job script"):
        script(stage("cpt", run=Path("/runs") / name))


@pytest.mark.parametrize("value", ["gpu\n#SBATCH --wrap=id", "gpu; id", "$(id)", "a b", ""])
def test_cluster_words_are_checked(value: str) -> None:
    with pytest.raises(ValidationError, match="may hold only"):
        ClusterSettings(partition=value)
