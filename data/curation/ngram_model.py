"""A small language model of words, to say how much a text sounds like a reference corpus. No torch here.

What: word bigrams with interpolated absolute discounting (Ney, Essen & Kneser 1994, "On structuring probabilistic
dependences in stochastic language modelling"), trained in one pass over the words' hashes, in tables of fixed size.

Why so: on the mix of `tests/bench/data_rank.py`, trigrams, Kneser-Ney counts and open vocabularies of 2^17 or 2^20
words moved the share of medical text among the best fifth by one point at most; single words lost eight.

A table keeps a word or pair under 32 bits of its hash, in one of four places that the highest bits name. When these
are taken, later ones are not learnt: what is frequent comes early, so a corpus that is too large for the tables loses
rare pairs first."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from residency.data.curation.batch import Batch
from residency.data.curation.parts import whole
from residency.data.curation.words import BASE, Hashes, Ints, WordHashes, mix
from residency.errors import ResidencyError

Row = dict[str, Any]
DISCOUNT = (
    0.75  # taken off every count (Chen & Goodman 1999 find 0.7 to 0.9 on corpora of a million words and more)
)
OPEN_VOCABULARY = (
    1 << 16
)  # words that share what is left for unseen ones; the same in all models that are compared
START = np.array([0x5851F42D4C957F2D], dtype=np.uint64)  # stands before the first word of a text
WORD_SLOTS, PAIR_SLOTS = 1 << 20, 1 << 22
PLACES = 4
KEY_BITS = np.uint64(64 - WORD_SLOTS.bit_length())  # of a pair's key that are no slot
BATCH_CHARACTERS = 1 << 20


class Table:
    """Counts by hash, of a fixed size.

    Attributes:
        checks: `[slots + 1]` uint32, 32 bits of the hash that a slot belongs to, or 0.
        counts: `[slots + 1]` uint32. The last slot stands for all that is not in the table and stays 0.
    """

    def __init__(self, slots: int) -> None:
        assert slots & (slots - 1) == 0, slots
        self.slots, self.bits = slots, slots.bit_length() - 1
        self.checks = np.zeros(slots + 1, dtype=np.uint32)
        self.counts = np.zeros(slots + 1, dtype=np.uint32)

    def find(self, hashes: Hashes, *, claim: bool = False) -> Ints:
        """Slot of each hash, `slots` where it has none.

        Args:
            hashes: with `claim`, all different.
            claim: give those that have none a free slot.
        """
        checks = hashes.astype(np.uint32) | np.uint32(1)
        first = (hashes >> np.uint64(64 - self.bits)).astype(np.int64)
        found = np.full(len(hashes), self.slots)
        waiting = np.arange(len(hashes))
        for place in range(PLACES):
            slot = first[waiting] ^ place
            there = self.checks[slot]
            if claim:
                free = there == 0
                self.checks[slot[free]] = checks[
                    waiting[free]
                ]  # of several that want one slot the last gets it
                there = self.checks[slot]
            hit = there == checks[waiting]
            found[waiting[hit]] = slot[hit]
            # Nothing is ever taken out: behind a free slot there is nothing to find.
            waiting = waiting[~hit & (there != 0)]
        return found

    def add(self, slots: Ints, times: Ints) -> None:
        """Add to the counts of different slots."""
        self.counts[slots] += times.astype(np.uint32)
        self.counts[self.slots] = 0


class NgramModel:
    """The model; empty until `add`.

    Attributes:
        words, pairs: how often each was seen.
        followed: `[word slots + 1]`, how many of the pairs that begin with a word are counted in `pairs`.
        followers: `[word slots + 1]`, how many of them are different.
    """

    def __init__(self, word_slots: int = WORD_SLOTS, pair_slots: int = PAIR_SLOTS) -> None:
        assert word_slots <= WORD_SLOTS, word_slots
        self.words, self.pairs = Table(word_slots), Table(pair_slots)
        self.followed = np.zeros(word_slots + 1, dtype=np.uint32)
        self.followers = np.zeros(word_slots + 1, dtype=np.uint32)

    def add(self, words: WordHashes) -> None:
        """Count the words of some texts."""
        types, times = np.unique(
            words.hashes, return_counts=True
        )  # sorted, so that the tables are walked in order
        self.words.add(self.words.find(types, claim=True), times)
        self.words.find(START, claim=True)
        keys, times = np.unique(self._keys(words, self.words.find(words.hashes)), return_counts=True)
        slots = self.pairs.find(mix(keys), claim=True)
        new, kept = self.pairs.counts[slots] == 0, slots < self.pairs.slots
        self.pairs.add(slots, times)
        word = (keys[kept] >> KEY_BITS).astype(np.int64)
        np.add.at(self.followed, word, times[kept].astype(np.uint32))
        np.add.at(self.followers, word, new[kept].astype(np.uint32))
        self.followed[-1] = self.followers[-1] = 0

    def _keys(self, words: WordHashes, slots: Ints) -> Hashes:
        """Of each word and the one before it: the slot of the one before, and behind it bits of their hash.

        So the keys of a text, sorted, tell the first words without an index, and lie in the tables' order.
        """
        before = _shifted(words.hashes, words, START[0])
        hashes = mix(before * np.uint64(BASE) + words.hashes)
        return (self._before(words, slots).astype(np.uint64) << KEY_BITS) | (
            hashes >> (np.uint64(64) - KEY_BITS)
        )

    def _before(self, words: WordHashes, slots: Ints) -> Ints:
        """`[words]` slot of the word before each."""
        return _shifted(slots, words, self.words.find(START)[0])

    def surprisal(self, words: WordHashes) -> NDArray[np.float32]:
        """`[words]` negative log-likelihood of each word after the one before it, in nats."""
        total, types = int(self.words.counts.sum()), int(np.count_nonzero(self.words.counts))
        assert total, "the model has seen no words"
        slots = self.words.find(words.hashes)
        unseen = np.float32(DISCOUNT * types / OPEN_VOCABULARY)
        alone = (_discounted(self.words.counts[slots]) + unseen) / np.float32(total)
        before = self._before(words, slots)
        followed = self.followed[before].astype(np.float32)
        left = np.float32(DISCOUNT) * self.followers[before] * alone
        pairs = self.pairs.counts[self.pairs.find(mix(self._keys(words, slots)))]
        after = (_discounted(pairs) + left) / np.maximum(followed, 1)
        return np.asarray(-np.log(np.where(followed > 0, after, alone)), dtype=np.float32)

    def score(self, batch: Batch) -> NDArray[np.float64]:
        """`[rows]` mean negative log-likelihood in nats a word (log of the perplexity); 0 for a row without words."""
        sums = sums_of(self.surprisal(batch.words), batch.words.offsets)
        return np.asarray(sums / np.maximum(batch.words.counts, 1))

    def save(self, path: Path) -> None:
        """Write what the tables hold as one `.npz` file; equal models give equal bytes."""
        arrays = {"slots": np.array([self.words.slots, self.pairs.slots])}
        for name, table in (("word", self.words), ("pair", self.pairs)):
            taken = np.flatnonzero(table.checks)
            arrays[f"{name}_places"] = taken.astype(np.uint32)
            arrays[f"{name}_checks"], arrays[f"{name}_counts"] = table.checks[taken], table.counts[taken]
        taken = np.flatnonzero(self.words.checks)
        arrays["followed"], arrays["followers"] = self.followed[taken], self.followers[taken]
        with whole(path) as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: Path) -> NgramModel:
        """Read what `save` wrote.

        Raises:
            ResidencyError: the file is missing or holds something else.
        """
        try:
            with np.load(path, allow_pickle=False) as held:
                model = cls(*held["slots"].tolist())
                for name, table in (("word", model.words), ("pair", model.pairs)):
                    taken = held[f"{name}_places"]
                    table.checks[taken], table.counts[taken] = held[f"{name}_checks"], held[f"{name}_counts"]
                taken = held["word_places"]
                model.followed[taken], model.followers[taken] = held["followed"], held["followers"]
        except (OSError, ValueError, KeyError, TypeError, IndexError, zipfile.BadZipFile) as error:
            raise ResidencyError(
                f"{path}: not an n-gram model ({error})", cure="Delete it and run again"
            ) from error
        return model


@lru_cache(maxsize=4)
def open_model(path: Path) -> NgramModel:
    """`NgramModel.load`, once a process: steps travel to other processes without their models."""
    return NgramModel.load(path)


def train_model(rows: Iterable[Row]) -> NgramModel:
    """A model of the texts of a reference corpus, its normalised rows (`residency.data.rows.schema`).

    Raises:
        ResidencyError: they hold no words.
    """
    model = NgramModel()
    for batch in _batches(rows):
        model.add(batch.words)
    if not model.words.counts.any():
        raise ResidencyError(
            "the reference corpus holds no words", cure="Name another one under like or unlike"
        )
    return model


def sums_of(values: NDArray[Any], offsets: Ints) -> NDArray[np.float64]:
    """`[texts]` sums of the values of each text's words."""
    sums = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    return np.asarray(sums[offsets[1:]] - sums[offsets[:-1]])


def _batches(rows: Iterable[Row]) -> Iterator[Batch]:
    waiting: list[Row] = []
    characters = 0
    for row in rows:
        waiting.append(row)
        characters += len(Batch([row]).texts[0])
        if characters >= BATCH_CHARACTERS:
            yield Batch(waiting)
            waiting, characters = [], 0
    if waiting:
        yield Batch(waiting)


def _shifted(values: NDArray[Any], words: WordHashes, start: Any) -> NDArray[Any]:
    """Each word's predecessor's value, `start` at the beginning of a text."""
    before = np.empty_like(values)
    before[1:] = values[:-1]
    before[words.offsets[:-1][words.counts > 0]] = start
    return before


def _discounted(counts: NDArray[np.uint32]) -> NDArray[np.float32]:
    return np.asarray(np.maximum(counts.astype(np.float32) - np.float32(DISCOUNT), np.float32(0)))
