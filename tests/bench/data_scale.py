"""Benchmark of curation as a whole: same bytes whoever works, time in proportion to the input, bounded memory.

What: (1) the openstax and MedQuAD corpora of the mirror are built with one and with two workers, and once more by two
workers that are killed in the middle and started again: all three must be the same bytes. (2) Made-up corpora of
sentences drawn from MedQuAD, of 20 MB and of 200 MB: seconds of the larger over the smaller. (3) The same of 1 GB and
2 GB: peak resident memory of all processes together, sampled. Steps: normalise, quality, paragraphs, duplicates,
decontaminate.

    RESIDENCY_MIRROR=DIR python tests/bench/data_scale.py [--megabytes 1000]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import psutil

from residency.artifact import StageFile, identity_of
from residency.data.settings import CorpusSettings
from tests.bench.figures import MIB, Figure
from tests.bench.record import RECORD, medquad, mirror, tell

WORKERS = 2
STEPS: list[dict[str, Any]] = [
    {"kind": "normalise"},
    {"kind": "quality"},
    {"kind": "paragraphs"},
    {"kind": "duplicates"},
    {"kind": "decontaminate"},
]
REAL: dict[str, dict[str, Any]] = {
    "anatomy": {"source": "openstax/anatomy-physiology", "file": "text/*.jsonl"},
    "microbiology": {"source": "openstax/microbiology", "file": "text/*.jsonl"},
    "medquad": {"source": "lavita/MedQuAD", "file": "train.jsonl", "text": "answer"},
}
RUN = "import sys; from pathlib import Path; from residency.data import corpus; corpus.run(Path(sys.argv[1]))"


class Built(NamedTuple):
    """One build of a corpus."""

    artifact: Path
    seconds: float
    peak_bytes: int


def main() -> None:
    """Measure, print and record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--record", type=Path, default=RECORD, help="file to append to")
    parser.add_argument("--megabytes", type=int, default=1000, help="size of the smaller corpus for memory")
    options, load = parser.parse_args(), os.getloadavg()[0]
    os.environ["RESIDENCY_MIRROR"] = str(mirror())
    with tempfile.TemporaryDirectory(prefix="residency-bench-") as name:
        directory = Path(name)
        exam = build(
            stage(directory / "exam", "exam", {"source": "GBaker/MedQA-USMLE-4-options"}, [], {})
        ).artifact
        figures = [
            Figure("identical_builds", float(identical(directory, exam)), 1),
            Figure("ten_times_the_input_times_seconds", slope(directory, exam), at_most=11),
            *memory(directory, exam, options.megabytes),
        ]
    tell(options.record, "data-scale", figures, {"megabytes": options.megabytes}, load=load, threads=WORKERS)


def stage(
    run: Path,
    name: str,
    source: dict[str, Any],
    steps: list[Any],
    parents: dict[str, Path],
    workers: int = WORKERS,
) -> StageFile:
    """The stage file of a corpus."""
    filled = CorpusSettings.model_validate(
        {"licence": "CC-BY-4.0", "seed": 0, "hold_out": 0.05 if steps else 0.0, "steps": steps, **source}
    )
    settings = filled.model_dump(mode="json")
    return StageFile(
        name=f"corpus-{name}", kind="corpus", identity=identity_of(name=name, settings=settings),
        settings=settings, execution={"curation": {"workers": workers}}, parents=parents, run=run,
    )  # fmt: skip


def build(made: StageFile, *, kill_at: str | None = None) -> Built:
    """Run a corpus stage in a process of its own, watching the memory of all that it starts.

    Args:
        kill_at: a file of the attempt; as soon as it exists the whole process group is killed, and started again.
    """
    final = made.run / f"{made.name}-{made.identity[:8]}"
    attempt = final.with_name(final.name + ".attempt")
    attempt.mkdir(parents=True, exist_ok=True)
    (attempt / "stage.json").write_text(made.model_dump_json())
    start, peak = time.perf_counter(), 0
    process = subprocess.Popen([sys.executable, "-c", RUN, str(attempt)], start_new_session=True)
    while process.poll() is None:
        peak = max(peak, resident_bytes(process.pid))
        if kill_at and list(attempt.glob(kill_at)):
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return build(made)
        time.sleep(0.005 if kill_at else 0.2)
    assert process.returncode == 0 and kill_at is None, "the build failed, or ended before it could be killed"
    return Built(final, time.perf_counter() - start, peak)


def resident_bytes(pid: int) -> int:
    """Proportional resident memory of a process and all its descendants: what several share counts once."""
    total = 0
    try:
        parent = psutil.Process(pid)
        for process in (parent, *parent.children(recursive=True)):
            total += process.memory_full_info().pss
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        pass
    return total


def identical(directory: Path, exam: Path) -> bool:
    """Whether one worker, two workers, and two that were killed leave the same bytes."""
    digests = []
    for workers, kill_at in ((1, None), (2, None), (2, "work/pass-1/*.json")):
        run = directory / f"real-{workers}-{bool(kill_at)}"
        for name, source in REAL.items():
            built = build(stage(run, name, source, STEPS, {"exam:medqa": exam}, workers), kill_at=kill_at)
            digests.append((name, digest(built.artifact)))
    return all(len({value for name, value in digests if name == one}) == 1 for one in REAL)


def digest(artifact: Path) -> str:
    """sha256 of every file but the manifest, which tells the time."""
    total = hashlib.sha256()
    for path in sorted(artifact.iterdir()):
        if path.name != "manifest.json":
            total.update(path.name.encode() + path.read_bytes())
    return total.hexdigest()


def slope(directory: Path, exam: Path) -> float:
    """Seconds of ten times the input over those of one, start of the processes included."""
    seconds = []
    for megabytes in (20, 200):
        seconds.append(built_of(directory, exam, megabytes).seconds)
    return seconds[1] / seconds[0]


def memory(directory: Path, exam: Path, megabytes: int) -> list[Figure]:
    """Peak memory at one size and at twice that."""
    small, large = (built_of(directory, exam, size) for size in (megabytes, 2 * megabytes))
    return [
        Figure("peak_mib_at_twice", large.peak_bytes / MIB, at_most=2048),
        Figure("peak_mib", small.peak_bytes / MIB),
        Figure("peak_growth", large.peak_bytes / small.peak_bytes, at_most=1.1),
        Figure("megabytes_per_second", 2 * megabytes / large.seconds),
    ]


def built_of(directory: Path, exam: Path, megabytes: int) -> Built:
    """Build a made-up corpus; what it left is removed."""
    source = directory / f"made-{megabytes}"
    write(source, megabytes)
    run = directory / f"run-{megabytes}"
    built = build(stage(run, "made", {"source": str(source)}, STEPS, {"exam:medqa": exam}))
    shutil.rmtree(source)
    shutil.rmtree(run)
    return built


def write(directory: Path, megabytes: int) -> None:
    """Files of 50 MB of documents of 4 to 30 sentences drawn from MedQuAD, one in twenty twice."""
    sentences = [
        f"{sentence}." for text in medquad() for sentence in text.split(". ") if 20 < len(sentence) < 400
    ]
    random, row = Random(megabytes), 0
    directory.mkdir()
    for number in range(max(1, megabytes // 50)):
        left = min(50, megabytes) * 10**6
        with (directory / f"{number:05d}.jsonl").open("w", encoding="utf-8") as file:
            while left > 0:
                text = " ".join(random.choices(sentences, k=random.randint(4, 30)))
                for _ in range(2 if random.random() < 0.05 else 1):
                    left -= file.write(json.dumps({"id": f"r{row}", "text": text}) + "\n")
                    row += 1


if __name__ == "__main__":
    main()
