"""Floors on answers written by hand."""

from __future__ import annotations

from typing import Any

import pytest

from residency.eval.comparison.floors import floors_of
from residency.eval.settings import load_task
from residency.eval.statistics.floors import chance, constant_floor, longest_option_floor


def test_chance_counts_each_items_options() -> None:
    assert chance([4, 4, 2]) == pytest.approx(1 / 3)


def test_the_best_constant() -> None:
    assert constant_floor([0, 2, 2, 1]) == (2, 0.5)
    assert constant_floor([1, 0]) == (0, 0.5)


def test_the_longest_option_and_a_tie_by_lot() -> None:
    options = [["a", "abc", "ab"], ["ab", "cd", "e"], ["long", "x"]]
    assert longest_option_floor(options, [1, 0, 1]) == pytest.approx((1 + 0.5 + 0) / 3)


def test_a_reply_that_never_saw_the_options_is_no_choice_among_them() -> None:
    rows: list[Any] = [{"options": ["a", "bc"], "answer": 1}]
    assert floors_of(load_task("world-exam"), rows) == {"chance": 0.5, "constant": 1.0, "longest": 1.0}
    assert floors_of(load_task("world-written-d"), rows) == {}
