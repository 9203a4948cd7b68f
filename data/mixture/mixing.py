"""Takes from each corpus its tokens: documents in an order reshuffled every epoch, until there are as many as planned.

Only documents that are used are encoded, and each once; an epoch more costs nothing but a list of numbers. A budget
that ends inside a document of running text cuts it there, so that the mixture is met to the token; a dialogue is
taken or left whole. How much is planned says `residency.data.mixture.shares`, in which order it is seen
`residency.data.mixture.ordering`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from residency.data.mixture.documents import Documents
from residency.data.mixture.shards import ShardWriter
from residency.data.tokenization.encoding import DialogueEncoder, TextEncoder
from residency.errors import ResidencyError

Ints = NDArray[np.int64]
BATCH = 2048  # documents encoded at a time
LARGEST_DRIFT = 0.005  # of a corpus' share, absolute


@dataclass(frozen=True)
class Taken:
    """What was taken of one corpus, in order; a document of several epochs stands there several times."""

    name: str
    starts: Ints
    lengths: Ints
    difficulty: NDArray[np.float64]
    """Of each document; NaN where its row has none."""
    loss_tokens: int
    documents: int
    """Different documents."""
    epochs: float
    """Documents taken per document of the corpus."""
    truncated: int
    """Different dialogues that were cut to a row."""
    truncated_tokens: int
    """What these dialogues lost."""

    @property
    def tokens(self) -> int:
        return int(self.lengths.sum())


@dataclass(frozen=True)
class Span:
    """One encoded document in the token file."""

    start: int
    length: int
    loss_tokens: int
    difficulty: float
    lost: int
    """Tokens behind the cut."""


class Source:
    """One corpus, encoded as far as it was asked for.

    Args:
        longest_dialogue: dialogues are cut at so many tokens; None: never.
    """

    def __init__(
        self,
        name: str,
        rows: Documents,
        encode: TextEncoder | DialogueEncoder,
        writer: ShardWriter,
        seed: int,
        longest_dialogue: int | None = None,
    ) -> None:
        self.name, self.rows, self.encode, self.writer, self.seed = name, rows, encode, writer, seed
        self.longest_dialogue = longest_dialogue
        self.spans: list[Span] = []
        """Encoded documents in the order of the first epoch."""
        self.held = 0
        """Tokens in `spans`."""
        self.longest = (0, "")

    @property
    def whole(self) -> bool:
        """Whether its documents are never cut."""
        return isinstance(self.encode, DialogueEncoder)

    def encode_until(self, tokens: float) -> int:
        """Encode documents until they hold `tokens` tokens, or all; returns how many they hold."""
        order = self._order(0, len(self.rows))
        while self.held < tokens and len(self.spans) < len(self.rows):
            rows = self.rows[order[len(self.spans) : len(self.spans) + BATCH].tolist()]
            ids, loss = self.encode(rows)
            full = [len(document) for document in ids]
            if self.whole and self.longest_dialogue:
                ids = [document[: self.longest_dialogue] for document in ids]
                loss = [mask[: self.longest_dialogue] for mask in loss]
            enough = (
                int(np.searchsorted(self.held + np.cumsum([len(document) for document in ids]), tokens)) + 1
            )
            start = self.writer.length
            self.writer.append(ids[:enough], loss[:enough])
            for row, length, mask in zip(rows[:enough], full, loss, strict=False):
                difficulty = row.get("difficulty", math.nan)
                self.spans.append(Span(start, len(mask), int(mask.sum()), difficulty, length - len(mask)))
                start += len(mask)
                self.held += len(mask)
                self.longest = max(self.longest, (length, row["id"]))
        return self.held

    def take(self, tokens: int) -> Taken:
        """Documents that hold `tokens` tokens: exactly so many of running text, the nearest number of dialogues."""
        self.encode_until(tokens)
        lengths = np.asarray([span.length for span in self.spans], dtype=np.int64)
        chosen, left, epoch = [], tokens, 0
        while left > 0:
            # The first epoch was encoded in its order.
            numbers = self._order(epoch, len(lengths)) if epoch else np.arange(len(lengths))
            held = np.cumsum(lengths[numbers])
            chosen.append(numbers[: int(np.searchsorted(held, left)) + 1])
            left -= int(held[-1])
            epoch += 1
        used = np.concatenate(chosen)
        excess = int(lengths[used].sum()) - tokens
        if self.whole and excess > lengths[used[-1]] / 2 and len(used) > 1:
            used = used[:-1]
        return self._taken(used, lengths[used], 0 if self.whole else excess)

    def _taken(self, used: Ints, lengths: Ints, excess: int) -> Taken:
        """The documents `used`, the last without its last `excess` tokens."""
        lengths[-1] -= excess
        spans = [self.spans[number] for number in np.unique(used)]
        loss = np.asarray([span.loss_tokens for span in self.spans], dtype=np.int64)[used]
        loss[-1] = max(0, loss[-1] - excess)
        return Taken(
            name=self.name,
            starts=np.asarray([span.start for span in self.spans], dtype=np.int64)[used],
            lengths=lengths,
            difficulty=np.asarray([span.difficulty for span in self.spans])[used],
            loss_tokens=int(loss.sum()),
            documents=len(spans),
            epochs=len(used) / len(self.rows),
            truncated=sum(span.lost > 0 for span in spans),
            truncated_tokens=sum(span.lost for span in spans),
        )

    def _order(self, epoch: int, documents: int) -> Ints:
        random = np.random.default_rng([self.seed, epoch, *self.name.encode()])
        return random.permutation(documents).astype(np.int64)


def check_shares(taken: list[Taken], planned: dict[str, int]) -> dict[str, dict[str, Any]]:
    """The receipt: planned and realised share of each corpus.

    Raises:
        ResidencyError: they differ by more than half a percent.
    """
    total, wanted = sum(part.tokens for part in taken), sum(planned.values())
    receipt = {}
    for part in taken:
        plan, realised = planned[part.name] / wanted, part.tokens / total
        if abs(realised - plan) > LARGEST_DRIFT:
            raise ResidencyError(
                f"mixture: {part.name} has {realised:.1%} of the tokens, planned {plan:.1%}: "
                "its dialogues are too long to come nearer",
                cure="Raise tokens",
            )
        receipt[part.name] = {
            "planned": plan,
            "realised": realised,
            "tokens": part.tokens,
            "documents": part.documents,
            "epochs": part.epochs,
            "truncated": part.truncated,
            "truncated_tokens": part.truncated_tokens,
        }
    return receipt
