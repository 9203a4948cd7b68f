"""Benchmark of the quality rules: ours beside datatrove's filters, on all answers of MedQuAD.

Both sides judge the same documents in turns, a few hundred at a time, in one process; ours begins with an empty memory
of words. The verdict is the reason for which a document is dropped, or that it stays.

    RESIDENCY_MIRROR=DIR python -m tests.bench.data_quality
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from residency.data.steps.quality import fineweb, gopher
from residency.data.steps.repetition import repetition
from residency.data.steps.segmenting import segmenter
from tests.bench.figures import Figure
from tests.bench.record import medquad, record_option, tell

CHUNK = 400
Judge = Callable[[str], str | None]


def main() -> None:
    """Measure, print and record."""
    from datatrove.pipeline.filters import FineWebQualityFilter, GopherQualityFilter, GopherRepetitionFilter

    path, load, texts = record_option(__doc__), os.getloadavg()[0], medquad()
    figures: list[Figure] = []
    goals = {"gopher": 10, "fineweb": None, "repetition": None}
    sides: dict[str, tuple[Judge, Any]] = {
        "gopher": (partial(gopher, language="en", minimum_words=50), GopherQualityFilter()),
        "fineweb": (partial(fineweb, language="en"), FineWebQualityFilter()),
        "repetition": (partial(repetition, language="en"), GopherRepetitionFilter()),
    }
    for name, (ours, theirs) in sides.items():
        segmenter("en").clear()
        chosen = texts if name == "gopher" else texts[::10]
        speedup, same = beside(chosen, ours, partial(verdict, theirs))
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


def beside(texts: list[str], ours: Judge, theirs: Judge) -> tuple[float, float]:
    """Their seconds over ours, and the share of texts with the same verdict."""
    theirs(texts[0])  # loads its word lists
    seconds, same = [0.0, 0.0], 0
    for at in range(0, len(texts), CHUNK):
        some, found = texts[at : at + CHUNK], []
        for side, judge in enumerate((ours, theirs)):
            start = time.process_time()
            found.append([judge(text) for text in some])
            seconds[side] += time.process_time() - start
        same += sum(one == other for one, other in zip(*found, strict=True))
    return seconds[1] / seconds[0], same / len(texts)


if __name__ == "__main__":
    main()
