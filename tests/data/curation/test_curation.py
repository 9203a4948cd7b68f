"""Curation as a whole: passes, ledgers, workers, and a build that was killed."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from residency.artifact import StageFile, identity_of, read_manifest
from residency.data import corpus
from residency.data.curation import parts
from residency.data.settings import CorpusSettings

NOTICE = "This page is for information only and never replaces the advice of your own doctor."
SLOW = """
import time

def judge(text):
    time.sleep(0.01)
    return "odd" if "odd" in text else None
"""


def document(number: int) -> str:
    words = " ".join(f"word{number * 31 + place * 7}" for place in range(60))
    return f"Document {number}{' odd' if number % 9 == 8 else ''}. {words}"


def write_source(directory: Path, files: int = 4, rows: int = 40) -> Path:
    """Files of documents; every fifth stands in the next file again, and all share a notice."""
    directory.mkdir()
    for file in range(files):
        with (directory / f"file{file}.jsonl").open("w") as target:
            for row in range(rows):
                number = file * rows + row - (rows if row % 5 == 4 and file else 0)
                target.write(json.dumps({"text": f"{document(number)}\n\n{NOTICE}"}) + "\n")
    return directory


def stage(root: Path, source: Path, workers: int, **settings: Any) -> StageFile:
    steps: Any = [
        {"kind": "function", "call": "slow_filter:judge"},
        {"kind": "paragraphs"},
        {"kind": "duplicates"},
        {"kind": "function", "call": "slow_filter:judge", "version": "2"},
    ]
    filled = CorpusSettings(
        source=str(source), licence="CC0-1.0", seed=3, hold_out=0.1, steps=steps, **settings
    ).model_dump(mode="json")
    identity = identity_of(settings=filled)
    execution = {"curation": {"workers": workers}}
    return StageFile(
        name="corpus-c", kind="corpus", identity=identity, settings=filled, execution=execution, run=root
    )


def build(tmp_path: Path, name: str, made: StageFile, *, kill_after: str | None = None) -> Path:
    """Run the stage in a process of its own; kill its whole group when a file appears."""
    (tmp_path / "slow_filter.py").write_text(SLOW)
    attempt = made.run / f"{made.name}-{made.identity[:8]}.attempt"
    attempt.mkdir(parents=True, exist_ok=True)
    (attempt / "stage.json").write_text(made.model_dump_json())
    code = "import sys; from pathlib import Path; from residency.data import corpus; corpus.run(Path(sys.argv[1]))"
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(attempt)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        start_new_session=True,
        stderr=subprocess.PIPE,
    )
    if kill_after:
        while not (attempt / kill_after).exists():
            assert process.poll() is None, process.stderr.read() if process.stderr else ""
            time.sleep(0.005)
        os.killpg(process.pid, signal.SIGKILL)
    errors = process.communicate(timeout=300)[1]
    assert kill_after or process.returncode == 0, errors.decode()
    return made.run / f"{made.name}-{made.identity[:8]}"


def digests(artifact: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(artifact.iterdir())
        if path.name != "manifest.json"
    }


def test_workers_and_a_kill_in_the_middle_change_no_byte(tmp_path: Path) -> None:
    source = write_source(tmp_path / "source")
    one = build(tmp_path, "one", stage(tmp_path / "one", source, 1))
    two = build(tmp_path, "two", stage(tmp_path / "two", source, 2))
    made = stage(tmp_path / "killed", source, 2)
    first = "work/pass-0/00000-00000.jsonl.json"
    killed = build(tmp_path, "killed", made, kill_after=first)
    assert not killed.exists()
    attempt = killed.with_name(killed.name + ".attempt")
    finished = (attempt / first).stat().st_mtime_ns
    assert not (attempt / "work/pass-2").exists()
    kept = tmp_path / "kept"
    os.link(attempt / first, kept)
    assert digests(build(tmp_path, "killed", made)) == digests(one) == digests(two)
    assert kept.stat().st_mtime_ns == finished
    assert read_manifest(one).measured == read_manifest(two).measured == read_manifest(killed).measured


def test_the_ledger_counts_every_document(tmp_path: Path) -> None:
    source = write_source(tmp_path / "source", files=2)
    artifact = build(tmp_path, "one", stage(tmp_path / "run", source, 1, keep_dropped=True))
    measured = read_manifest(artifact).measured
    read, function, paragraphs, duplicates, again = measured["curation"]
    assert read["documents"] == 80
    odd = sum("odd" in document(number) for number in range(80))
    assert function["step"] == "1-function"
    assert 80 - function["documents"] == function["dropped"]["odd"] <= odd
    assert paragraphs["documents"] == function["documents"]
    assert paragraphs["characters"] < function["characters"] - 60 * len(NOTICE)
    assert duplicates["dropped"] == {"duplicate": paragraphs["documents"] - duplicates["documents"]}
    assert (
        again["documents"]
        == duplicates["documents"]
        == measured["documents"] + measured["held_out_documents"]
    )
    aside = list(parts.load(artifact / "dropped.jsonl"))
    assert len(aside) == 80 - again["documents"]
    assert {row["step"] for row in aside} == {"1-function", "3-duplicates"}
    rows = list(corpus.rows(artifact, "train"))
    assert set(rows[0]) == {"id", "text"}
    assert sum(NOTICE in row["text"] for row in rows) <= 1


def test_parts_end_by_size_and_rows_keep_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "PART_BYTES", 100)
    rows = [{"id": str(number), "text": "x" * 40} for number in range(5)]
    counts = parts.write_parts(tmp_path, rows, "00000")
    assert counts == {"00000-00000.jsonl": 2, "00000-00001.jsonl": 2, "00000-00002.jsonl": 1}
    assert [row for name in counts for row in parts.load(tmp_path / name)] == rows
    assert parts.write_parts(tmp_path, [], "1") == {"1-00000.jsonl": 0}
