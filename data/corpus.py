"""The `corpus` stage: one source becomes `train.jsonl`, and `held_out.jsonl` where a part is kept back. No
torch here.

Rows are recognised, normalised and split in one pass. Which part a row belongs to depends only on the seed
and its id, so it stays where it is when other rows come or go. Every row that is left out is counted under a
reason."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from residency.artifact import commit, own, read_manifest, read_stage
from residency.data import contrast, passport, sources
from residency.data.schema import Schema, normalise, recognise, why_empty
from residency.data.settings import CorpusSettings
from residency.errors import ResidencyError

Row = dict[str, Any]
Part = Literal["train", "held_out"]


def run(attempt: Path) -> Path:
    """Read the source of the attempt's settings; returns the corpus artifact.

    Raises:
        ResidencyError: a source or row that cannot be read, or a part without rows.
    """
    stage, owner, payload = read_stage(attempt), own(attempt), attempt / "payload"
    shutil.rmtree(payload, ignore_errors=True)
    payload.mkdir()
    settings = CorpusSettings.model_validate(stage.settings)
    name = stage.name.removeprefix("corpus-")
    reader = Reader(settings)
    counts = {part: reader.write(payload, part, name) for part in reader.parts}
    measured = {
        "schema": reader.schema,
        "documents": counts["train"],
        "held_out_documents": counts.get("held_out", 0),
        "bytes": sum(path.stat().st_size for path in payload.iterdir()),
        "dropped": dict(reader.dropped),
    }
    entry = passport.of_corpus(name, settings, counts["train"])
    return commit(attempt, payload, "corpus", owner=owner, measured=measured, passport=[entry])


def rows(artifact: Path, part: Part) -> Iterator[Row]:
    """The normalised rows of a corpus artifact, in the source's order.

    Raises:
        ResidencyError: the corpus holds nothing out.
    """
    path = artifact / f"{part}.jsonl"
    if not path.exists():
        raise ResidencyError(f"{artifact.name} has no {part} rows", cure="Set hold_out on this corpus")
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def schema_of(artifact: Path) -> str:
    """`text`, `messages`, `preference` or `choice`."""
    return str(read_manifest(artifact).measured["schema"])


def _line(row: Row) -> str:
    line = json.dumps(row, ensure_ascii=False) + "\n"
    try:
        line.encode()
    except UnicodeEncodeError as error:
        raise ResidencyError(
            f"row {row['id']}: half a surrogate pair ({error.object[error.start]!r}) in its text",
            cure="Mend or drop the row",
        ) from error
    return line


class Reader:
    """Streams one source into the files of its parts; knows the schema and what was dropped."""

    def __init__(self, settings: CorpusSettings) -> None:
        assert settings.seed is not None, "the planner fills the seed in"
        self.settings, self.seed = settings, settings.seed
        self.schema: Schema | None = None
        self.dropped: Counter[str] = Counter()
        self.parts: tuple[Part, ...] = ("train", "held_out") if settings.hold_out else ("train",)

    def write(self, payload: Path, part: Part, name: str) -> int:
        """Write one part; returns its number of rows."""
        pairs: Iterator[Row] = (made for _, made in self._read(part))
        if self.settings.rejected:
            # Both answers of a pair come from one part, so that no held-out answer is ever trained on.
            self.schema = None
            rows = [contrast.answered(row, made, self.settings.rejected) for row, made in self._read(part)]
            pairs = contrast.pairs(rows, self.seed, self.dropped)
            self.schema = "preference"
        count = 0
        with (payload / f"{part}.jsonl").open("w", encoding="utf-8") as file:
            for row in islice(pairs, self.settings.limit if part == "train" else None):
                file.write(_line(row))
                count += 1
        if not count:
            dropped = ", ".join(f"{times} {reason}" for reason, times in self.dropped.items())
            lost = f" (dropped: {dropped})" if dropped else ""
            raise ResidencyError(
                f"corpus {name}: no {part} rows in {self.settings.source}{lost}",
                cure="Look at the file, or lower hold_out",
            )
        return count

    def _part(self, id: str) -> Part:
        """By sha256 of seed and id: uniform, and independent of all other rows."""
        share = int.from_bytes(hashlib.sha256(f"{self.seed} {id}".encode()).digest()[:8]) / 2**64
        return "held_out" if share < self.settings.hold_out else "train"

    def _read(self, part: Part) -> Iterator[tuple[Row, Row]]:
        """Source row and normalised row."""
        turns, first = self.settings.turns, ""
        for row in sources.read(self.settings, self.seed):
            schema = recognise(row, turns)
            self.schema, first = self.schema or schema, first or str(row["id"])
            if schema != self.schema:
                raise ResidencyError(
                    f"{self.settings.source}: row {row['id']} is {schema}, row {first} is {self.schema}",
                    cure="Make one corpus of each (set file)",
                )
            if self._part(str(row["id"])) == part:
                made = normalise(row, schema, turns)
                if reason := why_empty(made, schema) or self._why_long(made):
                    self.dropped[reason] += 1
                else:
                    yield row, made

    def _why_long(self, made: Row) -> str | None:
        longest = self.settings.max_characters
        said = made.get("text") or "".join(message["content"] for message in made.get("messages", ()))
        return "too long" if longest and len(said) > longest else None
