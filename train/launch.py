"""Starts the ranks of a stage on this machine: torchrun on a worker, `residency.train.worker`, its output to a log."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from residency.artifact import read_attempt, report_attempt
from residency.errors import Exit, ResidencyError

POLL_SECONDS = 0.2
LOCK_SECONDS = 120  # to build an operation of DeepSpeed takes about half of it


def local_processes(wanted: int | None, key: str = "engine.processes") -> int:
    """Ranks to start here: as asked, else one per accelerator, else one.

    Raises:
        ResidencyError: more than the machine has accelerators (or, without any, cores).
    """
    accelerators = count_accelerators()
    room = accelerators or len(os.sched_getaffinity(0))
    if wanted and wanted > room:
        raise ResidencyError(
            f"{key} = {wanted}: this machine has {room} {'accelerators' if accelerators else 'cores'}",
            cure=f"Set {key} to {room} or less",
        )
    return wanted or accelerators or 1


def count_accelerators() -> int:
    """GPUs that this process may use, without importing torch."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([device for device in visible.split(",") if device.strip() not in ("", "-1")])
    return len(list(Path("/proc/driver/nvidia/gpus").glob("*")))


def free_operations() -> None:
    """Remove locks on DeepSpeed's compiled operations that nobody holds: a rank that was killed while it loaded one
    leaves its lock, and torch waits for it for ever (`torch.utils.file_baton`)."""
    own = os.environ.get("TORCH_EXTENSIONS_DIR")
    locks = Path(own).glob("*/lock") if own else Path.home().glob(".cache/torch_extensions/*/*/lock")
    for lock in locks:
        with suppress(OSError):
            if time.time() - lock.stat().st_mtime > LOCK_SECONDS and not _is_held(lock):
                lock.unlink()


def _is_held(path: Path) -> bool:
    """Whether a process of this machine has the file open, as far as this user may look."""
    for descriptor in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):
            if descriptor.readlink() == path:
                return True
    return False


@contextmanager
def _forwarding(attempt: Path, process: subprocess.Popen[bytes]) -> Iterator[list[int]]:
    """Ctrl-C, TERM and USR1 go on to rank 0: the ranks save and leave, then this process; yields the signals that came.

    Not to torchrun, which gives its ranks only 30 seconds to save.
    """
    came: list[int] = []

    def forward(number: int, _frame: Any) -> None:
        came.append(number)
        if rank_0 := read_attempt(attempt).get("pid"):
            with suppress(ProcessLookupError):
                os.kill(rank_0, signal.SIGUSR1)
        else:
            process.terminate()

    before = {
        number: signal.signal(number, forward) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    }
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def torchrun(processes: int) -> list[str]:
    """The command that starts a module as ranks on this machine; module and attempt come behind it."""
    return [
        sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}",
        "--signals-to-handle=SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1", "-m",
    ]  # fmt: skip


def launch(
    attempt: Path,
    processes: int,
    log: Path,
    watch: Callable[[], None],
    *,
    module: str = "residency.train.worker",
    launcher: Callable[[int], list[str]] = torchrun,
) -> None:
    """Run the stage to its end; `watch` is called while it runs.

    Args:
        module: the program of every rank; it gets the attempt.
        launcher: the command that starts so many ranks.

    Raises:
        ResidencyError: the stage ended without its artifact; the code is the worker's own.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    report_attempt(attempt, status="starting", exit_code=None, reason=None, pid=None)
    command = [*launcher(processes), module, str(attempt)]
    with log.open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        with _forwarding(attempt, process) as came:
            while process.poll() is None:
                watch()
                free_operations()
                time.sleep(POLL_SECONDS)
        watch()
    if process.returncode == 0:
        return
    outcome = read_attempt(attempt)
    code = Exit(outcome.get("exit_code") or Exit.OUR_FAULT)
    if outcome.get("status") == "saved":
        raise ResidencyError(
            f"saved at step {outcome.get('step')}", cure="Run again to continue", code=Exit.RUN_AGAIN
        )
    if came and outcome.get("status") != "failed":
        raise ResidencyError("stopped before its first step", cure="Run again", code=Exit.RUN_AGAIN)
    reason = outcome.get("reason") or f"the ranks ended with {process.returncode}"
    raise ResidencyError(reason, cure=f"Log: {log}", code=code)
