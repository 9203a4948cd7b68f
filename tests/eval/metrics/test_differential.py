"""DDXPlus by hand."""

from __future__ import annotations

import pytest

from residency.errors import ResidencyError
from residency.eval.metrics import statistics, value
from residency.eval.metrics.differential import differential

ITEM = {
    "id": "1",
    "facts": {"pathology": "Bronchitis", "differential": ["Bronchitis", "Pneumonia", "Tuberculosis"]},
}


def test_ranked_diagnoses() -> None:
    ours = differential("1. Pneumonia\n2. Bronchitis\n3. GERD\n4. Asthma", ITEM)
    assert ours == pytest.approx(
        {"first": 0.0, "anywhere": 1.0, "precision": 2 / 4, "recall": 2 / 3, "f1": 2 * (1 / 3) / (7 / 6)}
    )
    assert differential("Bronchitis", ITEM)["first"] == 1.0
    assert differential("", ITEM) == {
        "first": 0.0,
        "anywhere": 0.0,
        "precision": 0.0,
        "recall": 0.0,
        "f1": 0.0,
    }


def test_means_over_patients() -> None:
    rows = [
        statistics("differential-f1", reply, ITEM)
        for reply in ("Bronchitis, Pneumonia, Tuberculosis", "GERD")
    ]
    assert value("differential-f1", rows) == pytest.approx(0.5)
    assert value("pathology-first", rows) == pytest.approx(0.5)


def test_diagnosis_with_a_comma() -> None:
    item = {"id": "1", "facts": {"pathology": "Anemia, acute", "differential": ["Anemia, acute"]}}
    assert differential("anemia, acute", item)["f1"] == 1.0


def test_empty_differential_is_refused() -> None:
    with pytest.raises(ResidencyError, match="differential is empty"):
        differential("x", {"id": "1", "facts": {"pathology": "a", "differential": []}})
