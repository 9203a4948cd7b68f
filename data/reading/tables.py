"""Rows of tables: CSV, TSV and Parquet, as dictionaries by the columns' names. No torch here."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from residency.data.reading.faults import Found, Problem, Row
from residency.data.reading.files import LONGEST, lines, refuse_foreign
from residency.errors import ResidencyError

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

PARQUET_ROWS = 128  # made into Python objects at a time


def csv_rows(path: Path, delimiter: str = ",") -> Iterator[Found]:
    """Rows of a table in text whose first line names the columns.

    Raises:
        ResidencyError: no such first line, or a quotation mark that is never closed.
    """
    csv.field_size_limit(LONGEST)
    reader = csv.reader(_decoded(path), delimiter=delimiter, strict=True)
    number, columns = 0, None
    while True:
        opened_at = reader.line_num + 1
        try:
            values = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if columns is None or str(error).startswith(("unexpected end of data", "field larger")):
                raise ResidencyError(
                    f"{path}: the row from line {opened_at} on has no end ({error})",
                    cure="Look for a quotation mark that is not closed, or not doubled inside a field",
                ) from error
            number += 1
            yield number, Problem("not_csv", f"not CSV ({error})")
            continue
        if not values:
            continue
        if columns is None:
            columns = _once(path, values)
            continue
        number += 1
        yield number, _row(columns, values)


def parquet_rows(path: Path) -> Iterator[Found]:
    """Rows of a Parquet file.

    Raises:
        ResidencyError: it is none, or a part of it is damaged.
    """
    import pyarrow

    number = 0
    try:
        for batch in parquet_file(path).iter_batches(PARQUET_ROWS):
            for row in _listed(batch):
                number += 1
                yield number, row
    except (pyarrow.ArrowException, OSError) as error:
        raise ResidencyError(
            f"{path}: damaged behind row {number} ({_first_line(error)})", cure="Fetch it again"
        ) from error


def parquet_file(path: Path) -> ParquetFile:
    """An opened Parquet file, whose footer has been read.

    Raises:
        ResidencyError: it is none, cut short, or has two columns of one name.
    """
    import pyarrow
    import pyarrow.parquet

    with path.open("rb") as file:
        head = file.read(32)
    if not head.startswith(b"PAR1"):
        refuse_foreign(path, head)
    try:
        # Through a buffer and not in advance: else a row group's column is held whole, which may be the file.
        file = pyarrow.parquet.ParquetFile(path, buffer_size=2**20, pre_buffer=False)
    except (pyarrow.ArrowException, OSError) as error:
        raise ResidencyError(
            f"{path}: not a Parquet file ({_first_line(error)})", cure="Fetch it again"
        ) from error
    _once(path, file.schema_arrow.names)
    return file


def _decoded(path: Path) -> Iterator[str]:
    """Lines of a text file; bytes that are no UTF-8 become lone surrogates (PEP 383)."""
    for number, line in enumerate(lines(path), 1):
        if line is None:
            raise ResidencyError(f"{path}: line {number} is longer than {LONGEST // 2**20} MiB")
        yield line.decode("utf-8", "surrogateescape")


def _once(path: Path, columns: list[str]) -> list[str]:
    repeated = [column for column in columns if columns.count(column) > 1]
    if repeated:
        raise ResidencyError(f"{path}: two columns are named {repeated[0]!r}", cure="Rename one")
    return columns


def _row(columns: list[str], values: list[str]) -> Row | Problem:
    if len(values) != len(columns):
        return Problem("wrong_columns", f"{len(values)} columns, but the first line names {len(columns)}")
    try:
        "".join(values).encode()
    except UnicodeEncodeError:
        return Problem("not_utf8", "not UTF-8")
    return dict(zip(columns, values, strict=True))


def _listed(batch: Any) -> Iterator[Row | Problem]:
    """Rows of a record batch; one by one where a value cannot be read."""
    try:
        yield from batch.to_pylist()
    except ValueError:
        for place in range(batch.num_rows):
            try:
                (row,) = batch.slice(place, 1).to_pylist()
                yield row
            except UnicodeDecodeError:
                yield Problem("not_utf8", "not UTF-8")
            except ValueError as error:  # a time outside Python's
                yield Problem("unreadable", _first_line(error))


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]
