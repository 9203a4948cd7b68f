"""The sections of an evaluation in the report: every view drawn, every value shown, every text escaped."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from residency.eval.comparison.views import (
    Attribution,
    Bin,
    Calibration,
    Components,
    Contamination,
    Curve,
    CurvePoint,
    Evaluation,
    Exchange,
    Flip,
    Forgetting,
    GateResult,
    Group,
    Scored,
    SeedScores,
    Step,
    Suite,
    Validity,
)
from residency.eval.pages import evaluation_charts, evaluation_view, report
from residency.eval.pages.charts import Axis
from residency.eval.pages.report_run import read

STAGES = ("cpt", "sft", "preference")
SECTIONS = [
    "gates", "suites", "attribution", "kept", "subjects", "sureness", "wording", "checkpoints", "scorers",
    "contamination", "seeds", "answers",
]  # fmt: skip
EXAM, GENERAL = "world-exam", "world-general"
EVIL = "<script>alert('1')</script>"
RISE = {"cpt": 0.12, "sft": 0.55, "preference": 0.55}
SUBJECTS = {"cardiology": 0.31, "nephrology and hypertension": 0.22, "pharmacology": 0.05, "surgery": -0.11}
VALUES = [
    ("gates", "✕ refused after sft: safety is not better: +0.04"),
    ("suites", "preference 3 1 +0.55 [0.49, 0.61]"),
    ("attribution", "pretrain 0 +0.12 cpt +0.43 sft 0.00 preferen… +0.55 total"),
    ("kept", "medicine +12.0 [10.0, 60.0] points, general knowledge −3.0 [−5.0, −1.0]: "
        "4.0 points gained for each one lost"),
    ("kept", "General knowledge margin 0.05 −0.03 [−0.05, −0.01] kept"),
    ("subjects", "cardiology 48 +0.31 nephrology and hypertension 48 +0.22 pharmacology 48 +0.05 surgery 48 −0.11"),
    ("subjects", "rare diseases 3 too few"),
    ("sureness", "60 % sure, 58 % right"),
    ("sureness", "18.7 % 0.512 1.034 0.391 66.2 %"),
    ("wording", "as a clinician would ask a colleague 0.85 0.84 0.83 0.82"),
    ("wording", "Two ways of asking give different answers: 21 %"),
    ("wording", "Beats pretrain in a wording drawn at random: 97 %"),
    ("checkpoints", "It first lost 0.09, lowest at step 20, and was back at step 60."),
    ("checkpoints", "The best is +0.24 [0.17, 0.31] from the start, less the luck of choosing it."),
    ("checkpoints", "Not scored: step 180"),
    ("checkpoints", "bottom 0.31 recovered 0.42 best 0.66"),
    ("scorers", "option-text 0.74 19 %"),
    ("scorers", "94 % answered · 4 % no answer found · 2 % refused · 1 % cut off"),
    ("contamination", "22 of 192 questions found in the training text found +0.41 not found +0.12"),
    ("contamination", "p = 0.012"),
    ("seeds", "better in 3 seeds +0.54 [0.42, 0.66] between seeds ± 0.046, 63 % of the variance"),
    ("answers", "Facts read, asked as in training after preference: 2 lost, 1 won shown, of 9 and 71"),
    ("answers", "liver ✓ right pretrain skin spleen preference heart"),
    ("answers", "pretrain wrote A"),
    ("answers", "The text of this question may not be shown. Right: B · pretrain: B · preference: D q18"),
]  # fmt: skip


def evaluation(question: str = "Which organ makes bile?") -> Evaluation:
    """Every view, for three stages after pretrain."""
    made = Evaluation(against="pretrain", stages=["pretrain", *STAGES])
    for stage in STAGES:
        rise = RISE[stage]
        made.suites += [
            Suite(domain="medicine", stage=stage, against="pretrain", tasks=[EXAM, "world-exam-unseen-form"],
                  delta=(rise, rise - 0.06, rise + 0.06), better=3, equivalent=0, worse=0, undecided=1,
                  margin=0.01, verdict="better"),
            Suite(domain="general", stage=stage, against="pretrain", tasks=[GENERAL],
                  delta=(-0.03, -0.05, -0.01), better=0, equivalent=1, worse=2, undecided=0, margin=0.05,
                  verdict="worse"),
        ]  # fmt: skip
        made.forgetting.append(
            Forgetting(task=GENERAL, title="General knowledge", stage=stage, delta=(-0.03, -0.05, -0.01),
                       margin=0.05, state="lost" if stage == "cpt" else "kept")
        )  # fmt: skip
        made.exchange.append(
            Exchange(stage=stage, medicine=(rise, 0.1, 0.6), general=(-0.03, -0.05, -0.01), rate=rise / 0.03)
        )
        made.groups += [
            Group(task=EXAM, stage=stage, group=group, items=48, value=0.4 + gain, reference=0.4,
                  delta=(gain, gain - 0.09, gain + 0.09))
            for group, gain in SUBJECTS.items()
        ]  # fmt: skip
        made.groups.append(
            Group(
                task=EXAM, stage=stage, group="rare diseases", items=3, value=0.67, reference=0.33, delta=None
            )
        )
        made.scorers += [
            Scored(task=EXAM, stage=stage, scorer="letter", main=True, value=0.81, disagreement=0.0,
                   validity=Validity()),
            Scored(task=EXAM, stage=stage, scorer="option-text", main=False, value=0.74, disagreement=0.19,
                   validity=Validity()),
            Scored(task=EXAM, stage=stage, scorer="reply", main=False, value=0.69, disagreement=0.27,
                   validity=Validity(answered=180, invalid=7, refused=3, truncated=2)),
        ]  # fmt: skip
        made.flips += flips(stage, question)
        made.contamination.append(
            Contamination(task=EXAM, stage=stage, flagged_items=22, clean_items=170, flagged=(0.41, 0.2, 0.6),
                          clean=(0.12, 0.05, 0.19), interaction=(0.29, 0.08, 0.5), p=0.012)
        )  # fmt: skip
    made.components = [wordings(stage) for stage in ("pretrain", *STAGES)]
    made.calibration = [sure(stage) for stage in ("pretrain", *STAGES)]
    made.attribution = [
        chain("medicine", True, (0.12, 0.43, 0.0)), chain("general", True, (-0.05, 0.01, 0.01)),
        chain(EXAM, False, (0.12, 0.43, 0.0)), chain("anatomy-bits", False, (-0.471, 0.057, 0.004)),
    ]  # fmt: skip
    made.gates = [
        GateResult(after="cpt", of=GENERAL, wanted="kept", passed=True, message="world-general is kept within 0.05"),
        GateResult(after="sft", of="safety", wanted="better", passed=False, message="safety is not better: +0.04"),
    ]  # fmt: skip
    return made


def chain(name: str, is_suite: bool, gains: tuple[float, ...]) -> Attribution:
    before = ("pretrain", *STAGES)
    steps = [
        Step(stage=stage, previous=old, delta=(gain, gain - 0.05, gain + 0.05))
        for stage, old, gain in zip(STAGES, before, gains, strict=False)
    ]
    total = sum(gains)
    return Attribution(
        name=name, title={EXAM: "Facts read", "anatomy-bits": "Anatomy text"}.get(name, name), is_suite=is_suite,
        domain="general" if name == "general" else "medicine", lower_is_better=name == "anatomy-bits",
        steps=steps, total=(total, total - 0.07, total + 0.07),
    )  # fmt: skip


def wordings(stage: str) -> Components:
    rise = RISE.get(stage, 0.0)
    return Components(
        task=EXAM, stage=stage, templates=["plain", "as an exam", "as a clinician would ask a colleague"],
        orders=[0, 1, 2, 3],
        cells=[[0.26 + rise + 0.02 * row - 0.01 * column for column in range(4)] for row in range(3)],
        item=0.11, prompt=0.004, order=0.002, residual=0.09, standard_error=0.034 if rise else None,
        prompt_spread=0.04, probability_better=0.97 if rise else None, flip_rate=0.21, order_consistent=0.48,
        positional_bias=0.12,
    )  # fmt: skip


def sure(stage: str) -> Calibration:
    skill = RISE.get(stage, 0.0)
    bins = [
        Bin(confidence=at, accuracy=right, low=max(right - 0.12, 0), high=min(right + 0.12, 1), items=48)
        for at, right in zip(
            (0.31, 0.48, 0.7, 0.93), (0.2 + skill / 3, 0.3 + skill / 3, 0.4 + skill / 2, 0.5 + skill / 2), strict=True
        )
    ]  # fmt: skip
    return Calibration(
        task=EXAM, stage=stage, ece=0.187, brier=0.512, nll=1.034, aurc=0.391, accuracy_at_80=0.662, bins=bins
    )


def flips(stage: str, question: str) -> list[Flip]:
    options = ["liver", "skin", "spleen", "heart"]
    return [
        Flip(task=EXAM, stage=stage, item="q17", group="surgery", kind="lost", answer=0, prediction=2,
             reference_prediction=0, question=question, options=options, reply="The spleen (C).",
             reference_reply="A"),
        Flip(task=EXAM, stage=stage, item="q18", group="cardiology", kind="lost", answer=1, prediction=3,
             reference_prediction=1),
        Flip(task=EXAM, stage=stage, item="q19", group="cardiology", kind="gained", answer=3, prediction=3,
             reference_prediction=None, question="What pumps blood?", options=options),
    ]  # fmt: skip


def curve(task: str = EXAM, title: str = "Facts read, quick") -> Curve:
    values = {0: 0.40, 20: 0.31, 40: 0.36, 60: 0.42, 80: 0.55, 100: 0.61, 120: 0.66, 140: 0.64, 160: 0.65}
    points = [
        CurvePoint(step=step, value=value, low=value - 0.06, high=value + 0.06, delta=None)
        for step, value in values.items()
    ]
    return Curve(
        stage="cpt", task=task, title=title, domain="medicine", metric="accuracy", margin=0.01, n=192, clusters=192,
        points=points, bottom=20, recovery=60, best=120, gap=0.09, slope=(0.002, 0.001, 0.003),
        first_to_last=(0.25, 0.2, 0.3), gain=(0.24, 0.17, 0.31), selection_bias=0.02, missing=[180],
    )  # fmt: skip


def seeds(count: int = 3) -> list[SeedScores]:
    deltas = [0.55, 0.49, 0.58][:count]
    return [
        SeedScores(
            task=EXAM, title="Facts read", domain="medicine", metric="accuracy", stage=stage, against="pretrain",
            margin=0.01, seeds=list(range(count)), values=[0.26 + delta for delta in deltas], deltas=deltas,
            verdicts=["better"] * count, value=0.8, value_deviation=0.046 if count > 1 else None,
            delta=(0.54, 0.43, 0.65) if count > 1 else None, delta_mean=sum(deltas) / count,
            deviation=0.046 if count > 1 else None, item_error=0.035, seed_share=0.63 if count > 1 else None,
            whole=(0.54, 0.42, 0.66) if count > 1 else None,
        )
        for stage in STAGES
    ]  # fmt: skip


def lines(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Lines of `verdict.json` with all that they may say."""
    for row in rows:
        spread = (row["ci_high"] - row["ci_low"]) / 3.92
        row |= {
            "lower_is_better": row["metric"] == "bits_per_byte", "non_inferior": row["ci_low"] > -row["margin"],
            "standard_error": spread, "detectable": 2.8 * spread, "items_to_decide": 4100, "gained": 71, "lost": 9,
        }  # fmt: skip
        if row["verdict"] != "reference":
            row |= {"test": "mcnemar", "p": 0.004, "p_holm": 0.012, "p_bh": 0.007}
        if row["chance"] == 0.25:
            row |= {"constant": 0.29, "longest": 0.33}
        if row["task"] == EXAM:
            row["validity"] = {"answered": 180, "invalid": 7, "refused": 3, "truncated": 2}
            row |= {"too_good": True, "too_good_score": 4.2, "items_cut": 6}
        if row["task"] == "world-safety":
            row["non_inferior"] = True
    return rows


def save(run: Path, views: Evaluation, curves: list[Curve], over_seeds: list[SeedScores]) -> None:
    (run / "evaluation.json").write_text(views.model_dump_json())
    (run / "curves.json").write_text(json.dumps([one.model_dump() for one in curves]))
    (run / "seeds.json").write_text(json.dumps([one.model_dump() for one in over_seeds]))


@pytest.fixture
def evaluated(run: Path, made: Any) -> Path:
    """A finished run with every view."""
    (run / "verdict.json").write_text(json.dumps(lines(made.scores())))
    save(run, evaluation(), [curve()], seeds())
    return run


def page_of(run: Path) -> str:
    return report.write(run).read_text("utf-8")


def text_of(html: str) -> str:
    """What a reader sees: tags, script and style left out, space collapsed."""
    bare = re.sub(
        r"<style>.*?</style>|<script>.*?</script>|<title>.*?</title>|<[^>]+>", " ", html, flags=re.DOTALL
    )
    return re.sub(r"\s+", " ", bare.replace("\u202f", " "))


def part(html: str, name: str) -> str:
    """The words of one section."""
    found = re.search(rf'<section id="{name}">.*?</section>', html, re.DOTALL)
    assert found, name
    return re.sub(r" (?=[.,;:])", "", text_of(found[0]))


def test_every_section_is_there_and_the_verdict_is_first(evaluated: Path) -> None:
    html = page_of(evaluated)
    found = re.findall(r'<section id="(\w+)"', html)
    assert found == ["verdict", "chain", "scores", "gained", "detail", *SECTIONS, "curves", "data", "engine"]
    assert re.findall(r'<li><a href="#(\w+)"', html) == SECTIONS
    assert not re.search(r"https?://|<link|<img|@import|url\(|src=", html)


def test_the_verdict_tells_floors_validity_and_power(evaluated: Path) -> None:
    html = page_of(evaluated)
    told = re.sub(r" (?=[.,;:])", "", text_of(html[: html.index('<section id="chain"')]))
    for words in ("94 % answered, 4 % unreadable, 2 % refused, 1 % cut off", "Holm p = 0.012, sees 0.12",
                  "⚠ too good?", "not worse by 0.01", "Too good? It rose far above"):  # fmt: skip
        assert words in told, words
    assert "guessing 0.25, one option 0.29, longest option 0.33" in html
    assert "71, 9" in part(html, "scores")
    assert "p = 0.007" in part(html, "scores") and "4.1k" in part(html, "scores")


def test_values_stand_in_their_section(evaluated: Path) -> None:
    html = page_of(evaluated)
    for section, words in VALUES:
        assert words in part(html, section), section


def test_everything_is_escaped(run: Path, made: Any) -> None:
    rows = lines(made.scores())
    (run / "verdict.json").write_text(json.dumps([row | {"title": EVIL, "domain": EVIL} for row in rows]))
    views = evaluation(EVIL)
    for group in views.groups:
        group.group = EVIL
    for flip in views.flips:
        flip.item = flip.group = flip.reply = flip.reference_reply = EVIL
        flip.options = [EVIL] * 4
    for one in views.components:
        one.templates = [EVIL] * 3
    for scored in views.scorers:
        scored.scorer = EVIL
    for told in views.attribution:
        told.title = told.name = told.domain = EVIL
    for suite in views.suites:
        suite.domain = EVIL
    for kept in views.forgetting:
        kept.title = EVIL
    for gate in views.gates:
        gate.message = gate.after = EVIL
    save(run, views, [curve(title=EVIL)], [one.model_copy(update={"title": EVIL}) for one in seeds()])
    html = page_of(run)
    assert html.count("<script") == 1, "the filter's own"
    assert "alert('1')" not in html and html.count("&lt;script&gt;") > 100


def test_the_page_is_well_formed(evaluated: Path) -> None:
    class Nesting(HTMLParser):
        stack: list[str] = []

        def handle_starttag(self, tag: str, attrs: Any) -> None:
            if tag not in ("meta", "br", "col"):
                self.stack.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert self.stack.pop() == tag, (tag, self.getpos())

        def handle_startendtag(self, tag: str, attrs: Any) -> None:
            pass

    Nesting().feed(page_of(evaluated))
    assert Nesting.stack == []


def test_sections_without_data_are_left_out(run: Path, made: Any) -> None:
    assert "In detail" not in page_of(run)
    (run / "verdict.json").write_text(json.dumps(lines(made.scores())))
    save(run, Evaluation(against="pretrain", stages=["pretrain"], gates=evaluation().gates[:1]), [], [])
    html = page_of(run)
    assert re.findall(r'<li><a href="#(\w+)"', html) == ["gates", "seeds"]
    assert "Unknown with one seed" in part(html, "seeds")
    assert "<script" not in html


def test_one_seed_leaves_their_variance_unknown(evaluated: Path) -> None:
    save(evaluated, evaluation(), [], seeds(1))
    html = page_of(evaluated)
    assert "Unknown with one seed" in part(html, "seeds")
    assert "One run says nothing of the variance between seeds" in text_of(html)


def test_views_of_stages_that_changed_are_left_out(tmp_path: Path, made: Any) -> None:
    run = made.run(tmp_path / "changed", without=("preference", "preference-evaluation", "export"))
    (run / "verdict.json").write_text(json.dumps(lines(made.scores())))
    save(run, evaluation(), [curve()], seeds())
    html = page_of(run)
    assert "preference" not in part(html, "answers") + part(html, "suites") + part(html, "seeds")
    assert 'id="attribution"' not in html, "its total was of a chain that is no more"


def test_a_curve_is_drawn_while_the_stage_trains(run: Path, made: Any) -> None:
    scored = [
        {"event": "checkpoint_scored", "stage": "cpt-curve", "of": "cpt", "step": step, "task": "bits", "n": 30,
         "value": value, "low": value - 0.1, "high": value + 0.1, "lower_is_better": True}
        for step, value in ((0, 2.0), (40, 2.25), (80, 1.5))
    ]  # fmt: skip
    made.write_events(run, [*made.history(), *scored])
    told = part(page_of(run), "checkpoints")
    assert "during cpt · still training" in told
    assert "It first lost 0.250, lowest at step 40, and was back at step 80." in told
    anew = {"event": "step", "stage": "cpt", "step": 1, "steps": 160, "loss": 3.0}
    made.write_events(run, [*made.history(), *scored, anew])
    assert 'id="checkpoints"' not in page_of(run), "points of an earlier training do not count"


def test_many_tasks_are_folded(evaluated: Path) -> None:
    rows = json.loads((evaluated / "verdict.json").read_text())
    views = evaluation()
    for copy in range(5):
        rows += [row | {"task": f"exam-{copy}"} for row in rows if row["task"] == EXAM]
        views.groups += [
            group.model_copy(update={"task": f"exam-{copy}"}) for group in views.groups if group.task == EXAM
        ]
    (evaluated / "verdict.json").write_text(json.dumps(rows))
    save(evaluated, views, [], [])
    assert part(page_of(evaluated), "subjects").count("2 more tasks") == 3


def test_what_was_lost_for_nothing_is_said() -> None:
    lost = Exchange(stage="cpt", medicine=(-0.01, -0.02, 0.0), general=(-0.03, -0.05, -0.01), rate=None)
    assert evaluation_view.exchanged(lost).endswith("nothing was gained for the loss")
    unsure = lost.model_copy(update={"general": (-0.01, -0.03, 0.01)})
    assert evaluation_view.exchanged(unsure).endswith("no general loss is shown")


def test_a_waterfall_adds_up() -> None:
    steps = [("cpt", (0.1, 0.05, 0.15)), ("sft", (-0.05, -0.1, 0.0))]
    drawn = evaluation_charts.waterfall(
        "base", steps, (0.05, 0.0, 0.1), lower=False, show=lambda value: f"{value:g}", told="x"
    )
    bars = re.findall(r'<rect class="part (\w+)"[^>]* y="([\d.]+)" height="([\d.]+)"', drawn)
    tops = [(name, float(top), float(top) + float(height)) for name, top, height in bars]
    (_, up, zero), (_, also_up, ends), (name, total, floor) = tops
    assert (also_up, total, floor) == pytest.approx((up, ends, zero), abs=0.2) and name == "total"


def test_relative_axes_hold_values_that_are_no_shares(run: Path) -> None:
    row = next(score for score in read(run).last if score.lower_is_better)
    assert row.drawn((-0.2, -0.3, -0.1)) == pytest.approx((0.2 / 1.812, 0.1 / 1.812, 0.3 / 1.812))
    grade = row.model_copy(update={"metric": "reading-grade", "value": 9.0, "reference": 12.0})
    assert grade.scale == 12.0
    share = row.model_copy(update={"metric": "invented-numbers", "value": 0.2, "reference": 0.4})
    assert share.drawn((-0.2, -0.3, -0.1)) == (0.2, 0.1, 0.3)
    assert evaluation_view.floors(grade) == ""
    assert Axis(0, 1, ()).at(2.0) == 1.0
