"""Rows of tokens for a model, where the pieces of an item are branches of one stem.

The options of a question share its prompt. One row holds the prompt once (the stem) and then every option (a branch);
each token is told its position within its own sequence and sees only the stem and its own branch, so a row gives the
same numbers as one row per option. This is the tree attention of speculative decoding (arXiv 2305.09781). Options of
one token need no branch: they are all read off the stem's last position.

What many items begin with (an instruction, solved examples) is their *prefix*, computed once and left out of the rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import takewhile

from residency.eval.items import Piece

WIDE = 4096  # attention to so many tokens costs about what the rest of a layer does


Reading = tuple[
    tuple[int, ...], list[tuple[int, Piece]]
]  # input ids; the pieces, with their index, that read them


@dataclass(frozen=True)
class Span:
    """Consecutive scored tokens: `targets` are predicted at `column` and the columns after it."""

    owner: int
    """Index of the piece."""
    column: int
    targets: list[int]


@dataclass
class TreeRow:
    """What a model reads in one row, behind the prefix."""

    ids: list[int]
    positions: list[int]
    branch: list[int]
    """Number of each token's branch; 0 is the stem."""
    spans: list[Span] = field(default_factory=list)

    @property
    def cost(self) -> float:
        """Tokens, those of attention's quadratic part included."""
        return len(self.ids) * (1 + len(self.ids) / WIDE)


def shared_length(sequences: Sequence[tuple[int, ...]]) -> int:
    """Length of what all sequences begin with."""
    first, last = min(sequences), max(sequences)  # in lexicographic order all others lie between
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False)))


def readings(pieces: Iterable[tuple[int, Piece]]) -> list[Reading]:
    """Distinct inputs and who reads them; continuations of one token that follow the same text share one."""
    readers: dict[tuple[int, ...], list[tuple[int, Piece]]] = {}
    for owner, piece in pieces:
        readers.setdefault(tuple(piece.ids[:-1]), []).append((owner, piece))
    return list(readers.items())


def plain_rows(items: Iterable[Sequence[Reading]]) -> list[TreeRow]:
    """One row per distinct input of all items."""
    readers: dict[tuple[int, ...], list[tuple[int, Piece]]] = {}
    for ids, some in (reading for item in items for reading in item):
        readers.setdefault(ids, []).extend(some)
    return [tree_row([each], 0, len(each[0])) for each in readers.items()]


def tree_row(inputs: Sequence[Reading], prefix: int, stem: int) -> TreeRow:
    """One row of inputs whose first `stem` tokens are the same; the first `prefix` of them are left out."""
    row = TreeRow(list(inputs[0][0][prefix:stem]), list(range(prefix, stem)), [0] * (stem - prefix))
    for number, (ids, readers) in enumerate(inputs, 1):
        branch = len(row.ids)
        row.ids += ids[stem:]
        row.positions += range(stem, len(ids))
        row.branch += [number] * (len(ids) - stem)
        for owner, piece in readers:
            # The token at place p is predicted at place p - 1: in the stem up to `turn`, then in the branch.
            turn = min(max(piece.start, stem + 1), len(piece.ids))
            if piece.start < turn:
                row.spans.append(Span(owner, piece.start - 1 - prefix, piece.ids[piece.start : turn]))
            if turn < len(piece.ids):
                row.spans.append(Span(owner, branch + turn - 1 - stem, piece.ids[turn:]))
    return row


def item_rows(inputs: Sequence[Reading], prefix: int) -> list[TreeRow]:
    """Rows of one item behind its prefix: one with branches, or one per input where that is cheaper (two long replies
    to a short question: most of a row's attention would be masked)."""
    apart = [tree_row([each], prefix, len(each[0])) for each in inputs]
    stem = shared_length([ids for ids, _ in inputs])
    if len(inputs) == 1 or stem == 0:
        return apart
    together = tree_row(inputs, prefix, stem)
    return [together] if together.cost <= sum(row.cost for row in apart) else apart
