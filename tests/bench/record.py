"""What a benchmark does with its figures: print one line each, append one JSON line to `docs/benchmarks.jsonl`."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from residency.artifact import environment
from tests.bench.figures import Figure

ROOT = Path(__file__).resolve().parents[2]
RECORD = ROOT / "docs" / "benchmarks.jsonl"


def mirror() -> Path:
    """The directory with the public data that benchmarks run on, `RESIDENCY_MIRROR`."""
    found = Path(os.environ.get("RESIDENCY_MIRROR") or ROOT.parent / "shared" / "mirror")
    if not found.is_dir():
        raise SystemExit("Set RESIDENCY_MIRROR to a directory with owner/name/... copies of the data sets")
    return found


def medquad() -> list[str]:
    """All answers of MedQuAD."""
    with (mirror() / "lavita/MedQuAD/train.jsonl").open(encoding="utf-8") as file:
        return [json.loads(line)["answer"] for line in file]


def record_option(description: str | None) -> Path:
    """The command line of a benchmark without settings: `--record FILE`."""
    parser = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    parser.add_argument("--record", type=Path, default=RECORD, help="file to append to")
    found: Path = parser.parse_args().record
    return found


def tell(
    path: Path,
    benchmark: str,
    figures: Sequence[Figure],
    settings: dict[str, Any],
    *,
    load: float,
    threads: int,
) -> None:
    """Print the figures and append the record.

    Args:
        load: load of the machine before the benchmark began.
        threads: threads that each side had.
    """
    for figure in figures:
        print(figure, flush=True)
    line = {
        "benchmark": benchmark,
        **environment(),
        "hardware": _hardware(),
        "threads": threads,
        "load": load,
        "settings": settings,
        "figures": [asdict(figure) for figure in figures],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def _hardware() -> str:
    import torch

    if torch.cuda.is_available():
        return str(torch.cuda.get_device_name())
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "CPU")
    return f"{name}, {len(os.sched_getaffinity(0))} cores"
