"""Finds the records of a model: in the run that made it, and among the runs of `residency eval`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from residency.artifact import Manifest, read_manifest
from residency.errors import ResidencyError


def records_at(place: Path) -> Path:
    """The records artifact that a path means: itself, or the newest that measured the stage or model there.

    Raises:
        ResidencyError: there is none.
    """
    place = place.resolve()
    if (place / "manifest.json").exists() and read_manifest(place).kind == "records":
        return place
    found = {
        path: manifest for path, manifest in _records_beside(place) if _measured(path, manifest) == place
    }
    if not found:
        raise ResidencyError(
            f"{place}: neither records nor a model whose records lie beside it",
            cure=f"Measure it first: residency eval {place} --suite medicine",
        )
    return max(found, key=lambda path: found[path].created)


def _records_beside(place: Path) -> Iterator[tuple[Path, Manifest]]:
    """Finished evaluations of the run that a model lies in, and of runs beside it or around it."""
    around = [place.parent, place.parent.parent]
    for root in dict.fromkeys(
        [place.parent, *(run for one in around for run in sorted(one.glob("evaluation-*")))]
    ):
        for manifest in sorted(root.glob("*/manifest.json")):
            if manifest.parent.suffix != ".attempt":
                known = read_manifest(manifest.parent)
                if known.kind == "records" and known.stage_kind == "evaluate":
                    yield manifest.parent, known


def _measured(path: Path, manifest: Manifest) -> Path:
    return (path / manifest.parent_paths.get("model", ".")).resolve()
