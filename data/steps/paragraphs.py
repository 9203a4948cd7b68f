"""Paragraphs that many documents share (disclaimers, journal furniture, quoted guidelines) are removed from all
but the first document that has them, as CCNet does by line (arXiv:1911.00359).

A paragraph's identity is the hash of its words, so case and punctuation make no difference. The hashes are kept in
buckets by their highest bits, of which one is in memory at a time."""

from __future__ import annotations

import re
from functools import partial

import numpy as np
from numpy.typing import NDArray

from residency.data.curation.batch import Batch, rewritten
from residency.data.curation.observed import Array, Observed
from residency.data.curation.words import hash_words, mix
from residency.data.steps.settings import ParagraphsSettings

BUCKETS = 16
BREAK = re.compile(r"(\n\s*\n)")


class Paragraphs:
    """The step; see the module."""

    def __init__(self, settings: ParagraphsSettings) -> None:
        self.settings = settings

    def observe(self, batch: Batch) -> dict[str, Array]:
        """Hashes of the batch's long paragraphs and the numbers of their documents, by bucket."""
        hashes, numbers = self._paragraphs(batch)
        bucket = (hashes >> np.uint64(60)).astype(np.int64)
        told: dict[str, Array] = {}
        for number in range(BUCKETS):
            told[f"hashes_{number:02d}"] = hashes[bucket == number]
            told[f"documents_{number:02d}"] = numbers[bucket == number]
        return told

    def decide(self, observed: Observed) -> Array:
        """`[2, paragraphs]`: hashes that too many documents share, ascending, and the first document of each."""
        shared, owners = [np.zeros(0, dtype=np.uint64)], [np.zeros(0, dtype=np.uint64)]
        for number in range(BUCKETS if len(observed) else 0):
            hashes, documents = observed[f"hashes_{number:02d}"], observed.numbered(f"documents_{number:02d}")
            order = np.lexsort((documents, hashes))
            hashes, documents = hashes[order], documents[order]
            # A paragraph counts once a document.
            once = np.ones(len(hashes), dtype=bool)
            once[1:] = (hashes[1:] != hashes[:-1]) | (documents[1:] != documents[:-1])
            found, first, count = np.unique(hashes[once], return_index=True, return_counts=True)
            many = count >= self.settings.documents
            shared.append(found[many])
            owners.append(documents[once][first[many]].astype(np.uint64))
        return np.stack([np.concatenate(shared), np.concatenate(owners)])

    def apply(self, batch: Batch, decision: Array) -> list[str | None]:
        """Remove the shared paragraphs; a document of nothing else is dropped."""
        hashes, numbers = self._paragraphs(batch)
        having = numbers[_removed(hashes, numbers, decision)]
        for place in np.flatnonzero(np.isin(batch.numbers, having)):
            without = partial(self._without, number=int(batch.numbers[place]), decision=decision)
            batch.rows[place] = rewritten(batch.rows[place], without)
        batch.forget()
        return [None if text.strip() else "shared_paragraphs" for text in batch.texts]

    def _without(self, text: str, number: int, decision: Array) -> str:
        pieces = BREAK.split(text)
        hashes = self._hashes(pieces[::2])
        removed = _removed(hashes, np.full(len(hashes), number), decision)
        if not removed.any():
            return text
        kept = ["".join(pieces[2 * place : 2 * place + 2]) for place in np.flatnonzero(~removed)]
        return "".join(kept).rstrip()

    def _paragraphs(self, batch: Batch) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        """Hashes of the paragraphs that are long enough, and their documents' numbers."""
        split = [BREAK.split(text)[::2] for text in batch.texts]
        hashes = self._hashes([paragraph for paragraphs in split for paragraph in paragraphs])
        numbers = np.repeat(batch.numbers, [len(paragraphs) for paragraphs in split])
        return hashes[hashes != 0], numbers[hashes != 0]

    def _hashes(self, paragraphs: list[str]) -> NDArray[np.uint64]:
        """One hash a paragraph; 0 for those that are too short."""
        words = hash_words(paragraphs)
        place = np.arange(len(words.hashes)) - np.repeat(words.offsets[:-1], words.counts)
        weighted = mix(words.hashes + place.astype(np.uint64))
        sums = np.concatenate([np.zeros(1, dtype=np.uint64), np.cumsum(weighted, dtype=np.uint64)])
        hashes = mix(sums[words.offsets[1:]] - sums[words.offsets[:-1]])
        return np.where(words.counts >= self.settings.minimum_words, hashes | np.uint64(1), np.uint64(0))


def _removed(hashes: NDArray[np.uint64], numbers: NDArray[np.int64], decision: Array) -> NDArray[np.bool_]:
    """`[paragraphs]`: whether many documents share it and another one keeps it."""
    shared, owners = np.asarray(decision[0]), np.asarray(decision[1])
    if not len(shared):
        return np.zeros(len(hashes), dtype=bool)
    at = np.minimum(np.searchsorted(shared, hashes), len(shared) - 1)
    return np.asarray((shared[at] == hashes) & (owners[at] != numbers.astype(np.uint64)))
