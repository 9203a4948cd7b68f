"""Metrics that take no single reply: ranking, attitude scales, spread of replies, rubrics."""

from __future__ import annotations

import numpy as np
import pytest

from residency.errors import ResidencyError
from residency.eval.metrics import METRICS, check_items, columns, metric, statistics, value
from residency.eval.metrics.eigenscore import ALPHA, answer_consistency, eigenscore, lexical_consistency
from residency.eval.metrics.likert import as_shown, likert
from residency.eval.metrics.ranking import ranking
from residency.eval.metrics.rubric import judged, rubric


def test_ranking_and_ties() -> None:
    assert ranking([-3.0, -1.0, -2.0], {"answer": 1}) == {"reciprocal_rank": 1.0, "recall_at_1": 1.0}
    assert ranking([-3.0, -1.0, -2.0], {"answer": 0}) == {
        "reciprocal_rank": pytest.approx(1 / 3),
        "recall_at_1": 0.0,
    }
    tied = ranking([-1.0, -1.0, -2.0], {"answer": 0})
    assert tied == {"reciprocal_rank": pytest.approx((1 + 1 / 2) / 2), "recall_at_1": 0.5}


def test_likert_by_hand() -> None:
    chances = np.array([[0.1, 0.2, 0.7], [0.3, 0.3, 0.4]])
    # "People who whistle at work are pleasant company." (1 disagree ... 3 agree)
    ours = likert(np.log(chances) + 5, {"id": "whistling"})
    assert ours["step"] == pytest.approx((2.6 + 2.1) / 2)
    assert ours["order_spread"] == pytest.approx(0.5)
    # "People who whistle at work should work elsewhere."
    against = likert(np.log(chances), {"id": "whistling-2", "facts": {"reversed": True}})
    assert against["step"] == pytest.approx(4 - (2.6 + 2.1) / 2)


def test_scale_is_the_mean_of_its_statements() -> None:
    agree = [-1e3, 0.0]
    rows = [
        statistics("likert", agree, {"id": "1"}),
        statistics("likert", agree, {"id": "2", "facts": {"reversed": True}}),
    ]
    assert value("likert", rows) == pytest.approx((2 + 1) / 2)


def test_scores_put_back_from_the_order_shown() -> None:
    assert as_shown([0.3, 0.1, 0.2], [2, 0, 1]) == [0.1, 0.2, 0.3]


def test_eigenscore_is_the_mean_log_eigenvalue() -> None:
    states = np.random.default_rng(0).normal(size=(5, 40))
    centred = states - states.mean(axis=1, keepdims=True)
    values = np.linalg.eigvalsh(centred @ centred.T / 39 + ALPHA * np.eye(5))
    assert eigenscore(states, {})["eigenscore"] == pytest.approx(np.log(values).mean())


def test_eigenscore_grows_with_spread() -> None:
    random = np.random.default_rng(1)
    base, noise = random.normal(size=64), random.normal(size=(10, 64))
    scores = [eigenscore(base + spread * noise, {})["eigenscore"] for spread in (0, 0.1, 1)]
    assert scores[0] < scores[1] < scores[2]
    assert scores[0] == pytest.approx(
        (9 * np.log(ALPHA) + np.log(10 * base.var(ddof=1) + ALPHA)) / 10, rel=1e-6
    )


def test_consistency_of_replies() -> None:
    ours = lexical_consistency(["take aspirin", "take aspirin", "call home"], {})
    assert ours == {"lexical_consistency": pytest.approx(1 / 3)}
    assert answer_consistency(["B", "B", None], {}) == {"answer_consistency": pytest.approx(1 / 3)}


CRITERIA = [
    {"criterion": "Says to call an ambulance", "points": 7},
    {"criterion": "Names the likely cause", "points": 3},
    {"criterion": "Gives a wrong dose", "points": -8},
]


def test_rubric_by_hand() -> None:
    item = {"id": "1", "facts": {"criteria": CRITERIA}}
    assert rubric([True, False, False], item) == {"score": 0.7}
    assert rubric([True, True, False], item) == {"score": 1.0}
    assert rubric([False, False, True], item) == {"score": -0.8}
    rows = [statistics("rubric", met, item) for met in ([False, False, True], [False, True, True])]
    assert value("rubric", rows) == pytest.approx((-0.8 - 0.5) / 2)
    assert value("rubric-clipped", rows) == 0.0


def test_judge_is_asked_for_every_criterion() -> None:
    conversation = [
        {"role": "user", "content": "My chest hurts"},
        {"role": "assistant", "content": "Call an ambulance"},
    ]
    item = {"id": "1", "facts": {"criteria": CRITERIA}}
    met = judged(conversation, item, lambda said, criterion: criterion.split()[-1] in said[-1]["content"])
    assert met == [True, False, False]


@pytest.mark.parametrize(
    "criteria", [[], [{"criterion": "x", "points": -1}], [{"criterion": "x"}], [{"points": 3}]]
)
def test_rubric_that_cannot_be_scored_is_refused(criteria: list[dict[str, object]]) -> None:
    with pytest.raises(ResidencyError, match="item '1'"):
        rubric([], {"id": "1", "facts": {"criteria": criteria}})


def test_exact_number() -> None:
    item = {"id": "1", "answers": ["1,000"]}
    rows = [
        statistics("exact-number", reply, item) for reply in ("The answer is 1000.0", "#### 1000", "100", "")
    ]
    assert [row["exact"] for row in rows] == [1.0, 1.0, 0.0, 0.0]
    with pytest.raises(ResidencyError, match="'many' is no number"):
        statistics("exact-number", "3", {"id": "1", "answers": ["many"]})


def test_unknown_and_unfit_metrics_are_refused() -> None:
    with pytest.raises(ResidencyError, match="'rouge' is not known"):
        metric("rouge")
    with pytest.raises(ResidencyError, match="'rubric' takes met, not a reply"):
        check_items("rubric", [])
    with pytest.raises(ResidencyError, match=r"item '2' lacks facts.classes"):
        check_items("macro-f1", [{"id": "2", "answers": ["yes"]}])


def test_columns_have_items_last_and_zeros_where_a_row_is_silent() -> None:
    names, matrix = columns([{"a": 1.0, "items": 1.0}, {"b": 2.0, "items": 1.0}])
    assert names == ["a", "b", "items"]
    assert matrix.tolist() == [[1.0, 0.0, 1.0], [0.0, 2.0, 1.0]]


def test_every_metric_of_replies_scores_an_empty_reply() -> None:
    item = {
        "id": "1",
        "answers": ["yes"],
        "context": "some dialogue",
        "facts": {
            "classes": ["yes", "no"],
            "entities": ["a"],
            "text": "gout",
            "spans": [[0, 4, "d"]],
            "error_sentence_id": -1,
            "pathology": "gout",
            "differential": ["gout"],
        },
    }
    notes = {**item, "answers": ["PLAN\nRest."]}
    numbers = {**item, "answers": ["1"]}
    needs = {"exact-number": numbers, "section-coverage": notes, "length-ratio": notes}
    for name, entry in METRICS.items():
        if entry.takes == "reply":
            check_items(name, [needs.get(name, item)])
            assert value(name, [statistics(name, "", needs.get(name, item))]) == 0.0, name
