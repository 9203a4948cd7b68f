"""Clinical notes: sections as aci-bench writes them, numbers without a source."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from residency.errors import ResidencyError
from residency.eval.metrics import statistics, value
from residency.eval.metrics.notes import (
    by_division,
    divisions,
    invented_numbers,
    numbers_in,
    sections,
    structure,
)
from residency.eval.metrics.spoken import spoken_numbers

NOTE = """CHIEF COMPLAINT

Back pain.

HISTORY OF PRESENT ILLNESS

Mr. Doe is 58 and takes lisinopril 20 mg.

PHYSICAL EXAM

Neck: supple.

ASSESSMENT

Strain.

PLAN

Rest for 2 weeks."""
DIALOGUE = (
    "[doctor] so you are fifty eight ?\n[patient] yes , i take lisinopril 20 milligrams , i rest two weeks ."
)
ITEM = {"id": "1", "answers": [NOTE], "context": DIALOGUE}


def test_sections_of_a_note() -> None:
    assert sections(NOTE) == {
        "complaint": "Back pain.",
        "present illness": "Mr. Doe is 58 and takes lisinopril 20 mg.",
        "exam": "Neck: supple.",
        "assessment and plan": "Strain.\n\n\n\nRest for 2 weeks.",
    }


@pytest.mark.parametrize(
    ("line", "section"),
    [
        ("HPI:", "present illness"),
        ("**Physical Examination**", "exam"),
        ("## Assessment & Plan", "assessment and plan"),
        ("CC: back pain", "complaint"),
        ("**Medications:** aspirin", "medications"),
        ("VITALS REVIEWED", "vitals"),
        ("IMPRESSION", "assessment and plan"),
        ("Impression:", ""),
        ("Medications: aspirin", ""),
        ("The plan is rest.", ""),
        ("NECK: supple", ""),
    ],
)
def test_header_variants(line: str, section: str) -> None:
    assert set(sections(line + "\ntext")) == {section}


def test_structure_by_hand() -> None:
    ours = structure("CC: back pain\n\nASSESSMENT AND PLAN\n\nRest.", ITEM)
    assert ours["coverage"] == pytest.approx(2 / 4)
    assert ours["length"] == pytest.approx(7 / 28)


def test_divisions_are_scored_apart() -> None:
    ours = by_division("Back pain.\n\nPHYSICAL EXAM\n\nNeck: supple.", ITEM)
    assert ours["rouge1:exam"] == 1.0 and ours["rouge1:plan"] == 0.0 and ours["has:results"] == 0.0
    # "Back pain." without a header is subjective: 2 of 2 words said, 2 of 11 wanted
    assert ours["rouge1:subjective"] == pytest.approx(2 * (2 / 11) / (1 + 2 / 11))
    assert ours["rouge1"] == pytest.approx((1 + 0 + ours["rouge1:subjective"]) / 3)
    rows = [
        statistics("plan-rouge1", NOTE, ITEM),
        statistics("plan-rouge1", "EXAM\nx", {**ITEM, "answers": ["EXAM\nx"]}),
    ]
    assert value("plan-rouge1", rows) == 1.0  # over the one reference that has a plan


def test_numbers_without_a_source() -> None:
    ours = invented_numbers(
        "1. A 58-year-old takes lisinopril 40 mg, BP 142/90, A1c high, L5 strain, COVID-19.", ITEM
    )
    assert ours == {"numbers": 4.0, "invented": 3.0}
    assert invented_numbers("Rest for 2 weeks, 20.0 mg.", ITEM)["invented"] == 0.0
    assert value("invented-numbers", [statistics("invented-numbers", "none", ITEM)]) == 0.0


def test_numbers_in_one_form() -> None:
    assert numbers_in("1,200 mL, 007, 98.60, 120/80, 11/03/2019") == {
        "1200",
        "7",
        "98.6",
        "120",
        "80",
        "11",
        "3",
        "2019",
    }


@pytest.mark.parametrize(
    ("said", "numbers"),
    [
        ("fifty eight year old", {"58"}),
        ("one forty two over ninety", {"142", "90"}),
        ("two hundred and ten", {"210"}),
        ("two thousand five hundred", {"2500"}),
        ("twenty nineteen", {"2019"}),
        ("ninety-nine point one", {"99.1"}),
        ("point five milligrams", {"0.5"}),
        ("two and a half years", {"2.5"}),
        ("a hundred", {"100"}),
        ("twice a day", {"2"}),
    ],
)
def test_spoken_numbers(said: str, numbers: set[str]) -> None:
    assert numbers <= spoken_numbers(said)


def test_words_that_are_no_numbers() -> None:
    assert spoken_numbers("a pain and an ache , the point of it , hundreds and thousands") == set()
    assert spoken_numbers("hundred") == set() == spoken_numbers("")


def test_context_or_headers_that_lack_are_refused() -> None:
    with pytest.raises(ResidencyError, match="lacks its context"):
        invented_numbers("5", {"id": "1", "answers": [NOTE]})
    with pytest.raises(ResidencyError, match="no header that is known"):
        structure("x", {"id": "1", "answers": ["just text"]})


def test_real_notes_have_their_sections(mirror: Path) -> None:
    path = mirror / "wyim" / "aci-bench" / "train.jsonl"
    if not path.exists():
        pytest.skip("aci-bench is not in the mirror")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    items = [
        {"id": row["encounter_id"], "answers": [row["note"]], "context": row["dialogue"]} for row in rows
    ]
    for item in items:
        assert {"subjective", "plan"} <= set(divisions(item["answers"][0]))
    for name, least, most in (
        ("section-coverage", 1, 1),
        ("section-rouge1", 1, 1),
        ("invented-numbers", 0, 0),
    ):
        own = value(name, [statistics(name, item["answers"][0], item) for item in items])
        assert least <= own <= most
    others = [
        statistics("invented-numbers", items[n - 1]["answers"][0], item) for n, item in enumerate(items)
    ]
    assert value("invented-numbers", others) > 0.5
