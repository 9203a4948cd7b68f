"""Benchmark of near-duplicate removal: ours beside datatrove's MinHash at the same parameters, on MedQuAD.

What: the answers of MedQuAD that are no near-duplicates of each other, with planted near-duplicates (exact Jaccard
index of word 5-grams at least 0.85) and lookalikes (at most 0.5). Both sides read the same rows from disk, write the
rows that stay, and use one process. Recall: planted near-duplicates of which one copy is left. Precision: share of
what is removed that was planted as a near-duplicate.

    RESIDENCY_MIRROR=DIR python tests/bench/data_duplicates.py
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

import numpy as np

from residency.data.curation import parts
from residency.data.curation.batch import Batch
from residency.data.curation.execute import logged
from residency.data.curation.observed import Observed, save
from residency.data.curation.run import Named, curate
from residency.data.settings import CurationSettings
from residency.data.steps.duplicates import Duplicates
from residency.data.steps.settings import DuplicatesSettings
from tests.bench import planted
from tests.bench.figures import Figure
from tests.bench.record import medquad, record_option, tell

PLANTED = 1000
ROUNDS = 3


def main() -> None:
    """Measure, print and record."""
    path, load = record_option(__doc__), os.getloadavg()[0]
    rows, near = corpus(Random(0))
    with tempfile.TemporaryDirectory(prefix="residency-bench-") as name:
        directory = Path(name)
        seconds: dict[str, list[float]] = {"ours": [], "datatrove": []}
        left: dict[str, set[str]] = {}
        for turn in range(ROUNDS):
            # datatrove takes minutes: it runs once, between two of ours.
            for side in ("ours", "datatrove") if turn == 1 else ("ours",):
                work = directory / f"{side}-{turn}"
                work.mkdir()
                written = parts.write_parts(work, rows, "00000")
                start = time.perf_counter()
                left[side] = ours(work, written) if side == "ours" else theirs(work, written)
                seconds[side].append(time.perf_counter() - start)
    size = sum(len(row["text"].encode()) for row in rows) / 1e6
    figures = [
        Figure("duplicates_speedup", median(seconds["datatrove"]) / median(seconds["ours"]), 5),
        *found(rows, near, left["ours"], "duplicates", goals=True),
        Figure("duplicates_megabytes_per_second", size / median(seconds["ours"])),
        Figure("datatrove_megabytes_per_second", size / median(seconds["datatrove"])),
        *found(rows, near, left["datatrove"], "datatrove", goals=False),
    ]
    tell(
        path, "data-duplicates", figures, {"documents": len(rows), "planted": len(near)}, load=load, threads=1
    )


def corpus(random: Random) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Rows in random order, and the original of each planted near-duplicate."""
    texts = [text for text in medquad() if len(text.split()) >= 50]
    originals = [texts[place] for place in np.flatnonzero(_distinct(texts))]
    rows = [{"id": f"d{number}", "text": text} for number, text in enumerate(originals)]
    near: dict[str, str] = {}
    while len(near) < PLANTED:
        number = random.randrange(len(originals))
        made = planted.near_duplicate(originals[number], random)
        if planted.jaccard(made, originals[number]) >= planted.NEAR:
            near[f"near{len(near)}"] = f"d{number}"
            rows.append({"id": f"near{len(near) - 1}", "text": made})
    for number in range(PLANTED):
        text, other = random.sample(originals, 2)
        made = planted.lookalike(text, other, random)
        if max(planted.jaccard(made, text), planted.jaccard(made, other)) <= planted.LOOKALIKE:
            rows.append({"id": f"look{number}", "text": made})
    random.shuffle(rows)
    return rows, near


def _distinct(texts: list[str]) -> Any:
    """One of each cluster of texts that are alike by a far lower bar than the benchmark's."""
    step = Duplicates(DuplicatesSettings(bands=60, rows=3, similarity=0.3))
    batch = Batch([{"id": str(number), "text": text} for number, text in enumerate(texts)])
    with tempfile.TemporaryDirectory() as name:
        save(Path(name), [step.observe(batch)])
        stays = step.decide(Observed([Path(name)], [len(texts)]))
    return stays == np.arange(len(texts))


def ours(work: Path, written: dict[str, int]) -> set[str]:
    """Ids that stay."""
    steps: Any = [Named("1-duplicates", Duplicates(DuplicatesSettings()))]
    curated = curate(work, work, written, steps, CurationSettings(workers=1), keep_dropped=False)
    return {row["id"] for name in curated.names for row in parts.load(curated.directory / name)}


def theirs(work: Path, written: dict[str, int]) -> set[str]:
    """Ids that stay behind datatrove's four stages."""
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.dedup import MinhashDedupCluster, MinhashDedupFilter, MinhashDedupSignature
    from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupBuckets
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.writers import JsonlWriter

    config = MinhashConfig(n_grams=5, num_buckets=14, hashes_per_bucket=8)
    signatures, buckets, removed, out = (
        str(work / name) for name in ("signatures", "buckets", "removed", "out")
    )
    reader = JsonlReader(str(work), paths_file=None, glob_pattern="00000-*.jsonl")
    stages: list[list[Any]] = [
        [reader, MinhashDedupSignature(signatures, config)],
        [MinhashDedupBuckets(signatures, buckets, config=config)],
        [MinhashDedupCluster(buckets, removed, config=config)],
        [reader, MinhashDedupFilter(removed), JsonlWriter(out, compression=None)],
    ]
    for number, stage in enumerate(stages):
        tasks = config.num_buckets if number == 1 else 1
        with logged(work / "console"):
            LocalPipelineExecutor(
                stage, tasks=tasks, workers=1, logging_dir=str(work / f"logs{number}")
            ).run()
    left = {
        json.loads(line)["id"]
        for path in Path(out).iterdir()
        for line in path.read_text().splitlines()
        if line
    }
    shutil.rmtree(work)
    return left


def found(
    rows: list[dict[str, Any]], near: dict[str, str], left: set[str], name: str, *, goals: bool
) -> list[Figure]:
    """Recall and precision."""
    removed = {row["id"] for row in rows} - left
    copies: dict[str, list[str]] = {}
    for copy, original in near.items():
        copies.setdefault(original, [original]).append(copy)
    # Of an original and its copies one stays: any of them.
    excess = sum(len(group) - 1 for group in copies.values())
    caught = sum(min(len(group) - 1, len(removed & set(group))) for group in copies.values())
    wrong = len(removed) - caught
    return [
        Figure(f"{name}_recall", caught / excess, 0.98 if goals else None),
        Figure(f"{name}_precision", 1 - wrong / max(1, len(removed)), 0.99 if goals else None),
    ]


if __name__ == "__main__":
    main()
