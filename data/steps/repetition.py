"""Drops documents that repeat themselves: lines, paragraphs, frequent 2- to 4-grams, repeated 5- to 10-grams
(Gopher, arXiv:2112.11446, table A1). Verdicts and names of reasons are those of datatrove's GopherRepetitionFilter,
whose functions count; only the words come faster (`residency.data.steps.segmenting`)."""

from __future__ import annotations

import re
from itertools import chain

from residency.data.curation.batch import Batch
from residency.data.steps.segmenting import script_language, segmenter, spoken_language
from residency.data.steps.settings import RepetitionSettings

PARAGRAPHS, LINES = re.compile(r"\n{2,}"), re.compile(r"\n+")
MOST_ELEMENTS, MOST_CHARACTERS = 0.3, 0.2  # share of the lines or paragraphs, and of their characters
TOP_NGRAMS = ((2, 0.2), (3, 0.18), (4, 0.16))  # words, and share of the characters
UNSPACED_TOP = (
    (4, 0.256),
    (6, 0.201),
    (8, 0.171),
)  # characters, two a word; FineWeb2's for Chinese (arXiv:2506.20920)
UNSPACED_REPEATED = ((10, 0.198), (12, 0.182), (14, 0.167), (16, 0.154), (18, 0.14), (20, 0.127))
REPEATED_NGRAMS = ((5, 0.15), (6, 0.14), (7, 0.13), (8, 0.12), (9, 0.11), (10, 0.10))


class Repetition:
    """The step; see the module."""

    def __init__(self, settings: RepetitionSettings) -> None:
        self.settings = settings

    def __call__(self, batch: Batch) -> list[str | None]:
        """The first rule that each row breaks."""
        return [
            repetition(text, spoken_language(row, text) if "language" in row else _unstated(text))
            for row, text in zip(batch.rows, batch.texts, strict=True)
        ]


def _unstated(text: str) -> str:
    """English words where no language step ran: the rules hardly depend on how a European language is split."""
    return "zh" if script_language(text) == "zh" else "en"


def repetition(text: str, language: str) -> str | None:
    """The rule that a text breaks, or None."""
    from datatrove.pipeline.filters.gopher_repetition_filter import (
        find_all_duplicate,
        find_duplicates,
        find_top_duplicate,
        get_n_grams,
    )

    if not text:
        return "empty"
    for name, elements in (("para", PARAGRAPHS.split(text.strip())), ("line", LINES.split(text))):
        repeated, characters = find_duplicates(elements)
        if repeated / len(elements) > MOST_ELEMENTS:
            return f"dup_{name}_frac"
        if characters / len(text) > MOST_CHARACTERS:
            return f"dup_{name}_char_frac"
    known = segmenter(language)
    words = list(chain.from_iterable(stretch.tokens for stretch in known.stretches(text)))
    for size, most in UNSPACED_TOP if known.unspaced else TOP_NGRAMS:
        ngrams = get_n_grams(words, size)
        if ngrams and find_top_duplicate(ngrams) / len(text) > most:
            return f"top_{size}_gram"
    for size, most in UNSPACED_REPEATED if known.unspaced else REPEATED_NGRAMS:
        if find_all_duplicate(words, size) / len(text) > most:
            return f"duplicated_{size}_n_grams"
    return None
