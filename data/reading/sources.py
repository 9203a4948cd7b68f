"""Finds the files of a source, says which bytes it is, and streams its rows. No torch here.

A source is a generated world (`world:NAME`), a local file or directory, or a Hugging Face data set id. An id
is looked for in the mirror (`RESIDENCY_MIRROR`: `DIR/owner/name/...`), then in the hub's cache, and is
downloaded only where neither a mirror nor `HF_HUB_OFFLINE` is set. The identity is a hash of the files'
bytes, the hub's commit, or the world's own code, so that a changed source means a changed chain."""

from __future__ import annotations

import difflib
import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any, Literal, overload

from residency import artifact
from residency.data import world
from residency.data.reading import formats, hub
from residency.data.reading.faults import Fault
from residency.data.reading.formats import PACKABLE, SUFFIXES
from residency.data.reading.hub import AbsentError as AbsentError
from residency.data.reading.hub import hub_errors as hub_errors
from residency.data.reading.hub import offline as offline
from residency.data.rows.fields import text
from residency.data.settings import CorpusSettings
from residency.errors import ResidencyError

Row = dict[str, Any]
WORLD = "world:"
ENDINGS = f"{' '.join(PACKABLE)} (also with .gz or .zst) or .parquet"
NOTICES = ("license", "licence", "readme", "notice", "copying", "changelog", "contributing", "dataset_info")


def locate(settings: CorpusSettings) -> list[Path] | None:
    """The files of a source, sorted, downloaded if need be; None for a generated world.

    Raises:
        ResidencyError: no such file, data set or world; several files where one must be chosen; a file that `sha256`
            says has changed.
    """
    if settings.source.startswith(WORLD):
        _world_rows(settings, 0)
        return None
    local = _local(settings.source)
    directory = hub.snapshot(settings) if local is None else local
    if directory.is_dir():
        files = _choose(settings, directory, one=local is None)
    elif settings.file or not _is_data(directory):
        raise ResidencyError(
            f"source {directory}{f' with file {settings.file}' if settings.file else ''}: not a data file",
            cure=f"Leave file out, and give one that ends in {ENDINGS}",
        )
    else:
        files, directory = [directory], directory.parent
    _refuse_changed(settings, {path.relative_to(directory).as_posix(): path for path in files})
    return files


def _refuse_changed(settings: CorpusSettings, files: dict[str, Path]) -> None:
    """Refuse files, by their names in the data set, whose bytes are not those of `sha256`."""
    for pattern, wanted in settings.sha256.items():
        digests = [digest(files[name]) for name in sorted(files) if fnmatchcase(name, pattern)]
        found = digests[0] if len(digests) == 1 else _digest_of_digests(digests)
        if digests and found != wanted:
            raise ResidencyError(
                f"source {settings.source}: {pattern} has changed: its sha256 is {found}, not {wanted}",
                cure="Fetch the right version; if this one is meant, give its hash under sha256",
            )


def _digest_of_digests(digests: list[str]) -> str:
    return hashlib.sha256("".join(f"{each}\n" for each in digests).encode()).hexdigest()


def identity(settings: CorpusSettings) -> str:
    """What the source is, without reading rows: hash of the files or the world's code, or the hub's commit.

    Raises:
        ResidencyError: as `locate`; an empty file.
    """
    if settings.source.startswith(WORLD):
        _world_rows(settings, 0)
        code = sorted(Path(world.__path__[0]).glob("*.py"))
        return artifact.identity_of(world=[digest(path) for path in code])
    if _local(settings.source) is None:
        return f"{settings.source}@{hub.commit(settings)}"
    files = locate(settings) or []
    return artifact.identity_of(files=[digest(path) for path in files])


@overload
def read(settings: CorpusSettings, seed: int) -> Iterator[Row]: ...
@overload
def read(settings: CorpusSettings, seed: int, *, strict: Literal[False]) -> Iterator[Row | Fault]: ...
def read(settings: CorpusSettings, seed: int, *, strict: bool = True) -> Iterator[Any]:
    """Rows as the source has them, each with an `id` (`<file stem>:<row number>` where it brings none).

    Args:
        seed: seed of a generated world.
        strict: raise at a row that cannot be read; else it comes as a `Fault`.

    Raises:
        ResidencyError: a file that cannot be read, or (`strict`) a row, named with its place.
    """
    files = locate(settings)
    if files is None:
        found: Iterable[Row | Fault] = _world_rows(settings, seed)
    else:
        found = chain.from_iterable(formats.rows(path, name) for path, name in named(files))
    found = split(found, settings)
    if settings.text is not None:
        field = settings.text
        found = (row if isinstance(row, Fault) else only_text(row, field) for row in found)
    return _strict(found) if strict else iter(found)


@overload
def read_file(path: Path, name: str) -> Iterator[Row]: ...
@overload
def read_file(path: Path, name: str, *, strict: Literal[False]) -> Iterator[Row | Fault]: ...
def read_file(path: Path, name: str, *, strict: bool = True) -> Iterator[Any]:
    """Rows of one file of a source, with ids `<name>:<row number>` (`named`); otherwise as `read`."""
    found = formats.rows(path, name)
    return _strict(found) if strict else found


def named(files: list[Path]) -> list[tuple[Path, str]]:
    """The files of a source with the names that their rows' ids start with: paths below the folder that holds them
    all, `:` for `/`, without endings unless two files share a name."""
    parent = Path(os.path.commonpath([path.parent for path in files]))
    names = [str(path.relative_to(parent)).replace("/", ":") for path in files]
    stems = [name.removesuffix(formats.suffix_of(path)) for path, name in zip(files, names, strict=True)]
    shared = {stem for stem, times in Counter(stems).items() if times > 1}
    return [
        (path, name if stem in shared else stem) for path, name, stem in zip(files, names, stems, strict=True)
    ]


def split(found: Iterable[Row | Fault], settings: CorpusSettings) -> Iterator[Row | Fault]:
    """Rows of running text cut by `split_before`, with ids `<id>.<number>`; rows as they are without it."""
    key = settings.text or "text"
    for row in found:
        if settings.split_before is None or isinstance(row, Fault) or not isinstance(row.get(key), str):
            yield row
            continue
        cut = re.split(rf"^(?={re.escape(settings.split_before)})", row[key], flags=re.MULTILINE)
        for number, piece in enumerate(filter(str.strip, cut), 1):
            yield {**row, "id": f"{row['id']}.{number}", key: piece}


def _strict(found: Iterable[Row | Fault]) -> Iterator[Row]:
    for row in found:
        if isinstance(row, Fault):
            raise ResidencyError(row.detail, cure="Mend or remove the row")
        yield row


def only_text(row: Row, field: str) -> Row:
    """Running text of one field, whatever else the row has.

    Raises:
        RowError: there is no such field.
    """
    return {"id": row["id"], "text": text(row, field)}


def is_local(source: str) -> bool:
    """Whether a source that is no generated world lies on this machine's disks or in the mirror."""
    return _local(source) is not None


def _world_rows(settings: CorpusSettings, seed: int) -> Iterator[Row]:
    name = settings.source.removeprefix(WORLD)
    if name not in world.SOURCES:
        near = difflib.get_close_matches(name, world.SOURCES, n=1)
        cure = f"Did you mean {WORLD}{near[0]}?" if near else f"Known: {', '.join(world.SOURCES)}"
        raise ResidencyError(f"source: no generated world {settings.source!r}", cure=cure)
    try:
        return world.rows(
            name,
            seed=seed,
            size=settings.size or world.DEFAULT_SIZE,
            facts=settings.facts,
            groups=settings.groups,
            form=settings.form,
            copies=settings.copies,
        )
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
    """The files that `file` (paths or glob patterns) names, or all data files of a directory."""
    chosen: set[Path] = set()
    names = [
        str(path.relative_to(directory)) for path in sorted(directory.rglob("*")) if _is_data(path, directory)
    ]
    for pattern in settings.files or ["**/*"]:
        matching = {path for path in directory.glob(pattern) if _is_data(path, directory)}
        if settings.file and not matching:
            near = difflib.get_close_matches(pattern, names, n=3, cutoff=0.4) or names[:5]
            raise ResidencyError(
                f"source {settings.source}: no file {pattern} in {directory}",
                cure=f"It holds {', '.join(near)}",
            )
        chosen |= matching
    found = sorted(chosen)
    if not found:
        raise ResidencyError(
            f"source {settings.source}: {directory} holds no data files",
            cure=f"Known endings: {ENDINGS}",
        )
    mirrored = one or not Path(settings.source).expanduser().exists()
    if mirrored and not settings.file and len(found) > 1:
        # Parts and tasks of one data set must not be mixed without being asked for.
        raise ResidencyError(
            f"source {settings.source} holds {len(found)} files",
            cure=f"Set file to one of {', '.join(names[:8])}",
        )
    return found


def _is_data(path: Path, directory: Path | None = None) -> bool:
    """Whether a file holds rows; what is hidden below `directory` (`.git`, `.cache`) does not."""
    inside = path.relative_to(directory).parts if directory else (path.name,)
    notice = path.name.lower().startswith(NOTICES)
    return (
        formats.suffix_of(path) != ""
        and not notice
        and not any(part.startswith(".") for part in inside)
        and path.is_file()
    )


def digest(path: Path) -> str:
    """sha256 of a file, remembered while its size and time stay.

    Raises:
        ResidencyError: it is empty.
    """
    status = path.stat()
    if status.st_size == 0:
        raise ResidencyError(f"source: {path} is empty", cure="Fetch it again, or remove it")
    return _digest_of(path, status.st_size, status.st_mtime_ns)


@cache
def _digest_of(path: Path, size: int, changed: int) -> str:
    if formats.suffix_of(path):
        formats.probe(path)
    return artifact.sha256(path)
