"""Packs documents into rows of `max_length` tokens: nothing truncated, nothing dropped, almost nothing
padded.

What: best-fit decreasing over all documents at once (Johnson 1974; used for training in arXiv 2404.10830).
Each segment goes into the fullest row that still has room for it.

How: all segments of one length are placed together, because best fit then fills one row after another; the
state is only "which rows have s tokens left", so a million segments take well under a second, and the result
is exactly that of placing them one by one.

A document longer than a row is split. Its continuation starts one token early: the overlap gives context and
carries no loss, so every token but the document's first is predicted exactly once."""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


def split(starts: Ints, lengths: Ints, max_length: int) -> Ints:
    """Segments of documents, `[segments, 2]` (start, end), in the documents' order.

    Args:
        starts: `[documents]`, where each begins in the flat token file.
        lengths: `[documents]`, tokens of each, at least 1.
        max_length: longest segment, at least 2.
    """
    assert max_length > 1, max_length
    step = max_length - 1
    counts = np.maximum(1, -(-(lengths - 1) // step))
    document = np.repeat(np.arange(len(lengths)), counts)
    place = np.arange(len(document)) - np.repeat(np.cumsum(counts) - counts, counts)
    start = starts[document] + place * step
    end = np.minimum(start + max_length, (starts + lengths)[document])
    return np.stack([start, end], axis=1).astype(np.int64)


def best_fit(lengths: Ints, capacity: int, random: np.random.Generator) -> Ints:
    """The row of each segment, `[segments]`; rows count from 0 in the order in which they were opened.

    Args:
        lengths: `[segments]`, each from 1 to `capacity`.
        random: breaks ties between segments of one length.
    """
    assert not len(lengths) or (lengths.min() >= 1 and lengths.max() <= capacity)
    shuffled = random.permutation(len(lengths))
    order = shuffled[np.argsort(-lengths[shuffled], kind="stable")]
    sizes, counts = np.unique(lengths, return_counts=True)
    row_of = np.empty(len(lengths), dtype=np.int64)
    room: dict[int, list[int]] = {}  # tokens left -> rows
    rooms: list[int] = []  # the keys of `room`, sorted
    opened, at = 0, 0
    for size, count in zip(sizes[::-1].tolist(), counts[::-1].tolist(), strict=True):
        while count:
            place = bisect_left(rooms, size)
            if place == len(rooms):
                fresh = -(-count // (capacity // size))
                _leave(room, rooms, capacity, list(range(opened, opened + fresh)))
                opened += fresh
                place = len(rooms) - 1
            used = _fill(room, rooms, rooms[place], size, count)
            row_of[order[at : at + len(used)]] = used
            at, count = at + len(used), count - len(used)
    return row_of


def pack(segments: Ints, max_length: int, random: np.random.Generator) -> tuple[Ints, Ints]:
    """Segments in packed order `[segments, 2]`, and where each row starts in them `[rows + 1]`, shuffled."""
    row_of = best_fit(segments[:, 1] - segments[:, 0], max_length, random)
    rows = int(row_of.max()) + 1 if len(row_of) else 0
    shuffled = random.permutation(rows)[row_of]
    order = np.argsort(shuffled, kind="stable")
    offsets = np.concatenate([[0], np.cumsum(np.bincount(shuffled, minlength=rows))])
    return segments[order], offsets.astype(np.int64)


def _fill(room: dict[int, list[int]], rooms: list[int], left: int, size: int, count: int) -> NDArray[Any]:
    """Put up to `count` segments of one size into rows with `left` tokens free; returns the row of each."""
    fit, rows = left // size, room[left]
    full = _take(rows, count // fit)
    # A last row takes what does not fill one.
    last = _take(rows, 1) if len(full) == count // fit and count % fit else []
    if not rows:
        del room[left]
        rooms.remove(left)
    _leave(room, rooms, left - fit * size, full)
    _leave(room, rooms, left - (count % fit) * size, last)
    used = [
        np.repeat(np.asarray(full, dtype=np.int64), fit),
        np.repeat(np.asarray(last, dtype=np.int64), count % fit),
    ]
    return np.concatenate(used)


def _take(rows: list[int], count: int) -> list[int]:
    """Remove up to `count` rows from the end of `rows` and return them."""
    at = max(0, len(rows) - count)
    taken, rows[at:] = rows[at:], []
    return taken


def _leave(room: dict[int, list[int]], rooms: list[int], left: int, rows: list[int]) -> None:
    """Note that `rows` have `left` tokens free."""
    if not rows or not left:
        return
    if left not in room:
        room[left] = []
        insort(rooms, left)
    room[left] += rows
