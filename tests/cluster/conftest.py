"""A real two-node Slurm for the tests of this folder, started once and stopped by its pid files, also on failure."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent / "minislurm.sh"


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Directory of the running Slurm; its state is in `state/`. SLURM_CONF of this process points to it."""
    missing = [name for name in ("slurmctld", "slurmd", "sbatch") if shutil.which(name, path=_path()) is None]
    if missing:
        pytest.skip(f"no {', '.join(missing)} here; as root: tests/cluster/install.sh")
    base = tmp_path_factory.mktemp("slurm")
    environment = {**os.environ, "PATH": _path()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(base / "etc" / "slurm.conf"))
        try:
            subprocess.run([SCRIPT, "up", base, str(_free_ports())], env=environment, check=True)
            yield base
        finally:
            subprocess.run([SCRIPT, "down", base], env=environment, check=True)


def _path() -> str:
    return f"{os.environ['PATH']}:/usr/sbin:/sbin"


def _free_ports() -> int:
    """The first of three neighbouring free ports."""
    for port in range(26817, 28000, 3):
        with ExitStack() as sockets:
            try:
                for number in range(port, port + 3):
                    sockets.enter_context(socket.socket()).bind(("127.0.0.1", number))
            except OSError:
                continue
            return port
    raise AssertionError("no free ports")
