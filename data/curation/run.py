"""Runs the steps of a corpus over its parts: rows in, rows out, and a ledger of what each step did.

Steps that judge documents one by one run together in a *pass*. A step that must have seen every document first
(`observed.GlobalStep`) ends a pass by observing what is left, decides about all of it at once, and its decision opens
the next pass. Every part of a pass is a task of its own (`execute`), and what it leaves depends on the part alone; so
the number of workers changes nothing, and a build that was killed goes on where it stood. No torch here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np

from residency.data.curation import observed, parts
from residency.data.curation.batch import Batch, CurationStep
from residency.data.curation.execute import execute
from residency.data.curation.observed import GlobalStep, Observed
from residency.data.settings import CurationSettings
from residency.errors import Exit, ResidencyError

DECISION = "decision.npy"
SHOWN = 5  # dropped documents of a reason that a part keeps for the report
SHOWN_CHARACTERS = 2000


S = TypeVar("S")


@dataclass(frozen=True)
class Named(Generic[S]):
    """A step and its place in the recipe's list: `3-quality`."""

    name: str
    step: S


Local = Named[CurationStep]
Global = Named[GlobalStep]
Steps = list[Local | Global]


@dataclass
class Pass:
    """One walk over all parts; callable by rank, the number of a part."""

    source: Path
    target: Path
    names: list[str]
    counts: list[int]
    """Documents of each part."""
    decided: Global | None
    """The step whose decision (in `source`) is applied first."""
    steps: list[Local]
    observer: Global | None
    keep_dropped: bool

    def done(self, rank: int) -> Path:
        """The ledger of a part, written last."""
        return self.target / f"{self.names[rank]}.json"

    def __call__(self, data: Any, rank: int = 0, world_size: int = 1) -> Any:
        """Walk over one part."""
        name, seen, written = self.names[rank], [], 0
        first = number = sum(self.counts[:rank])
        opening = Ledger(self.decided.name if self.decided else "", self.keep_dropped)
        ledgers = [Ledger(named.name, self.keep_dropped) for named in self.steps]
        decision = np.load(self.source / DECISION, mmap_mode="r") if self.decided else None
        with (
            parts.whole(self.target / name) as kept,
            parts.whole(self.target / f"{name}.dropped") as aside,
        ):
            for rows in parts.batches(self.source / name):
                batch = Batch(rows, np.arange(number, number + len(rows)))
                number += len(rows)
                if self.decided and decision is not None:
                    batch = opening.drop(batch, self.decided.step.apply(batch, decision), aside)
                for ledger, named in zip(ledgers, self.steps, strict=True):
                    batch = ledger.drop(batch, named.step(batch), aside)
                kept.writelines(map(parts.dump, batch.rows))
                if self.observer:
                    batch.numbers = np.arange(written, written + len(batch.rows))
                    seen.append(self.observer.step.observe(batch))
                written += len(batch.rows)
        if number - first != self.counts[rank]:
            raise ResidencyError(
                f"{self.source / name} holds {number - first} rows, and {self.counts[rank]} were written",
                cure="The disk lost some: remove the attempt's directory and run again",
                code=Exit.ENVIRONMENT,
            )
        observed.save(self.target / f"{name}.seen", seen)
        for named, ledger in zip(self.steps, ledgers, strict=True):
            ledger.collect(named.step, self.target / f"{name}.{named.name}.found")
        told = [ledger.told() for ledger in ([opening] if self.decided else []) + ledgers]
        parts.note(self.done(rank), {"documents": written, "steps": told})
        return data


@dataclass
class Ledger:
    """What one step did to one part."""

    name: str
    keep_dropped: bool
    documents: int = 0
    """Documents that are left behind the step."""
    characters: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    dropped_characters: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)

    def drop(self, batch: Batch, reasons: list[str | None], aside: Any) -> Batch:
        """The batch without the rows that have a reason to be dropped."""
        texts = batch.texts
        for row, text, reason in zip(batch.rows, texts, reasons, strict=True):
            if reason is None:
                continue
            self.dropped[reason] += 1
            self.dropped_characters[reason] += len(text)
            if self.keep_dropped or self.dropped[reason] <= SHOWN:
                shown = text if self.keep_dropped else text[:SHOWN_CHARACTERS]
                aside.write(parts.dump({"id": row["id"], "step": self.name, "reason": reason, "text": shown}))
        left = [place for place, reason in enumerate(reasons) if reason is None]
        self.documents += len(left)
        self.characters += sum(len(texts[place]) for place in left)
        return batch if len(left) == len(batch.rows) else batch.only(left)

    def collect(self, step: Any, found: Path) -> None:
        """Take over what the step counted and found besides its verdicts."""
        if hasattr(step, "counts"):
            self.counts.update(step.counts)
            step.counts = Counter()
        if rows := getattr(step, "found", []):
            with parts.whole(found) as file:
                file.writelines(map(parts.dump, rows))
            step.found = []

    def told(self) -> dict[str, Any]:
        """For the part's notes."""
        return {
            "step": self.name,
            "documents": self.documents,
            "characters": self.characters,
            "dropped": dict(self.dropped),
            "dropped_characters": dict(self.dropped_characters),
            "counts": dict(self.counts),
        }


@dataclass(frozen=True)
class Curated:
    """Where the rows ended up."""

    directory: Path
    names: list[str]
    steps: list[dict[str, Any]]
    """Per step: documents and characters left, dropped by reason, counts."""
    passes: list[Path]


def curate(
    work: Path,
    source: Path,
    counts: dict[str, int],
    steps: Steps,
    settings: CurationSettings,
    *,
    keep_dropped: bool,
) -> Curated:
    """Run all steps over the parts in `source` (name to rows), in directories of `work`."""
    told: list[dict[str, Any]] = []
    walked: list[Path] = []
    decided: Global | None = None
    if not steps:
        return Curated(source, list(counts), told, walked)
    for number, (local, observer) in enumerate(_passes(steps)):
        target = work / f"pass-{number}"
        target.mkdir(exist_ok=True)
        task = Pass(
            source, target, list(counts), list(counts.values()), decided, local, observer, keep_dropped
        )
        execute(task, len(counts), settings, work / "logs" / target.name)
        notes = [parts.noted(task.done(rank)) for rank in range(len(counts))]
        if local or decided:
            added = [_added(several) for several in zip(*(note["steps"] for note in notes), strict=True)]
            if decided and hasattr(decided.step, "counts_of"):
                added[0]["counts"] = decided.step.counts_of(np.load(source / DECISION))
            told += added
        counts = {name: note["documents"] for name, note in zip(counts, notes, strict=True)}
        for name in counts:  # of a large corpus the disk holds two walks at most
            (source / name).unlink(missing_ok=True)
        if observer:
            _decide(target, counts, observer.step)
        source, decided = target, observer
        walked.append(target)
    return Curated(source, list(counts), told, walked)


def _passes(steps: Steps) -> Iterable[tuple[list[Local], Global | None]]:
    """Local steps up to a global one, which observes behind them; the last pass has none."""
    local: list[Local] = []
    for named in steps:
        if isinstance(named.step, GlobalStep):
            yield local, named
            local = []
        else:
            local.append(named)
    yield local, None


def _decide(directory: Path, counts: dict[str, int], step: GlobalStep) -> None:
    """Write the decision about all documents, once."""
    if (directory / DECISION).exists():
        return
    filled = {name: count for name, count in counts.items() if count}
    seen = Observed([directory / f"{name}.seen" for name in filled], list(filled.values()))
    with parts.whole(directory / DECISION) as file:
        np.save(file, step.decide(seen))


def _added(notes: tuple[dict[str, Any], ...]) -> dict[str, Any]:
    """One step's notes of all parts, added up."""
    total: dict[str, Any] = {"step": notes[0]["step"]}
    for key in ("documents", "characters"):
        total[key] = sum(note[key] for note in notes)
    for key in ("dropped", "dropped_characters", "counts"):
        counter: Counter[str] = Counter()
        for note in notes:
            counter.update(note[key])
        total[key] = dict(sorted(counter.items()))
    return total
