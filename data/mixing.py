"""How much of each corpus: whole documents, in an order reshuffled every epoch, until its share is reached.

Only documents that are used are encoded, and each once; an epoch more costs nothing but a list of numbers. A
corpus' position in its own sequence is kept, so that `passes` can spread all corpora evenly over the
training."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from residency.data.documents import Documents
from residency.data.encoding import DialogueEncoder, TextEncoder
from residency.data.shards import ShardWriter
from residency.errors import ResidencyError

Ints = NDArray[np.int64]
BATCH = 512  # documents encoded at a time
ROWS_PER_PASS = 16  # a pass's last row is not full: with fewer rows, too much would be padding


@dataclass(frozen=True)
class Taken:
    """What was taken of one corpus, in order; a document of several epochs stands there several times."""

    name: str
    starts: Ints
    lengths: Ints
    loss_tokens: int
    documents: int
    """Different documents."""
    epochs: float
    """Documents taken per document of the corpus."""

    @property
    def tokens(self) -> int:
        return int(self.lengths.sum())


class Source:
    """One corpus, encoded as far as it was asked for."""

    def __init__(
        self, name: str, corpus: Path, encode: TextEncoder | DialogueEncoder, writer: ShardWriter, seed: int
    ) -> None:
        self.name, self.encode, self.writer, self.seed = name, encode, writer, seed
        self.rows = Documents(corpus)
        self.spans: list[tuple[int, int, int]] = []
        """Start, length and tokens with loss of each encoded document, in the order of the first epoch."""
        self.longest = (0, "")

    def encode_until(self, tokens: float) -> int:
        """Encode documents until they hold `tokens` tokens, or all; returns how many they hold."""
        held = sum(length for _, length, _ in self.spans)
        order = self._order(0, len(self.rows))
        while held < tokens and len(self.spans) < len(self.rows):
            rows = self.rows[order[len(self.spans) : len(self.spans) + BATCH].tolist()]
            ids, loss = self.encode(rows)
            enough = int(np.searchsorted(held + np.cumsum([len(document) for document in ids]), tokens)) + 1
            start = self.writer.length
            self.writer.append(ids[:enough], loss[:enough])
            for row, document, mask in zip(rows[:enough], ids, loss, strict=False):
                self.spans.append((start, len(document), sum(mask)))
                start += len(document)
                held += len(document)
                self.longest = max(self.longest, (len(document), row["id"]))
        return held

    def take(self, tokens: int) -> Taken:
        """Documents that hold `tokens` tokens or, with the last one, a few more."""
        self.encode_until(tokens)
        self.rows.close()
        spans = np.asarray(self.spans, dtype=np.int64)
        order, left, epoch = [], tokens, 0
        while left > 0:
            # The first epoch was encoded in its order.
            numbers = self._order(epoch, len(spans)) if epoch else np.arange(len(spans))
            held = np.cumsum(spans[numbers, 1])
            order.append(numbers[: int(np.searchsorted(held, left)) + 1])
            left -= int(held[-1])
            epoch += 1
        used = spans[np.concatenate(order)]
        documents = len(np.unique(used[:, 0]))
        return Taken(
            self.name, used[:, 0], used[:, 1], int(used[:, 2].sum()), documents, len(used) / len(self.rows)
        )

    def _order(self, epoch: int, documents: int) -> Ints:
        random = np.random.default_rng([self.seed, epoch, *self.name.encode()])
        return random.permutation(documents).astype(np.int64)


def check_shares(taken: list[Taken], shares: dict[str, float], longest: int) -> dict[str, dict[str, Any]]:
    """The receipt: planned and realised share of each corpus.

    Raises:
        ResidencyError: they differ by more than half a percent and more than one document explains.
    """
    total = sum(part.tokens for part in taken)
    allowed = max(0.005, longest / total)
    receipt = {}
    for part in taken:
        planned, realised = shares[part.name], part.tokens / total
        if abs(realised - planned) > allowed:
            raise ResidencyError(
                f"mixture: {part.name} has {realised:.1%} of the tokens, planned {planned:.1%}",
                cure="Raise tokens",
            )
        receipt[part.name] = {
            "planned": planned,
            "realised": realised,
            "tokens": part.tokens,
            "documents": part.documents,
            "epochs": part.epochs,
        }
    return receipt


def passes(taken: list[Taken], max_length: int) -> list[tuple[Ints, Ints]]:
    """Starts and lengths of the documents of each pass.

    A pass is the same stretch of every corpus' sequence and at most about one epoch of any. Packing pass by
    pass keeps two epochs of one document apart (best fit would lay equal lengths into one row) and the
    mixture even over time.
    """
    rows = sum(part.tokens for part in taken) / max_length
    count = max(1, min(math.ceil(max(part.epochs for part in taken)), int(rows / ROWS_PER_PASS)))
    starts, lengths, places = [], [], []
    for part in taken:
        before = np.cumsum(part.lengths) - part.lengths
        starts.append(part.starts)
        lengths.append(part.lengths)
        places.append(before * count // part.tokens)
    start, length, place = np.concatenate(starts), np.concatenate(lengths), np.concatenate(places)
    return [(start[place == number], length[place == number]) for number in range(count)]
