"""Drops documents that break heuristic rules for text of the web.

`gopher`: word counts, mean word length, symbols, bullet points, ellipses, words with letters, stop words
(arXiv:2112.11446, table A1 and section A.1.1). `fineweb`: lines that end in punctuation, short lines, repeated lines,
line breaks (arXiv:2406.17557, section 3.6). `c4`: lines without end punctuation and with page furniture are removed,
documents of fewer than five sentences dropped (arXiv:1910.10683, section 2.2), by datatrove's own filter; text without
spaces between words passes, as these rules know only European punctuation.

Verdicts and names of reasons are datatrove's; Gopher's and FineWeb's come faster (`residency.data.steps.segmenting`).
Languages other than English have their own stop words (spaCy's); where words are not written apart, a word is a
character, its mean length says nothing, lines are short, and the stop words are single characters."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any

from residency.data.curation.batch import Batch, Row
from residency.data.steps.segmenting import Segmenter, Stretch, is_known, segmenter, spoken_language
from residency.data.steps.settings import QualitySettings
from residency.errors import ResidencyError

GOPHER_STOP_WORDS = frozenset(("the", "be", "to", "of", "and", "that", "have", "with"))
MOST_WORDS = 100_000
MEAN_LENGTH = (3, 10)  # characters a word
MOST_SYMBOLS = 0.1  # signs a word
MOST_BULLETS, MOST_ELLIPSES = 0.9, 0.3  # share of the lines
LEAST_ALPHABETIC = 0.8  # share of the words
LEAST_ALPHABETIC_UNSPACED = 0.735  # FineWeb2's for Chinese (arXiv:2506.20920)
LEAST_STOP_WORDS = 2
LEAST_ENDED, MOST_SHORT, SHORT_CHARACTERS = 0.12, 0.67, 30  # share of the lines
MOST_REPEATED, MOST_BREAKS = 0.01, 0.3  # share of the characters; line breaks a word


class Quality:
    """The step; see the module.

    Raises:
        ResidencyError: a language that spaCy does not know.
    """

    def __init__(self, settings: QualitySettings) -> None:
        self.settings = settings
        if settings.language != "auto" and not is_known(settings.language):
            raise ResidencyError(
                f"step quality: no language {settings.language!r}", cure="Give an ISO 639-1 code, or auto"
            )

    def __call__(self, batch: Batch) -> list[str | None]:
        """The first rule that each row breaks; `c4` also removes lines of running text."""
        if self.settings.language != "auto" and self.settings.rules != ["c4"]:
            segmenter(self.settings.language).prepare(batch.texts)
        reasons = [self._reason(batch, place) for place in range(len(batch.rows))]
        if "c4" in self.settings.rules:
            batch.forget()
        return reasons

    def _reason(self, batch: Batch, place: int) -> str | None:
        row, text = batch.rows[place], batch.texts[place]
        language = self._language(row, text)
        for rules in self.settings.rules:
            if rules == "gopher":
                reason = gopher(text, language, self.settings.minimum_words)
            elif rules == "fineweb":
                reason = fineweb(text, language)
            else:
                reason, text = c4(text, language)
                if "text" in row:
                    batch.rows[place] = row = {**row, "text": text}
            if reason:
                return reason
        return None

    def _language(self, row: Row, text: str) -> str:
        return spoken_language(row, text) if self.settings.language == "auto" else self.settings.language


def gopher(text: str, language: str, minimum_words: int) -> str | None:
    """The rule of Gopher that a text breaks, or None."""
    known = segmenter(language)
    stretches = known.stretches(text)
    columns = list(zip(*stretches, strict=True))[:4] or [()] * 4
    words, spoken, characters, alphabetic = (sum(column) for column in columns)
    if spoken < max(minimum_words, 1):
        return "gopher_short_doc"
    if spoken > MOST_WORDS:
        return "gopher_long_doc"
    mean = characters / spoken
    if not known.unspaced and mean < MEAN_LENGTH[0]:
        return "gopher_below_avg_threshold"
    if mean > MEAN_LENGTH[1]:
        return "gopher_above_avg_threshold"
    if text.count("#") / words > MOST_SYMBOLS:
        return "gopher_too_many_hashes"
    if (text.count("...") + text.count("…")) / words > MOST_SYMBOLS:
        return "gopher_too_many_ellipsis"
    lines = text.splitlines()
    if sum(line.lstrip().startswith(("•", "-")) for line in lines) / len(lines) > MOST_BULLETS:
        return "gopher_too_many_bullets"
    if sum(line.rstrip().endswith(("...", "…")) for line in lines) / len(lines) > MOST_ELLIPSES:
        return "gopher_too_many_end_ellipsis"
    if alphabetic / words < (LEAST_ALPHABETIC_UNSPACED if known.unspaced else LEAST_ALPHABETIC):
        return "gopher_below_alpha_threshold"
    return None if _stop_words(known, stretches, language) else "gopher_enough_stop_words"


def _stop_words(known: Segmenter, stretches: list[Stretch], language: str) -> bool:
    """Whether a text holds enough different stop words."""
    wanted = stop_words(language)
    found: set[str] = set()
    for stretch in stretches:
        found |= wanted.intersection(stretch.tokens)
        if len(found) >= LEAST_STOP_WORDS:
            return True
    return not wanted  # a language without a list is not judged by it


@cache
def stop_words(language: str) -> frozenset[str]:
    """Gopher's eight for English, spaCy's list for another language; empty where there is none."""
    if language == "en":
        return GOPHER_STOP_WORDS
    try:
        return frozenset(import_module(f"spacy.lang.{language}.stop_words").STOP_WORDS)
    except ImportError:
        return frozenset()


def fineweb(text: str, language: str) -> str | None:
    """The rule of FineWeb that a text breaks, or None."""
    from datatrove.utils.text import TERMINAL_PUNCTUATION

    lines = [line for line in text.split("\n") if line.strip()]
    if not lines:
        return "empty"
    if sum(line.endswith(tuple(TERMINAL_PUNCTUATION)) for line in lines) / len(lines) < LEAST_ENDED:
        return "line_punct_ratio"
    unspaced = segmenter(language).unspaced
    if not unspaced and sum(len(line) <= SHORT_CHARACTERS for line in lines) / len(lines) > MOST_SHORT:
        return "short_line_ratio"
    seen: set[str] = set()
    repeated = 0
    for line in lines:
        repeated += len(line) if line in seen else 0
        seen.add(line)
    if repeated / len(text.replace("\n", "")) > MOST_REPEATED:
        return "char_dup_ratio"
    words = sum(stretch.words for stretch in segmenter(language).stretches(text))
    return "list_ratio" if text.count("\n") / words > MOST_BREAKS else None


def c4(text: str, language: str) -> tuple[str | None, str]:
    """The rule of C4 that a text breaks, or None; and the text without the lines that C4 removes."""
    from datatrove.data import Document

    if segmenter(language).unspaced:
        return None, text
    document = Document(text=text, id="")
    verdict: Any = _c4_filter(language).filter(document)
    return (None, document.text) if verdict is True else (f"c4_{verdict[1]}", text)


@cache
def _c4_filter(language: str) -> Any:
    from datatrove.pipeline.filters import C4QualityFilter
    from datatrove.utils.typeshelper import Languages

    codes = {
        "en": "english",
        "fr": "french",
        "es": "spanish",
        "it": "italian",
        "de": "german",
        "pt": "portuguese",
    }
    return C4QualityFilter(language=getattr(Languages, codes.get(language, "english")))
