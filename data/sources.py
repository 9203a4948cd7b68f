"""Finds the files of a source, says which bytes it is, and streams its rows. No torch here.

A source is a generated world (`world:NAME`), a local file or directory, or a Hugging Face data set id. An id
is looked for in the mirror (`RESIDENCY_MIRROR`: `DIR/owner/name/...`), then in the hub's cache, and is
downloaded only where neither a mirror nor `HF_HUB_OFFLINE` is set. The identity is a hash of the files'
bytes, the hub's commit, or the world's own code, so that a changed source means a changed chain."""

from __future__ import annotations

import csv
import difflib
import gzip
import json
import os
import re
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from residency import artifact
from residency.data import world, world_text
from residency.data.settings import CorpusSettings
from residency.errors import Exit, ResidencyError


class AbsentError(ResidencyError):
    """A hub data set that is not here, on a machine that must not ask the hub."""


Row = dict[str, Any]
WORLD = "world:"
SUFFIXES = (".jsonl", ".jsonl.gz", ".json", ".parquet", ".csv", ".txt")
NOTICES = ("license", "licence", "readme", "notice", "copying")


def locate(settings: CorpusSettings) -> list[Path] | None:
    """The files of a source, sorted, downloaded if need be; None for a generated world.

    Raises:
        ResidencyError: no such file, data set or world; several files where one must be chosen.
    """
    if settings.source.startswith(WORLD):
        _world_rows(settings, 0)
        return None
    directory = _local(settings.source)
    if directory is None:
        return _choose(settings, _hub_directory(settings), one=True)
    if directory.is_dir():
        return _choose(settings, directory, one=False)
    if settings.file or not _is_data(directory):
        raise ResidencyError(
            f"source {directory}{f' with file {settings.file}' if settings.file else ''}: not a data file",
            cure=f"Leave file out, and give one that ends in {' '.join(SUFFIXES)}",
        )
    return [directory]


def identity(settings: CorpusSettings) -> str:
    """What the source is, without reading rows: hash of the files or the world's code, or the hub's commit.

    Raises:
        ResidencyError: as `locate`; an empty file.
    """
    if settings.source.startswith(WORLD):
        _world_rows(settings, 0)
        code = [Path(str(module.__file__)) for module in (world, world_text)]
        return artifact.identity_of(world=[_digest(path) for path in code])
    if _local(settings.source) is None:
        return f"{settings.source}@{_hub_commit(settings.source)}"
    files = locate(settings) or []
    return artifact.identity_of(files=[_digest(path) for path in files])


def read(settings: CorpusSettings, seed: int) -> Iterator[Row]:
    """Rows as the source has them, each with an `id` (`<file stem>:<row number>` where it brings none).

    Args:
        seed: seed of a generated world.

    Raises:
        ResidencyError: a line or file that cannot be read, named with its place.
    """
    files = locate(settings)
    if files is None:
        yield from _world_rows(settings, seed)
        return
    parent = Path(os.path.commonpath([path.parent for path in files]))
    for path in files:
        name = str(path.relative_to(parent)).removesuffix(_suffix(path)).replace("/", ":")
        for number, row in _numbered(path):
            row = row if row.get("id") is not None else {**row, "id": f"{name}:{number}"}
            yield row if settings.text is None else _only_text(row, settings.text)


def _only_text(row: Row, field: str) -> Row:
    if field not in row:
        raise ResidencyError(
            f"row {row['id']}: no field {field!r} (text)", cure=f"It has {', '.join(sorted(row))}"
        )
    return {"id": row["id"], "text": row[field]}


def is_local(source: str) -> bool:
    """Whether a source that is no generated world lies on this machine's disks or in the mirror."""
    return _local(source) is not None


def offline() -> bool:
    """Whether the hub must not be asked: a mirror is set, or Hugging Face's own switch."""
    return bool(os.environ.get("RESIDENCY_MIRROR")) or os.environ.get("HF_HUB_OFFLINE", "0") not in ("", "0")


def _world_rows(settings: CorpusSettings, seed: int) -> Iterator[Row]:
    name = settings.source.removeprefix(WORLD)
    if name not in world.SOURCES:
        near = difflib.get_close_matches(name, world.SOURCES, n=1)
        cure = f"Did you mean {WORLD}{near[0]}?" if near else f"Known: {', '.join(world.SOURCES)}"
        raise ResidencyError(f"source: no generated world {settings.source!r}", cure=cure)
    size = {"size": settings.size} if settings.size else {}
    try:
        return world.rows(name, seed=seed, facts=settings.facts, form=settings.form, **size)
    except ValueError as error:
        raise ResidencyError(f"source {settings.source}: {error}") from error


def _local(source: str) -> Path | None:
    """A local file or directory, or one of the mirror; None for a data set that the hub must give."""
    if source and (path := Path(source).expanduser()).exists():
        return path
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", source) or source.startswith(".") or source.endswith(SUFFIXES):
        raise ResidencyError(
            f"source: no file or directory {source}", cure="Give a path or a data set id owner/name"
        )
    mirrored = Path(os.environ["RESIDENCY_MIRROR"], source) if os.environ.get("RESIDENCY_MIRROR") else None
    return mirrored if mirrored and mirrored.is_dir() else None


def _choose(settings: CorpusSettings, directory: Path, *, one: bool) -> list[Path]:
    """The files that `file` (a path or a glob pattern) names, or all data files of a directory."""
    found = [path for path in sorted(directory.glob(settings.file or "**/*")) if _is_data(path)]
    names = [str(path.relative_to(directory)) for path in sorted(directory.rglob("*")) if _is_data(path)]
    if settings.file and not found:
        near = difflib.get_close_matches(settings.file, names, n=3, cutoff=0.4) or names[:5]
        raise ResidencyError(
            f"source {settings.source}: no file {settings.file} in {directory}",
            cure=f"It holds {', '.join(near)}",
        )
    if not found:
        raise ResidencyError(
            f"source {settings.source}: {directory} holds no data files",
            cure=f"Known endings: {' '.join(SUFFIXES)}",
        )
    mirrored = one or not Path(settings.source).expanduser().exists()
    if mirrored and not settings.file and len(found) > 1:
        # Parts and tasks of one data set must not be mixed without being asked for.
        raise ResidencyError(
            f"source {settings.source} holds {len(found)} files",
            cure=f"Set file to one of {', '.join(names[:8])}",
        )
    return found


def _is_data(path: Path) -> bool:
    named = path.name.lower()
    return path.is_file() and named.endswith(SUFFIXES) and not named.startswith((*NOTICES, "."))


def _suffix(path: Path) -> str:
    return next((suffix for suffix in SUFFIXES if path.name.endswith(suffix)), "")


def _hub_commit(source: str) -> str:
    from huggingface_hub import HfApi, constants

    reference = Path(constants.HF_HUB_CACHE) / f"datasets--{source.replace('/', '--')}" / "refs" / "main"
    if reference.exists():
        return reference.read_text().strip()
    if offline():
        raise _absent(source)
    refused, unreachable = hub_errors()
    try:
        return str(HfApi().dataset_info(source).sha)
    except unreachable as error:
        raise _absent(source) from error
    except refused as error:
        raise _no_answer(source, error) from error


def hub_errors() -> tuple[tuple[type[Exception], ...], tuple[type[Exception], ...]]:
    """What the hub's client raises: where the hub says no, and where it cannot be reached."""
    from huggingface_hub.errors import HfHubHTTPError

    client = import_module("httpx2" if find_spec("httpx2") else "httpx")  # its name differs between releases
    return (HfHubHTTPError, OSError), (client.TransportError,)


def _no_answer(source: str, error: Exception) -> ResidencyError:
    return ResidencyError(
        f"source {source}: {str(error).splitlines()[0]}",
        cure="Check the id and the network",
        code=Exit.ENVIRONMENT,
    )


def _hub_directory(settings: CorpusSettings) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    patterns = [settings.file] if settings.file else [f"*{suffix}" for suffix in SUFFIXES]
    try:
        snapshot = snapshot_download(
            settings.source, repo_type="dataset", allow_patterns=patterns, local_files_only=offline()
        )
    except LocalEntryNotFoundError as error:
        raise _absent(settings.source) from error
    except hub_errors()[0] as error:
        raise _no_answer(settings.source, error) from error
    return Path(snapshot)


def _absent(source: str) -> AbsentError:
    mirror = os.environ.get("RESIDENCY_MIRROR")
    place = f"the mirror {mirror}" if mirror else "a mirror"
    return AbsentError(
        f"source {source}: neither a local path nor in {place} nor in the hub's cache, "
        "and this process is offline",
        cure=f"Put its files under {mirror or 'RESIDENCY_MIRROR'}/{source}/, or give a local path",
    )


def _digest(path: Path) -> str:
    status = path.stat()
    if status.st_size == 0:
        raise ResidencyError(f"source: {path} is empty")
    return _digest_of(path, status.st_size, status.st_mtime_ns)


@cache
def _digest_of(path: Path, size: int, changed: int) -> str:
    return artifact.sha256(path)


def _numbered(path: Path) -> Iterator[tuple[int, Row]]:
    """Rows of a file with their numbers, from 1; in JSONL the number of the line."""
    suffix = _suffix(path)
    if suffix == ".parquet":
        yield from enumerate(_parquet(path), 1)
    elif suffix == ".csv":
        yield from enumerate(_csv(path), 1)
    elif suffix == ".json":
        loaded = _parse("".join(_lines(path)), str(path))
        for number, row in enumerate(loaded if isinstance(loaded, list) else [loaded], 1):
            yield number, _object(row, f"{path}, row {number}")
    elif suffix == ".txt":
        yield 1, {"text": "".join(_lines(path))}
    else:
        for number, line in enumerate(_lines(path), 1):
            if line.strip():
                yield number, _object(_parse(line, f"{path}:{number}"), f"{path}:{number}")


def _lines(path: Path) -> Iterator[str]:
    """Decoded lines with their ends."""
    try:
        yield from _decoded(path)
    except (gzip.BadGzipFile, EOFError) as error:
        raise ResidencyError(f"{path}: not a whole gzip file ({error})") from error


def _decoded(path: Path) -> Iterator[str]:
    start = 0
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
        for line in file:
            try:
                yield line.decode("utf-8-sig" if start == 0 else "utf-8")
            except UnicodeDecodeError as error:
                raise ResidencyError(
                    f"{path}: byte {start + error.start} is not UTF-8", cure="Convert the file to UTF-8"
                ) from error
            start += len(line)


def _parse(text: str, place: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ResidencyError(f"{place}: not JSON ({error.msg}, column {error.colno})") from error


def _object(row: Any, place: str) -> Row:
    if not isinstance(row, dict):
        raise ResidencyError(
            f"{place}: {type(row).__name__} where an object is expected", cure="One JSON object a row"
        )
    return row


def _parquet(path: Path) -> Iterator[Row]:
    import pyarrow
    import pyarrow.parquet

    try:
        for batch in pyarrow.parquet.ParquetFile(path).iter_batches(1024):
            yield from batch.to_pylist()
    except pyarrow.ArrowInvalid as error:
        raise ResidencyError(f"{path}: not a Parquet file ({error})") from error


def _csv(path: Path) -> Iterator[Row]:
    for number, row in enumerate(csv.DictReader(_lines(path), strict=True), 2):
        if None in row or None in row.values():
            raise ResidencyError(f"{path}: row {number} has another number of columns than the first line")
        yield row
