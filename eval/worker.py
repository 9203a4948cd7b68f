"""One rank of an evaluation: several processes share the items of each task.

    torchrun --nproc-per-node 2 -m residency.eval.worker runs/quickstart/sft-evaluation-1a2b3c4d.attempt

Rank r scores items r, r + N, ... of N ranks on its own copy of the model. What depends on more than one item (the
wording chosen on validation items, what is in the cache) is decided by rank 0 for all. The records are those of one
process, up to the rounding of batches that hold other items. Parts travel as files, so nothing has to fit a socket.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from residency.artifact import read_attempt, report_attempt
from residency.errors import Exit, ResidencyError
from residency.eval import evaluate
from residency.eval.evaluate import T
from residency.eval.records import Record, read_table, write_records

PEER_TIMEOUT = timedelta(hours=24)  # a rank with the longest replies keeps the others waiting


class Ranks(evaluate.Alone):
    """The processes of one evaluation."""

    def __init__(self) -> None:
        """Join the process group from torchrun's environment.

        Raises:
            ResidencyError: not started by torchrun.
        """
        missing = [name for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK") if name not in os.environ]
        if missing:
            raise ResidencyError(
                f"{', '.join(missing)} not set",
                cure="Start with torchrun -m residency.eval.worker ATTEMPT_DIR",
            )
        import torch

        cores = len(os.sched_getaffinity(0))
        torch.set_num_threads(max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        torch.distributed.init_process_group("gloo", timeout=PEER_TIMEOUT)
        self.rank, self.size = torch.distributed.get_rank(), torch.distributed.get_world_size()

    def same(self, make: Callable[[], T]) -> T:
        import torch

        made: list[Any] = [make() if self.rank == 0 else None]
        torch.distributed.broadcast_object_list(made, src=0)
        value: T = made[0]
        return value

    def gather(self, records: list[Record], place: Path) -> list[Record]:
        import torch

        mine = place / str(self.rank)
        mine.mkdir(parents=True, exist_ok=True)
        write_records(mine, records)
        torch.distributed.barrier()
        if self.rank:
            return []
        return [record for rank in range(self.size) for record in read_table(place / str(rank))]


def main(arguments: list[str] | None = None) -> None:
    """Entry of every rank; exits with a code of `residency.errors.Exit`."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if len(arguments) != 1:
        print("usage: torchrun -m residency.eval.worker ATTEMPT_DIR", file=sys.stderr)
        sys.exit(Exit.USER_INPUT)
    attempt, code = Path(arguments[0]).resolve(), Exit.DONE
    try:
        run(attempt)
    except ResidencyError as error:
        print(f"residency: {error}", file=sys.stderr)
        code = _report(attempt, error.code, str(error))
    except BaseException as error:
        traceback.print_exc()
        first = str(error).partition("\n")[0]
        fault = Exit.ENVIRONMENT if isinstance(error, OSError) else Exit.OUR_FAULT
        code = _report(attempt, fault, f"{type(error).__name__}: {first}")
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # peers may be gone: the process group's own farewell would wait for them


def run(attempt: Path) -> None:
    """Score this rank's share; rank 0 leaves the artifact."""
    artifact = attempt.with_name(attempt.name.removesuffix(".attempt"))
    if (artifact / "manifest.json").exists():
        return
    ranks = Ranks()
    evaluate.run(attempt, ranks)


def _report(attempt: Path, code: Exit, reason: str) -> Exit:
    """First reason wins: the peers of a failed rank fail later, with less to say."""
    if attempt.is_dir() and read_attempt(attempt).get("status") != "failed":
        report_attempt(attempt, status="failed", exit_code=int(code), reason=reason)
    return code


if __name__ == "__main__":
    main()
