"""Some rows of a corpus on their way through the steps of curation: what they say, and a place for its words'
hashes, so that steps which need them share one pass. No torch here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from residency.data.curation.words import WordHashes, hash_words

Row = dict[str, Any]
Texts = Callable[[str], str]
SPOKEN = (
    "text",
    "context",
    "prompt",
    "messages",
    "chosen",
    "rejected",
    "completion",
    "replies",
    "steps",
    "options",
    "answers",
    "ending",
)  # fields with what a row says


class Batch:
    """Normalised rows (`residency.data.rows.schema`), all of one schema.

    Attributes:
        rows: the rows; steps that rewrite replace them.
        numbers: `[rows]`, each row's number among all that entered this pass.
    """

    def __init__(self, rows: list[Row], numbers: NDArray[np.int64] | None = None) -> None:
        self.rows = rows
        self.numbers = np.arange(len(rows)) if numbers is None else numbers

    @cached_property
    def texts(self) -> list[str]:
        """What each row says: its text, or its messages and options with blank lines between."""
        return ["\n\n".join(pieces(row)) for row in self.rows]

    @cached_property
    def words(self) -> WordHashes:
        """Hashes of the words of `texts`."""
        return hash_words(self.texts)

    def ngrams(self, words: int) -> WordHashes:
        """Hashes of the stretches of `words` words, computed once for all steps that ask."""
        if words not in self._ngrams:
            self._ngrams[words] = self.words.ngrams(words)
        return self._ngrams[words]

    @cached_property
    def _ngrams(self) -> dict[int, WordHashes]:
        return {}

    def only(self, places: list[int]) -> Batch:
        """The rows at some places."""
        return Batch([self.rows[place] for place in places], self.numbers[places])

    def rewrite(self, change: Texts) -> None:
        """Apply `change` to every piece of text of every row."""
        self.rows = [rewritten(row, change) for row in self.rows]
        self.forget()

    def forget(self) -> None:
        """Texts and words are read again from `rows`, which were changed."""
        for known in ("texts", "words", "_ngrams"):
            self.__dict__.pop(known, None)


class CurationStep(Protocol):
    """One step: rewrites a batch (`Batch.rewrite`) or says which of its rows are dropped, or both."""

    def __call__(self, batch: Batch) -> list[str | None]:
        """For each row the reason to drop it (a short name with underscores), or None."""
        ...


def pieces(row: Row) -> Iterator[str]:
    """Every piece of text of a row, in the order of reading."""
    for key in SPOKEN:
        value = row.get(key)
        if isinstance(value, str):
            yield value
        elif value is not None:
            yield from (piece if isinstance(piece, str) else piece["content"] for piece in value)


def rewritten(row: Row, change: Texts) -> Row:
    """A copy of a row with `change` applied to every piece of text."""
    changed = dict(row)
    for key in SPOKEN:
        value = row.get(key)
        if isinstance(value, str):
            changed[key] = change(value)
        elif value is not None:
            changed[key] = [
                change(piece) if isinstance(piece, str) else {**piece, "content": change(piece["content"])}
                for piece in value
            ]
    return changed
