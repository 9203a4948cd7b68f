from __future__ import annotations

from typing import Any

import pytest

from residency.data.schema import normalise, recognise
from residency.data.settings import Turns
from residency.errors import ResidencyError

USER, REPLY = {"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}


def normal(row: dict[str, Any], turns: Turns | None = None) -> dict[str, Any]:
    return normalise({"id": "x", **row}, recognise({"id": "x", **row}, turns), turns)


def test_text_and_dialogues() -> None:
    assert normal({"text": "a", "title": "t"}) == {"id": "x", "text": "a"}
    assert normal({"messages": [USER, {**REPLY, "name": "n"}]}) == {"id": "x", "messages": [USER, REPLY]}
    asked = normal(
        {"question": "Why?", "answer": "So.", "text": "ignored"}, Turns(user="question", assistant="answer")
    )
    assert asked == {"id": "x", "messages": [USER, REPLY]}


def test_preferences_as_text_messages_or_whole_conversations() -> None:
    worse = {"role": "assistant", "content": "No."}
    wanted = {"id": "x", "prompt": [USER], "chosen": [REPLY], "rejected": [worse]}
    assert normal({"prompt": "Why?", "chosen": "So.", "rejected": "No."}) == wanted
    assert normal({"prompt": [USER], "chosen": [REPLY], "rejected": [worse], "aspect": "safe"}) == {
        **wanted,
        "aspect": "safe",
    }
    assert normal({"chosen": [USER, REPLY], "rejected": [USER, worse]}) == wanted


@pytest.mark.parametrize(
    "row",
    [
        {"question": "Q", "options": ["a", "b", "c", "d"], "answer": 2},
        {"question": "Q", "choices": ["a", "b", "c", "d"], "answer": 2, "subject": "anatomy"},
        {"question": "Q", "opa": "a", "opb": "b", "opc": "c", "opd": "d", "cop": 2},
        {
            "question": "Q",
            "options": {"A": "a", "B": "b", "C": "c", "D": "d"},
            "answer": "c",
            "answer_idx": "C",
        },
        {"query": "Q", "choices": ["a", "b", "c", "d"], "gold": 2},
        {"question": "Q", "options": [" a", "b ", "c", "d"], "answer": "C"},
    ],
)
def test_exam_items_of_every_layout(row: dict[str, Any]) -> None:
    wanted = {"id": "x", "cluster": "x", "prompt": "Q", "options": ["a", "b", "c", "d"], "answer": 2}
    assert normal(row) == wanted


def test_cluster_is_given_or_the_start_of_the_id() -> None:
    item = {"prompt": "The liver makes", "options": [" bile", " urine"], "answer": 0, "form": "cloze"}
    assert normalise({"id": "m1/q2", **item}, "choice")["cluster"] == "m1"
    assert normal({**item, "cluster": "fact"}) == {"id": "x", "cluster": "fact", **item}


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ({"body": "a"}, r"row x: its fields body, id are no text"),
        ({"text": 3}, r"row x: text is 3 \(int\), expected a text"),
        ({"messages": []}, r"row x: messages is \[\] \(list\), expected a list of"),
        ({"messages": [USER]}, r"at least one message of the assistant"),
        (
            {"messages": [{"role": "doctor", "content": "a"}]},
            r"messages\[0\]\.role is .doctor. \(str\), expected system or user or assistant",
        ),
        ({"chosen": 1, "rejected": "b", "prompt": "a"}, r"chosen is 1 \(int\)"),
        (
            {"question": "Q", "options": ["a", "b"]},
            r"an exam item without answer_idx or answer or gold or cop",
        ),
        (
            {"question": "Q", "options": ["a", "b"], "answer": 2},
            r"answer is 2 \(int\), expected 0 to 1, a letter A to B",
        ),
        ({"question": "Q", "options": ["a", "b"], "answer": True}, r"answer is True \(bool\)"),
        ({"question": "Q", "options": ["a", 2], "answer": 0}, r"options is \['a', 2\] \(list\)"),
    ],
)
def test_wrong_fields_are_named(row: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ResidencyError, match=complaint):
        normal(row)


def test_a_turn_that_is_not_there() -> None:
    with pytest.raises(ResidencyError, match=r"row x: no field 'answer'\. It has id, question"):
        normal({"question": "Why?"}, Turns(user="question", assistant="answer"))


def test_difficulty_is_kept_for_the_order_of_a_mixture() -> None:
    assert normalise({"id": "x", "text": "a", "difficulty": 2}, "text")["difficulty"] == 2.0
    assert "difficulty" not in normalise({"id": "x", "text": "a", "difficulty": None}, "text")
    with pytest.raises(
        ResidencyError, match=r"row x: difficulty is 'hard' \(str\), expected a finite number"
    ):
        normalise({"id": "x", "text": "a", "difficulty": "hard"}, "text")
