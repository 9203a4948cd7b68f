"""Benchmark of honesty: how often the evaluation's statistics are right about simulated pairs of models.

Each pair of models answers n items, a fifth of them differently: 0/1 scores, or graded ones between 0 and 1. In
clusters of five the chances to gain and to lose are the cluster's own (intraclass correlation 1/3). Pairs without a
true difference (A/A) say how often the verdict claims one; pairs whose true difference is the margin say how often the
equivalence test passes what it should not (its size). Both say how often the 95 % interval holds the truth. The
functions called are the harness' own; resamples are fewer than its 10,000, which adds noise to an interval's ends but,
with their kind of quantile, no error to its level.

    python -m tests.bench.eval_simulation            about 6 minutes on 2 free cores
"""

from __future__ import annotations

import argparse
import itertools
import os
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from residency.eval.statistics import compare_pair, is_equivalent, mcnemar_midp, verdict_of
from tests.bench.figures import Figure
from tests.bench.record import RECORD, tell

ITEMS = (100, 500, 2000)
SIZES = (1, 5)
SEEDS = (1, 2, 3)
DISCORDANCE = 0.2
MARGIN = 0.08  # three to seven standard errors from 500 items on: the test can pass at all
CONCENTRATION = 2.0  # of a cluster's chances: correlation 1 / (1 + 2)
LEAST_ITEMS = 500  # goals hold from here on


class Setting(NamedTuple):
    """One kind of pair."""

    graded: bool
    items: int
    size: int
    """Items of a cluster."""
    edge: bool
    """Whether the true difference is the margin, else 0."""

    @property
    def name(self) -> str:
        """Middle of a figure's name."""
        return f"{'graded' if self.graded else 'binary'}_n{self.items}_cluster{self.size}"


def main() -> None:
    """Simulate, print and record."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--record", type=Path, default=RECORD, help="file to append to")
    parser.add_argument("--pairs", type=int, default=10_000, help="pairs per setting, over all seeds")
    parser.add_argument("--resamples", type=int, default=199)
    parser.add_argument("--workers", type=int, default=2)
    options, load = parser.parse_args(), os.getloadavg()[0]
    settings = [Setting(*each) for each in itertools.product((False, True), ITEMS, SIZES, (False, True))]
    jobs = [(setting, seed) for setting in settings for seed in SEEDS]
    jobs.sort(key=lambda job: -job[0].items)  # the long ones first
    pairs = -(-options.pairs // len(SEEDS))
    with ProcessPoolExecutor(options.workers) as pool:
        many = len(jobs)
        counts = pool.map(
            simulate, *zip(*jobs, strict=True), itertools.repeat(pairs, many), [options.resamples] * many
        )
        found = dict(zip(jobs, counts, strict=True))
    figures = [figure for setting in settings for figure in figures_of(setting, found, pairs)]
    said = {"pairs": pairs * len(SEEDS), "resamples": options.resamples, "seeds": SEEDS, "margin": MARGIN}
    tell(options.record, "eval-simulation", figures, said, load=load, threads=options.workers)


def simulate(setting: Setting, seed: int, pairs: int, resamples: int) -> Counter[str]:
    """Counts of what the statistics say of `pairs` pairs."""
    random = np.random.default_rng([seed, *setting])
    codes = np.arange(setting.items) // setting.size
    scale = 0.5 if setting.graded else 1.0  # the mean of what a graded item gains
    margin, told = MARGIN * scale, Counter[str]()
    truth = margin if setting.edge else 0.0
    for number in range(pairs):
        candidate, reference = answers(random, setting)
        pair = compare_pair(candidate, reference, codes, resamples, number)
        delta, low, high = pair.difference
        told["covered"] += low - 1e-12 <= truth <= high + 1e-12
        told["equivalent"] += is_equivalent(*pair.equivalence, margin)
        verdict = verdict_of(delta, low, high, margin, True, equivalence=pair.equivalence)
        told["claimed"] += verdict in ("better", "worse")
        if not setting.graded and setting.size == 1:
            told["midp"] += mcnemar_midp(candidate, reference) <= 0.05
    return told


def answers(random: np.random.Generator, setting: Setting) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Scores of candidate and reference, [n] each."""
    shift = MARGIN if setting.edge else 0.0
    gain, loss = (DISCORDANCE + shift) / 2, (DISCORDANCE - shift) / 2
    clusters = setting.items // setting.size
    chances = random.dirichlet(np.array([gain, loss, 1 - gain - loss]) * CONCENTRATION, clusters)
    own = np.repeat(chances, setting.size, axis=0)
    lot = random.random(setting.items)
    gained, lost = lot < own[:, 0], (lot >= own[:, 0]) & (lot < own[:, 0] + own[:, 1])
    change = (gained.astype(float) - lost) * (random.random(setting.items) if setting.graded else 1.0)
    start = random.random(setting.items)
    # Room below for a loss and above for a gain: both scores lie in 0 .. 1.
    reference = np.maximum(-change, 0) + start * (1 - np.abs(change))
    if not setting.graded:
        reference = np.where(change == 0, start < 0.5, lost).astype(float)
    return reference + change, reference


def figures_of(setting: Setting, found: dict[tuple[Setting, int], Counter[str]], pairs: int) -> list[Figure]:
    """Rates over all seeds, and their span over seeds where a goal is set."""
    bars = setting.items >= LEAST_ITEMS
    goals: dict[str, tuple[float | None, float | None]] = {"covered": (0.94, 0.96)}
    goals |= {"equivalent": (None, 0.055)} if setting.edge else {"claimed": (0.04, 0.06)}
    if not setting.edge and not setting.graded and setting.size == 1:
        goals["midp"] = (0.04, 0.06)
    where = "edge" if setting.edge else "aa"
    figures = []
    for told, (least, most) in goals.items():
        rates = [found[setting, seed][told] / pairs for seed in SEEDS]
        rate, name = sum(rates) / len(rates), f"{setting.name}_{where}_{told}"
        figures.append(Figure(name, rate, least if bars else None, most if bars else None))
        figures += [Figure(f"{name}_seed{seed}", one) for seed, one in zip(SEEDS, rates, strict=True)]
    return figures


if __name__ == "__main__":
    main()
