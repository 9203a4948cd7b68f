"""Which rows a task takes, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from residency.errors import ResidencyError
from residency.eval.items import make_item, read_items
from residency.eval.settings import TaskSettings
from residency.eval.shipped import load_task, task_names

TEXTS = [{"id": str(place), "text": f"Text {place}."} for place in range(5)]


def task(kind: str, **fields: Any) -> TaskSettings:
    return TaskSettings.model_validate(
        {"kind": kind, "name": "t", "domain": "medicine", "items": "c", **fields}
    )


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
        (TEXTS, {"kind": "bits-per-byte", "aspect": "safe"}, "0 independent items of aspect 'safe'"),
    ],
)
def test_unfit_rows_are_refused(
    make_corpus: Callable[..., Path], rows: list[dict[str, Any]], fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(ResidencyError, match=message):
        read_items(task(**fields), make_corpus("c", rows))


def test_a_template_that_rewrites_the_prompt_is_refused(
    tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokenizer, "chat_template", "{{ messages | length }}{{ messages[-1].content }}")
    pair = {
        "id": "p",
        "prompt": [{"role": "user", "content": "Why?"}],
        "chosen": [{"role": "assistant", "content": "So."}],
        "rejected": [{"role": "assistant", "content": "No."}],
    }
    with pytest.raises(ResidencyError, match="rewrites the prompt of 'p'"):
        make_item(task("preference"), pair, tokenizer, 128)


def test_every_shipped_task_loads() -> None:
    tasks = [load_task(name) for name in task_names()]
    assert len(tasks) == 9
    assert [each.name for each in tasks] == task_names()
    assert all(each.title for each in tasks)
    assert load_task("world-general").margin == 0.05


def test_an_unknown_task_names_the_nearest() -> None:
    with pytest.raises(ResidencyError, match=r"no task 'world-exams'\. Did you mean world-exam"):
        load_task("world-exams")
