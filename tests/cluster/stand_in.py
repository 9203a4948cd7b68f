"""Stands in for `python -m residency.train.worker ATTEMPT` and `python -m residency stage ATTEMPT` in tests of jobs.

Writes what a rank was given to `<run>/records/<stage>-<rank>-<life>.json`, then does what `<run>/acts.json` says of its
stage: `fail` (exit 5), `save` (first life: wait for USR1, exit 75), else leave an artifact, as rank 0.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

start = time.time()
attempt = Path(sys.argv[-1])
stage = json.loads((attempt / "stage.json").read_text())
run = Path(stage["run"])
rank, life = int(os.environ["RANK"]), int(os.environ.get("SLURM_RESTART_COUNT", "0"))
record = {"argv": sys.argv[1:], "directory": str(Path.cwd()), "environment": dict(os.environ), "start": start}


def keep() -> None:
    (run / "records").mkdir(exist_ok=True)
    path = run / "records" / f"{stage['name']}-{rank}-{life}.json"
    path.write_text(json.dumps({**record, "end": time.time()}))


acts = json.loads((run / "acts.json").read_text()) if (run / "acts.json").exists() else {}
act = acts.get(stage["name"])
if act == "save" and life == 0:
    time.sleep(3)  # not ready for the warning yet, as a worker that still imports its libraries
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    signal.signal(signal.SIGUSR1, lambda *_: None)
    keep()
    signal.sigwait({signal.SIGUSR1})
    sys.exit(75)
time.sleep(0.5)
keep()
if act == "fail":
    sys.exit(5)
if rank == 0:
    artifact = attempt.with_suffix("")
    artifact.mkdir()
    (artifact / "manifest.json").write_text("{}")
