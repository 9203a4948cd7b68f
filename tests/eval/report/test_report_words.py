"""Numbers, verdicts and axes of the report."""

from __future__ import annotations

from pathlib import Path

import pytest

from residency.eval.pages import charts, report_words
from residency.eval.pages.report_run import Run, Score


def test_a_control_is_judged_by_chance() -> None:
    row = {
        "task": "stem",
        "domain": "control",
        "stage": "sft",
        "against": "base",
        "metric": "accuracy",
        "n": 100,
    }
    above = Score.model_validate(
        row | {"value": 0.4, "value_low": 0.31, "value_high": 0.5, "chance": 0.25, "verdict": "better"}
    )
    assert above.mark == "above chance"
    assert above.model_copy(update={"value_low": 0.2}).mark == "at chance"
    said = report_words.controls(Run(Path(), "x", [], [above]))
    assert "Above chance where it should not be: stem 0.40 (chance 0.25)" in said
    below = above.model_copy(update={"value": 0.1, "value_low": 0.05, "value_high": 0.15})
    said = report_words.controls(Run(Path(), "x", [], [below]))
    assert "Controls not above chance, as they should be: stem 0.10 (chance 0.25)" in said


def test_many_tasks_are_counted_not_listed() -> None:
    row = {"domain": "general", "stage": "sft", "against": "base", "metric": "accuracy", "n": 100, "value": 0.4,
           "delta": -0.1, "ci_low": -0.2, "ci_high": -0.01}  # fmt: skip
    verdicts = ("worse", "equivalent", "equivalent", "worse", "undecided")
    scores = [
        Score.model_validate(row | {"task": f"t{place}", "verdict": verdict})
        for place, verdict in enumerate(verdicts)
    ]
    said = report_words.headline(Run(Path(), "x", [], scores)).striptags()
    assert said.endswith(
        "General knowledge: worse on 2 of 5 (t0, t3), undecided on 1 of 5, equivalent on 2 of 5."
    )


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (report_words.number(-0.004), "0.00"),
        (report_words.number(-0.05), "−0.05"),
        (report_words.number(0.5, sign=True), "+0.50"),
        (report_words.interval(-0.026, -0.0035), "[−0.026, −0.004]"),
        (report_words.interval(-0.026, 0.0), "[−0.03, 0.00]"),
        (report_words.count(999), "999"),
        (report_words.count(999_900), "1M"),
        (report_words.count(12_830), "12.8k"),
        (report_words.duration(0.42), "0.4 s"),
        (report_words.duration(252), "4 min 12 s"),
        (report_words.duration(11_100), "3 h 05 min"),
        (report_words.size(912_000_000), "912 MB"),
    ],
)
def test_numbers_in_words(shown: str, expected: str) -> None:
    assert shown.replace("\u202f", " ") == expected


def test_axes_are_round_and_hold_their_values() -> None:
    assert charts.axis([0.0, 1.0], ticks=2).ticks == (0.0, 0.5, 1.0)
    assert charts.axis([-0.13, 0.62], around=[-0.1, 0.1]).ticks == (-0.2, 0.0, 0.2, 0.4, 0.6, 0.8)
    assert charts.axis([3.0]).ticks[0] < 3 < charts.axis([3.0]).ticks[-1]


def test_thinning_keeps_the_mean_and_the_end() -> None:
    points = [(step, float(step)) for step in range(1, 1001)]
    few = charts.thinned(points, 100)
    assert len(few) == 100
    assert few[-1][0] == 1000
    assert sum(loss for _, loss in few) / 100 == pytest.approx(500.5)
