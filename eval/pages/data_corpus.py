"""One finished corpus as the page on data shows it: its ledger, the lengths of its rows, and what it dropped.

Everything comes from the artifact: its manifest, `dropped.jsonl`, and one walk over the rows for their lengths. Text
that must not leave the machine, or from which a later step removes patients' identifiers, is withheld here, so that
a page can be mailed."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

from residency.artifact import Manifest
from residency.data import passport
from residency.data.curation import parts
from residency.data.curation.batch import pieces
from residency.data.synthesis import contrast

SAMPLES = 5  # dropped documents that are shown of each reason
MOST_FILES = 200  # more different beginnings of ids are no files
NUMBERED = re.compile(r"(.+):\d+")
CLUSTERS = "clusters_of_"
OVER_LIMIT = "over the limit"


@dataclass(frozen=True)
class Level:
    """One line of a corpus' funnel: what was left behind a step, and what it left out."""

    name: str
    documents: int
    characters: int | None
    reasons: dict[str, int]
    """Reason to its number of documents."""
    cut: int = 0
    """Characters that the step took out of documents which stayed."""
    is_part: bool = False
    """Whether it is one side of the split."""


@dataclass(frozen=True)
class Dropped:
    """Documents that one step dropped for one reason."""

    corpus: str
    step: str
    reason: str
    documents: int
    samples: list[dict[str, str]]
    """`id` and `text` of some."""
    withheld: str
    """Why their text is not shown; empty where it is."""


@dataclass
class Rows:
    """What one walk over a part of a corpus tells."""

    lengths: Counter[int]
    """Characters of a document to the number of such documents."""
    files: Counter[str]
    """File (or method, of synthetic rows) to its documents; empty where the ids do not tell."""

    @property
    def documents(self) -> int:
        return self.lengths.total()

    @property
    def characters(self) -> int:
        return sum(length * times for length, times in self.lengths.items())

    @property
    def median(self) -> int:
        """The lower median of the lengths."""
        seen = 0
        for length in sorted(self.lengths):
            seen += self.lengths[length]
            if 2 * seen >= self.documents:
                return length
        return 0


@dataclass
class Corpus:
    """One finished corpus of the recipe."""

    name: str
    artifact: Path
    manifest: Manifest

    @property
    def measured(self) -> dict[str, Any]:
        return self.manifest.measured

    @property
    def entry(self) -> dict[str, Any]:
        """Its passport."""
        return self.manifest.passport[0]

    @property
    def train(self) -> int:
        return int(self.measured["documents"])

    @property
    def held_out(self) -> int:
        return int(self.measured["held_out_documents"])

    @property
    def kept(self) -> int:
        return self.train + self.held_out

    @property
    def ledger(self) -> list[dict[str, Any]]:
        """What was read and what each step left; empty without steps."""
        return list(self.measured.get("curation", []))

    @property
    def steps(self) -> list[dict[str, Any]]:
        return self.ledger[1:]

    @property
    def unpaired(self) -> int:
        """Rows for which no wrong answer was found."""
        return int(self.measured["dropped"].get(contrast.DROPPED, 0))

    @property
    def unread(self) -> dict[str, int]:
        """Reason to rows that were left out while the source was read."""
        return {
            reason: rows for reason, rows in self.measured["dropped"].items() if reason != contrast.DROPPED
        }

    @property
    def read(self) -> int:
        """Documents that were read."""
        return int(self.ledger[0]["documents"]) if self.ledger else self.kept + self.unpaired

    @property
    def came(self) -> int:
        """Documents of the source."""
        return self.read + sum(self.unread.values())

    @property
    def reasons(self) -> Counter[str]:
        """Reason to documents, over reading and all steps."""
        told = Counter(self.measured["dropped"])
        for step in self.steps:
            told.update(step["dropped"])
        return told + Counter({OVER_LIMIT: self.over_limit})

    @property
    def over_limit(self) -> int:
        """Documents behind the corpus' `limit`, as far as they were counted: without steps nobody did."""
        return int(self.ledger[-1]["documents"]) - self.kept - self.unpaired if self.ledger else 0

    @cached_property
    def rows(self) -> Rows:
        """Of the part that is trained on."""
        return _walk(self.artifact / "train.jsonl")

    @cached_property
    def held_out_rows(self) -> Rows:
        path = self.artifact / "held_out.jsonl"
        return _walk(path) if path.exists() else Rows(Counter(), Counter())

    @cached_property
    def funnel(self) -> list[Level]:
        """Reading, the steps, and the two sides of the split."""
        levels = [Level("source", self.came, None, {})] if self.unread else []
        limited = not self.ledger and self.manifest.settings.get("limit")
        levels.append(Level("taken" if limited else "read", self.read, self._read_characters(), self.unread))
        for before, step in zip(self.ledger, self.steps, strict=False):
            lost = before["characters"] - step["characters"] - sum(step["dropped_characters"].values())
            reasons = dict(Counter(step["dropped"]).most_common())
            levels.append(
                Level(step["step"], step["documents"], step["characters"], reasons, cut=max(0, lost))
            )
        left = {contrast.DROPPED: self.unpaired, OVER_LIMIT: self.over_limit}
        told = {reason: documents for reason, documents in left.items() if documents > 0}
        levels.append(Level("training", self.train, self.rows.characters, told, is_part=True))
        if self.held_out:
            characters = self.held_out_rows.characters
            levels.append(Level("held out", self.held_out, characters, {}, is_part=True))
        return levels

    def _read_characters(self) -> int | None:
        """Characters of what was read; without steps nobody counted those of rows that were left out later."""
        if self.ledger:
            return int(self.ledger[0]["characters"])
        known = self.read == self.kept and not self.manifest.settings.get("rejected")
        return self.rows.characters + self.held_out_rows.characters if known else None

    def has(self, kind: str) -> bool:
        """Whether a step of this kind ran."""
        return any(kind_of(step["step"]) == kind for step in self.steps)

    @property
    def compared(self) -> int:
        """Documents that came to the step `duplicates`."""
        steps = pairwise(self.ledger)
        return next(
            (int(one["documents"]) for one, step in steps if kind_of(step["step"]) == "duplicates"), 0
        )

    @property
    def clusters(self) -> Counter[int]:
        """Documents of a cluster of duplicates to the number of such clusters."""
        sizes: Counter[int] = Counter()
        for step in self.steps:
            for key, clusters in step["counts"].items():
                if key.startswith(CLUSTERS):
                    sizes[int(key.removeprefix(CLUSTERS))] += clusters
        return sizes

    @cached_property
    def dropped(self) -> list[Dropped]:
        """By step and reason, with a sample of each."""
        path = self.artifact / "dropped.jsonl"
        samples: dict[tuple[str, str], list[dict[str, str]]] = {}
        for row in parts.load(path) if path.exists() else ():
            shown = samples.setdefault((row["step"], row["reason"]), [])
            if len(shown) < SAMPLES:
                shown.append({"id": str(row["id"]), "text": row["text"]})
        return [
            Dropped(
                self.name,
                step["step"],
                reason,
                documents,
                samples.get((step["step"], reason), []),
                self.withheld(step["step"]),
            )
            for step in self.steps
            for reason, documents in Counter(step["dropped"]).most_common()
        ]

    def withheld(self, step: str) -> str:
        """Why the text of documents, as it was at a step, is not shown; empty where it may be."""
        names = [told["step"] for told in self.steps]
        if any(kind_of(name) == "phi" for name in names[names.index(step) :]):
            return "patients’ identifiers had not been removed from it yet"
        if passport.forbidden([self.entry], "text-logging"):
            consent, phi = (self.entry.get(key) or "not stated" for key in ("consent", "phi"))
            return f"its passport keeps it here (consent {consent}, patients’ identifiers {phi})"
        return ""


def _walk(path: Path) -> Rows:
    lengths: Counter[int] = Counter()
    files: Counter[str] = Counter()
    told = True
    for row in parts.load(path):
        lengths[sum(map(len, pieces(row)))] += 1
        if told:
            numbered = NUMBERED.fullmatch(str(row["id"]))
            origin = row.get("method") or (numbered and numbered[1])
            told = bool(origin) and len(files) <= MOST_FILES
            files[str(origin)] += 1
    return Rows(lengths, files if told else Counter())


def kind_of(step: str) -> str:
    """`duplicates` of `2-duplicates`."""
    return step.partition("-")[2]
