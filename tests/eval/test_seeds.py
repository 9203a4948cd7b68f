"""What lies between seeds, on numbers small enough to follow."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from residency.errors import ResidencyError
from residency.eval.comparison.seeds import over_seeds, write
from residency.eval.comparison.views import Line


def line(delta: float, **changes: Any) -> Line:
    fields = {
        "task": "exam", "title": "Exam", "domain": "medicine", "metric": "accuracy", "stage": "cpt",
        "against": "base", "verdict": "better", "n": 100, "clusters": 100, "value": 0.5 + delta,
        "value_low": 0.4, "value_high": 0.8, "reference": 0.5, "delta": delta, "ci_low": delta - 0.1,
        "ci_high": delta + 0.1, "margin": 0.01, "non_inferior": True, "standard_error": 0.03, "detectable": 0.1,
        "gained": 1, "lost": 0,
    }  # fmt: skip
    return Line.model_validate(fields | changes)


def test_three_seeds_by_hand() -> None:
    [found] = over_seeds({0: [line(0.1)], 1: [line(0.2)], 2: [line(0.3)]})
    assert found.delta_mean == pytest.approx(0.2) and found.value == pytest.approx(0.7)
    assert found.deviation == pytest.approx(0.1) and found.value_deviation == pytest.approx(0.1)
    half = 4.303 * 0.1 / math.sqrt(3)  # two degrees of freedom
    assert found.delta == pytest.approx((0.2, 0.2 - half, 0.2 + half))
    assert found.item_error == pytest.approx(0.03)
    assert found.seed_share == pytest.approx(0.01 / (0.01 + 0.0009))
    assert found.whole is not None and found.delta is not None
    error = math.sqrt(0.01 / 3 + 0.0009)
    freedom = 2 * ((0.01 / 3 + 0.0009) / (0.01 / 3)) ** 2  # 3.23: between the quantiles of 3 and 4
    assert 3 < freedom < 4 and 2.776 < (found.whole[2] - 0.2) / error < 3.182
    assert found.verdicts == ["better"] * 3 and found.seeds == [0, 1, 2]


def test_with_one_seed_the_variance_between_seeds_is_unknown() -> None:
    [found] = over_seeds({0: [line(0.1)]})
    unknown = (found.deviation, found.delta, found.whole, found.seed_share, found.value_deviation)
    assert unknown == (None,) * 5
    assert found.delta_mean == pytest.approx(0.1)


def test_seeds_that_agree_leave_the_items_error() -> None:
    [found] = over_seeds({0: [line(0.1)], 5: [line(0.1)]})
    assert found.deviation == 0 and found.seed_share == 0
    assert found.whole == pytest.approx((0.1, 0.1 - 1.96 * 0.03, 0.1 + 1.96 * 0.03))


def test_the_reference_has_no_line_and_other_items_are_refused(tmp_path: Path) -> None:
    reference = line(0.0, stage="base", verdict="reference")
    for seed, lines in enumerate(([reference, line(0.1)], [reference, line(0.2)])):
        (tmp_path / f"{seed}.json").write_text(json.dumps([each.model_dump() for each in lines]))
    write(tmp_path / "seeds.json", {seed: tmp_path / f"{seed}.json" for seed in (0, 1)})
    [found] = json.loads((tmp_path / "seeds.json").read_text())
    assert (found["stage"], found["deltas"]) == ("cpt", [0.1, 0.2])
    with pytest.raises(ResidencyError, match=r"seed 1: cpt was evaluated on 99, not 100 items"):
        over_seeds({0: [line(0.1)], 1: [line(0.1, n=99)]})
    with pytest.raises(ResidencyError, match=r"seed 1: cpt was not evaluated on task exam"):
        over_seeds({0: [line(0.1)], 1: []})
