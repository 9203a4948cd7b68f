"""What can be wrong with a single row of a file: counted by its reader, while the other rows go on. No torch here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

Row = dict[str, Any]
Reason = Literal[
    "not_utf8",
    "not_json",
    "not_an_object",
    "duplicate_keys",
    "too_long",
    "not_csv",
    "wrong_columns",
    "unreadable",
    "other_schema",
    "malformed",
    "nul",
    "half_surrogate",
]
"""The first eight are found in reading a file, the others in recognising and normalising its rows."""


@dataclass(frozen=True)
class Fault:
    """A row that cannot be read."""

    id: str
    reason: Reason
    detail: str
    """One line: file, place and what is wrong."""


class Problem(NamedTuple):
    """Why a row cannot be read, before it has a name."""

    reason: Reason
    what: str


Found = tuple[int, Row | Problem]
"""Number of a row in its file, from 1, and what stands there."""
