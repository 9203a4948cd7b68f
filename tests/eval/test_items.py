"""Which rows a task takes, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from residency.errors import ResidencyError
from residency.eval.rows import read_items
from residency.eval.settings import TASK, TaskSettings, load_task

TEXTS = [{"id": str(place), "text": f"Text {place}."} for place in range(5)]


def task(kind: str, **fields: Any) -> TaskSettings:
    return TASK.validate_python({"kind": kind, "name": "t", "domain": "medicine", "items": "c", **fields})


def test_the_held_out_part_is_taken_where_there_is_one(make_corpus: Callable[..., Path]) -> None:
    corpus = make_corpus("general", TEXTS)
    assert [row["id"] for row in read_items(task("bits-per-byte", limit=3), corpus)] == ["0", "1", "2"]
    make_corpus("general", TEXTS[3:], "held_out")
    assert [row["id"] for row in read_items(task("bits-per-byte"), corpus)] == ["3", "4"]


def test_an_aspect_is_chosen_before_the_limit(make_corpus: Callable[..., Path]) -> None:
    pairs: list[dict[str, Any]] = [
        {"id": str(place), "chosen": [], "aspect": "safe" if place % 2 else "correct"} for place in range(6)
    ]
    found = read_items(task("preference", aspect="safe", limit=2), make_corpus("pairs", pairs))
    assert [row["id"] for row in found] == ["1", "3"]


@pytest.mark.parametrize(
    ("rows", "fields", "message"),
    [
        (TEXTS, {"kind": "choice"}, "choice needs 'options' in its rows; '0' has id, text"),
        ([*TEXTS, TEXTS[2]], {"kind": "bits-per-byte"}, "item '2' occurs 2 times"),
        (TEXTS, {"kind": "bits-per-byte", "limit": 1}, "1 independent items in"),
        (
            [{"id": "0", "chosen": []}],
            {"kind": "preference", "aspect": "safe"},
            "0 independent items of aspect 'safe'",
        ),
    ],
)
def test_unfit_rows_are_refused(
    make_corpus: Callable[..., Path], rows: list[dict[str, Any]], fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(ResidencyError, match=message):
        read_items(task(**fields), make_corpus("c", rows))


def test_an_empty_option_is_refused_and_equal_ones_stay(make_corpus: Callable[..., Path]) -> None:
    rows = [{"id": id, "prompt": "Which?", "options": ["a", " a"], "answer": 0} for id in "pq"]
    assert read_items(task("choice"), make_corpus("c", rows)) == rows
    rows[1]["options"] = ["a", " "]
    with pytest.raises(ResidencyError, match="'q' has an empty option"):
        read_items(task("choice"), make_corpus("c", rows))


def test_a_share_takes_the_same_items_of_every_group(make_corpus: Callable[..., Path]) -> None:
    rows = [{"id": f"{place}", "group": "ab"[place % 2], "text": "x"} for place in range(40)]
    corpus = make_corpus("c", rows)
    found = read_items(task("bits-per-byte", share=0.2), corpus)
    assert [sum(row["group"] == group for row in found) for group in "ab"] == [4, 4]
    assert found == read_items(task("bits-per-byte", share=0.2), corpus)
    assert {row["id"] for row in found} <= {
        row["id"] for row in read_items(task("bits-per-byte", share=0.5), corpus)
    }


def test_an_unknown_task_names_the_nearest() -> None:
    with pytest.raises(ResidencyError, match=r"no task 'world-exams'\. Did you mean world-exam"):
        load_task("world-exams")
