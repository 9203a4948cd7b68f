"""Packs documents into rows of `max_length` tokens: nothing truncated, nothing dropped, almost nothing
padded.

What: best-fit decreasing over all documents at once (Johnson 1974; used for training in arXiv 2404.10830).
Each segment goes into the fullest row that still has room for it.

How: all segments of one length are placed together, because best fit then fills one row after another; the
state is only "which rows have s tokens left", so a million segments take a tenth of a second, and the result
is exactly that of placing them one by one.

A document longer than a row is split. Its continuation starts one token early: the overlap gives context and
carries no loss, so every token but the document's first is predicted exactly once."""

from __future__ import annotations

from bisect import bisect_left, insort

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
    order = shuffled[_sorted(capacity - lengths[shuffled], capacity)]
    counts = np.bincount(lengths, minlength=capacity + 1)
    sizes = np.flatnonzero(counts)[::-1]
    rows, times = _place(sizes.tolist(), counts[sizes].tolist(), capacity)
    row_of = np.empty(len(lengths), dtype=np.int64)
    row_of[order] = np.repeat(np.asarray(rows, dtype=np.int64), np.asarray(times, dtype=np.int64))
    return row_of


def pack(
    segments: Ints, max_length: int, random: np.random.Generator, *, ordered: bool = False, before: int = 0
) -> tuple[Ints, Ints]:
    """Segments in packed order `[segments, 2]`, and where each row starts in them `[rows + 1]`.

    The rows are shuffled or, where the segments come in an `ordered` way, sorted by the mean place of their segments.

    Args:
        before: tokens for which room is left before every segment.
    """
    row_of = best_fit(segments[:, 1] - segments[:, 0] + before, max_length, random)
    rows = int(row_of.max(initial=-1)) + 1
    if ordered:
        places = np.bincount(row_of, weights=np.arange(len(row_of))) / np.bincount(row_of)
        row_of = np.argsort(np.argsort(places, kind="stable"))[row_of]
    else:
        row_of = random.permutation(rows)[row_of]
    order = _sorted(row_of, rows)
    offsets = np.concatenate([[0], np.cumsum(np.bincount(row_of, minlength=rows))])
    return segments.take(order, axis=0), offsets.astype(np.int64)


def _place(sizes: list[int], counts: list[int], capacity: int) -> tuple[list[int], list[int]]:
    """Rows in the order in which they are given segments, and how many each gets, of one size at a time.

    Args:
        sizes: the different lengths, longest first.
        counts: segments of each.
    """
    room: dict[int, list[int]] = {}  # tokens left -> rows
    lefts: list[int] = []  # the keys of `room`, sorted
    placed: list[int] = []
    times: list[int] = []
    opened = 0

    def leave(rows: list[int], left: int) -> None:
        if left in room:
            room[left] += rows
        elif left:
            room[left] = rows
            insort(lefts, left)

    for size, count in zip(sizes, counts, strict=True):
        while count:
            fullest = bisect_left(lefts, size)
            if fullest < len(lefts):
                left = lefts.pop(fullest)
                rows = room.pop(left)
            else:
                left = capacity
                rows = list(range(opened, opened - (-count // (capacity // size))))
                opened += len(rows)
            fit = left // size
            if others := rows[count // fit :]:
                rows = rows[: count // fit]
            if rows:
                placed += rows
                times += [fit] * len(rows)
                count -= fit * len(rows)
                leave(rows, left - fit * size)
            if count and others:  # fewer segments than fill a row
                last = others.pop()
                placed.append(last)
                times.append(count)
                leave([last], left - count * size)
                count = 0
            if others:
                leave(others, left)
    return placed, times


def _sorted(keys: Ints, highest: int) -> Ints:
    """Stable order of keys from 0 to `highest`; numpy sorts 16 bits by radix, many times faster."""
    return np.argsort(keys.astype(np.uint16) if highest < 2**16 else keys, kind="stable")
