"""Benchmark of the comparison: two full sets of records over 35 tasks, read from Parquet, 10,000 resamples.

What: invented records of 45,000 items, of the sizes and kinds of the public test sets: letters beside option texts,
three wordings, clusters of five, graded answers, replies with their status, bits per byte. Timed is all that `residency
compare` computes, from opening the files to the last verdict; and the command itself, from its start to its exit.

    python tests/bench/eval_compare.py [--record FILE]
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from residency.artifact import Manifest, write_json
from residency.eval.comparison.compare import compare
from residency.eval.records import SCHEMA, Record, write_records
from tests.bench.figures import Figure
from tests.bench.record import record_option, tell

RUNS = 5
RESAMPLES = 10_000
GOAL_SECONDS = 2
CHOICES = {
    "medqa": 1273, "medmcqa": 4183, "careqa": 5621, "mmlu-medical": 1871, "mmlu-pro-medical": 1535, "pubmedqa": 500,
    "pubmedqa-question": 500, "bioasq": 618, "headqa": 2742, "glianorex": 976, "anatomy": 708, "microbiology": 441,
    "glossary": 3190, "medxpertqa": 2450, "arc-easy": 2376, "arc-challenge": 1172, "piqa": 1838, "openbookqa": 500,
    "copa": 500, "winogrande": 1267, "empec": 2000, "mmlu-general": 2000, "nli": 1422, "medec-flag": 597,
}  # fmt: skip
GRADED = {"medec": 597, "medquad": 1000, "aci-bench": 120, "summaries": 500, "diseases": 940, "gsm8k": 1319}
TEXTS = {"medical-text": 300, "general-text": 300, "notes-text": 300, "code-text": 300, "news-text": 300}
WORDINGS = 3
GENERAL = ("arc-easy", "arc-challenge", "piqa", "openbookqa", "copa", "winogrande", "mmlu-general", "gsm8k")


def main() -> None:
    """Measure, print, append the record."""
    record, load = record_option(__doc__), os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="residency-bench-") as temporary:
        sides = [write(Path(temporary) / name, seed) for seed, name in enumerate(("base", "adapted"))]
        seconds, commands = [], []
        for _ in range(RUNS):
            start = time.perf_counter()
            found = compare(sides[1], sides[0], resamples=RESAMPLES)
            seconds.append(time.perf_counter() - start)
            start = time.perf_counter()
            command = [sys.executable, "-m", "residency", "compare", str(sides[1]), str(sides[0])]
            subprocess.run(command, check=True, capture_output=True)
            commands.append(time.perf_counter() - start)
    items = sum(each.n for each in found.lines)
    figures = [
        Figure("compare_seconds", median(seconds), at_most=GOAL_SECONDS),
        Figure("compare_command_seconds", median(commands)),
        Figure("compare_tasks", len(found.lines)),
        Figure("compare_items", items),
    ]
    settings = {"resamples": RESAMPLES, "runs": RUNS, "wordings": WORDINGS}
    tell(record, "eval_compare", figures, settings, load=load, threads=len(os.sched_getaffinity(0)))


def write(directory: Path, seed: int) -> Path:
    """One model's records of all tasks, as an artifact."""
    random = np.random.default_rng(seed)
    records: list[Record] = []
    for name, size in CHOICES.items():
        records += _choices(name, size, random)
    for name, size in GRADED.items():
        records += [
            _record(name, at, "rougeL", correct=random.random(), status="answered") for at in range(size)
        ]
    for name, size in TEXTS.items():
        sizes = np.random.default_rng(7).integers(500, 5000, size)  # the same documents for both models
        records += [
            _record(name, at, "bits_per_byte", nats=float(count * random.uniform(0.5, 0.7)), bytes=int(count))
            for at, count in enumerate(sizes)
        ]
    directory.mkdir(parents=True)
    write_records(directory, records)
    tasks = [
        {"name": name, "kind": kind, "domain": "general" if name in GENERAL else "medicine"}
        for kind, names in (("choice", CHOICES), ("answer", GRADED), ("bits-per-byte", TEXTS))
        for name in names
    ]
    manifest = Manifest(
        kind="records",
        stage=directory.name,
        stage_kind="evaluate",
        identity=str(seed) * 64,
        parents={},
        parent_paths={"model": directory.name},
        settings={"tasks": tasks},
    )
    write_json(directory / "manifest.json", manifest.model_dump())
    return directory


def _choices(name: str, size: int, random: np.random.Generator) -> list[Record]:
    """Options' texts decide, letters stand beside; every third task has several wordings, every fourth clusters."""
    place = list(CHOICES).index(name)
    skill = np.random.default_rng(place).normal(size=size)  # hard items are hard for both models
    made = []
    for scorer in ("option-text", "letter"):
        for wording in range(WORDINGS if place % 3 == 0 else 1):
            scores = random.normal(size=(size, 4))
            right = random.normal(size=size) + skill > 0
            for at in range(size):
                fields: dict[str, Any] = {"scorer": scorer, "main": scorer == "option-text", "order": 0}
                fields |= {
                    "template": str(wording),
                    "scores": scores[at].tolist(),
                    "correct": float(right[at]),
                }
                fields |= {"group": f"subject {at % 20}", "prediction": at % 4, "answer": at % 4}
                if place % 4 == 0:
                    fields["cluster"] = f"{name}-{at // 5}"
                made.append(_record(name, at, "accuracy", **fields))
    return made


def _record(task: str, at: int, metric: str, **fields: Any) -> Record:
    blank = dict.fromkeys(SCHEMA) | {"task": task, "id": f"test:{at}", "cluster": f"test:{at}", "main": True}
    return blank | {"metric": metric, "cut_tokens": 0} | fields


if __name__ == "__main__":
    main()
