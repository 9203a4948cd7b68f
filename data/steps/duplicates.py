"""Exact and near duplicates by MinHash: documents whose word 5-grams are mostly the same.

How: the signature of a document (rensa, https://github.com/beowolx/rensa) is cut into bands; two documents
that agree in a band are compared by their whole signatures, whose agreement estimates the Jaccard index
(Broder 1997). What is joined that way, directly or through others, is one cluster, of which one document
stays: a held-out one if there is one, so that nothing held out is trained on; else the first. Dialogues and exam items
must also ask the same: answers of one template that differ in a name are different facts.

Only one band is in memory at a time, and of the signatures one byte a hash (b-bit minwise hashing,
arXiv:0910.3349), read for the compared pairs alone: a corpus of two gigabytes takes some ten megabytes."""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray

from residency.data.curation.batch import Batch, Row
from residency.data.curation.observed import Observed
from residency.data.curation.words import WordHashes, hash_words, mix
from residency.data.steps.settings import DuplicatesSettings

Ints = NDArray[np.int64]
SEED = 1
PAIRS = 1 << 16  # compared at a time


class Duplicates:
    """The step; see the module."""

    def __init__(self, settings: DuplicatesSettings) -> None:
        self.settings = settings

    def observe(self, batch: Batch) -> dict[str, NDArray[np.generic]]:
        """Signature bytes `[rows, hashes]`, a hash of each band `[rows]`, of what is asked, and which are held out."""
        signature = signatures(batch.ngrams(self.settings.words), self.settings.bands * self.settings.rows)
        bands = signature.reshape(len(signature), self.settings.bands, self.settings.rows).astype(np.uint64)
        told: dict[str, NDArray[np.generic]] = {"asked": _asked(batch)}
        told |= {"held_out": np.array([bool(row.get("held_out")) for row in batch.rows])}
        alone = np.array(
            [zlib.crc32(str(row["id"]).encode("utf-8", "replace")) for row in batch.rows], dtype=np.uint64
        )
        for number in range(self.settings.bands):
            hashes = np.zeros(len(signature), dtype=np.uint64)
            for place in range(self.settings.rows):
                hashes = mix(hashes + bands[:, number, place] + np.uint64(1))
            # A document without words is nobody's duplicate: its hash is its own.
            told[f"band_{number:02d}"] = np.where(batch.words.counts == 0, mix(alone), hashes)
        return {**told, "signature": (signature & 0xFF).astype(np.uint8)}

    def apply(self, batch: Batch, decision: Ints) -> list[str | None]:
        """Drop what another document stands for."""
        reasons: list[str | None] = []
        for number, stays in zip(batch.numbers.tolist(), decision[batch.numbers].tolist(), strict=True):
            reasons.append(None if number == stays else "duplicate")
        return reasons

    def decide(self, observed: Observed) -> Ints:
        """`[documents]`: the document that stays of each one's cluster."""
        if not len(observed):
            return np.zeros(0, dtype=np.int64)
        held_out = observed["held_out"].astype(bool)
        preferred = np.argsort(~held_out, kind="stable")  # place in the order of preference -> document
        place = np.empty_like(preferred)
        place[preferred] = np.arange(len(preferred))
        label = np.arange(len(preferred))
        for number in range(self.settings.bands):
            hashes = observed[f"band_{number:02d}"][preferred]
            left, right = _agreeing(hashes)
            new = label[left] != label[right]
            left, right = left[new], right[new]
            alike = self._alike(observed, preferred, left, right)
            _join(label, left[alike], right[alike])
        return preferred[label[place]]

    def counts_of(self, decision: Ints) -> dict[str, int]:
        """For the ledger: clusters of two and more documents by their size, `clusters_of_2` and so on."""
        sizes, times = np.unique(np.bincount(decision), return_counts=True)
        counted = zip(sizes.tolist(), times.tolist(), strict=True)
        return {f"clusters_of_{size}": clusters for size, clusters in counted if size > 1}

    def _alike(self, observed: Observed, preferred: Ints, left: Ints, right: Ints) -> NDArray[np.bool_]:
        """Whether the signatures of each pair agree enough; a byte agrees by chance once in 256."""
        agreement = np.empty(len(left))
        for at in range(0, len(left), PAIRS):
            one, other = (preferred[side[at : at + PAIRS]] for side in (left, right))
            same = (observed.at("signature", one) == observed.at("signature", other)).mean(axis=1)
            agreement[at : at + PAIRS] = (same - 1 / 256) / (1 - 1 / 256)
        asked = observed["asked"][preferred]
        return np.asarray((agreement >= self.settings.similarity) & (asked[left] == asked[right]))


def _asked(batch: Batch) -> NDArray[np.uint64]:
    """`[rows]`: hash of the words of a row's question, or of all of a dialogue but its last message; 0 for text."""
    words = hash_words(["\n".join(question(row)) for row in batch.rows])
    place = np.arange(len(words.hashes)) - np.repeat(words.offsets[:-1], words.counts)
    sums = np.append(np.uint64(0), np.cumsum(mix(words.hashes + place.astype(np.uint64)), dtype=np.uint64))
    return sums[words.offsets[1:]] - sums[words.offsets[:-1]]


def question(row: Row) -> list[str]:
    """What a row asks; nothing for running text."""
    asked = row.get("prompt") or row.get("messages", [])[:-1]
    return [asked] if isinstance(asked, str) else [message["content"] for message in asked]


def signatures(ngrams: WordHashes, hashes: int) -> NDArray[np.uint32]:
    """MinHash signatures `[texts, hashes]` of sets of n-grams."""
    import rensa

    matrix = rensa.RMinHash.digest_matrix_from_flat_token_hashes(
        ngrams.hashes, ngrams.offsets.astype(np.uint64), hashes, SEED
    )
    return np.array(matrix.to_rows(), dtype=np.uint32).reshape(len(ngrams), hashes)


def _agreeing(hashes: NDArray[np.uint64]) -> tuple[Ints, Ints]:
    """Pairs of places with the same hash: each with the one before it and with the first of its group."""
    order = np.argsort(hashes, kind="stable")
    same = hashes[order][1:] == hashes[order][:-1]
    starts = np.where(np.concatenate([[False], same]), 0, np.arange(len(order)))
    first = order[np.maximum.accumulate(starts)][1:][same]
    before, after = order[:-1][same], order[1:][same]
    return np.concatenate([first, before]), np.concatenate([after, after])


def _join(label: Ints, left: Ints, right: Ints) -> None:
    """Give both ends of every pair, and all that hangs on them, the least label (in place)."""
    while len(left):
        least = np.minimum(label[left], label[right])
        np.minimum.at(label, label[left], least)
        np.minimum.at(label, label[right], least)
        while not np.array_equal(label, label[label]):
            label[:] = label[label]
        apart = label[left] != label[right]
        left, right = left[apart], right[apart]
