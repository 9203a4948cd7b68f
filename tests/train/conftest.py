"""What the tests of the training stages share: a tiny world, its base, corpora and tokens made once, and a launcher.

The run of `made` holds everything that needs no ranks. A test copies it, so that only the stage under test starts.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from residency.artifact import RunPaths, open_attempt
from residency.recipes import chain
from residency.recipes.plan import Plan
from residency.recipes.schema import load
from residency.train.launch import launch
from tests.rank_server import in_place_of_torchrun

ORGANS = ("liver", "kidney", "heart", "spleen", "lung")
SIGNS = ("pain", "fever", "a cough", "a rash", "tired legs", "cold hands and a pale face")
STAGES: dict[str, dict[str, Any]] = {
    "cpt": {"kind": "cpt", "mixture": {"texts": 1}, "tokens": 3000, "learning_rate": 3e-3},
    "sft": {"kind": "sft", "mixture": {"dialogues": 1}, "epochs": 2, "learning_rate": 3e-3},
    "preference": {"kind": "preference", "corpus": "pairs", "learning_rate": 1e-3},
    "reward": {"kind": "reward", "corpus": "pairs", "held_out": "ranked", "learning_rate": 1e-3},
}
UNTRAINED = ("vocab", "merge", "export", "sample", "tree")  # kinds of stages that train nothing
COMMON = {"max_length": 64, "batch_size": 4, "save_every": 2}


def texts() -> Iterator[dict[str, Any]]:
    """Sentences of uneven length."""
    for number in range(60):
        organ, sign = ORGANS[number % 5], SIGNS[number % 6]
        more = f" It may take {number} days." * (number % 3)
        yield {"text": f"An ill {organ} brings {sign}.{more}"}


def dialogues() -> Iterator[dict[str, Any]]:
    """One question and one answer each; answers of uneven length."""
    for number in range(30):
        organ, sign = ORGANS[number % 5], SIGNS[number % 6]
        answer = f"{sign}, {'again ' * (number % 4)}says {organ}"
        yield {"messages": [said("user", f"{organ} {number}?"), said("assistant", answer)]}


def pairs() -> Iterator[dict[str, Any]]:
    """A good and a bad answer to one question."""
    for number in range(20):
        organ, sign = ORGANS[number % 5], SIGNS[number % 6]
        yield {
            "prompt": [said("user", f"{organ} {number}?")],
            "chosen": [said("assistant", sign)],
            "rejected": [said("assistant", "no " * (number % 3 + 1))],
        }


def ranked() -> Iterator[dict[str, Any]]:
    """Two to four answers to one question, with scores; two of them may be equally good."""
    for number in range(10):
        scores = [[1.0, 0.0], [3.0, 1.0, 0.0], [3.0, 1.0, 1.0, 0.0]][number % 3]
        answers = [SIGNS[(number + place) % 6] for place in range(len(scores) - 1)]
        question = f"{ORGANS[number % 5]} and {number}?"
        yield {"prompt": question, "responses": [*answers, "no"], "scores": scores}


def steps() -> Iterator[dict[str, Any]]:
    """An answer in one to three steps."""
    for number in range(12):
        told = [f"{ORGANS[number % 5]} is ill", f"so {SIGNS[number % 6]}", "no"][: 1 + number % 3]
        yield {"prompt": f"{number}?", "steps": told, "values": [1.0, 0.75, 0.0][: len(told)]}


def said(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


class World:
    """One run directory with the finished stages that need no ranks."""

    def __init__(self, root: Path, corpora: Path, server: Path) -> None:
        self.root, self.corpora, self.server = root, corpora, server
        self.run = root / "runs" / "tiny"
        self.events = RunPaths(self.run).events
        self.vocabulary = 400  # large enough for all words of the texts
        self.evaluation: dict[str, Any] = {}
        """Block of the recipe; empty unless a test fills it."""
        self.synthesis: dict[str, Any] = {}
        """Corpora that are made of others, likewise."""

    def recipe(self, stages: dict[str, dict[str, Any]], engine: dict[str, Any]) -> Path:
        """Write a recipe (JSON is YAML) whose stages stand on the tiny defaults above; returns its file."""
        files = sorted(self.corpora.glob("*.jsonl"))
        corpora = {path.stem: {"source": str(path), "licence": "CC0-1.0"} for path in files}
        shape = {
            "layers": 2,
            "width": 32,
            "heads": 2,
            "vocabulary": self.vocabulary,
            "context": 128,
            "tokenizer": ["texts"],
        }
        filled = {
            name: own
            if own.get("kind") in UNTRAINED
            else COMMON | STAGES.get(own.get("kind", name), {}) | own
            for name, own in stages.items()
        }
        recipe = {
            "name": "tiny",
            "base": {"scratch": shape},
            "corpora": corpora | self.synthesis,
            "stages": filled,
            "engine": {"zero": 2, "processes": 2} | engine,
            "evaluation": self.evaluation,
        }
        path = self.root / "recipe.yaml"
        path.write_text(json.dumps(recipe))
        return path

    def plan(self, stages: dict[str, dict[str, Any]], **engine: Any) -> Plan:
        """The plan of such a recipe in this world's run directory."""
        return Plan(load(self.recipe(stages, engine)), RunPaths(self.run))

    def attempt(self, plan: Plan, name: str) -> Path:
        """The opened attempt of a stage; what it needs and needs no ranks is brought first."""
        for parent in plan.stages[name].parents.values():
            self._bring(plan, parent)
        return open_attempt(plan.paths, plan.stage_file(plan.stages[name]))

    def launcher(self, processes: int) -> list[str]:
        """In place of torchrun; see `tests.rank_server`."""
        return in_place_of_torchrun(str(self.server))(processes)

    def _bring(self, plan: Plan, name: str) -> None:
        stage = plan.stages[name]
        if not stage.finished and not stage.has_ranks:
            for parent in stage.parents.values():
                self._bring(plan, parent)
            chain.run_in_process(open_attempt(plan.paths, plan.stage_file(stage)))

    def train(self, name: str, own: dict[str, Any] | None = None, **engine: Any) -> Path:
        """Run one training stage from the base; returns its artifact."""
        return self.train_all({name: own or {}}, **engine)

    def train_all(self, stages: dict[str, dict[str, Any]], **engine: Any) -> Path:
        """Run training stages one after another; returns the last one's artifact."""
        plan = self.plan(stages, **engine)
        for name in stages:
            if not plan.stages[name].has_ranks:
                self._bring(plan, name)
            elif not plan.stages[name].finished:
                attempt = self.attempt(plan, name)
                processes = plan.stages[name].execution["engine"]["processes"]
                log = plan.paths.logs / f"{name}.log"
                launch(attempt, processes, log, lambda: None, launcher=self.launcher)
        return plan.stages[list(stages)[-1]].artifact


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiny models on the CPU, also where there is a GPU; more threads would only wait for each other."""
    torch.set_num_threads(1)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory, rank_server: Path) -> World:
    """Base, corpora and tokens of all stages; not to be changed."""
    root = tmp_path_factory.mktemp("made")
    for make in (texts, dialogues, pairs, ranked, steps):
        (root / f"{make.__name__}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in make()))
    world = World(root, root, rank_server)
    plan = world.plan({name: {} for name in STAGES})
    world.attempt(plan, "cpt")
    return world


@pytest.fixture
def world(made: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """A copy of `made` to train in, also by a chain in this process; corpora stay where they are, which is part of
    their identity."""
    copy = World(tmp_path / "world", made.corpora, made.server)
    monkeypatch.setitem(launch.__kwdefaults__ or {}, "launcher", copy.launcher)
    left_out = shutil.ignore_patterns("*.attempt", "events.jsonl", ".references")
    shutil.copytree(made.root / "runs", copy.root / "runs", ignore=left_out)
    return copy
