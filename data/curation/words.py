"""Hashes of the words of many texts at once: the one pass over text that deduplication, decontamination and
ranking share. No torch here.

A word is a run of letters, digits and marks, compared without case; every other character only separates, so
that changed punctuation changes nothing. Han, kana, Thai, Lao, Khmer and Burmese characters are words of their
own: these scripts write no spaces. The work is done on the UTF-8 bytes of a whole batch in numpy.

A word's hash is a polynomial in its bytes modulo 2^64 (Karp & Rabin 1987), mixed by the finaliser of
splitmix64 so that every bit counts."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]
Ints = NDArray[np.int64]
BASE = 0x9E3779B97F4A7C15  # odd: no bit is lost in a product modulo 2^64
HEAD = 128  # bytes of a word that are hashed
UNSPACED = (
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)
_UNSPACED = re.compile(f"({UNSPACED})")


@dataclass(frozen=True)
class WordHashes:
    """Words of some texts, end to end.

    Attributes:
        hashes: `[words]` uint64.
        offsets: `[texts + 1]`, where each text's words begin.
    """

    hashes: Hashes
    offsets: Ints

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def of(self, text: int) -> Hashes:
        """Hashes of one text's words."""
        return self.hashes[self.offsets[text] : self.offsets[text + 1]]

    @cached_property
    def counts(self) -> Ints:
        """`[texts]` words of each."""
        return np.diff(self.offsets)

    def ngrams(self, words: int) -> WordHashes:
        """Hashes of all stretches of `words` words; a shorter text with any words is one stretch."""
        return _ngrams(self, words)


def hash_words(texts: list[str]) -> WordHashes:
    """Hash every word of every text."""
    folded = [_fold(text).encode("utf-8", "surrogatepass") for text in texts]
    ends = np.cumsum([len(text) + 1 for text in folded]) if folded else np.zeros(0, dtype=np.int64)
    data = np.frombuffer(b" ".join([*folded, b""]), dtype=np.uint8)  # one separator behind every text
    inside = _word_bytes()[data]
    edges = np.flatnonzero(np.diff(inside, prepend=False, append=False))
    starts, stops = edges[::2], edges[1::2]
    offsets = np.searchsorted(starts, np.concatenate([[0], ends]))
    return WordHashes(_hash_spans(data, starts, stops), offsets.astype(np.int64))


def _fold(text: str) -> str:
    """Lower case; where there is more than ASCII, also one Unicode form, spaces for signs, unspaced scripts split."""
    if text.isascii():
        return text.lower()
    text = _separators().sub(" ", unicodedata.normalize("NFKC", text).casefold())
    return _UNSPACED.sub(r" \1 ", text)


@cache
def _separators() -> re.Pattern[str]:
    """What is no letter, digit or mark. Python's `\\w` leaves out the vowel signs of Indic scripts, which are marks."""
    marks = (chr(code) for code in range(0x300, 0x20000) if unicodedata.category(chr(code)).startswith("M"))
    return re.compile(rf"[^\w\s{''.join(mark for mark in marks if not _UNSPACED.match(mark))}]|_")


@cache
def _word_bytes() -> NDArray[np.bool_]:
    """`[256]`: ASCII letters and digits, and every byte of a longer UTF-8 character."""
    table = np.zeros(256, dtype=bool)
    for span in (range(ord("0"), ord("9") + 1), range(ord("a"), ord("z") + 1), range(128, 256)):
        table[span.start : span.stop] = True
    return table


def _hash_spans(data: NDArray[np.uint8], starts: Ints, stops: Ints) -> Hashes:
    """Hash of each span of bytes, one byte of all spans at a time; of a very long one its head and length."""
    lengths = stops - starts
    hashes = lengths.astype(np.uint64)
    alive = np.arange(len(starts))
    for place in range(min(int(lengths.max(initial=0)), HEAD)):
        alive = alive[lengths[alive] > place]
        hashes[alive] = hashes[alive] * np.uint64(BASE) + data[starts[alive] + place]
    return mix(hashes)


def mix(hashes: Hashes) -> Hashes:
    """The finaliser of splitmix64 (Steele et al. 2014): a bijection that spreads every bit."""
    hashes = (hashes ^ (hashes >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    hashes = (hashes ^ (hashes >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return hashes ^ (hashes >> np.uint64(31))


def _ngrams(words: WordHashes, size: int) -> WordHashes:
    assert size > 0, size
    counts = words.counts
    stretches = np.where(counts >= size, counts - size + 1, np.minimum(counts, 1))
    offsets = np.concatenate([[0], np.cumsum(stretches)]).astype(np.int64)
    text = np.repeat(np.arange(len(counts)), stretches)
    starts = words.offsets[:-1][text] + np.arange(offsets[-1]) - offsets[:-1][text]
    hashes = np.zeros(offsets[-1], dtype=np.uint64)
    for place in range(size):
        at = starts + place
        within = at < words.offsets[1:][text]
        letters = np.where(within, words.hashes[np.minimum(at, len(words.hashes) - 1)], np.uint64(0))
        hashes = hashes * np.uint64(BASE) + letters
    return WordHashes(mix(hashes), offsets)
