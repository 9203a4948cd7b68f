from __future__ import annotations

from pathlib import Path

import numpy as np

from residency.data.curation.batch import Batch
from residency.data.curation.observed import Observed, save
from residency.data.steps.paragraphs import Paragraphs
from residency.data.steps.settings import ParagraphsSettings

NOTICE = "This page is for information only and does not replace your doctor."
OTHER = "THIS page is for information only, and does not replace your doctor!"


def run(tmp_path: Path, texts: list[str], documents: int = 3) -> tuple[list[str], list[str | None]]:
    step = Paragraphs(ParagraphsSettings(documents=documents))
    batch = Batch([{"id": str(place), "text": text} for place, text in enumerate(texts)])
    cut = len(texts) // 2
    for name, rows in (("a", batch.rows[:cut]), ("b", batch.rows[cut:])):
        save(tmp_path / name, [step.observe(Batch(rows, np.arange(len(rows))))])
    decision = step.decide(Observed([tmp_path / "a", tmp_path / "b"], [cut, len(texts) - cut]))
    reasons = step.apply(batch, decision)
    return batch.texts, reasons


def test_a_shared_paragraph_stays_in_the_first_document_only(tmp_path: Path) -> None:
    texts = [f"Liver.\n\n{NOTICE}\n\nIt makes bile.", f"{OTHER}\n\nKidney.", f"Heart.\n\n\n{NOTICE}", NOTICE]
    left, reasons = run(tmp_path, texts)
    assert left == [texts[0], "Kidney.", "Heart.", ""]
    assert reasons == [None, None, None, "shared_paragraphs"]


def test_what_fewer_documents_share_stays(tmp_path: Path) -> None:
    texts = [
        f"{NOTICE}\n\n{NOTICE}\n\n{NOTICE}",
        f"A.\n\n{NOTICE}",
        "Short words.",
        "Short words.",
        "Short words.",
    ]
    assert run(tmp_path, texts) == (texts, [None] * 5)


def test_no_documents(tmp_path: Path) -> None:
    assert Paragraphs(ParagraphsSettings()).decide(Observed([], [])).shape == (2, 0)
