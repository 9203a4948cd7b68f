"""Words of a text as datatrove and spaCy count them, at a small part of the cost.

spaCy's tokenizer works on the stretches between white space, each by itself; so the words of a stretch are asked for
once and remembered. Scripts that write no spaces between words (Chinese, Japanese, Thai, ...) are split by character:
a segmenter would be another model with faults of its own, and counts are all that is needed here."""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from itertools import accumulate
from typing import Any, NamedTuple

from residency.data.curation.words import UNSPACED

REMEMBERED = 500_000  # stretches, about 100 MB
ALIKE = re.compile(f"{UNSPACED}|(?:(?!{UNSPACED})\\w)+|[^\\w\\s]")
UNSPACED_LANGUAGES = ("zh", "ja", "th", "lo", "km", "my", "yue", "wuu", "bo")
NEEDS_MORE = ("ko", "vi")  # spaCy splits these with other packages; between spaces is near enough
Tokens = Callable[[list[str]], list[list[str]]]
_UNSPACED = re.compile(UNSPACED)


class Stretch(NamedTuple):
    """What the rules need to know of a stretch between white space."""

    words: int
    spoken: int
    """Words that are not punctuation alone."""
    spoken_characters: int
    alphabetic: int
    """Words with a letter."""
    tokens: tuple[str, ...]


class Segmenter(dict[str, Stretch]):
    """Maps a stretch to what is known of it; `stretches(text)` are those of a text."""

    def __init__(self, language: str) -> None:
        super().__init__()
        self.unspaced = language in UNSPACED_LANGUAGES
        self._tokens: Tokens = _characters if self.unspaced else _spacy_tokens(language)
        self._symbols = _symbols()

    def stretches(self, text: str) -> list[Stretch]:
        """The stretches of a text, in order."""
        stretches = text.split()
        if self.unspaced:  # a stretch is a whole paragraph: not to be seen again, and too long to keep
            return [self._known(tuple(tokens)) for tokens in self._tokens(stretches)]
        try:
            return [self[stretch] for stretch in stretches]
        except KeyError:
            self._learn(stretches)
            return [self[stretch] for stretch in stretches]

    def prepare(self, texts: list[str]) -> None:
        """Learn the stretches of several texts at once, which is faster than one text at a time."""
        if not self.unspaced:
            self._learn([stretch for text in texts for stretch in text.split()])

    def _learn(self, stretches: list[str]) -> None:
        if len(self) > REMEMBERED:
            self.clear()
        if new := list({stretch for stretch in stretches if stretch not in self}):
            for stretch, tokens in zip(new, self._tokens(new), strict=True):
                self[stretch] = self._known(tuple(token for token in tokens if token.strip()))

    def _known(self, tokens: tuple[str, ...]) -> Stretch:
        spoken = [token for token in tokens if not self._symbols.issuperset(token)]
        letters = sum(any(map(str.isalpha, token)) for token in tokens)
        return Stretch(len(tokens), len(spoken), sum(map(len, spoken)), letters, tokens)


@cache
def segmenter(language: str) -> Segmenter:
    """The segmenter of a language (ISO 639-1), one for this process."""
    return Segmenter(language)


def script_language(text: str) -> str:
    """`zh` for a text mostly in scripts without spaces (they are all split alike), else `xx`: any other language."""
    sample = text[:2000]
    return "zh" if not text.isascii() and 3 * len(_UNSPACED.findall(sample)) > len(sample) else "xx"


def spoken_language(row: dict[str, Any], text: str) -> str:
    """What a `language` step wrote into the row, where spaCy has words of it; else by script."""
    language = row.get("language")
    return str(language) if language and is_known(str(language)) else script_language(text)


@cache
def is_known(language: str) -> bool:
    """Whether spaCy splits words of a language (ISO 639-1)."""
    return language in UNSPACED_LANGUAGES or find_spec(f"spacy.lang.{language}") is not None


def _characters(stretches: list[str]) -> list[list[str]]:
    return [ALIKE.findall(stretch) for stretch in stretches]


def _spacy_tokens(language: str) -> Tokens:
    import spacy

    nlp = spacy.blank("xx" if language in NEEDS_MORE else language)

    def tokens(stretches: list[str]) -> list[list[str]]:
        # One call for all of them: most of the cost is the call.
        found: list[list[str]] = [[] for _ in stretches]
        ends = list(accumulate(len(stretch) + 1 for stretch in stretches))
        with nlp.memory_zone():  # or its vocabulary would grow with every new word
            for token in nlp.tokenizer(" ".join(stretches)):
                found[bisect_right(ends, token.idx)].append(token.text)
        return found

    return tokens


@cache
def _symbols() -> frozenset[str]:
    """What datatrove counts as punctuation."""
    from datatrove.utils.text import PUNCTUATION_SET

    symbols: set[Any] = set(PUNCTUATION_SET)
    assert all(unicodedata.category(sign)[0] != "L" for sign in symbols)
    return frozenset(symbols)
