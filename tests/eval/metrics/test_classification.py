"""Counts of classes against scikit-learn."""

from __future__ import annotations

import random

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from residency.errors import ResidencyError
from residency.eval.metrics import METRICS, columns, statistics, value

CLASSES = ["yes", "no", "maybe"]


def item(*answers: str, classes: list[str] = CLASSES) -> dict[str, object]:
    return {"id": "1", "answers": list(answers), "facts": {"classes": classes}}


@pytest.mark.parametrize("seed", range(5))
def test_one_class_is_scikit_learns(seed: int) -> None:
    random_ = random.Random(seed)
    gold = [random_.choice(CLASSES) for _ in range(40)]
    said = [g if random_.random() < 0.5 else random_.choice([*CLASSES, "unsure"]) for g in gold]
    rows = [statistics("macro-f1", f"Answer: {s}", item(g)) for s, g in zip(said, gold, strict=True)]
    assert value("accuracy", rows) == pytest.approx(accuracy_score(gold, said))
    assert value("macro-f1", rows) == pytest.approx(f1_score(gold, said, labels=CLASSES, average="macro"))
    assert value("matthews", rows) == pytest.approx(matthews_corrcoef(gold, said))


def test_values_of_several_resamples_at_once() -> None:
    random_ = random.Random(9)
    rows = [statistics("macro-f1", random_.choice(CLASSES), item(random_.choice(CLASSES))) for _ in range(30)]
    names, matrix = columns(rows)
    drawn = np.array([[random_.randrange(30) for _ in range(30)] for _ in range(20)])
    sums = dict(zip(names, matrix[drawn].sum(axis=1).T, strict=True))
    for name in ("accuracy", "macro-f1", "matthews"):
        each = [value(name, [rows[place] for place in places]) for places in drawn]
        assert METRICS[name].value(sums) == pytest.approx(each)


def test_class_that_never_occurs_is_left_out() -> None:
    rows = [statistics("macro-f1", "yes", item("yes")), statistics("macro-f1", "yes", item("no"))]
    assert value("macro-f1", rows) == pytest.approx((2 / 3 + 0) / 2)
    assert value("matthews", rows) == 0.0


def test_reply_that_names_no_class_is_wrong_and_false_for_none() -> None:
    row = statistics("accuracy", "No evidence is given, or yes and no.", item("no"))
    assert row["right"] == 0.0 and row["fn:no"] == 1.0
    assert sum(row[f"fp:{name}"] for name in CLASSES) == 0.0


def test_several_classes_are_scikit_learns() -> None:
    classes = ["Growth", "Immune evasion", "Metastasis"]
    random_ = random.Random(3)
    gold = np.array([[1, 0, 0], *[[random_.randint(0, 1) for _ in classes] for _ in range(20)]])
    gold[gold.sum(axis=1) == 0, 0] = 1
    said = np.array([[random_.randint(0, 1) for _ in classes] for _ in gold])
    named = [
        [[name for name, on in zip(classes, row, strict=True) if on] for row in each] for each in (gold, said)
    ]
    rows = [
        statistics(
            "macro-f1-classes",
            "\n".join(f"- {name}" for name in ours) or "none",
            item(*theirs, classes=classes),
        )
        for theirs, ours in zip(*named, strict=True)
    ]
    assert value("macro-f1-classes", rows) == pytest.approx(
        f1_score(gold, said, average="macro", zero_division=0)
    )
    assert value("all-classes", rows) == pytest.approx(accuracy_score(gold, said))


def test_answer_that_is_no_class_is_refused() -> None:
    with pytest.raises(ResidencyError, match="facts"):
        statistics("accuracy", "yes", item("perhaps"))
    with pytest.raises(ResidencyError, match="two or more different classes"):
        statistics("accuracy", "yes", item("yes", classes=["yes", "Yes"]))
