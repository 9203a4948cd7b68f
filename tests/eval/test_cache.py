"""Records that are kept: whole, or made again."""

from __future__ import annotations

from pathlib import Path

import pytest

from residency.eval import cache
from residency.eval.records import FILE, SCHEMA
from residency.eval.settings import load_task

RECORD = dict.fromkeys(SCHEMA) | {"task": "world-exam", "id": "q1", "correct": 1.0, "main": True}


def test_the_second_writer_leaves_what_the_first_wrote(tmp_path: Path) -> None:
    path = tmp_path / ".records" / "key"
    cache.write(path, [RECORD])
    cache.write(path, [RECORD | {"id": "q2"}])
    known = cache.read(path, load_task("world-exam"))
    assert known and [record["id"] for record in known] == ["q1"]
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("kept", [0, 40])
def test_a_file_that_was_cut_off_counts_as_none(tmp_path: Path, kept: int) -> None:
    path = tmp_path / ".records" / "key"
    cache.write(path, [RECORD])
    (path / FILE).write_bytes((path / FILE).read_bytes()[:kept])
    assert cache.read(path, load_task("world-exam")) is None
    cache.write(path, [RECORD])
    assert cache.read(path, load_task("world-exam"))
