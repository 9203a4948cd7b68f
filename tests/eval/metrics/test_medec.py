"""Error correction by hand, and the shared task's composite over items."""

from __future__ import annotations

import pytest

from residency.errors import ResidencyError
from residency.eval.metrics import statistics, value
from residency.eval.metrics.medec import Correction, correction, read_correction

WRONG = {"id": "1", "facts": {"error_sentence_id": 3, "corrected_sentence": "He was given oral vancomycin."}}
RIGHT = {"id": "2", "facts": {"error_sentence_id": -1}}


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("CORRECT", Correction(-1, "")),
        ("correct.", Correction(-1, "")),
        ("**CORRECT**", Correction(-1, "")),
        ("Answer: CORRECT", Correction(-1, "")),
        ("The text is correct.", Correction(-1, "")),
        ("3 He was given oral vancomycin.", Correction(3, "He was given oral vancomycin.")),
        ("3. He was given oral vancomycin.", Correction(3, "He was given oral vancomycin.")),
        ("Sentence 3: He was given it.", Correction(3, "He was given it.")),
        ("[3] He was given it.", Correction(3, "He was given it.")),
        ("There is an error here.\n12 He was given 5 mg.", Correction(12, "He was given 5 mg.")),
        ("INCORRECT", None),
        ("The note seems fine to me", None),
        ("3", None),
        ("", None),
    ],
)
def test_forms_of_a_reply(reply: str, expected: Correction | None) -> None:
    assert read_correction(reply) == expected


def test_scores_of_one_note() -> None:
    exact = correction("3 He was given oral vancomycin.", WRONG)
    assert (exact["flag"], exact["sentence"], exact["composite_rouge1"]) == (1.0, 1.0, 1.0)
    # right flag, wrong sentence, 3 of 5 words of 5
    other = correction("4 He was given IV metronidazole.", WRONG)
    assert (other["flag"], other["sentence"]) == (1.0, 0.0)
    assert other["composite_rouge1"] == pytest.approx(3 / 5)
    missed = correction("CORRECT", WRONG)
    assert (missed["flag"], missed["sentence"], missed["composite_rouge1"]) == (0.0, 0.0, 0.0)
    invented = correction("2 He was well.", RIGHT)
    assert (invented["flag"], invented["sentence"], invented["composite_rouge1"]) == (0.0, 0.0, 0.0)
    assert correction("CORRECT", RIGHT)["composite_rouge1"] == 1.0
    assert set(correction("I do not know", RIGHT).values()) == {0.0}


def test_composite_over_notes() -> None:
    replies = [
        ("CORRECT", RIGHT),
        ("3 He was given oral vancomycin.", WRONG),
        ("CORRECT", WRONG),
        ("4 He was given IV metronidazole.", WRONG),
    ]
    rows = [statistics("composite-rouge1", reply, item) for reply, item in replies]
    assert value("composite-rouge1", rows) == pytest.approx((1 + (1 + 0.6)) / 4)
    assert value("correction-rouge1", rows) == pytest.approx((1 + 0.6) / 2)
    assert value("error-flag", rows) == pytest.approx(3 / 4)
    assert value("error-sentence", rows) == pytest.approx(2 / 4)


@pytest.mark.parametrize(
    "facts",
    [
        {"error_sentence_id": 3, "corrected_sentence": ""},
        {"error_sentence_id": "3", "corrected_sentence": "x"},
        {"error_sentence_id": -2},
        {"error_sentence_id": 3},
        {},
    ],
)
def test_broken_reference_is_refused(facts: dict[str, object]) -> None:
    with pytest.raises(ResidencyError, match="item '1'"):
        correction("CORRECT", {"id": "1", "facts": facts})
