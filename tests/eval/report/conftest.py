"""Made-up runs for the report: a chain of four training stages, each evaluated on seven tasks."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from residency.artifact import identity_of

STAGES = ("pretrain", "cpt", "sft", "preference")
TASKS: dict[str, tuple[str, str, str, int, float | None, float, tuple[float, ...]]] = {
    # title, domain, metric, items, chance, margin, value after each stage
    "world-exam": (
        "Facts read, asked as in training", "medicine", "accuracy", 192, 0.25, 0.01,
        (0.26, 0.38, 0.81, 0.81),
    ),
    "world-exam-unseen-form": (
        "Facts read, asked in new words", "medicine", "accuracy", 192, 0.25, 0.01,
        (0.24, 0.35, 0.66, 0.63),
    ),
    "world-preference": (
        "Right answer above wrong", "medicine", "preference_accuracy", 96, 0.5, 0.01,
        (0.51, 0.61, 0.79, 0.92),
    ),
    "anatomy-bits": (
        "Anatomy text, held out", "medicine", "bits_per_byte", 80, None, 0.018,
        (1.812, 1.341, 1.398, 1.402),
    ),
    "world-general": ("General knowledge", "general", "accuracy", 384, 0.25, 0.05, (0.95, 0.95, 0.94, 0.94)),
    "world-safety": (
        "Safe advice above unsafe", "safety", "preference_accuracy", 96, 0.5, 0.01,
        (0.49, 0.52, 0.53, 0.60),
    ),
    "world-exam-stem-removed": (
        "Exam without the question's subject", "control", "accuracy", 192, 0.25, 0.01,
        (0.25, 0.26, 0.27, 0.26),
    ),
}  # fmt: skip
SPEED = {"pretrain": 21_400, "cpt": 20_900, "sft": 17_300, "preference": 6_100}
COURSE = {"pretrain": (6.9, 1.08), "cpt": (3.7, 0.92), "sft": (2.3, 0.31), "preference": (math.log(2), 0.22)}
ENVIRONMENT = {
    "python": "3.11.14",
    "packages": {
        "residency": "0.1.0",
        "torch": "2.13.0",
        "transformers": "5.23.0",
        "trl": "1.16.0",
        "peft": None,
    },
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
            "class": "DeepSpeedEngine", "zero": 2, "world_size": 2, "attention": "sdpa",
            "precision": "float32", "optimizer_bytes_per_rank": 3_712_000,
        }  # fmt: skip
        return {
            "steps": 160, "tokens": tokens, "loss_tokens": tokens, "loss": COURSE[kind][1],
            "seconds": tokens / SPEED[kind] + 9,
            "tokens_per_second": SPEED[kind], "peak_memory_bytes": 912_000_000, "engine": engine,
            "weights_sha256": {"model.safetensors": identity_of(weights=name)},
        }  # fmt: skip
    if kind == "tokens":
        stage = name.removesuffix("-tokens")
        planned = {"pretrain": {"general": 1.0}, "cpt": {"medicine": 0.8, "general": 0.2}}.get(
            stage, {"dialogues": 0.7, "general": 0.2, "medicine": 0.1}
        )
        off = 0.002 if len(planned) > 1 else 0.0
        mixture = {
            corpus: {"planned": share, "realised": share + (off if place == 0 else -off / (len(planned) - 1)),
                     "tokens": round(600_000 * share), "documents": 1700, "epochs": 3.24 * share + 0.4}
            for place, (corpus, share) in enumerate(planned.items())
        }  # fmt: skip
        return {
            "rows": 1172, "tokens": 600_000, "loss_tokens": 420_000, "documents": 5120,
            "fill": 0.993, "seconds": 1.4, "mixture": mixture,
        }  # fmt: skip
    if kind == "pairs":
        return {"pairs": 480, "tokens": 61_440}
    if kind == "scratch":
        return {"parameters": 927_000, "vocabulary": 1000, "seconds": 2.1}
    return {"seconds": 3.4, "rows": 96}


def passport(name: str, kind: str) -> list[dict[str, Any]]:
    """What an artifact says it was made of."""
    sources = {
        "general": "world:general", "medicine": "world:medicine", "dialogues": "world:medicine/dialogues",
        "pairs": "world:medicine/preferences",
    }  # fmt: skip
    made_of = {
        "pretrain": ["general"],
        "cpt": ["medicine", "general"],
        "sft": ["dialogues", "general", "medicine"],
    }
    corpora = [name.removeprefix("corpus-")] if kind == "corpus" else made_of.get(kind, ["pairs"])
    return [
        {"corpus": corpus, "source": sources[corpus], "licence": "Apache-2.0", "consent": "open"}
        for corpus in corpora
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
                    "task": task, "title": title, "domain": domain, "stage": stage,
                    "against": "pretrain", "metric": metric,
                    "n": n, "clusters": n // 4 if chance == 0.25 else n, "value": value,
                    "value_low": value - half, "value_high": value + half,
                    "chance": chance, "reference": reference, "delta": delta, "ci_low": low, "ci_high": high,
                    "margin": margin, "p": 0.0004 if place and chance == 0.5 else None,
                    "verdict": word if place else "reference",
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
                {"event": "step", "stage": name, "step": step, "steps": 160, "loss": loss,
                 "learning_rate": 1e-3,
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
            "format": 1, "kind": "corpus", "stage": stage["name"], "stage_kind": kind,
            "identity": stage["identity"],
            "parents": {}, "settings": {}, "measured": measured(stage["name"], kind),
            "passport": passport(stage["name"], kind), "environment": ENVIRONMENT,
            "created": "2026-01-05T04:00:00Z",
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


@pytest.fixture
def made() -> SimpleNamespace:
    """The functions above: tests are not a package, so they cannot be imported."""
    return SimpleNamespace(
        edit=edit, history=history, identity=identity, run=make_run, scores=scores, write_events=write_events
    )


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A finished run."""
    return make_run(tmp_path / "quickstart")
