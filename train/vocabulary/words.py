"""Which words of a corpus become tokens: those that save most tokens of it.

A word is a run of letters with the space before it, if there is one: ` cholangitis`, `cholangitis` and
` Cholangitis` are three candidates, each with its own count, so that a form becomes a token only where text uses it.
A candidate's worth is its count times (pieces - 1), the tokens that it saves. With terms, only words of terms are
candidates, in any capital form. No torch here."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from residency.data.corpus import rows
from residency.train.vocabulary.terms import Terms

CANDIDATE = re.compile(r" ?[^\W\d_]+")
FEWEST = 5  # occurrences: the row of a rarer word would hardly be trained
MOST_BYTES = 200_000_000  # of text that is counted, spread over the corpus


@dataclass(frozen=True)
class Found:
    """A word that is worth a token."""

    word: str
    """As it stands in text, with the space before it."""
    token: str
    """As the tokenizer's vocabulary writes it."""
    pieces: list[int]
    """Ids that it was written in until now."""
    count: int
    """Times that it stands in the text that was counted."""
    type: str | None
    """Semantic type of the terms that hold it."""


def count(corpus: Path) -> Counter[str]:
    """Words of a corpus of running text, its training part, with their counts."""
    found: Counter[str] = Counter()
    for text in texts(corpus):
        found.update(CANDIDATE.findall(text))
    return found


def texts(corpus: Path) -> Iterator[str]:
    """Texts of a corpus; of a very large one every n-th."""
    stride = 1 + (corpus / "train.jsonl").stat().st_size // MOST_BYTES
    return (row["text"] for row in islice(rows(corpus, "train"), 0, None, stride))


def choose(
    counts: Counter[str],
    terms: Terms | None,
    wanted: int,
    encode: Callable[[list[str]], list[list[int]]],
    token_of: Callable[[str], str | None],
) -> list[Found]:
    """The words that save most tokens, the most useful first; `wanted` at most.

    Args:
        encode: texts to ids of the tokenizer as it is.
        token_of: a word's spelling in the vocabulary, None for one that the tokenizer would never meet whole.
    """
    words = [word for word, times in counts.items() if times >= FEWEST and _is_term(word, terms)]
    pieces = dict(zip(words, encode(words), strict=True))
    useful = [word for word in words if len(pieces[word]) > 1]
    useful.sort(key=lambda word: (-counts[word] * (len(pieces[word]) - 1), word))
    return list(islice(_written(useful, pieces, counts, terms, token_of), wanted))


def _written(
    words: Iterable[str],
    pieces: dict[str, list[int]],
    counts: Counter[str],
    terms: Terms | None,
    token_of: Callable[[str], str | None],
) -> Iterator[Found]:
    for word in words:
        if token := token_of(word):
            type_ = terms.words[word.strip().lower()] if terms else None
            yield Found(word, token, pieces[word], counts[word], type_)


def _is_term(word: str, terms: Terms | None) -> bool:
    return terms is None or word.strip().lower() in terms.words
