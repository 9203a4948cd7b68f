"""The `corpus` stage: one source becomes `train.jsonl`, and `held_out.jsonl` where a part is kept back. No
torch here.

Rows are recognised, normalised and split in one walk (`residency.data.reading.walk`), then pass through the recipe's
steps (`residency.data.curation.run`). Which part a row belongs to depends only on the seed and its id, so it stays
where it is when other rows come or go. Every row that is left out is counted under a reason."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from residency.artifact import StageFile, commit, own, read_manifest, read_stage
from residency.data import passport
from residency.data.curation import parts
from residency.data.curation.execute import execute
from residency.data.curation.run import Curated, Steps, curate
from residency.data.reading import sources
from residency.data.reading.faults import Fault
from residency.data.reading.walk import Reading, gathered
from residency.data.rows.schema import Schema, recognise
from residency.data.settings import CorpusSettings, CurationSettings
from residency.data.steps.settings import PhiSettings
from residency.data.synthesis import compose, contrast, distractors
from residency.errors import ResidencyError

Row = dict[str, Any]
Part = Literal["train", "held_out"]
INTERNAL = ("held_out", "kind", "document")  # fields of rows on their way
SYNTHESIS = "synthesis.jsonl"
SHOWN = 20  # dropped documents of a reason that the report shows


def run(attempt: Path) -> Path:
    """Read the source of the attempt's settings, and curate it; returns the corpus artifact.

    Raises:
        ResidencyError: a source that cannot be read, too many faulty rows, or a part without rows.
    """
    stage, owner = read_stage(attempt), own(attempt)
    settings = CorpusSettings.model_validate(stage.settings)
    curation = CurationSettings.model_validate(stage.execution.get("curation", {}))
    assert settings.seed is not None, "the planner fills the seed in"
    work, payload = attempt / "work", attempt / "payload"
    (work / "read").mkdir(parents=True, exist_ok=True)
    shutil.rmtree(payload, ignore_errors=True)
    payload.mkdir()
    files = _files(settings, stage, work)
    reading = Reading(settings, files, _schema(settings, files), work / "read", settings.seed)
    steps = _steps(settings, stage, reading.schema, work)
    execute(reading, max(1, len(reading.files)), curation, work / "logs" / "read")
    read = gathered(reading)
    curated = curate(work, reading.target, read.parts, steps, curation, keep_dropped=settings.keep_dropped)
    written = _write(payload, curated, settings)
    _write_asides(payload, curated, keep_all=settings.keep_dropped)
    name = stage.name.removeprefix("corpus-")
    not_read = read.dropped + compose.left_out(work / SYNTHESIS)
    dropped = sum((Counter(step["dropped"]) for step in curated.steps), not_read + written.dropped)
    _refuse_empty(name, settings, written, dropped)
    measured: dict[str, Any] = {
        "schema": "preference" if settings.rejected else reading.schema,
        "documents": written["train"],
        "held_out_documents": written["held_out"],
        "bytes": sum((payload / f"{part}.jsonl").stat().st_size for part in _parts(settings)),
        "dropped": dict(not_read + written.dropped),
        "curation": [
            {"step": "read", "documents": read.documents, "characters": read.characters},
            *curated.steps,
        ],
    }
    made_from = compose.sources_of(settings, stage) if settings.synthesis else ()
    entry = passport.of_corpus(name, settings, written["train"], made_from=made_from)
    if looked_for := _phi_looked_for(settings):
        entry["phi_looked_for"] = looked_for
    return commit(attempt, payload, "corpus", owner=owner, measured=measured, passport=[entry])


def rows(artifact: Path, part: Part) -> Iterator[Row]:
    """The normalised rows of a corpus artifact, in the source's order.

    Raises:
        ResidencyError: the corpus holds nothing out.
    """
    path = artifact / f"{part}.jsonl"
    if not path.exists():
        raise ResidencyError(f"{artifact.name} has no {part} rows", cure="Set hold_out on this corpus")
    yield from parts.load(path)


def schema_of(artifact: Path) -> str:
    """`text`, `messages`, `preference`, `choice` or `answer`."""
    return str(read_manifest(artifact).measured["schema"])


def _files(settings: CorpusSettings, stage: StageFile, work: Path) -> list[tuple[Path, str]]:
    """Files of the source with the names that their rows' ids begin with; none for a generated world."""
    if settings.synthesis is not None:
        return [(compose.write(settings, stage, work / SYNTHESIS), "synthesis")]
    files = sources.locate(settings)
    return [] if files is None else sources.named(files)


def _schema(settings: CorpusSettings, files: list[tuple[Path, str]]) -> Schema:
    """The form of the first row that can be read."""
    assert settings.seed is not None
    made = settings.synthesis is not None
    rows = sources.read_file(*files[0]) if made else sources.read(settings, settings.seed, strict=False)
    for row in rows:
        if not isinstance(row, Fault):
            return recognise(row, settings.turns, settings.exam)
    return "text"  # no rows: refused where the parts are written


def _steps(settings: CorpusSettings, stage: StageFile, schema: Schema, work: Path) -> Steps:
    if not settings.steps:
        return []
    from residency.data.steps.build import build, refuse_misfit

    refuse_misfit(stage.name.removeprefix("corpus-"), settings.steps, schema)
    return build(settings.steps, stage.parents, work)


def _phi_looked_for(settings: CorpusSettings) -> dict[str, Any] | None:
    """Which identifiers the corpus' phi step looked for, and with what; None without such a step."""
    for step in settings.steps:
        if isinstance(step, PhiSettings):
            from residency.data.steps.phi import Phi

            return Phi(step).looked_for()
    return None


def _parts(settings: CorpusSettings) -> tuple[Part, ...]:
    return ("train", "held_out") if settings.hold_out else ("train",)


class Written(Counter[str]):
    """Rows of each part, and what was left out on the way."""

    def __init__(self) -> None:
        super().__init__()
        self.dropped: Counter[str] = Counter()


def _write(payload: Path, curated: Curated, settings: CorpusSettings) -> Written:
    """Write the parts of the split, one file each."""
    written = Written()
    for part in _parts(settings):
        found = _curated_rows(curated, part)
        if settings.exam and settings.exam.distractors:
            assert settings.seed is not None
            count = settings.exam.distractors.count
            found = distractors.drawn(list(found), count, settings.seed, written.dropped)
        kept: Iterator[Row] = (
            {key: value for key, value in row.items() if key not in INTERNAL} for row in found
        )
        if settings.rejected:
            # Both answers of a pair come from one part, so that no held-out answer is ever trained on.
            answers = [contrast.Answered.of(row) for row in _curated_rows(curated, part)]
            assert settings.seed is not None
            kept = contrast.pairs(answers, settings.seed, written.dropped)
        with (payload / f"{part}.jsonl").open("wb") as file:
            for row in islice(kept, settings.limit if part == "train" else None):
                file.write(parts.dump(row))
                written[part] += 1
    return written


def _curated_rows(curated: Curated, part: Part) -> Iterator[Row]:
    for name in curated.names:
        for row in parts.load(curated.directory / name):
            if bool(row.get("held_out")) == (part == "held_out"):
                yield row


def _write_asides(payload: Path, curated: Curated, *, keep_all: bool) -> None:
    """`dropped.jsonl`: documents that steps dropped, all or some of each reason; `contamination.jsonl`: exam items.

    Text that a later `phi` step, or this one, had still to scrub is left out of both.
    """
    shown: Counter[str] = Counter()
    names = [step["step"] for step in curated.steps]
    raw = names[: max((place + 1 for place, name in enumerate(names) if name.endswith("-phi")), default=0)]
    with (payload / "dropped.jsonl").open("wb") as file:
        for directory in curated.passes:
            for name in curated.names:
                for row in parts.load(directory / f"{name}.dropped"):
                    shown[row["reason"]] += 1
                    if keep_all or shown[row["reason"]] <= SHOWN:
                        file.write(parts.dump(row | {"text": ""} if row["step"] in raw else row))
    hits = [path for directory in curated.passes for path in sorted(directory.glob("*-decontaminate.found"))]
    if hits:
        with (payload / "contamination.jsonl").open("wb") as file:
            for path in hits:
                scrubbed = path.name.split(".")[-2] not in raw
                for row in parts.load(path):
                    file.write(parts.dump(row if scrubbed else row | {"sentence": ""}))
    if not shown:
        (payload / "dropped.jsonl").unlink()


def _refuse_empty(name: str, settings: CorpusSettings, written: Written, dropped: Counter[str]) -> None:
    for part in _parts(settings):
        if not written[part]:
            told = ", ".join(f"{times} {reason}" for reason, times in dropped.items())
            lost = f" (dropped: {told})" if told else ""
            raise ResidencyError(
                f"corpus {name}: no {part} rows in {settings.source}{lost}",
                cure="Look at the file and the steps, or lower hold_out",
            )
