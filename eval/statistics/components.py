"""How much of a difference is items, how much the wording of the prompt, how much the order of the options.

Scores form a table items x prompts x orders, `[n, K, P]`, with every model on every cell. More items do not show a
difference that turns with the prompt; the components say which of the three has to grow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from residency.eval.statistics.paired import Interval, interval_of
from residency.eval.statistics.resampling import cluster_sums, codes_of, draw

Floats = NDArray[np.float64]
DIGITS = 12  # means that are equal but for rounding count as equal
Clusters = Sequence[str] | NDArray[np.int64]


class Components(NamedTuple):
    """Variances of a single cell's difference; those of one level only are 0."""

    mean: float
    item: float
    prompt: float
    order: float
    residual: float
    standard_error: float
    """Of the mean, were items, prompts and orders drawn anew."""


class Split(NamedTuple):
    """Scores of both models under each prompt on one split."""

    candidate: ArrayLike
    """[n, K]"""
    reference: ArrayLike
    """[n, K]"""
    clusters: Clusters


class SelectedPrompt(NamedTuple):
    """Each model under the prompt that did best on validation."""

    difference: Interval
    candidate_prompt: int
    reference_prompt: int


def variance_components(difference: ArrayLike) -> Components:
    """Variance components of candidate - reference by analysis of variance, main effects without interactions.

    Each effect's mean square is the residual's plus its own variance times the cells behind one level; estimates
    below 0 are 0. Interactions count as residual.

    Args:
        difference: `[n, K, P]`, n >= 2.

    Source: Searle, Casella and McCulloch, Variance Components (1992), chapter 4.
    """
    table = np.asarray(difference, dtype=float)
    assert table.ndim == 3 and len(table) > 1, table.shape
    mean, cells = table.mean(), table.size
    squares, freedoms = [], [levels - 1 for levels in table.shape]
    for axis in range(3):
        levels = table.mean(axis=tuple(other for other in range(3) if other != axis))
        squares.append(float(cells / table.shape[axis] * ((levels - mean) ** 2).sum()))
    left = cells - 1 - sum(freedoms)
    residual = max(0.0, float(((table - mean) ** 2).sum()) - sum(squares)) / left if left else 0.0
    item, prompt, order = (
        max(0.0, (square / freedom - residual) / (cells / levels)) if freedom else 0.0
        for square, freedom, levels in zip(squares, freedoms, table.shape, strict=True)
    )
    n, prompts, orders = table.shape
    error = math.sqrt(item / n + prompt / prompts + order / orders + residual / cells)
    return Components(float(mean), item, prompt, order, residual, error)


def prompt_spread(scores: ArrayLike) -> float:
    """Best less worst prompt by mean score, `[n, K, P]`.

    Source: Sclar et al., Quantifying Language Models' Sensitivity to Spurious Features (2024), arXiv 2310.11324.
    """
    means = np.asarray(scores, dtype=float).mean(axis=(0, 2))
    return float(means.max() - means.min())


def flip_rate(predictions: ArrayLike) -> float:
    """How often two variants of a prompt give different predictions: mean over items and pairs, `[n, V]`."""
    table = np.asarray(predictions)
    one, other = np.triu_indices(table.shape[1], 1)
    assert len(one), "one variant cannot flip"
    return float((table[:, one] != table[:, other]).mean())


def order_consistent_accuracy(correct: ArrayLike) -> float:
    """Share of items that are right under every order of the options, `[n, P]`."""
    return float((np.asarray(correct, dtype=float) == 1).all(axis=1).mean())


def positional_bias(predicted: ArrayLike, gold: ArrayLike, options: int) -> float:
    """Total variation, 0 to 1, between how often each place is chosen and how often it is right.

    Args:
        predicted, gold: places 0 .. options - 1, shape [n].
    """
    chosen, right = (np.bincount(np.asarray(places), minlength=options) for places in (predicted, gold))
    return float(np.abs(chosen / chosen.sum() - right / right.sum()).sum() / 2)


def probability_better(
    candidate: ArrayLike, reference: ArrayLike, clusters: Clusters, resamples: int, seed: int
) -> float:
    """P(candidate beats reference) for a prompt drawn at random and items drawn anew; equal counts half.

    Args:
        candidate, reference: `[n, K]`, the same prompts.
    """
    difference = np.asarray(candidate, dtype=float) - np.asarray(reference, dtype=float)
    totals = _totals(difference, clusters, resamples, seed)[0][:, :-1]
    return float(((totals > 1e-9) + (np.abs(totals) <= 1e-9) / 2).mean())


def selected_prompt_bootstrap(validation: Split, test: Split, resamples: int, seed: int) -> SelectedPrompt:
    """Difference on the test under each model's own best prompt, chosen on validation items.

    Validation items are resampled and the prompts chosen again, then test items are resampled: the interval holds
    the noise of the choice. Equal prompts fall to the first.
    """
    table, tests = _beside(validation), _beside(test)
    pooled, _ = _totals(table, validation.clusters, resamples, seed)
    tested, count = _totals(tests, test.clusters, resamples, seed + 1)
    prompts, row, chosen, values, drawn = table.shape[1] // 2, np.arange(resamples), [], [], []
    for own in (slice(0, prompts), slice(prompts, 2 * prompts)):
        best = int(table[:, own].mean(axis=0).round(DIGITS).argmax())
        again = (pooled[:, own] / pooled[:, -1:]).round(DIGITS).argmax(axis=1)
        chosen.append(best)
        values.append(float(tests[:, own][:, best].mean()))
        drawn.append(tested[:, own][row, again] / tested[:, -1])
    difference = interval_of(values[0] - values[1], drawn[0] - drawn[1], count)
    return SelectedPrompt(difference, chosen[0], chosen[1])


def _beside(split: Split) -> Floats:
    candidate, reference = (np.asarray(side, dtype=float) for side in (split.candidate, split.reference))
    assert candidate.shape == reference.shape, (candidate.shape, reference.shape)
    return np.concatenate([candidate, reference], axis=1)


def _totals(table: Floats, clusters: Clusters, resamples: int, seed: int) -> tuple[Floats, int]:
    """Resampled sums of the columns, the number of items last; and the number of clusters."""
    sums = cluster_sums(np.column_stack([table, np.ones(len(table))]), codes_of(clusters))
    return draw(sums, resamples, seed), len(sums)
