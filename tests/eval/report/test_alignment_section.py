"""The section on alignment: what a stage logged is drawn, what it answered stands side by side."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from residency.eval.pages import alignment_view
from residency.eval.pages.report import render
from residency.eval.pages.report_run import read


def step(stage: str, number: int, **logged: float) -> dict[str, Any]:
    return {"event": "step", "stage": stage, "step": number, "steps": 4, "loss": 0.5, **logged}


EVENTS = [
    *(
        step("ranker", at, **{"rewards/accuracies": 0.5 + at / 10, "rewards/margins": at / 5})
        for at in range(1, 5)
    ),
    *(step("rl", at, reward=at / 4, kl=at / 100, **{"completions/mean_length": 8.0}) for at in range(1, 3)),
    # a sign is told before the step at whose end it showed
    {"event": "sign", "stage": "rl", "sign": "reward_hacking", "step": 3, "value": 1, "message": "it <fell>"},
    *(step("rl", at, reward=at / 4, kl=at / 100, **{"completions/mean_length": 8.0}) for at in range(3, 5)),
    {
        "event": "held_out",
        "stage": "rl",
        "step": 0,
        "score": 0.25,
        "correct": 0.25,
        "reward": 0.25,
        "length": 9.0,
    },
    {
        "event": "held_out",
        "stage": "rl",
        "step": 4,
        "score": 0.75,
        "correct": 0.75,
        "reward": 0.75,
        "length": 8.0,
    },
]
STAGES = {"base": "scratch", "ranker": "reward", "rl": "rl", "draws": "sample"}
MEASURED: dict[str, dict[str, Any]] = {
    "ranker": {"held_out_accuracy": 0.912, "held_out_low": 0.85, "held_out_high": 0.95},
    "rl": {"kl_largest": 0.04, "reward_first": 0.25, "reward_last": 1.0},
    "draws": {"mean_score": 0.3, "best_score": 0.8, "distinct_share": 0.9},
}
REPLIES = [
    {"step": at, "id": "q1", "prompt": [{"role": "user", "content": "What?"}], "reply": said, "reward": worth}
    for at, said, worth in ((0, "<i>no</i>", 0.0), (4, "yes", 1.0))
]


@pytest.fixture
def run(tmp_path: Path, made: SimpleNamespace) -> Path:
    path = tmp_path / "aligned"
    path.mkdir()
    stages = [
        {"name": name, "kind": kind, "identity": made.identity(name), "parents": {}}
        for name, kind in STAGES.items()
    ]
    (path / "recipe.json").write_text(json.dumps({"name": "aligned", "stages": stages}))
    for name, kind in STAGES.items():
        directory = path / f"{name}-{made.identity(name)[:8]}"
        directory.mkdir()
        manifest = {
            "format": 1, "kind": "model", "stage": name, "stage_kind": kind, "identity": made.identity(name),
            "parents": {}, "settings": {}, "measured": {"seconds": 1.0} | MEASURED.get(name, {}),
        }  # fmt: skip
        (directory / "manifest.json").write_text(json.dumps(manifest))
        if kind == "rl":
            (directory / "replies.jsonl").write_text("".join(json.dumps(line) + "\n" for line in REPLIES))
    made.write_events(path, EVENTS)
    return path


def test_each_stage_has_its_pictures_and_numbers(run: Path) -> None:
    found = read(run)
    named = {stage.name: stage for stage in found.stages}
    assert [stage.name for stage in alignment_view.stages(found)] == ["ranker", "rl", "draws"]
    told = {panel.title: panel.told for panel in alignment_view.panels(named["rl"])}
    assert told == {
        "Reward": "sampled 0.250 → 1.000, held out 0.250 → 0.750",
        "Right answers": "0.250 → 0.750",
        "KL to the parent, nats a token": "0.010 → 0.040",
        "Length of replies, tokens": "sampled 8.000 → 8.000, held out 9.000 → 8.000",
    }
    assert alignment_view.facts(named["ranker"]) == [("held-out accuracy", "0.912 [0.85, 0.95]")]
    assert alignment_view.facts(named["draws"])[1] == ("best of each prompt", "0.800")


def test_replies_stand_side_by_side_and_nothing_is_taken_for_html(run: Path) -> None:
    page = render(read(run))
    assert "&lt;i&gt;no&lt;/i&gt;" in page and "<i>no</i>" not in page
    assert "it &lt;fell&gt;" in page
    assert page.count("<figure") >= 6


@pytest.mark.parametrize("source", ["rl", "asked"])
def test_text_that_must_not_leave_is_not_shown(run: Path, made: SimpleNamespace, source: str) -> None:
    """A source of the model, or of prompts that it was only asked."""
    recipe = json.loads((run / "recipe.json").read_text())
    for name, kind, parents in (("asked", "corpus", {}), ("rl-tokens", "prompts", {"corpus:asked": "asked"})):
        serves = "rl" if kind == "prompts" else None
        fields = {
            "name": name,
            "kind": kind,
            "identity": made.identity(name),
            "parents": parents,
            "for": serves,
        }
        recipe["stages"].append(fields)
    (run / "recipe.json").write_text(json.dumps(recipe))
    (run / f"asked-{made.identity('asked')[:8]}").mkdir()
    manifest = json.loads((run / f"rl-{made.identity('rl')[:8]}" / "manifest.json").read_text())
    about = {"corpus": "notes", "source": "notes", "licence": "hospital", "consent": "credentialed"}
    path = run / f"{source}-{made.identity(source)[:8]}" / "manifest.json"
    path.write_text(json.dumps(manifest | {"stage": source, "passport": [about]}))
    found = read(run)
    (row,) = alignment_view.shown(found, found.by_name["rl"])
    assert (row.prompt, row.before, row.reward_after) == ("q1", alignment_view.WITHHELD, 1.0)
    assert "What?" not in render(found)


def test_the_numbers_beside_a_picture_are_means_and_not_single_batches(
    run: Path, made: SimpleNamespace
) -> None:
    values = (0.0, -60.0, -20.0, -20.0, -20.0, -20.0, -10.0, -50.0)
    made.write_events(run, [step("ranker", at + 1, **{"rewards/margins": v}) for at, v in enumerate(values)])
    ranker = read(run).by_name["ranker"]
    assert [panel.told for panel in alignment_view.panels(ranker)] == ["−30.000 → −30.000"]


def test_a_chain_without_alignment_has_no_such_section(run: Path) -> None:
    recipe = json.loads((run / "recipe.json").read_text())
    recipe["stages"] = recipe["stages"][:1]
    (run / "recipe.json").write_text(json.dumps(recipe))
    assert 'id="alignment"' not in render(read(run))
