"""The script for starting by hand."""

from __future__ import annotations

import subprocess
from importlib.resources import files
from pathlib import Path

SCRIPT = str(files("residency.slurm").joinpath("stage.sbatch"))


def test_it_is_bash() -> None:
    subprocess.run(["bash", "-n", SCRIPT], check=True)


def test_it_says_how_to_call_it(tmp_path: Path) -> None:
    for arguments in ([], [str(tmp_path)]):
        done = subprocess.run(["bash", SCRIPT, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert done.stderr.startswith("usage: sbatch --nodes=N")
