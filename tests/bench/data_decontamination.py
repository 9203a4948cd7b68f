"""Benchmark of decontamination: what it adds to the deduplication pass, and what it finds.

What: items of the mirror's exams are planted in MedQuAD answers - as they are, with changed punctuation and case, with
shuffled options, or the first or second half of the question alone (questions of at least 20 words: less is not
telling). False hits: OpenStax documents in which an item of an exam is found that is not of the same book (a book's own
review questions quote it; they are counted apart). Cost: deduplication with and without decontamination in the same
walk, batch by batch in turns.

    RESIDENCY_MIRROR=DIR python tests/bench/data_decontamination.py
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

from residency.data.curation.batch import Batch
from residency.data.curation.exam_index import ExamIndex
from residency.data.rows.schema import normalise
from residency.data.steps.duplicates import Duplicates
from residency.data.steps.settings import DecontaminateSettings, DuplicatesSettings
from tests.bench import planted
from tests.bench.figures import Figure
from tests.bench.record import medquad, mirror, record_option, tell

EXAMS = {
    "medqa": "GBaker/MedQA-USMLE-4-options/test.jsonl",
    "medmcqa": "openlifescienceai/medmcqa/data/validation.jsonl",
    "anatomy": "cais/mmlu/anatomy/test.jsonl",
    "clinical-knowledge": "cais/mmlu/clinical_knowledge/test.jsonl",
    "college-medicine": "cais/mmlu/college_medicine/test.jsonl",
    "professional-medicine": "cais/mmlu/professional_medicine/test.jsonl",
    "review-anatomy": "openstax/anatomy-physiology/review/test.jsonl",
    "review-microbiology": "openstax/microbiology/review/test.jsonl",
}
BOOKS = ("anatomy-physiology", "microbiology", "philosophy")
PLANTED = 1500
BATCH = 512
COVERAGE = DecontaminateSettings().coverage


def main() -> None:
    """Measure, print and record."""
    path, load, random = record_option(__doc__), os.getloadavg()[0], Random(0)
    exams = {name: list(items(name, mirror() / file)) for name, file in EXAMS.items()}
    index, texts = ExamIndex.build(exams), medquad()
    figures = [
        Figure("decontamination_added_cost", added_cost(index, texts), at_most=0.2),
        *found(index, exams, texts, random),
        *false_hits(index),
    ]
    settings = {"items": sum(map(len, exams.values())), "planted": 4 * PLANTED, "coverage": COVERAGE}
    tell(path, "data-decontamination", figures, settings, load=load, threads=1)


def items(name: str, path: Path) -> Iterator[dict[str, Any]]:
    """Items of an exam, normalised."""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines()):
        yield normalise({"id": f"{name}:{number}", **json.loads(line)}, "choice")


def added_cost(index: ExamIndex, texts: list[str]) -> float:
    """Seconds that the search adds, over those of deduplication alone."""
    step, alone, added = Duplicates(DuplicatesSettings()), 0.0, 0.0
    for _ in range(5):
        for at in range(0, len(texts), BATCH):
            batch = Batch(
                [{"id": str(at + place), "text": text} for place, text in enumerate(texts[at : at + BATCH])]
            )
            start = time.process_time()
            step.observe(batch)
            middle = time.process_time()
            index.find(batch, COVERAGE)
            alone, added = alone + middle - start, added + time.process_time() - middle
    return added / alone


def found(index: ExamIndex, exams: dict[str, list[Any]], texts: list[str], random: Random) -> list[Figure]:
    """Share of the planted items that are found, by the way in which they were changed."""
    pool = [(name, item) for name, rows in exams.items() for item in rows]
    long = [(name, item) for name, item in pool if len(item["prompt"].split()) >= 20]
    figures = []
    for kind in ("exact", "punctuation", "shuffled", "half"):
        chosen = random.sample(long if kind == "half" else pool, PLANTED)
        rows = [
            {"id": "", "text": within(random.choice(texts), spoken(item, kind, random), random)}
            for _, item in chosen
        ]
        hits = {
            (row, index.items[number]["task"], index.items[number]["item"])
            for row, number, _ in index.find(Batch(rows), COVERAGE)
        }
        caught = sum((row, name, item["id"]) in hits for row, (name, item) in enumerate(chosen))
        figures.append(Figure(f"decontamination_recall_{kind}", caught / PLANTED, 0.99))
    return figures


def spoken(item: dict[str, Any], kind: str, random: Random) -> str:
    """An item as it is planted."""
    options = list(item["options"])
    if kind == "shuffled":
        random.shuffle(options)
    if kind == "half":
        return planted.half(item, random)
    text = planted.rendered(item, options)
    return planted.punctuated(text, random) if kind == "punctuation" else text


def within(text: str, item: str, random: Random) -> str:
    """An item somewhere inside a text."""
    place = random.randrange(min(len(text), 1500) + 1)
    return f"{text[:place]}\n{item}\n{text[place:]}"


def false_hits(index: ExamIndex) -> list[Figure]:
    """Share of the books' documents with a hit."""
    rows = [
        json.loads(line)
        for book in BOOKS
        for path in sorted((mirror() / "openstax" / book / "text").glob("*.jsonl"))
        for line in path.read_text(encoding="utf-8").splitlines()
    ]
    hits = [(row, index.items[number]["task"]) for row, number, _ in index.find(Batch(rows), COVERAGE)]
    strange = {row for row, task in hits if not task.startswith("review")}
    own = {row for row, task in hits if task.startswith("review")}
    return [
        Figure("decontamination_false_hits", len(strange) / len(rows), at_most=0.001),
        Figure("decontamination_own_review_hits", len(own) / len(rows)),
    ]


if __name__ == "__main__":
    main()
