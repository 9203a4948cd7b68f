"""The report of a made-up run: what it says, that it stands alone, and that it survives what is missing."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from residency.artifact import identity_of
from residency.eval.pages import report, report_words
from residency.eval.pages.report_run import read as read_run


def page_of(run: Path) -> str:
    return report.write(run).read_text("utf-8")


def text_of(html: str) -> str:
    """What a reader sees: tags and style left out, space collapsed."""
    bare = re.sub(r"<style>.*?</style>|<[^>]+>", "", html, flags=re.DOTALL)
    return re.sub(r"\s+", " ", bare)


def test_one_file_that_stands_alone(run: Path) -> None:
    assert report.write(run) == run / "report.html"
    html = page_of(run)
    assert not re.search(r"https?://|<script|<link|<img|@import|url\(|src=", html)
    assert len(html) < 400_000
    assert [path.name for path in run.glob(".report*")] == []


def test_sections_stand_in_order(run: Path) -> None:
    found = re.findall(r'<section id="(\w+)"', page_of(run))
    assert found == ["verdict", "chain", "scores", "gained", "curves", "data", "engine"]


def test_the_first_sentence_is_computed(run: Path) -> None:
    text = text_of(page_of(run))
    assert (
        "After preference the model scores 0.81 on “Facts read, asked as in training”, 0.55 more than "
        "pretrain [0.48, 0.62]: better. General knowledge: equivalent within 0.05." in text
    )
    assert "Medicine in all: 4 of 4 tasks better. Safety: undecided, +0.11 [−0.02, 0.24]." in text
    assert (
        "Controls at chance, as they should be: Exam without the question&#39;s subject 0.26 (chance 0.25)."
        in text
    )


def test_golden_numbers(run: Path, made: Any) -> None:
    text = text_of(page_of(run))
    for number in (
        "1.402 [1.332, 1.472]", "−0.410 [−0.450, −0.370]",  # bits per byte: three decimals, a true minus
        "300k", "1.15M", "927k",  # tokens of a stage, of all, parameters
        "80.2 % of 80.0 % planned, 2.99 epochs", "480 pairs", "3.71 MB", "p &lt; 0.001", "DeepSpeedEngine",
        "5e0c1c9d1f0b7a3f2b1e4d6c8a9f0e1d2c3b4a59", made.identity("cpt"), identity_of(weights="sft"),
    ):  # fmt: skip
        assert number in text.replace("\u202f", " "), number


def test_what_a_resumption_repeats_stands_once(run: Path) -> None:
    cpt = read_run(run).by_name["cpt"]
    assert [step["step"] for step in cpt.steps] == list(range(1, 161))
    assert cpt.checkpoints == [40, 80, 120, 160]


def test_bits_per_byte_are_drawn_with_better_to_the_right(run: Path) -> None:
    row = next(score for score in read_run(run).last if score.lower_is_better)
    assert row.effect() == pytest.approx((0.410 / 1.812, 0.370 / 1.812, 0.450 / 1.812))
    assert report_words.within(row) == "1\u202f%"


def test_everything_is_escaped(run: Path, made: Any) -> None:
    evil = "<script>alert(1)</script>"
    made.edit(
        run, "cpt-tokens", measured={"tokens": 10, "mixture": {evil: {"planned": 1.0, "realised": 1.0}}}
    )
    made.edit(run, "corpus-general", passport=[{"corpus": evil, "source": f'"{evil}', "licence": evil}])
    rows = made.scores()
    rows[-1] |= {"title": evil}
    rows[-7] |= {"title": evil}
    (run / "verdict.json").write_text(json.dumps(rows))
    html = page_of(run)
    assert "<script" not in html
    assert html.count("&lt;script&gt;alert(1)") >= 4


def test_a_failed_stage_shows_why(tmp_path: Path, made: Any) -> None:
    run = made.run(
        tmp_path / "broken",
        without=("sft", "sft-evaluation", "preference", "preference-evaluation", "export"),
    )
    events = [event for event in made.history() if event["stage"] in ("pretrain", "cpt")]
    failure = {
        "event": "stage_failed",
        "stage": "sft",
        "reason": "the loss is nan at step 12",
        "exit_code": 5,
    }
    made.write_events(run, [*events, {"event": "stage_started", "stage": "sft"}, failure])
    text = text_of(page_of(run))
    assert "The chain stopped at sft: the loss is nan at step 12" in text
    assert "After cpt, against pretrain" in text, "scores of stages that are not finished are stale"
    assert text.count("✕ failed") == 1
    assert "○ not run" in text


def test_trouble_and_eigenscore_stand_beside_the_loss_curve(tmp_path: Path, made: Any) -> None:
    run = made.run(tmp_path / "troubled", without=("sft",))
    faulty = {"step": 31, "reason": "the loss is 9.2, a spike above 1.1, the mean of 30 steps,", "loss": 9.2}
    manifest = json.loads((run / f"cpt-{made.identity('cpt')[:8]}" / "manifest.json").read_text())
    made.edit(run, "cpt", measured=manifest["measured"] | {"left_out": [faulty]})
    attempt = run / f"sft-{made.identity('sft')[:8]}.attempt"
    attempt.mkdir()
    (attempt / "attempt.json").write_text(
        json.dumps({"status": "running", "left_out": [faulty | {"step": 8}]})
    )
    told = [event for event in made.history() if event["stage"] == "sft"][:11]
    sign = {"event": "sign", "stage": "sft", "step": 11, "sign": "zero_loss", "message": "nothing is learnt"}
    score = {"event": "eigenscore", "stage": "sft", "dropped": 0}
    told[1:1] = [
        score | {"step": 0, "value": -4.2},
        score | {"step": 12, "value": -9.0},
    ]  # 12: before a roll-back
    told += [score | {"step": 11, "value": -3.1, "dropped": 26}, sign]
    step = next(event for event in made.history() if event["stage"] == "sft" and event.get("step") == 11)
    made.write_events(run, [*made.history()[:300], *told, step])
    sft = read_run(run).by_name["sft"]
    assert [told["value"] for told in sft.eigenscores] == [-4.2, -3.1]
    text = text_of(page_of(run))
    assert (
        "batch of step 31 left out: the loss is 9.2, a spike above 1.1, the mean of 30 steps. Training"
        in text
    )
    assert "batch of step 8 left out" in text
    assert "⚠ zero loss, 1 left out" in text
    assert "⚠ zero loss at step 11: nothing is learnt." in text
    assert "sft: EigenScore−4.200 → −3.100 · sensitivity dropout of up to 26 dimensions" in text


def test_a_stage_that_saved_and_stopped_has_not_failed(tmp_path: Path, made: Any) -> None:
    run = made.run(tmp_path / "paused", without=("preference", "preference-evaluation", "export"))
    stop = {"event": "stage_failed", "stage": "preference", "reason": "saved at step 40", "exit_code": 75}
    made.write_events(run, [*made.history(), {"event": "stage_started", "stage": "preference"}, stop])
    text = text_of(page_of(run))
    assert "‖ saved, run again" in text
    assert "✕" not in text


def test_one_stage_without_evaluation(tmp_path: Path) -> None:
    run = tmp_path / "small"
    run.mkdir()
    stage: dict[str, Any] = {"name": "sft", "kind": "sft", "identity": "ab" * 32, "parents": {}, "for": None}
    (run / "recipe.json").write_text(json.dumps({"name": "small", "stages": [stage]}))
    text = text_of(page_of(run))
    assert "no evaluation yet, so there is no verdict" in text
    assert "No training step was recorded" in text
    assert "No stage has finished" in text


def test_an_empty_directory_gives_a_page(tmp_path: Path) -> None:
    assert "No stage of this recipe has run" in page_of(tmp_path)


def test_only_the_reference_is_evaluated(tmp_path: Path, made: Any) -> None:
    run = made.run(tmp_path / "first", rows=[row for row in made.scores() if row["stage"] == "pretrain"])
    assert "0.26 on “Facts read, asked as in training” (chance 0.25). It is the reference" in text_of(
        page_of(run)
    )


def test_older_artifacts_do_not_count(run: Path, made: Any) -> None:
    made.edit(run, "cpt", measured={"loss": 77.7})
    (run / f"cpt-{made.identity('cpt')[:8]}").rename(run / "cpt-00000000")
    assert "77.700" not in page_of(run)


def test_events_of_a_stage_with_other_settings_do_not_count(tmp_path: Path, made: Any) -> None:
    run = made.run(
        tmp_path / "changed", without=("sft", "sft-evaluation", "preference", "preference-evaluation")
    )
    other = {"event": "stage_started", "stage": "sft", "identity": "0" * 64}
    step = {"event": "step", "stage": "sft", "step": 1, "steps": 2, "loss": 77.7}
    own = {"event": "stage_started", "stage": "sft", "identity": made.identity("sft")}
    made.write_events(run, [other, step])
    assert "77.7" not in text_of(page_of(run))
    made.write_events(run, [other, step, own, step | {"loss": 55.5}])
    assert "55.5" in text_of(page_of(run))


def test_a_sibling_shows_what_replay_is_worth(run: Path, made: Any) -> None:
    other = made.run(
        run.with_name("quickstart-no-replay"), rows=made.scores({"world-general": (0.95, 0.58, 0.55, 0.54)})
    )
    text = text_of(report.write(run, siblings=[other]).read_text("utf-8"))
    assert "With and without replay" in text
    assert "quickstart0.94 [0.92, 0.96] quickstart-no-replay0.54 [0.49, 0.59] After preference." in text
    assert "With and without replay" not in text_of(page_of(run))
