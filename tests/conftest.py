"""Fixtures that all rooms share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

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
def repository() -> Path:
    """Root of the checkout."""
    return REPOSITORY
