"""Rows on disk in numbered parts of about equal size, the unit of work of curation. No torch here.

Where a part ends depends on the rows alone, never on how many processes work, so that every number of
workers gives the same bytes. A part appears under its name when it is whole: a build that was killed goes on
with the parts that are missing."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import orjson

from residency.artifact import write_json

Row = dict[str, Any]
PART_BYTES = 16 * 2**20
BATCH_BYTES, BATCH_ROWS = 2 * 2**20, 512


@contextmanager
def whole(path: Path) -> Iterator[IO[bytes]]:
    """A file to write that appears under `path` only when the block ends without an error."""
    # Its own name for every writer: two that make the same part must not write into one file.
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    with beside.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def dump(row: Row) -> bytes:
    """One line of JSON."""
    try:
        return orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)
    except TypeError:  # half a surrogate pair, which a step may still mend
        text = json.dumps(row, ensure_ascii=False, separators=(",", ":"))
        return text.encode("utf-8", "surrogatepass") + b"\n"


def parse(line: bytes) -> Row:
    """The row of a line that `dump` wrote."""
    try:
        row: Row = orjson.loads(line)
    except orjson.JSONDecodeError:
        row = json.loads(line.decode("utf-8", "surrogatepass"))
    return row


def load(path: Path) -> Iterator[Row]:
    """The rows of a part."""
    with path.open("rb") as file:
        yield from map(parse, file)


def write_parts(directory: Path, rows: Iterable[Row], prefix: str) -> dict[str, int]:
    """Write rows as parts `<prefix>-00000.jsonl`, ...; returns the number of rows of each."""
    counts: dict[str, int] = {}
    waiting = iter(rows)
    while True:
        name, count, size = f"{prefix}-{len(counts):05d}.jsonl", 0, 0
        with whole(directory / name) as file:
            for row in waiting:
                size += file.write(dump(row))
                count += 1
                if size >= PART_BYTES:
                    break
        counts[name] = count
        if size < PART_BYTES:
            return counts


def batches(path: Path) -> Iterator[list[Row]]:
    """The rows of a part, some at a time: at most `BATCH_ROWS`, and about `BATCH_BYTES`."""
    rows: list[Row] = []
    size = 0
    with path.open("rb") as file:
        for line in file:
            rows.append(parse(line))
            size += len(line)
            if len(rows) == BATCH_ROWS or size >= BATCH_BYTES:
                yield rows
                rows, size = [], 0
    if rows:
        yield rows


def note(path: Path, value: Any) -> None:
    """Write what a task counted."""
    write_json(path, value)


def noted(path: Path) -> Any:
    """What a task counted."""
    return json.loads(path.read_text())
