"""The first rows of a source as the corpus stage would see them: what they are, and what is wrong with some. No torch
here."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import islice

from residency.data.curation.batch import pieces
from residency.data.reading import sources
from residency.data.reading.faults import Fault
from residency.data.rows import exam_fields
from residency.data.rows.fields import Row, RowError
from residency.data.rows.schema import Schema, layout_of, normalise, recognise, spoilt, why_empty
from residency.data.settings import CorpusSettings
from residency.errors import ResidencyError

ROWS = 1000
CHARACTERS = 20_000_000


@dataclass
class Sample:
    """The first rows of a source."""

    schema: Schema
    why: str
    """What the schema was recognised by."""
    seen: int = 0
    rows: list[Row] = field(default_factory=list)
    """Normalised, those that fit."""
    lost: Counter[str] = field(default_factory=Counter)
    """Rows that do not, by reason."""
    first_lost: dict[str, str] = field(default_factory=dict)
    """What the first of each reason is."""


def take(settings: CorpusSettings, seed: int) -> Sample:
    """Read up to `ROWS` rows, or `CHARACTERS` characters.

    Raises:
        ResidencyError: a file that cannot be read, or no row that fits a schema.
    """
    sample: Sample | None = None
    faults: list[tuple[str, str]] = []
    seen, characters = 0, 0
    for row in islice(sources.read(settings, seed, strict=False), ROWS):
        seen += 1
        if isinstance(row, Fault):
            faults.append((row.reason, row.detail))
            continue
        try:
            if not exam_fields.is_asked_for(row, settings.exam):
                continue
            # The first row that is recognised says what the corpus is.
            sample = sample or Sample(*_recognised(row, settings))
            made = normalise(row, sample.schema, settings.turns, settings.exam)
        except RowError as error:
            faults.append((error.reason, str(error)))
            continue
        if fault := spoilt(made):
            faults.append((fault.reason, fault.detail))
        elif empty := why_empty(made, sample.schema):
            faults.append((empty, f"row {made['id']}"))
        else:
            sample.rows.append(made)
            characters += sum(map(len, pieces(made)))
            if characters > CHARACTERS:
                break
    if sample is None or not sample.rows:
        first = f"; the first: {faults[0][1]}" if faults else ""
        raise ResidencyError(f"{settings.source}: none of the first {seen} rows can be used{first}")
    sample.seen = seen
    for reason, detail in faults:
        sample.lost[reason] += 1
        sample.first_lost.setdefault(reason, detail)
    return sample


def _recognised(row: Row, settings: CorpusSettings) -> tuple[Schema, str]:
    if settings.turns:
        return "messages", f"turns name the fields {settings.turns.user} and {settings.turns.assistant}"
    if settings.exam and settings.exam.is_whole:
        return recognise(row, None, settings.exam), "exam names its fields"
    layout, fields = layout_of(row)
    return layout.schema, f"{layout.name}, by its {'fields' if fields[1:] else 'field'} {', '.join(fields)}"
