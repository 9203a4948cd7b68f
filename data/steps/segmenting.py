"""Words of a text as datatrove and spaCy count them, at a small part of the cost.

spaCy's tokenizer works on the stretches between white space, each by itself; so the words of a stretch are asked for
once and remembered. Scripts that write no spaces between words (Chinese, Japanese, Thai, ...) are split by character:
a segmenter would be another model with faults of its own, and counts are all that is needed here."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

from residency.data.words import UNSPACED

REMEMBERED = 500_000  # stretches, about 100 MB
ALIKE = re.compile(f"{UNSPACED}|(?:(?!{UNSPACED})\\w)+|[^\\w\\s]")
UNSPACED_LANGUAGES = ("zh", "ja", "th", "lo", "km", "my", "yue", "wuu", "bo")
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
        self._tokens: Callable[[str], list[str]] = ALIKE.findall if self.unspaced else _spacy_tokens(language)
        self._symbols = _symbols()

    def stretches(self, text: str) -> list[Stretch]:
        """The stretches of a text, in order."""
        if len(self) > REMEMBERED:
            self.clear()
        return [self[stretch] for stretch in text.split()]

    def __missing__(self, stretch: str) -> Stretch:
        tokens = tuple(token for token in self._tokens(stretch) if token.strip())
        spoken = [token for token in tokens if not self._symbols.issuperset(token)]
        letters = sum(any(map(str.isalpha, token)) for token in tokens)
        self[stretch] = Stretch(len(tokens), len(spoken), sum(map(len, spoken)), letters, tokens)
        return self[stretch]


@cache
def segmenter(language: str) -> Segmenter:
    """The segmenter of a language (ISO 639-1), one for this process."""
    return Segmenter(language)


def script_language(text: str) -> str:
    """`zh` for a text mostly in scripts without spaces (they are all split alike), else `en`."""
    if text.isascii():
        return "en"
    sample = text[:2000]
    return "zh" if 3 * len(_UNSPACED.findall(sample)) > len(sample) else "en"


def _spacy_tokens(language: str) -> Callable[[str], list[str]]:
    import spacy

    try:
        tokenizer = spacy.blank(language).tokenizer
    except ImportError:  # a language that spaCy has no rules for
        tokenizer = spacy.blank("xx").tokenizer
    return lambda stretch: [token.text for token in tokenizer(stretch)]


@cache
def _symbols() -> frozenset[str]:
    """What datatrove counts as punctuation."""
    from datatrove.utils.text import PUNCTUATION_SET

    symbols: set[Any] = set(PUNCTUATION_SET)
    assert all(unicodedata.category(sign)[0] != "L" for sign in symbols)
    return frozenset(symbols)
