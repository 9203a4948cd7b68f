"""The bytes of a data file as they stream: unpacked where its ending says gzip or zstd, and in lines of bounded
length, so that a file larger than memory can be read. No torch here."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from residency.errors import ResidencyError

LONGEST = 32 * 2**20
"""Bytes of the longest line, row or document; longer ones are damage (all of Shakespeare has 5 MiB)."""
BUFFER = 2**20
PACKINGS = (".gz", ".zst")
FOREIGN = {
    b"version https://git-lfs": ("is a Git LFS pointer, not the data", "Fetch it with git lfs pull"),
    b"\x1f\x8b": ("is packed by gzip", "Let its name end in .gz"),
    b"\x28\xb5\x2f\xfd": ("is packed by zstd", "Let its name end in .zst"),
    b"PK\x03\x04": ("is a zip archive", "Unpack it"),
    b"PAR1": ("is a Parquet file", "Let its name end in .parquet"),
    b"\xff\xfe": ("is UTF-16", "Convert it to UTF-8"),
    b"\xfe\xff": ("is UTF-16", "Convert it to UTF-8"),
}
"""First bytes of what is no text in UTF-8."""


@contextmanager
def opened(path: Path) -> Iterator[io.BufferedReader]:
    """The unpacked bytes of a file, read in the block under `with`.

    Raises:
        ResidencyError: the bytes are no gzip or zstd though the ending says so, they are cut short or damaged, or
            what they hold is no text.
    """
    with _unpacked(path) as file:
        try:
            refuse_foreign(path, file.peek(32))
            yield file
        except (OSError, EOFError, zlib.error) as error:
            packing = {".gz": "gzip", ".zst": "zstd"}.get(path.suffix.lower())
            if packing is None or (isinstance(error, OSError) and error.errno is not None):
                raise  # the disk's, not the content's
            raise ResidencyError(
                f"{path}: not a whole {packing} file: {error}, {file.raw.tell():,} bytes unpacked before",
                cure="Fetch or pack it again",
            ) from error


def lines(path: Path) -> Iterator[bytes | None]:
    """Lines with their ends, the first without a byte order mark; None for one longer than `LONGEST`.

    Raises:
        ResidencyError: as `opened`.
    """
    with opened(path) as file:
        line = file.readline(LONGEST + 1).removeprefix(b"\xef\xbb\xbf")
        while line:
            if len(line) <= LONGEST:
                yield line
            else:
                while line and not line.endswith(b"\n"):
                    line = file.readline(BUFFER)
                yield None
            line = file.readline(LONGEST + 1)


def refuse_foreign(path: Path, head: bytes) -> None:
    """Look at a text file's first bytes.

    Raises:
        ResidencyError: they are those of another format.
    """
    for start, (what, cure) in FOREIGN.items():
        if head.startswith(start):
            raise ResidencyError(f"{path} {what}", cure=cure)


def _unpacked(path: Path) -> io.BufferedReader:
    packing = path.suffix.lower()
    if packing == ".gz":
        return io.BufferedReader(gzip.open(path), BUFFER)
    if packing == ".zst":
        return io.BufferedReader(_Zstd(path), BUFFER)
    return io.BufferedReader(io.FileIO(path), BUFFER)


class _Zstd(io.RawIOBase):
    """Arrow's unpacking stream, with its place."""

    def __init__(self, path: Path) -> None:
        import pyarrow

        self.stream = pyarrow.CompressedInputStream(pyarrow.OSFile(str(path)), "zstd")
        self.at = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self.stream.read(len(buffer))
        buffer[: len(data)] = data
        self.at += len(data)
        return len(data)

    def tell(self) -> int:
        return self.at

    def close(self) -> None:
        self.stream.close()
        super().close()
