"""The order of documents, stated on a few of them. A document's place in the token file stands for its name."""

from __future__ import annotations

import math
from itertools import chain

import numpy as np
import pytest

from residency.data.mixture.mixing import Taken
from residency.data.mixture.ordering import windows

ROW = 4


def corpus(name: str, starts: list[int], lengths: list[int], difficulty: list[float] | None = None) -> Taken:
    values = difficulty or [math.nan] * len(starts)
    return Taken(
        name, np.array(starts), np.array(lengths), np.array(values), sum(lengths), len(starts), 1.0, 0, 0
    )


A = corpus("a", [10, 11, 12, 13], [2, 4, 1, 3], [0.4, 0.1, 0.3, 0.2])
B = corpus("b", [20, 21, 22, 23], [5, 5, 5, 5], [9.0, 8.0, 7.0, 6.0])


def order(name: str, *taken: Taken) -> list[int]:
    return [start for window in windows(list(taken), name, ROW) for start in window.starts.tolist()]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "shuffled",
            [10, 11, 12, 13, 20, 21, 22, 23],
        ),  # as the sources shuffled them; packing shuffles the rows
        ("length", [12, 10, 13, 11, 20, 21, 22, 23]),
        ("difficulty", [11, 13, 12, 10, 23, 22, 21, 20]),
        ("blocked", [10, 11, 12, 13, 20, 21, 22, 23]),
        ("interleaved", [10, 20, 21, 11, 22, 12, 13, 23]),
        ("curriculum", [23, 11, 22, 13, 21, 12, 20, 10]),
    ],
)
def test_documents_come_in_the_order_that_was_asked_for(name: str, expected: list[int]) -> None:
    assert order(name, A, B) == expected


def test_equal_corpora_take_turns() -> None:
    other = corpus("c", [30, 31, 32, 33], [5, 5, 5, 5])
    assert order("interleaved", B, other) == [20, 30, 21, 31, 22, 32, 23, 33]


def test_blocked_ends_one_corpus_before_the_next() -> None:
    found = windows([B, A], "blocked", ROW)
    assert [window.starts.tolist() for window in found] == [[20, 21, 22, 23], [10, 11, 12, 13]]
    assert not any(window.ordered for window in found)


def test_each_pass_is_sorted_by_itself() -> None:
    lengths = [4, 1, 3, 2] * 16
    twice = corpus("a", list(range(64)) * 2, lengths * 2)
    twice = Taken(**{**twice.__dict__, "epochs": 2.0})
    found = [window.lengths.tolist() for window in windows([twice], "length", ROW)]
    first, second = (list(chain(*found[at : at + len(found) // 2])) for at in (0, len(found) // 2))
    assert first == second == sorted(lengths)


def test_windows_hold_every_document_once() -> None:
    random = np.random.default_rng(0)
    many = corpus("a", list(range(500)), random.integers(1, 9, 500).tolist())
    found = windows([many], "length", ROW)
    assert len(found) > 5
    assert all(window.ordered for window in found)
    assert sorted(chain(*(window.starts.tolist() for window in found))) == list(range(500))
    longest = [window.lengths.max() for window in found[:-1]]
    shortest = [window.lengths.min() for window in found[1:]]
    assert all(before <= after for before, after in zip(longest, shortest, strict=True))
