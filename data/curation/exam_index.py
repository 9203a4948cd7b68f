"""An index of exam items by their word 5-grams, to find them in training text.

An item is found by its *stem* (the question), of which a document must hold a good part word for word; letters,
case and punctuation do not matter, and where the options stand or in which order neither. A stem too short to be
telling is joined with its options, in every order, or with its first reference answer. What a question is about (its
`context`: an abstract, a note) is looked for by itself: a document that holds either is a hit. 5-grams that many items
share ("which of the following is the") tell nothing by themselves: some of what matches must be rare among the items.
(5-grams, because deduplication has hashed them already; GPT-3 used 13-grams, arXiv:2005.14165, Tülu 3 8-grams with half
of the tokens covered, arXiv:2411.15124.)"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from itertools import islice, permutations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from residency.artifact import write_json
from residency.data.curation.batch import Batch
from residency.data.curation.words import WordHashes, hash_words

Row = dict[str, Any]
Ints = NDArray[np.int64]
WORDS = 5
TELLING = 9  # words in 5-grams of few items; a stem with fewer is joined with its options
JOINED_COVERAGE = 0.9  # share of the words of a joined stem that must be found
RARE_ITEMS, RARE_GRAMS = 3, 3  # a 5-gram of at most so many items is rare; so many rare ones must be found
COMMON_ITEMS = 64  # a 5-gram of more items is not looked for
GAP = 24  # words between two 5-grams of one stretch
STEM_CHARACTERS = 20_000  # of a longer question its beginning is looked for
LONGEST = 1 << 16  # more words than a phrase has
ORDERS = 24  # at most so many orders of the options
TABLE_BITS = 24
LETTERS = "ABCDEFGHIJ"


class ExamIndex:
    """5-grams of the items of some tasks; `find` says which items the rows of a batch hold.

    Attributes:
        items: `{task, item, text}` of each item.
    """

    def __init__(self, items: list[dict[str, str]], arrays: dict[str, NDArray[Any]]) -> None:
        self.items = items
        self.arrays = arrays
        self.grams: NDArray[np.uint64] = arrays["grams"]
        self.table = np.zeros(1 << TABLE_BITS, dtype=bool)
        self.table[self.grams >> np.uint64(64 - TABLE_BITS)] = True

    @classmethod
    def build(cls, tasks: Mapping[str, Iterable[Row]]) -> ExamIndex:
        """From the items of each task, as `residency.data.rows.schema` has them (choice, answer or preference rows)."""
        rows = [(task, row) for task, items in tasks.items() for row in items]
        stems = [_stem(row) for _, row in rows]
        telling = _telling_words(stems) >= TELLING
        phrases: list[str] = []
        owner: list[int] = []
        joined: list[bool] = []
        for number, (_, row) in enumerate(rows):
            options = [option[: STEM_CHARACTERS // 10] for option in _options(row)]
            alone = telling[number] or not options
            found = [stems[number]] if alone else _joined(stems[number], options)
            phrases += found
            joined += [not telling[number]] * len(found)
            if row.get("context"):
                phrases.append(row["context"][:STEM_CHARACTERS])
                joined.append(False)
            owner += [number] * (len(phrases) - len(owner))
        items = [
            {"task": task, "item": str(row["id"]), "text": f"{row.get('context', '')}\n\n{stem}".strip()}
            for (task, row), stem in zip(rows, stems, strict=True)
        ]
        return cls(items, _arrays(phrases, np.array(owner, dtype=np.int64), np.array(joined, dtype=bool)))

    def save(self, directory: Path) -> None:
        """Write the index into a directory."""
        directory.mkdir(parents=True, exist_ok=True)
        np.savez(directory / "index.npz", **self.arrays)  # type: ignore[arg-type]
        write_json(directory / "items.json", self.items)

    @classmethod
    def load(cls, directory: Path) -> ExamIndex:
        """Read what `save` wrote."""
        with np.load(directory / "index.npz") as arrays:
            return cls(json.loads((directory / "items.json").read_text()), dict(arrays))

    def find(self, batch: Batch, coverage: float) -> list[tuple[int, int, float]]:
        """Row of the batch, number of the item and share of its words found; one entry a row and item."""
        row, phrase, place, at = self._matches(batch)
        if not len(row):
            return []
        # Stretches of the row in which one phrase's 5-grams stand close together.
        order = np.lexsort((at, phrase, row))
        row, phrase, place, at = row[order], phrase[order], place[order], at[order]
        begins = np.ones(len(row), dtype=bool)
        begins[1:] = (row[1:] != row[:-1]) | (phrase[1:] != phrase[:-1]) | (np.diff(at) > GAP)
        stretch = np.cumsum(begins) - 1
        row, phrase = row[begins], phrase[begins]
        words = self.arrays["words"][phrase]
        share = np.where(self.arrays["joined"][phrase], JOINED_COVERAGE, coverage)
        needed = np.maximum(np.minimum(words, TELLING), np.floor(share * words)).astype(np.int64)
        # Words in one run have four 5-grams fewer than words: scattered 5-grams that cover as many are chance.
        enough = np.bincount(stretch) > needed - WORDS
        place, stretch = place[enough[stretch]], stretch[enough[stretch]]
        counts = _covered(stretch, place, len(row))
        runs = np.bincount(np.unique(stretch * LONGEST + place) // LONGEST, minlength=len(row))
        enough &= (counts >= needed) & (runs > needed - WORDS)
        rare = self.arrays["rare"][self.arrays["starts"][phrase[stretch]] + place]
        found = np.bincount(stretch, weights=rare, minlength=len(row))
        enough &= found >= np.minimum(RARE_GRAMS, self.arrays["rare_of"][phrase])
        best: dict[tuple[int, int], float] = {}
        for one in np.flatnonzero(enough):
            pair = int(row[one]), int(self.arrays["owner"][phrase[one]])
            best[pair] = max(best.get(pair, 0.0), float(counts[one] / words[one]))
        return [(*pair, share) for pair, share in sorted(best.items())]

    def _matches(self, batch: Batch) -> tuple[Ints, Ints, Ints, Ints]:
        """Row, phrase, place in the phrase and in the batch of every 5-gram of the batch that stands in a phrase."""
        grams = batch.ngrams(WORDS)
        at = np.flatnonzero(self.table[grams.hashes >> np.uint64(64 - TABLE_BITS)])
        found = np.minimum(np.searchsorted(self.grams, grams.hashes[at]), max(0, len(self.grams) - 1))
        hit = self.grams[found] == grams.hashes[at] if len(self.grams) else np.zeros(0, dtype=bool)
        at, found = at[hit], found[hit]
        row = np.searchsorted(grams.offsets, at, side="right") - 1
        first, last = self.arrays["posting_starts"][found], self.arrays["posting_starts"][found + 1]
        times = last - first
        posting = (
            np.repeat(first, times) + np.arange(times.sum()) - np.repeat(np.cumsum(times) - times, times)
        )
        return (
            np.repeat(row, times),
            self.arrays["phrase"][posting],
            self.arrays["place"][posting],
            np.repeat(at, times),
        )


def _stem(row: Row) -> str:
    prompt = row["prompt"]
    text = prompt if isinstance(prompt, str) else "\n".join(message["content"] for message in prompt)
    if "ending" in row:
        text = f"{row['options'][row['answer']]} {row['ending']}"
    return text[:STEM_CHARACTERS]


def _options(row: Row) -> list[str]:
    """What a short stem is joined with."""
    if "ending" in row:  # the stem holds its option
        return []
    return list(row.get("options") or row.get("answers", ())[:1])


def _telling_words(stems: list[str]) -> Ints:
    """`[stems]`: words of each that stand in 5-grams of few items."""
    words = hash_words(stems)
    grams, stem = _owned(words)
    few = _items(grams.hashes, stem) <= RARE_ITEMS
    place = np.arange(len(stem)) - grams.offsets[:-1][stem]
    counts = _covered(stem[few], place[few], len(stems))
    return np.where(words.counts >= WORDS, counts, 0)


def _joined(stem: str, options: list[str]) -> list[str]:
    """A stem that tells little, with as many options as it takes, each first once, with and without letters."""
    words = [len(hash_words([text]).hashes) for text in (stem, *options)]
    shortest, count = sorted(words[1:]), 1
    while count < len(options) and words[0] + sum(shortest[:count]) < TELLING:
        count += 1
    found = []
    for some in islice(permutations(options, count), ORDERS):
        found.append(f"{stem} " + " ".join(some))
        found.append(
            f"{stem} " + " ".join(f"{letter} {text}" for letter, text in zip(LETTERS, some, strict=False))
        )
    return found


def _owned(words: WordHashes) -> tuple[WordHashes, Ints]:
    """5-grams, and the number of the text of each."""
    grams = words.ngrams(WORDS)
    return grams, np.repeat(np.arange(len(words)), grams.counts)


def _items(grams: NDArray[np.uint64], owner: Ints) -> Ints:
    """`[grams]`: in how many items each stands."""
    pairs = np.unique(np.stack([grams, owner.astype(np.uint64)]), axis=1)
    known, items = np.unique(pairs[0], return_counts=True)
    return items[np.searchsorted(known, grams)] if len(known) else np.zeros(0, dtype=np.int64)


def _arrays(phrases: list[str], owner: Ints, joined: NDArray[np.bool_]) -> dict[str, NDArray[Any]]:
    """Arrays of an index; `owner` and `joined` say of each phrase whose it is, and whether a stem too short alone."""
    words = hash_words(phrases)
    grams, phrase = _owned(words)
    place = np.arange(len(phrase)) - grams.offsets[:-1][phrase]
    items = _items(grams.hashes, owner[phrase])
    rare = items <= RARE_ITEMS
    order = np.argsort(grams.hashes, kind="stable")
    order = order[items[order] <= COMMON_ITEMS]
    unique, first = np.unique(grams.hashes[order], return_index=True)
    return {
        "grams": unique,
        "posting_starts": np.append(first, len(order)),
        "phrase": phrase[order],
        "place": place[order],
        "starts": grams.offsets[:-1],
        "rare": rare,
        "rare_of": np.bincount(phrase, weights=rare, minlength=len(phrases)),
        # Of a joined phrase only the words count that 5-grams which are looked for can cover.
        "words": np.where(joined, _covered(phrase[order], place[order], len(phrases)), words.counts),
        "owner": owner,
        "joined": joined,
    }


def _covered(of: Ints, place: Ints, count: int) -> Ints:
    """`[count]`: distinct words of each text (or stretch) `of` that its 5-grams at `place` cover, five each."""
    places = np.minimum(place[:, None] + np.arange(WORDS), LONGEST - 1)
    return np.bincount(np.unique(of[:, None] * LONGEST + places) // LONGEST, minlength=count)
