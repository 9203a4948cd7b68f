"""The first walk of a corpus: rows of its source become normalised rows in parts, each with the side of the split
it falls on. One task a file. No torch here.

A row that cannot be read, or that is of another form than the rest, is a *fault*: it is counted and left out, so
that one bad line does not end a long build. Where more than one row in a hundred is a fault the file is not what
the recipe takes it for, and the stage fails with the first of them."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from residency.data.curation import parts
from residency.data.curation.batch import pieces
from residency.data.reading import sources
from residency.data.reading.faults import Fault
from residency.data.rows import exam_fields
from residency.data.rows.fields import RowError
from residency.data.rows.schema import Schema, normalise, recognise, spoilt, why_empty
from residency.data.settings import CorpusSettings
from residency.data.synthesis import contrast
from residency.errors import ResidencyError

Row = dict[str, Any]
NOT_ASKED_FOR = "not asked for"  # by `exam.only`
FAULTY = 0.01  # share of faults that is too many


@dataclass
class Reading:
    """Reads the files of a source; callable by rank, the number of a file."""

    settings: CorpusSettings
    files: list[tuple[Path, str]]
    """Path and name of each file; empty for a source that is generated."""
    schema: Schema
    target: Path
    seed: int
    counts: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    first_fault: str = ""

    def done(self, rank: int) -> Path:
        """The notes of a file, written last."""
        return self.target / f"{rank:05d}.json"

    def __call__(self, data: Any, rank: int = 0, world_size: int = 1) -> Any:
        """Read one file into parts."""
        self.counts, self.dropped, self.first_fault = Counter(), Counter(), ""
        rows = parts.write_parts(self.target, self._rows(rank), f"{rank:05d}")
        told = {
            "parts": rows,
            "counts": self.counts,
            "dropped": self.dropped,
            "first_fault": self.first_fault,
        }
        parts.note(self.done(rank), told)
        return data

    def _rows(self, rank: int) -> Iterator[Row]:
        for found in self._found(rank):
            self.counts["rows"] += 1
            made = self._made(found)
            if made is None:
                self.dropped[NOT_ASKED_FOR] += 1
            elif isinstance(made, Fault):
                self.counts["faults"] += 1
                self.dropped[made.reason] += 1
                self.first_fault = self.first_fault or made.detail
            elif reason := why_empty(made, self.schema) or self._why_long(made):
                self.dropped[reason] += 1
            else:
                self.counts["documents"] += 1
                self.counts["characters"] += len("\n\n".join(pieces(made)))
                yield made

    def _found(self, rank: int) -> Iterator[Row | Fault]:
        if not self.files:
            return sources.read(self.settings, self.seed, strict=False)
        return sources.split(sources.read_file(*self.files[rank], strict=False), self.settings)

    def _made(self, row: Row | Fault) -> Row | Fault | None:
        """A source's row in the form of the corpus, what is wrong with it, or None where `exam.only` leaves it out."""
        if isinstance(row, Fault):
            return row
        settings, id = self.settings, str(row["id"]).encode("utf-8", "replace").decode()
        try:
            if self.files and settings.text is not None:
                row = sources.only_text(row, settings.text)
            if not exam_fields.is_asked_for(row, settings.exam):
                return None
            if (schema := recognise(row, settings.turns, settings.exam)) != self.schema:
                return Fault(
                    id,
                    "other_schema",
                    f"{settings.source}: row {id} is {schema}, the first row is {self.schema}",
                )
            made = normalise(row, schema, settings.turns, settings.exam)
        except RowError as error:
            return Fault(id, error.reason, str(error))
        if settings.rejected:
            answered = contrast.answered(row, made, settings.rejected)
            made |= {"kind": answered.kind, "document": answered.document}
        if self.settings.synthesis is not None:
            made |= {key: row[key] for key in ("synthetic", "method", "made_of")}
        # What was made of one document stays on one side.
        if self._held_out(str(row.get("made_of", id)) if self.settings.synthesis else id):
            made["held_out"] = True
        if not self._mends() and (fault := spoilt(made)):
            return fault
        return made

    def _mends(self) -> bool:
        return bool(self.settings.steps) and self.settings.steps[0].kind == "normalise"

    def _held_out(self, id: str) -> bool:
        """By sha256 of seed and id: uniform, and independent of all other rows."""
        share = int.from_bytes(hashlib.sha256(f"{self.seed} {id}".encode()).digest()[:8]) / 2**64
        return share < self.settings.hold_out

    def _why_long(self, made: Row) -> str | None:
        longest = self.settings.max_characters
        return "too long" if longest and sum(map(len, pieces(made))) > longest else None


@dataclass(frozen=True)
class Read:
    """What all files held."""

    parts: dict[str, int]
    """Name of each part and its rows."""
    documents: int
    characters: int
    dropped: Counter[str]


def gathered(reading: Reading) -> Read:
    """The notes of all files, added up.

    Raises:
        ResidencyError: too many rows are faults.
    """
    notes = [parts.noted(reading.done(rank)) for rank in range(max(1, len(reading.files)))]
    counts: Counter[str] = Counter()
    dropped: Counter[str] = Counter()
    for note in notes:
        counts.update(note["counts"])
        dropped.update(note["dropped"])
    if counts["faults"] > FAULTY * counts["rows"]:
        first = next(note["first_fault"] for note in notes if note["first_fault"])
        many = f" ({counts['faults']} of {counts['rows']} rows are faulty)" if counts["faults"] > 1 else ""
        raise ResidencyError(
            f"{first}{many}", cure="Mend or drop such rows, or make a corpus of each kind (set file)"
        )
    names = {name: count for note in notes for name, count in note["parts"].items()}
    return Read(names, counts["documents"], counts["characters"], dropped)
