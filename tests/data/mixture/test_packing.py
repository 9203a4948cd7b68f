from __future__ import annotations

import time
from itertools import pairwise

import numpy as np
import pytest

from residency.data.mixture.packing import best_fit, pack, split


def one_by_one(lengths: list[int], capacity: int) -> list[int]:
    """Room left in each row when best-fit decreasing places segments one at a time."""
    rooms: list[int] = []
    for length in sorted(lengths, reverse=True):
        fitting = [(room, row) for row, room in enumerate(rooms) if room >= length]
        if fitting:
            rooms[min(fitting)[1]] -= length
        else:
            rooms.append(capacity - length)
    return sorted(rooms)


@pytest.mark.parametrize("seed", range(60))
def test_best_fit_is_that_of_placing_one_by_one(seed: int) -> None:
    random = np.random.default_rng(seed)
    capacity = int(random.integers(1, 60))
    lengths = random.integers(1, capacity + 1, size=int(random.integers(1, 200)))
    rows = best_fit(lengths, capacity, random)
    rooms = capacity - np.bincount(rows, weights=lengths).astype(int)
    assert sorted(rooms.tolist()) == one_by_one(lengths.tolist(), capacity)


@pytest.mark.parametrize("seed", range(30))
def test_every_token_but_a_documents_first_is_predicted_once(seed: int) -> None:
    random = np.random.default_rng(seed)
    max_length = int(random.integers(2, 20))
    lengths = random.integers(1, 100, size=30)
    starts = np.cumsum(lengths) - lengths
    segments, rows = pack(split(starts, lengths, max_length), max_length, random)
    predicted = np.zeros(int(lengths.sum()), dtype=int)
    for start, end in segments.tolist():
        assert 1 <= end - start <= max_length
        predicted[start + 1 : end] += 1
    assert (predicted[starts] == 0).all()
    assert np.delete(predicted, starts).tolist() == [1] * (len(predicted) - len(starts))
    assert rows[0] == 0
    assert rows[-1] == len(segments)
    for begin, stop in pairwise(rows):
        assert 1 <= (segments[begin:stop, 1] - segments[begin:stop, 0]).sum() <= max_length


def test_split_overlaps_by_one_token() -> None:
    segments = split(np.array([0, 3, 12]), np.array([3, 9, 4]), 4)
    assert segments.tolist() == [[0, 3], [3, 7], [6, 10], [9, 12], [12, 16]]


def test_rows_and_ties_follow_the_seed() -> None:
    segments = split(np.arange(0, 400, 4), np.full(100, 4), 16)
    first, again, other = (pack(segments, 16, np.random.default_rng(seed))[0].tolist() for seed in (1, 1, 2))
    assert first == again != other


def test_a_million_documents_in_seconds_and_full() -> None:
    random = np.random.default_rng(0)
    lengths = np.minimum(2048, random.lognormal(5, 1, 1_000_000).astype(np.int64) + 1)
    started = time.perf_counter()
    rows = best_fit(lengths, 2048, random)
    assert time.perf_counter() - started < 5
    assert lengths.sum() / (2048 * (rows.max() + 1)) > 0.999


def test_as_few_rows_as_trl() -> None:
    """TRL's own best-fit decreasing (`trl.pack_dataset`, strategy `bfd`) on the same lengths."""
    datasets = pytest.importorskip("datasets")
    pack_dataset = pytest.importorskip("trl").pack_dataset
    random = np.random.default_rng(3)
    lengths = random.integers(1, 129, size=900)
    theirs = pack_dataset(
        datasets.Dataset.from_dict({"input_ids": [[1] * n for n in lengths]}), 128, strategy="bfd"
    )
    assert best_fit(lengths, 128, random).max() + 1 == len(theirs)
