"""A faulty batch is left out, and nothing else changes: the weights equal those of a run that never saw the batch.

All cases share one start of the ranks, see `faulty_worker`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from residency import events
from residency.artifact import read_manifest, read_stage, report_attempt
from residency.errors import Exit
from residency.train.packed import Rows

if TYPE_CHECKING:
    from tests.train.conftest import World

pytestmark = pytest.mark.slow
BATCH_SIZE = 4
CPT = {"tokens": 3400, "save_every": 3, "batch_size": BATCH_SIZE}
JUDGED: dict[str, dict[str, Any]] = {
    "reward": {"kind": "reward", "epochs": 2.0},
    "preference": {"kind": "preference", "loss": "kto", "sft_weight": 0.1},
    "rl": {
        "kind": "rl", "corpus": "dialogues", "held_out": "pairs", "limit": 4, "epochs": 2.0, "replies": 4,
        "batch_size": 8, "max_new_tokens": 6, "learning_rate": 1e-2, "iterations": 2,
        "rewards": [{"kind": "format", "pattern": ".*[a-g].*"}],
    },
}  # fmt: skip
"""Stages whose batches are more than rows: with references, estimates of the whole step, or replies of their own."""


class Cases:
    """The attempts by name, in worlds of their own, and what they left."""

    def __init__(self, made: World, directory: Path) -> None:
        self.made, self.directory = made, directory
        self.worlds: dict[str, World] = {}
        self.attempts: dict[str, Path] = {}
        self.tokens: dict[str, Path] = {}
        self.arguments: list[str] = []
        self.failed: list[dict[str, Any]] = []

    def add(
        self,
        name: str,
        faults: list[str],
        guard: dict[str, Any],
        left_out: tuple[int, ...] = (),
        stage: dict[str, Any] = CPT,
        **engine: Any,
    ) -> None:
        world = type(self.made)(self.directory / name, self.made.corpora, self.made.server)
        shutil.copytree(
            self.made.root / "runs",
            world.root / "runs",
            ignore=shutil.ignore_patterns("*.attempt", "events.jsonl"),
        )
        kind = stage.get("kind", "cpt")
        attempt = world.attempt(world.plan({kind: stage | {"guard": guard}}, **engine), kind)
        if left_out:
            told = [{"step": step, "reason": "told", "loss": None} for step in left_out]
            report_attempt(attempt, left_out=told)
        self.worlds[name], self.attempts[name] = world, attempt
        self.tokens[name] = read_stage(attempt).parents["tokens"]
        for fault in faults:
            self.arguments += [fault, str(attempt)]

    def run(self) -> None:
        command = [
            sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2",
            str(Path(__file__).with_name("faulty_worker.py")), *self.arguments,
        ]  # fmt: skip
        environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-4000:] + done.stdout[-1000:]
        self.failed = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"code')]

    def measured(self, name: str) -> dict[str, Any]:
        return read_manifest(self.attempts[name].with_suffix("")).measured

    def events(self, name: str, kind: str) -> list[dict[str, Any]]:
        return [event for event in events.read(self.worlds[name].events) if event["event"] == kind]


@pytest.fixture(scope="module")
def cases(made: World, tmp_path_factory: pytest.TempPathFactory) -> Cases:
    found = Cases(made, tmp_path_factory.mktemp("cases"))
    found.add("nan", ["nan:5,11", "none"], {"skips": 1})
    found.add("never seen", ["none"], {"skips": 1}, left_out=(5,))
    found.add("gradient", ["gradient:2"], {"skips": 1}, zero=3, micro_batch_size=1)
    found.add("never seen, ZeRO-3", ["none"], {"skips": 1}, left_out=(2,), zero=3, micro_batch_size=1)
    found.add("unclipped", ["gradient:2"], {"skips": 1}, zero=0, clip=0.0)
    found.add("spike", ["huge:12"], {"skips": 1, "spike": 8.0})
    found.add("none allowed", ["gradient:5"], {})
    for name, stage in JUDGED.items():
        found.add(name, ["nan:4"], {"skips": 1}, stage=stage, micro_batch_size=2)
        found.add(f"{name}, never seen", ["none"], {"skips": 1}, (4,), stage, micro_batch_size=2)
    found.add("told", ["zero:2,3,4"], {})
    found.add("stopped", ["zero:2,3,4,5"], {"stop_on": ["zero_loss"]})
    found.run()
    return found


@pytest.mark.parametrize(
    ("name", "reference", "step", "resumed", "reason"),
    [
        ("nan", "never seen", 5, 9, "the loss is nan"),
        ("gradient", "never seen, ZeRO-3", 2, 0, "the gradient is no number"),
    ],
)
def test_a_run_that_left_a_batch_out_equals_one_that_never_saw_it(
    cases: Cases, name: str, reference: str, step: int, resumed: int, reason: str
) -> None:
    measured, expected = cases.measured(name), cases.measured(reference)
    assert measured["weights_sha256"] == expected["weights_sha256"]
    assert measured["resumed_from_step"] == resumed
    assert [entry["step"] for entry in measured["left_out"]] == [step]
    (event,) = cases.events(name, "left_out")
    assert (event["step"], event["reason"]) == (step, reason)
    assert step not in [event["step"] for event in cases.events(name, "step")], "it has no loss to tell of"


@pytest.mark.parametrize("name", JUDGED)
def test_so_does_one_on_judgements_or_on_its_own_replies(cases: Cases, name: str) -> None:
    measured, expected = cases.measured(name), cases.measured(f"{name}, never seen")
    assert measured["weights_sha256"] == expected["weights_sha256"]
    assert measured["resumed_from_step"] == 2
    assert [entry["step"] for entry in measured["left_out"]] == [4]
    if name == "rl":
        ledgers = [
            cases.attempts[case].with_suffix("") / "ledger.jsonl" for case in (name, f"{name}, never seen")
        ]
        assert ledgers[0].read_text() == ledgers[1].read_text()


def test_tokens_of_what_was_left_out_are_not_counted(cases: Cases) -> None:
    measured, tokens = cases.measured("nan"), cases.tokens["nan"]
    made, rows = read_manifest(tokens).measured, Rows(tokens, BATCH_SIZE)
    counts = [rows.rows.count(row) for row in range(rows.length)]
    assert (sum(tokens for tokens, _ in counts), made["tokens"]) == (made["tokens"], rows.rows.tokens)
    lost, lost_loss = made["tokens"] - measured["tokens"], made["loss_tokens"] - measured["loss_tokens"]
    whole = sorted(tokens for tokens, _ in counts)
    assert sum(whole[:BATCH_SIZE]) <= lost <= sum(whole[-BATCH_SIZE:])
    assert 0 < lost_loss < lost


def test_a_gradient_is_seen_where_deepspeed_tells_no_norm(cases: Cases) -> None:
    (entry,) = cases.measured("unclipped")["left_out"]
    assert (entry["step"], entry["reason"]) == (2, "the gradient is no number")


def test_a_spike_is_left_out(cases: Cases) -> None:
    (entry,) = cases.measured("spike")["left_out"]
    assert entry["step"] == 12
    assert "a spike above" in entry["reason"]
    assert entry["loss"] > 50


def test_when_nothing_more_may_be_left_out_it_ends_with_its_own_code(cases: Cases) -> None:
    assert [outcome["code"] for outcome in cases.failed] == [Exit.DIVERGED] * 3
    assert cases.failed[0]["reason"].startswith(
        "the loss is nan at step 11; the last good checkpoint is of step 9; left out before: step 5. Lower"
    )
    assert cases.failed[1]["reason"].startswith(
        "the gradient is no number at step 5; the last good checkpoint is of step 3. Lower"
    )


def test_a_sign_is_told_and_ends_the_stage_where_the_recipe_says_so(cases: Cases) -> None:
    assert cases.failed[2]["reason"].startswith(
        "stage cpt: zero_loss at step 4: the loss is 0 in 3 logs in a row: nothing is learnt; "
        "the checkpoint of step 4 is kept. Change the stage"
    )
    kept = cases.attempts["stopped"].glob("checkpoints/*/seal.json")
    assert "checkpoint-4" in [path.parent.name for path in kept]
    for name in ("told", "stopped"):
        told = [(event["sign"], event["step"]) for event in cases.events(name, "sign")]
        assert told == [("zero_loss", 4), ("dead_gradients", 4)]
    assert [sign["sign"] for sign in cases.measured("told")["signs"]] == ["zero_loss", "dead_gradients"]
