from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from residency.data.curation.batch import Batch
from residency.data.curation.exam_index import ExamIndex
from residency.data.steps.decontaminate import Decontaminate, matching_sentence
from residency.data.steps.settings import DecontaminateSettings

STEM = (
    "A 54-year-old baker with crushing chest pain radiating to his left arm for two hours has ST elevation "
    "in leads II, III and aVF. Which artery is most likely occluded?"
)
ITEMS: list[dict[str, Any]] = [
    {"id": "q1", "prompt": STEM, "options": ["Right coronary", "Left circumflex", "Left main"], "answer": 0},
    {
        "id": "q2",
        "prompt": "Scabies is treated with",
        "options": ["permethrin cream", "oral iron"],
        "answer": 0,
    },
    {
        "id": "q3",
        "prompt": "Which of the following is the largest gland?",
        "options": ["liver", "thyroid"],
        "answer": 0,
    },
]
# Questions that share their beginning, so that it tells nothing.
ALIKE = [
    {
        "id": f"x{number}",
        "prompt": f"Which of the following is the cause of disease{number}?",
        "options": ["a b", "c d"],
    }
    for number in range(8)
]


@pytest.fixture(scope="module")
def index() -> ExamIndex:
    return ExamIndex.build({"exam": ITEMS, "other": ALIKE})


def found(index: ExamIndex, text: str) -> set[str]:
    return {
        index.items[number]["item"] for _, number, _ in index.find(Batch([{"id": "d", "text": text}]), 0.4)
    }


@pytest.mark.parametrize(
    ("text", "items"),
    [
        (f"Before. {STEM} After.", {"q1"}),
        (STEM.upper().replace(",", ";").replace("-", " "), {"q1"}),
        (" ".join(STEM.split()[:15]), {"q1"}),
        (" ".join(STEM.split()[15:]), {"q1"}),
        ("Q: Scabies is treated with\nA. oral iron\nB. permethrin cream", {"q2"}),
        ("Q: Scabies is treated with: permethrin cream / oral iron", {"q2"}),
        ("In most countries scabies is treated with a lotion.", set()),
        ("Which of the following is the largest gland? (A) ovary (B) liver", {"q3"}),
        ("Which of the following is the largest organ of the skin?", set()),
        (
            "Chest pain radiating to his left arm is typical. Two hours later the ST elevation was gone.",
            set(),
        ),
        ("", set()),
    ],
)
def test_what_is_found(index: ExamIndex, text: str, items: set[str]) -> None:
    assert found(index, text) == items


def test_scattered_words_of_a_long_document_are_no_item(index: ExamIndex) -> None:
    pieces = ["pain radiating to his left arm", "for two hours has ST elevation", "in leads II III and"]
    assert found(index, (" filler" * 200).join(pieces)) == set()


def test_an_index_is_read_as_it_was_written(index: ExamIndex, tmp_path: Path) -> None:
    index.save(tmp_path)
    again = ExamIndex.load(tmp_path)
    assert again.items == index.items
    assert found(again, STEM) == {"q1"}
    assert found(ExamIndex.build({}), STEM) == set()


def test_hits_name_task_item_document_and_sentence(index: ExamIndex, tmp_path: Path) -> None:
    index.save(tmp_path)
    rows = [
        {"id": "clean", "text": "The liver makes bile."},
        {"id": "dirty", "text": f"Bile is green. {STEM} Yes."},
    ]
    step = Decontaminate(DecontaminateSettings(), tmp_path)
    assert step(Batch(rows)) == [None, "contaminated_exam"]
    assert step.counts == {"exam": 1}
    assert step.found == [
        {
            "task": "exam",
            "item": "q1",
            "document": "dirty",
            "coverage": 1.0,
            "sentence": STEM.partition("Which")[0].strip(),
        }
    ]
    flagging = Decontaminate(DecontaminateSettings(mode="flag"), tmp_path)
    assert flagging(Batch(rows)) == [None, None]
    assert len(flagging.found) == 1


def test_the_matching_sentence_shares_most_stretches() -> None:
    text = "The artery is large.\nHis pain was crushing chest pain radiating to his left arm. Fine."
    assert matching_sentence(text, STEM) == "His pain was crushing chest pain radiating to his left arm."


def test_a_very_long_question_is_found_by_its_beginning() -> None:
    long = " ".join(f"word{number}" for number in range(9000))
    found_in = ExamIndex.build({"exam": [{"id": "q", "prompt": long, "options": []}]})
    assert found(found_in, long + " " + long[:5000]) == {"q"}


ABSTRACT = "Lace plants were grown in boxes and their mitochondria stained with a red dye for one whole week of growth."

SHORT = "Which gland is the largest one?"


@pytest.mark.parametrize(
    ("item", "text", "hit"),
    [
        ({"prompt": "Do they play a role?", "context": ABSTRACT, "options": ["yes", "no"]}, ABSTRACT, True),
        ({"prompt": STEM, "context": ABSTRACT}, STEM, True),
        ({"prompt": SHORT, "answers": ["liver"]}, f"{SHORT} Liver.", True),
        ({"prompt": SHORT, "answers": ["liver"]}, f"{SHORT[:-1]} here?", False),
        (
            {"prompt": "", "options": ["Sarah was a better surgeon than Maria so Sarah", "x"], "answer": 0,
             "ending": "always got the easier cases."},
            "Sarah was a better surgeon than Maria so Sarah always got the easier cases.",
            True,
        ),
    ],
)  # fmt: skip
def test_contexts_answers_and_endings_are_exam_text(item: dict[str, Any], text: str, hit: bool) -> None:
    assert found(ExamIndex.build({"exam": [{"id": "q", **item}]}), text) == ({"q"} if hit else set())
