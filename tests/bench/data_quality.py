"""Benchmark of the quality rules: ours beside datatrove's filters, on all answers of MedQuAD.

Both sides judge the same documents in turns, a few hundred at a time, in one process: ours as the step does, which
begins with an empty memory of words; datatrove's filter called on each document. The verdict is the reason for which a
document is dropped, or that it stays.

    RESIDENCY_MIRROR=DIR python -m tests.bench.data_quality
"""

from __future__ import annotations

import os
import time
from typing import Any

from residency.data.curation.batch import Batch, CurationStep
from residency.data.steps.quality import Quality
from residency.data.steps.repetition import Repetition
from residency.data.steps.segmenting import segmenter
from residency.data.steps.settings import QualitySettings, RepetitionSettings
from tests.bench.figures import Figure
from tests.bench.record import medquad, record_option, tell

CHUNK = 512


def main() -> None:
    """Measure, print and record."""
    from datatrove.pipeline.filters import FineWebQualityFilter, GopherQualityFilter, GopherRepetitionFilter

    path, load, texts = record_option(__doc__), os.getloadavg()[0], medquad()
    figures: list[Figure] = []
    goals = {"gopher": 10, "fineweb": None, "repetition": None}
    sides: dict[str, tuple[CurationStep, Any]] = {
        "gopher": (Quality(QualitySettings()), GopherQualityFilter()),
        "fineweb": (Quality(QualitySettings(rules=["fineweb"])), FineWebQualityFilter()),
        "repetition": (Repetition(RepetitionSettings()), GopherRepetitionFilter()),
    }
    for name, (ours, theirs) in sides.items():
        segmenter("en").clear()
        speedup, same = beside(texts if name == "gopher" else texts[::10], ours, theirs)
        figures += [
            Figure(f"{name}_speedup", speedup, goals[name]),
            Figure(f"{name}_same_verdict", same, 0.999),
        ]
    tell(path, "data-quality", figures, {"documents": len(texts)}, load=load, threads=1)


def verdict(step: Any, text: str) -> str | None:
    """What a filter of datatrove says of a text."""
    from datatrove.data import Document

    said = step.filter(Document(text=text, id=""))
    return None if said is True else str(said[1])


def beside(texts: list[str], ours: CurationStep, theirs: Any) -> tuple[float, float]:
    """Their seconds over ours, and the share of texts with the same verdict."""
    verdict(theirs, texts[0])  # loads its word lists
    ours(Batch([{"id": "", "text": "warm"}]))
    seconds, same = [0.0, 0.0], 0
    for at in range(0, len(texts), CHUNK):
        some = texts[at : at + CHUNK]
        start = time.process_time()
        found = ours(Batch([{"id": "", "text": text} for text in some]))
        middle = time.process_time()
        said = [verdict(theirs, text) for text in some]
        seconds[0] += middle - start
        seconds[1] += time.process_time() - middle
        same += sum(one == other for one, other in zip(found, said, strict=True))
    return seconds[1] / seconds[0], same / len(texts)


if __name__ == "__main__":
    main()
