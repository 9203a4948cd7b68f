"""Rows of one file, whatever its format: JSON lines, JSON, Parquet, CSV, TSV or plain text. No torch here.

Rows stream, so that a file may be larger than memory. Damage that spoils the whole file (cut short, another format,
one column twice) is a `ResidencyError`. Damage of one row is a `Fault`: a single bad line must not end a long build,
so its reader counts it and goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from residency.data.reading.faults import Fault, Found, Problem, Row
from residency.data.reading.files import LONGEST, PACKINGS, opened
from residency.data.reading.json_rows import json_lines, json_values
from residency.data.reading.tables import csv_rows, parquet_file, parquet_rows

TEXTS = (".txt", ".md")
PACKABLE = (".jsonl", ".json", ".csv", ".tsv", *TEXTS)
SUFFIXES = (*PACKABLE, ".parquet", *(kind + packing for kind in PACKABLE for packing in PACKINGS))


def rows(path: Path, name: str) -> Iterator[Row | Fault]:
    """Rows of a file as it has them, each with an `id` (`<name>:<number>` where it brings none).

    Args:
        path: a file that ends in one of `SUFFIXES`.

    Raises:
        ResidencyError: the file as a whole cannot be trusted; names it and the place.
    """
    kind = kind_of(path)
    for number, found in READERS[kind](path):
        if isinstance(found, Problem):
            place = f"{path}:{number}" if kind == ".jsonl" else f"{path}, row {number}"
            yield Fault(f"{name}:{number}", found.reason, f"{place}: {found.what}")
        else:
            yield found if found.get("id") is not None else {**found, "id": f"{name}:{number}"}


def probe(path: Path) -> None:
    """Look at what gives a wrong file away at once: its first bytes, a Parquet file's footer.

    Raises:
        ResidencyError: the file cannot be read.
    """
    if kind_of(path) == ".parquet":
        parquet_file(path)
    else:
        with opened(path) as file:
            file.peek(1)


def suffix_of(path: Path) -> str:
    """The ending that says the format, with the packing's: `.jsonl.gz`; empty where it is none of `SUFFIXES`."""
    found = next((suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix)), "")
    return path.name[len(path.name) - len(found) :]


def kind_of(path: Path) -> str:
    """The format's ending alone: `.jsonl`."""
    suffix = suffix_of(path).lower()
    return suffix.removesuffix(".gz").removesuffix(".zst")


def _document(path: Path) -> Iterator[Found]:
    """A text file is one row."""
    with opened(path) as file:
        content = file.read(LONGEST + 1)
    if len(content) > LONGEST:
        yield 1, Problem("too_long", f"longer than {LONGEST // 2**20} MiB, and a text file is one document")
        return
    try:
        yield 1, {"text": content.decode("utf-8-sig")}
    except UnicodeDecodeError as error:
        yield 1, Problem("not_utf8", f"byte {error.start + 1} is not UTF-8")


READERS: dict[str, Callable[[Path], Iterator[Found]]] = {
    ".jsonl": json_lines,
    ".json": json_values,
    ".csv": csv_rows,
    ".tsv": partial(csv_rows, delimiter="\t"),
    ".parquet": parquet_rows,
    **dict.fromkeys(TEXTS, _document),
}
