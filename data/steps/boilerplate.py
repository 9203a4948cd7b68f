"""Removes lines that belong to the page and not to the text: navigation, notices of cookies and copyright, share
buttons, bare links, numbered references at the end of a paper.

Only whole lines are judged, and only short ones but for references, so that a sentence about cookies or copyright
stays. The recipe may add patterns of its own."""

from __future__ import annotations

import re
from functools import cached_property
from typing import Any

from residency.data.curation.batch import Batch
from residency.data.steps.settings import BoilerplateSettings
from residency.errors import ResidencyError

LONGEST = 120  # characters of a line that may be page furniture
FURNITURE = re.compile(
    r"""\s*(?:
      (?:home|menu|search|skip\ to\ (?:main\ )?content|back\ to\ top|next|previous|read\ more|see\ more|click\ here
        |log\ ?in|sign\ (?:in|up)|register|subscribe|contact\ us|about\ us|sitemap|print(?:\ this)?(?:\ page)?
        |advertisement|sponsored|loading\.*)
    | home(?:\s*[|›»>/]\s*[\w\ &]{1,30}){1,}
    | (?:share|tweet|pin|e-?mail|follow\ us)(?:\s+(?:this|on|via|to)\b.{0,60})?
    | .{0,60}(?:©|\(c\)|copyright\s)\s*(?:©\s*)?(?:19|20)\d\d.{0,80}
    | .{0,60}all\ rights\ reserved.{0,40}
    | .{0,60}\b(?:uses|use\ of)\ cookies\b.{0,60}
    | (?:accept|reject|manage)(?:\ all)?\ cookies
    | (?:privacy\ policy|terms\ (?:of|and)\ (?:use|service|conditions)|cookie\ (?:policy|settings))(?:\s*[|·].{0,80})?
    | (?:https?://|www\.)\S+
    | (?:last\ (?:updated|reviewed|modified)|page\ last\ updated)\s*(?:on|:)?.{0,40}
    | page\ \d+(?:\ of\ \d+)?
    )\s*""",
    re.VERBOSE | re.IGNORECASE,
)
REFERENCE = re.compile(  # number, authors and title, then year;volume(issue):pages
    r"\s*(?:\[\d{1,3}\]|\d{1,3}\.)\s+.{10,400}\b(?:19|20)\d\d\b[^.;:]{0,12};\s*\d+\s*(?:\(\d+\))?\s*:\s*[A-Za-z]?\d+.{0,80}"
)


class Boilerplate:
    """The step; see the module.

    Raises:
        ResidencyError: a pattern that is no regular expression.
    """

    def __init__(self, settings: BoilerplateSettings) -> None:
        self.settings = settings
        assert self._patterns is not None

    @cached_property
    def _patterns(self) -> list[re.Pattern[str]]:
        found = []
        for pattern in self.settings.patterns:
            try:
                found.append(re.compile(pattern))
            except re.error as error:
                raise ResidencyError(
                    f"step boilerplate: pattern {pattern!r}: {error}", cure="Give a Python regular expression"
                ) from error
        return found

    def __call__(self, batch: Batch) -> list[str | None]:
        """Remove such lines of running text; `boilerplate` for a row of nothing else. Messages and options stay as they
        are: they are what was asked and said."""
        if not all("text" in row for row in batch.rows):
            return [None] * len(batch.rows)
        batch.rewrite(self.without)
        return [None if text.strip() else "boilerplate" for text in batch.texts]

    def without(self, text: str) -> str:
        """A text without the lines that are page furniture."""
        lines = text.split("\n")
        kept = [line for line in lines if not self.is_furniture(line)]
        return text if len(kept) == len(lines) else "\n".join(kept).strip("\n")

    def is_furniture(self, line: str) -> bool:
        """Whether a line belongs to the page."""
        if not line.strip():
            return False
        if len(line) <= LONGEST and FURNITURE.fullmatch(line):
            return True
        return bool(REFERENCE.fullmatch(line)) or any(one.fullmatch(line) for one in self._patterns)

    def __getstate__(self) -> dict[str, Any]:
        return {"settings": self.settings}
