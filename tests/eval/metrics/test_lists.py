"""BioASQ's measures by hand."""

from __future__ import annotations

import pytest

from residency.errors import ResidencyError
from residency.eval.metrics import statistics, value
from residency.eval.metrics.lists import agreement, entity_list, factoid, listed


def test_factoid_ranks() -> None:
    item = {"id": "1", "answers": ["dystrophin", "DMD protein"]}
    assert factoid("Dystrophin", item) == {"strict": 1.0, "lenient": 1.0, "reciprocal_rank": 1.0}
    third = factoid("1. actin\n2. titin\n3. DMD-protein", {**item, "answers": ["dystrophin", "DMDprotein"]})
    assert third == {"strict": 0.0, "lenient": 1.0, "reciprocal_rank": pytest.approx(1 / 3)}
    sixth = factoid("a1; b1; c1; d1; e1; dystrophin", item)
    assert sixth == {"strict": 0.0, "lenient": 0.0, "reciprocal_rank": 0.0}


def test_factoid_with_a_comma_in_its_name() -> None:
    item = {"id": "1", "answers": ["tumor necrosis factor, alpha"]}
    assert factoid("Tumor necrosis factor, alpha", item)["strict"] == 1.0
    assert factoid("Answer: tumor necrosis factor, alpha.", item)["strict"] == 1.0


def test_mean_reciprocal_rank_over_items() -> None:
    item = {"id": "1", "answers": ["b"]}
    rows = [statistics("factoid-mrr", reply, item) for reply in ("- b\n- c", "- c\n- b", "- c\n- d")]
    assert value("factoid-mrr", rows) == pytest.approx((1 + 1 / 2 + 0) / 3)


def test_list_with_synonyms() -> None:
    item = {
        "id": "1",
        "facts": {"entities": [["aspirin", "acetylsalicylic acid"], ["ibuprofen"], "naproxen"]},
    }
    ours = entity_list("- Aspirin\n- acetylsalicylic acid\n- Ibuprofen\n- codeine", item)
    # two entities hit, one wrong name; three wanted
    assert ours == pytest.approx({"precision": 2 / 3, "recall": 2 / 3, "f1": 2 / 3})
    assert entity_list("none", item) == {"precision": 0.0, "recall": 0.0, "f1": 0.0}


def test_listed() -> None:
    assert listed("The drugs are:\n1. aspirin\n2. ibuprofen") == ["aspirin", "ibuprofen"]
    assert listed("None") == [] == listed("")


def test_agreement_of_answers() -> None:
    assert agreement(["A", "A", "B"]) == pytest.approx(1 / 3)
    assert agreement([None, None]) == 0.0


def test_item_without_entities_is_refused() -> None:
    with pytest.raises(ResidencyError, match=r"item '3' lacks facts.entities"):
        entity_list("x", {"id": "3", "answers": ["x"]})
