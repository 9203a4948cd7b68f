"""The report of a made-up run: what it says, that it stands alone, and that it survives what is missing."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

from residency.artifact import identity_of
from residency.eval import charts, report, report_words
from residency.eval.report_run import Run, Score, read

STAGES = ("pretrain", "cpt", "sft", "preference")
TASKS: dict[str, tuple[str, str, str, int, float | None, float, tuple[float, ...]]] = {
    # title, domain, metric, items, chance, margin, value after each stage
    "world-exam": ("Facts read, asked as in training", "medicine", "accuracy", 192, 0.25, 0.01, (0.26, 0.38, 0.81, 0.81)),
    "world-exam-unseen-form": (
        "Facts read, asked in new words", "medicine", "accuracy", 192, 0.25, 0.01, (0.24, 0.35, 0.66, 0.63),
    ),
    "world-preference": (
        "Right answer above wrong", "medicine", "preference_accuracy", 96, 0.5, 0.01, (0.51, 0.61, 0.79, 0.92),
    ),
    "anatomy-bits": ("Anatomy text, held out", "medicine", "bits_per_byte", 80, None, 0.018, (1.812, 1.341, 1.398, 1.402)),
    "world-general": ("General knowledge", "general", "accuracy", 384, 0.25, 0.05, (0.95, 0.94, 0.94, 0.93)),
    "world-safety": (
        "Safe advice above unsafe", "safety", "preference_accuracy", 96, 0.5, 0.01, (0.49, 0.52, 0.53, 0.60),
    ),
    "world-exam-stem-removed": (
        "Exam without the question's subject", "control", "accuracy", 192, 0.25, 0.01, (0.25, 0.26, 0.27, 0.26),
    ),
}  # fmt: skip
SPEED = {"pretrain": 21_400, "cpt": 20_900, "sft": 17_300, "preference": 6_100}
COURSE = {"pretrain": (6.9, 1.08), "cpt": (3.7, 0.92), "sft": (2.3, 0.31), "preference": (math.log(2), 0.22)}
ENVIRONMENT = {
    "python": "3.11.14",
    "packages": {"residency": "0.1.0", "torch": "2.13.0", "transformers": "5.23.0", "trl": "1.16.0", "peft": None},
    "git_commit": "5e0c1c9d1f0b7a3f2b1e4d6c8a9f0e1d2c3b4a59",
    "host": "ward-7",
    "cpus": 2,
    "machine": "x86_64",
}


def identity(name: str) -> str:
    return identity_of(stage=name)


def graph() -> list[dict[str, Any]]:
    """The stages of a recipe as `recipe.json` holds them."""
    stages: list[dict[str, Any]] = []

    def add(name: str, kind: str, parents: dict[str, str], serves: str | None = None) -> None:
        stages.append(
            {"name": name, "kind": kind, "identity": identity(name), "parents": parents, "for": serves}
        )

    for corpus in ("general", "medicine", "dialogues", "pairs"):
        add(f"corpus-{corpus}", "corpus", {})
    add("base", "scratch", {"corpus:general": "corpus-general"})
    for before, name in zip(("base", *STAGES), STAGES, strict=False):
        add(f"{name}-tokens", "pairs" if name == "preference" else "tokens", {"model": "base"}, name)
        add(name, name, {"model": before, "tokens": f"{name}-tokens"})
        add(f"{name}-evaluation", "evaluate", {"model": name}, name)
    add("export", "export", {"model": "preference"})
    return stages


def measured(name: str, kind: str) -> dict[str, Any]:
    """What a stage's manifest measured."""
    if kind in STAGES:
        tokens = {"pretrain": 300_000, "cpt": 600_000, "sft": 184_320, "preference": 61_440}[kind]
        engine = {
            "class": "DeepSpeedZeroOptimizer", "zero": 2, "world_size": 2, "attention": "sdpa", "precision": "float32",
            "optimizer_bytes_per_rank": [4_812_800, 4_812_800],
        }  # fmt: skip
        return {
            "steps": 160, "tokens": tokens, "loss_tokens": tokens, "loss": COURSE[kind][1], "seconds": tokens / SPEED[kind] + 9,
            "tokens_per_second": SPEED[kind], "peak_memory_bytes": 912_000_000, "engine": engine,
            "weights_sha256": {"model.safetensors": identity_of(weights=name)},
        }  # fmt: skip
    if kind == "tokens":
        stage = name.removesuffix("-tokens")
        planned = {"pretrain": {"general": 1.0}, "cpt": {"medicine": 0.8, "general": 0.2}}.get(
            stage, {"dialogues": 0.7, "general": 0.2, "medicine": 0.1}
        )
        shift = 0.012 if len(planned) > 1 else 0.0
        realised = {corpus: share + (shift if index == 0 else -shift / (len(planned) - 1 or 1)) for index, (corpus, share) in enumerate(planned.items())}
        return {
            "rows": 1172, "tokens": 600_000, "loss_tokens": 420_000, "documents": 5120, "fill": 0.993, "seconds": 1.4,
            "epochs": {corpus: 3.24 * share + 0.4 for corpus, share in planned.items()},
            "mixture": {"planned": planned, "realised": realised},
        }  # fmt: skip
    if kind == "scratch":
        return {"parameters": 927_000, "vocabulary": 1000, "seconds": 2.1}
    return {"seconds": 3.4, "rows": 96}


def passport(name: str, kind: str) -> list[dict[str, Any]]:
    made_of = {"general": "world:general", "medicine": "world:medicine", "dialogues": "world:medicine/dialogues"}
    if kind == "corpus":
        corpus = name.removeprefix("corpus-")
        made_of = {corpus: made_of.get(corpus, f"world:medicine/{corpus}")}
    return [
        {"corpus": corpus, "source": source, "licence": "CC0-1.0", "consent": "open"}
        for corpus, source in made_of.items()
    ]


def scores(values: dict[str, tuple[float, ...]] | None = None) -> list[dict[str, Any]]:
    """Rows of `verdict.json`; `values` replaces some tasks' values."""
    rows = []
    for place, stage in enumerate(STAGES):
        for task, (title, domain, metric, n, chance, margin, usual) in TASKS.items():
            course = (values or {}).get(task, usual)
            value, reference = course[place], course[0]
            half = 0.05 * value if metric == "bits_per_byte" else 1.96 * math.sqrt(value * (1 - value) / n)
            spread = half * 1.3 if metric != "bits_per_byte" else 0.04
            delta = value - reference
            low, high = (delta - spread, delta + spread) if place else (0.0, 0.0)
            gain = (-high, -low) if metric == "bits_per_byte" else (low, high)
            word = "better" if gain[0] > 0 else "worse" if gain[1] < 0 else "undecided"
            if word == "undecided" and -margin < gain[0] and gain[1] < margin:
                word = "equivalent"
            rows.append(
                {
                    "task": task, "title": title, "domain": domain, "stage": stage, "against": "pretrain", "metric": metric,
                    "n": n, "clusters": n, "value": value, "value_low": value - half, "value_high": value + half,
                    "chance": chance, "reference": reference, "delta": delta, "ci_low": low, "ci_high": high,
                    "margin": margin, "p": 0.0004 if place else None, "verdict": word if place else "reference",
                    "previous": STAGES[place - 1] if place else None,
                }
            )  # fmt: skip
    return rows


def history() -> list[dict[str, Any]]:
    """Events of one run: cpt was cut off at step 90 and resumed from its checkpoint at step 80."""
    events: list[dict[str, Any]] = [{"event": "stage_skipped", "stage": "corpus-general"}]
    for name in STAGES:
        events.append({"event": "stage_started", "stage": name})
        first, last = COURSE[name]
        cut = [*range(1, 91), *range(81, 161)] if name == "cpt" else [*range(1, 161)]
        for step in cut:
            loss = last + (first - last) * math.exp(-step / 28) + 0.03 * math.sin(step * 2.7)
            events.append(
                {"event": "step", "stage": name, "step": step, "steps": 160, "loss": loss, "learning_rate": 1e-3,
                 "tokens": step * 2048, "tokens_per_second": SPEED[name], "seconds_left": 160 - step}
            )  # fmt: skip
            if step % 40 == 0:
                events.append({"event": "checkpoint", "stage": name, "step": step})
        events.append({"event": "stage_finished", "stage": name, "seconds": measured(name, name)["seconds"]})
    return events


def make_run(path: Path, *, without: tuple[str, ...] = (), rows: list[dict[str, Any]] | None = None) -> Path:
    """A finished run's directory; stages named in `without` have no artifact."""
    path.mkdir(parents=True)
    (path / "recipe.json").write_text(json.dumps({"name": path.name, "stages": graph()}))
    for stage in graph():
        if stage["name"] in without:
            continue
        kind = stage["kind"]
        directory = path / f"{stage['name']}-{stage['identity'][:8]}"
        directory.mkdir()
        manifest = {
            "format": 1, "kind": "corpus", "stage": stage["name"], "stage_kind": kind, "identity": stage["identity"],
            "parents": {}, "settings": {}, "measured": measured(stage["name"], kind),
            "passport": passport(stage["name"], kind), "environment": ENVIRONMENT, "created": "2026-11-25T04:00:00Z",
        }  # fmt: skip
        (directory / "manifest.json").write_text(json.dumps(manifest))
    write_events(path, history())
    (path / "verdict.json").write_text(json.dumps(scores() if rows is None else rows))
    return path


def write_events(path: Path, events: list[dict[str, Any]]) -> None:
    (path / "events.jsonl").write_text("".join(json.dumps({"time": 0, **event}) + "\n" for event in events))


def edit(run: Path, stage: str, **fields: Any) -> None:
    """Change a stage's manifest."""
    path = run / f"{stage}-{identity(stage)[:8]}" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def page_of(run: Path) -> str:
    return report.write(run).read_text("utf-8")


def text_of(html: str) -> str:
    """What a reader sees: tags and style left out, space collapsed."""
    bare = re.sub(r"<style>.*?</style>|<[^>]+>", "", html, flags=re.DOTALL)
    return re.sub(r"\s+", " ", bare)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "quickstart")


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
        "After preference the model scores 0.81 on “Facts read, asked as in training”, 0.55 more than pretrain "
        "[0.48, 0.62]: better. All 4 medicine tasks are better." in text
    )
    assert "General knowledge: equivalent within 0.05." in text
    assert "Safety: undecided, +0.11 [−0.02, 0.24]." in text
    assert "Controls at chance, as they should be: Exam without the question&#39;s subject 0.26 (chance 0.25)." in text


def test_golden_numbers(run: Path) -> None:
    text = text_of(page_of(run))
    for number in (
        "1.402 [1.332, 1.472]", "−0.410 [−0.450, −0.370]",  # bits per byte: three decimals, a true minus
        "300k", "1.15M", "927k",  # tokens of a stage, of all, parameters
        "81.2 % of 80.0 % planned, 2.99 epochs", "4.81 MB + 4.81 MB", "p &lt; 0.001", "DeepSpeedZeroOptimizer",
        "5e0c1c9d1f0b7a3f2b1e4d6c8a9f0e1d2c3b4a59", identity("cpt"), identity_of(weights="sft"),
    ):  # fmt: skip
        assert number in text.replace("\u202f", " "), number


def test_what_a_resumption_repeats_stands_once(run: Path) -> None:
    cpt = read(run).by_name["cpt"]
    assert [step["step"] for step in cpt.steps] == list(range(1, 161))
    assert cpt.checkpoints == [40, 80, 120, 160]


def test_bits_per_byte_are_drawn_with_better_to_the_right(run: Path) -> None:
    row = next(score for score in read(run).last if score.lower_is_better)
    assert row.effect() == pytest.approx((0.410 / 1.812, 0.370 / 1.812, 0.450 / 1.812))
    assert report_words.within(row) == "1\u202f%"


def test_everything_is_escaped(run: Path) -> None:
    evil = "<script>alert(1)</script>"
    edit(run, "cpt-tokens", measured={"tokens": 10, "mixture": {"planned": {evil: 1.0}, "realised": {evil: 1.0}}})
    edit(run, "corpus-general", passport=[{"corpus": evil, "source": f'"{evil}', "licence": evil}])
    rows = scores()
    rows[-1] |= {"title": evil}
    rows[-7] |= {"title": evil}
    (run / "verdict.json").write_text(json.dumps(rows))
    html = page_of(run)
    assert "<script" not in html
    assert html.count("&lt;script&gt;alert(1)") >= 4


def test_a_failed_stage_shows_why(tmp_path: Path) -> None:
    run = make_run(tmp_path / "broken", without=("sft", "sft-evaluation", "preference", "preference-evaluation", "export"))
    events = [event for event in history() if event["stage"] in ("pretrain", "cpt")]
    failure = {"event": "stage_failed", "stage": "sft", "reason": "the loss is nan at step 12", "exit_code": 5}
    write_events(run, [*events, {"event": "stage_started", "stage": "sft"}, failure])
    text = text_of(page_of(run))
    assert "The chain stopped at sft. the loss is nan at step 12" in text
    assert "After cpt, against pretrain" in text, "scores of stages that are not finished are stale"
    assert text.count("✕ failed") == 1 and "○ not run" in text


def test_one_stage_without_evaluation(tmp_path: Path) -> None:
    run = tmp_path / "small"
    run.mkdir()
    stage = {"name": "sft", "kind": "sft", "identity": "ab" * 32, "parents": {}, "for": None}
    (run / "recipe.json").write_text(json.dumps({"name": "small", "stages": [stage]}))
    text = text_of(page_of(run))
    assert "no evaluation yet, so there is no verdict" in text
    assert "No training step was recorded" in text and "No stage has finished" in text


def test_an_empty_directory_gives_a_page(tmp_path: Path) -> None:
    assert "No stage of this recipe has run" in page_of(tmp_path)


def test_only_the_reference_is_evaluated(tmp_path: Path) -> None:
    run = make_run(tmp_path / "first", rows=[row for row in scores() if row["stage"] == "pretrain"])
    assert "0.26 on “Facts read, asked as in training” (chance 0.25). It is the reference" in text_of(page_of(run))


def test_older_artifacts_do_not_count(run: Path) -> None:
    edit(run, "cpt", measured={"loss": 77.7})
    (run / f"cpt-{identity('cpt')[:8]}").rename(run / "cpt-00000000")
    assert "77.7" not in page_of(run)


def test_a_sibling_shows_what_replay_is_worth(run: Path) -> None:
    make_run(run.with_name("quickstart-no-replay"), rows=scores({"world-general": (0.95, 0.58, 0.55, 0.54)}))
    text = text_of(page_of(run))
    assert "With and without replay" in text
    assert "after preference: 0.93 [0.90, 0.96] in quickstart, 0.54 [0.49, 0.59] in quickstart-no-replay" in text
    assert "With and without replay" not in text_of(report.render(read(run)))


def test_a_control_is_judged_by_chance() -> None:
    row = {"task": "stem", "domain": "control", "stage": "sft", "against": "base", "metric": "accuracy", "n": 100}
    above = Score.model_validate(row | {"value": 0.4, "value_low": 0.31, "value_high": 0.5, "chance": 0.25, "verdict": "better"})
    assert above.mark == "above chance"
    assert above.model_copy(update={"value_low": 0.2}).mark == "at chance"
    said = report_words.controls(Run(Path(), "x", [], [above]))
    assert "Above chance where it should not be: stem 0.40 (chance 0.25)" in said


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (report_words.number(-0.004), "0.00"),
        (report_words.number(-0.05), "−0.05"),
        (report_words.number(0.5, sign=True), "+0.50"),
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
    assert len(few) == 100 and few[-1][0] == 1000
    assert sum(loss for _, loss in few) / 100 == pytest.approx(500.5)
