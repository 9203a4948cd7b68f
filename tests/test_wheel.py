"""The built wheel, installed elsewhere, holds all that a run needs: recipes, tasks, templates, styles, scripts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SHORT = [
    "stages.pretrain.tokens=8k",
    "stages.cpt=null",
    "stages.sft.from=pretrain",
    "stages.sft.mixture={dialogues: 1}",
    "stages.sft.epochs=0.1",
    "stages.preference=null",
    "evaluation.after=[pretrain, sft]",
]


def call(*command: str, cwd: Path, **more: str) -> str:
    done = subprocess.run(
        [sys.executable, *command],
        cwd=cwd,
        env=os.environ | more,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_quickstart_runs_from_an_installed_wheel(repository: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    subprocess.run(["git", "clone", "-q", str(repository), str(source)], check=True)
    pip = ("-m", "pip", "--quiet", "--disable-pip-version-check")
    call(*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", ".", "./source", cwd=tmp_path)
    wheel = next(tmp_path.glob("residency-*.whl")).name
    call(*pip, "install", "--no-deps", "--target", "installed", wheel, cwd=tmp_path)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    installed = {"PYTHONPATH": str(tmp_path / "installed")}
    place = call("-c", "import residency.data; print(residency.data.__file__)", cwd=elsewhere, **installed)
    assert place.startswith(str(tmp_path / "installed"))
    told = call("-m", "residency", "run", "quickstart", *SHORT, cwd=elsewhere, **installed)
    assert "sft against pretrain" in told
    assert (elsewhere / "runs" / "quickstart" / "report.html").exists()
    call(
        "-m", "residency", "submit", "quickstart", "--dry-run", "--runs", "other", cwd=elsewhere, **installed
    )
