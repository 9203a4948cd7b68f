"""Benchmark of training: our packed trainer beside stock TRL, in one job.

What: continual pretraining and fine-tuning, three arms each - ours on packed rows, `trl.SFTTrainer` with
`packing=True`, and `trl.SFTTrainer` on padded documents. Same weights, documents, optimizer, DeepSpeed, attention,
dtype and threads. Prints `figure NAME VALUE [goal >=GOAL]`, and appends one line to `docs/benchmarks.jsonl`.

How: this file only starts the ranks (`tests/bench/rank.py`); sizes that are not given follow the machine.

    python tests/bench/train.py [--processes 2] [--layers 4 --width 256 ...]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    """The command line; None where the machine decides."""
    parser = argparse.ArgumentParser(description="Our packed training beside stock TRL.")
    parser.add_argument("--layers", type=int, help="transformer blocks (CPU 4, GPU 28)")
    parser.add_argument("--width", type=int, help="hidden size (CPU 256, GPU 1024)")
    parser.add_argument("--vocabulary", type=int, help="rows of the embedding (CPU 4096, GPU 151936)")
    parser.add_argument("--max-length", type=int, help="tokens in a row (CPU 512, GPU 4096)")
    parser.add_argument("--rows", type=int, help="rows per optimizer step over all ranks (8)")
    parser.add_argument("--steps", type=int, help="optimizer steps per timing (CPU 1, GPU 4)")
    parser.add_argument("--pairs", type=int, default=7, help="timings of each arm (7)")
    parser.add_argument("--processes", type=int, default=1, help="ranks (1)")
    parser.add_argument(
        "--record", type=Path, default=ROOT / "docs" / "benchmarks.jsonl", help="file to append to"
    )
    return parser.parse_args(given)


def main(given: list[str] | None = None) -> None:
    """Start the ranks and wait for them; figures never change the exit code, a crash does."""
    options = vars(arguments(given))
    options["record"] = str(options["record"].resolve())
    path = os.pathsep.join([str(ROOT), str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])])
    quiet = {"TOKENIZERS_PARALLELISM": "false", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
    with tempfile.TemporaryDirectory(prefix="residency-bench-") as directory:
        command = [
            sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={options['processes']}",
            "-m", "tests.bench.rank", json.dumps({**options, "directory": directory}),
        ]  # fmt: skip
        done = subprocess.run(command, cwd=ROOT, env={**os.environ, **quiet, "PYTHONPATH": path}, check=False)
    sys.exit(done.returncode)


if __name__ == "__main__":
    main()
