"""Fixtures that all rooms share."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rank_server import SERVER

if "PYTEST_XDIST_WORKER" in os.environ:
    # Tests of other processes are at work on the same cores: threads of one would spin while they wait for a core.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def mirror() -> Path:
    """Directory of public data sets; a test that needs it skips where there is none."""
    path = Path(os.environ.get("RESIDENCY_MIRROR", REPOSITORY.parent / "shared" / "mirror"))
    if not path.is_dir():
        pytest.skip("no mirror of public data (set RESIDENCY_MIRROR)")
    return path


@pytest.fixture(scope="session")
def rank_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Socket of a process that starts ranks."""
    path = tmp_path_factory.mktemp("ranks") / "socket"
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, str(SERVER), "serve", str(path)], env=environment)
    while not path.exists():
        assert process.poll() is None, "the server of ranks did not start"
        time.sleep(0.05)
    yield path
    process.kill()
    process.wait()


@pytest.fixture(scope="session")
def repository() -> Path:
    """Root of the checkout."""
    return REPOSITORY
