"""Replies that are scored together. No torch here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Batch:
    """One row, reply, length and end for each reply."""

    rows: Sequence[dict[str, Any]]
    """Of `residency.data.prompts.load`: `prompt` (messages), `reference`, `options`, `answer`, `answers`."""
    replies: Sequence[str]
    tokens: Sequence[int]
    truncated: Sequence[bool]
    """Whether the reply was cut off at the length limit."""
