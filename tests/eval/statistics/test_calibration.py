"""Calibration against scikit-learn, torchmetrics, scipy and hand-computed numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.optimize
import scipy.special
import scipy.stats
import sklearn.calibration
import sklearn.metrics
import torch
from numpy.typing import NDArray
from torchmetrics.functional.classification import binary_calibration_error

from residency.eval.statistics.calibration import (
    accuracy_at_coverage,
    area_under_risk_coverage,
    brier_parts,
    brier_score,
    confidence_of,
    expected_calibration_error,
    fit_temperature,
    negative_log_likelihood,
    probabilities,
    reliability_curve,
)


def exam(items: int = 600, *, heat: float = 2.0) -> tuple[list[list[float]], NDArray[np.int64]]:
    """Four options; answers are drawn from the softmax of the scores over `heat`."""
    random = np.random.default_rng(0)
    scores = random.normal(0, 3, (items, 4))
    shares = scipy.special.softmax(scores / heat, axis=1)
    answers = (shares.cumsum(axis=1) < random.random((items, 1))).sum(axis=1)
    return scores.tolist(), answers


def test_probabilities_are_scipys_softmax_and_0_where_there_is_no_option() -> None:
    found = probabilities([[-1.0, -2.0, -3.0], [-700.0, -701.0]], temperature=2.0)
    assert found[0] == pytest.approx(scipy.special.softmax([-0.5, -1.0, -1.5]))
    assert found[1] == pytest.approx([*scipy.special.softmax([0.0, -0.5]), 0.0])


def test_confidence_is_the_chosen_options() -> None:
    confidence, correct = confidence_of(np.array([[0.7, 0.3], [0.4, 0.6], [0.5, 0.5]]), [0, 0, 1])
    assert confidence.tolist() == [0.7, 0.6, 0.5]
    assert correct.tolist() == [1.0, 0.0, 0.0]


def test_reliability_curve_is_scikit_learns() -> None:
    scores, answers = exam()
    confidence, correct = confidence_of(probabilities(scores), answers)
    curve = reliability_curve(confidence, correct, bins=15)
    share, mean = sklearn.calibration.calibration_curve(correct, confidence, n_bins=15, strategy="quantile")
    assert [part.accuracy for part in curve] == pytest.approx(share.tolist())
    assert [part.confidence for part in curve] == pytest.approx(mean.tolist())
    assert [part.items for part in curve] == [40] * 15


def test_bins_have_wilsons_interval() -> None:
    part = reliability_curve([0.6] * 10, [1] * 7 + [0] * 3, bins=1)[0]
    wilson = scipy.stats.binomtest(7, 10).proportion_ci(method="wilson")
    assert (part.low, part.high) == pytest.approx((wilson.low, wilson.high))


def test_calibration_error_by_hand() -> None:
    """Bins (0.5, 0.6 | 1 of 2) and (0.8, 0.9 | 2 of 2): (0.05 + 0.15) / 2."""
    assert expected_calibration_error([0.9, 0.5, 0.6, 0.8], [1, 1, 0, 1], bins=2) == pytest.approx(0.1)


def test_calibration_error_is_torchmetrics_where_both_have_the_same_bins() -> None:
    """Confidence spread evenly over 0 to 1 fills equally wide bins with equally many items."""
    random = np.random.default_rng(1)
    confidence = random.permutation((np.arange(1500) + 0.5) / 1500)
    correct = (random.random(1500) < confidence**2).astype(float)
    theirs = binary_calibration_error(torch.tensor(confidence), torch.tensor(correct).long(), n_bins=15)
    assert expected_calibration_error(confidence, correct) == pytest.approx(float(theirs), abs=1e-6)


def test_debiasing_takes_away_part_of_what_chance_adds() -> None:
    random = np.random.default_rng(2)
    plain, debiased = [], []
    for _ in range(40):
        confidence = random.uniform(0.3, 1, 450)
        correct = random.random(450) < confidence
        plain.append(expected_calibration_error(confidence, correct))
        debiased.append(expected_calibration_error(confidence, correct, debiased=True))
    assert np.mean(plain) > 0.05
    assert np.mean(debiased) < 0.7 * np.mean(plain)


def test_debiasing_leaves_a_large_error() -> None:
    correct = np.random.default_rng(3).random(3000) < 0.5
    plain = expected_calibration_error(np.full(3000, 0.9), correct)
    assert expected_calibration_error(np.full(3000, 0.9), correct, debiased=True) == pytest.approx(
        plain, abs=1e-3
    )


def test_brier_and_likelihood_are_scikit_learns() -> None:
    scores, answers = exam()
    shares = probabilities(scores)
    theirs = sklearn.metrics.brier_score_loss(answers, shares, labels=[0, 1, 2, 3], scale_by_half=False)
    assert brier_score(shares, answers) == pytest.approx(theirs)
    assert negative_log_likelihood(shares, answers) == pytest.approx(
        sklearn.metrics.log_loss(answers, shares)
    )


def test_brier_parts_add_up() -> None:
    scores, answers = exam()
    confidence, correct = confidence_of(probabilities(scores), answers)
    parts = brier_parts(confidence, correct)
    assert parts.score == pytest.approx(sklearn.metrics.brier_score_loss(correct, confidence))
    assert parts.reliability - parts.resolution + parts.uncertainty + parts.within == pytest.approx(
        parts.score
    )


def test_brier_parts_by_hand() -> None:
    """Murphy's parts where a bin holds one confidence: 0.4 with 1 of 4 right, 0.8 with 3 of 4."""
    parts = brier_parts([0.4] * 4 + [0.8] * 4, [1, 0, 0, 0, 1, 1, 1, 0], bins=2)
    assert parts.reliability == pytest.approx((0.15**2 + 0.05**2) / 2)
    assert parts.resolution == pytest.approx(0.25**2)
    assert parts.uncertainty == pytest.approx(0.25)
    assert parts.within == pytest.approx(0)


def test_selective_accuracy_by_hand() -> None:
    confidence, correct = [0.9, 0.8, 0.7, 0.6, 0.5], [1, 1, 0, 1, 0]
    assert accuracy_at_coverage(confidence, correct, 0.4) == 1
    assert accuracy_at_coverage(confidence, correct, 0.8) == pytest.approx(3 / 4)
    assert accuracy_at_coverage(confidence, correct, 1.0) == pytest.approx(3 / 5)
    risks = [0, 0, 1 / 3, 1 / 4, 2 / 5]
    assert area_under_risk_coverage(confidence, correct) == pytest.approx(sum(risks) / 5)


def test_equally_sure_items_do_not_depend_on_their_order() -> None:
    assert accuracy_at_coverage([0.5] * 4, [1, 1, 0, 0], 0.5) == 0.5
    assert area_under_risk_coverage([0.5] * 4, [1, 1, 0, 0]) == pytest.approx(0.5)
    assert area_under_risk_coverage([0.5] * 4, [0, 0, 1, 1]) == pytest.approx(0.5)


def test_temperature_is_scipys_optimum_and_near_the_truth() -> None:
    scores, answers = exam(3000, heat=2.0)
    theirs = scipy.optimize.minimize_scalar(
        lambda log: negative_log_likelihood(
            scipy.special.softmax(np.array(scores) / math.exp(log), axis=1), answers
        ),
        bounds=(-3, 3),
        method="bounded",
    )
    found = fit_temperature(scores, answers)
    assert found == pytest.approx(math.exp(theirs.x), rel=1e-3)
    assert found == pytest.approx(2.0, rel=0.1)
