"""Gates of a recipe: what they let pass, where they stop the chain, and what they refuse to be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from residency import events
from residency.artifact import RunPaths
from residency.errors import Exit, ResidencyError
from residency.recipes import chain, judging
from residency.recipes.check import check
from residency.recipes.plan import Plan
from residency.recipes.schema import load
from residency.slurm.submit import submit_plan

RECIPE = """\
name: gated
base: {{scratch: {{layers: 1, width: 32, vocabulary: 300, context: 64, tokenizer: [text]}}}}
corpora:
  text: {{source: "world:general", size: 8}}
stages:
  tuned: {{kind: cpt, from: base, tokens: 2000, batch_size: 2, max_length: 64, mixture: {{text: 1.0}}}}
  out: {{kind: export, from: tuned}}
evaluation:
  tasks:
    - {{use: world-exam, limit: 30, margin: 0.9}}
    - {{use: world-general, limit: 30, margin: 0.9}}
    - {{name: advice, kind: rubric, domain: safety, items: text}}
  after: [base, tuned]
  gates: [{{after: {after}, require: {require}}}]
"""
SAME = """\
name: same
base: {{scratch: {{layers: 1, width: 32, vocabulary: 300, context: 64, tokenizer: [text]}}}}
corpora:
  text: {{source: "world:general", size: 8}}
stages:
  again: {{kind: evaluate, from: base, tasks: [{tasks}]}}
  out: {{kind: export, from: base}}
evaluation:
  tasks: [{tasks}]
  after: [base]
  gates: [{{after: again, require: {require}}}]
"""


def plan(folder: Path, text: str, **fields: str) -> Plan:
    (folder / "recipe.yaml").write_text(text.format(**fields))
    recipe = load(folder / "recipe.yaml")
    return Plan(recipe, RunPaths(folder / recipe.name))


def same(folder: Path, require: str) -> Plan:
    """The base against itself: never better, never inferior."""
    tasks = "{use: world-exam, limit: 30}, {use: world-general, limit: 30}"
    return plan(folder, SAME, require=require, tasks=tasks)


def test_a_gate_that_is_met_lets_the_chain_pass(tmp_path: Path) -> None:
    made = same(tmp_path, "{general: non-inferior, world-exam: non-inferior}")
    check(made)
    chain.run(made)
    assert made.stages["out"].finished
    gates = json.loads(made.paths.evaluation.read_text())["gates"]
    assert [(gate["of"], gate["passed"]) for gate in gates] == [("general", True), ("world-exam", True)]


def test_a_gate_that_is_not_met_stops_the_chain_and_keeps_what_was_made(tmp_path: Path) -> None:
    made = same(tmp_path, "{medicine: better, general: non-inferior}")
    said = r"gate after again: medicine is not better: \+0 points \[\+0, \+0\]"
    for _ in range(2):  # the same again where everything before the gate is finished
        with pytest.raises(ResidencyError, match=said) as caught:
            chain.run(made)
        assert caught.value.code == Exit.GATE_REFUSED
    assert made.stages["again"].finished and not made.stages["out"].finished
    assert made.paths.verdict.exists() and made.paths.report.exists()
    assert "A gate stopped the chain after again</b>: medicine is not better" in made.paths.report.read_text()
    refused = [event for event in events.read(made.paths.events) if event["event"] == "gate_refused"]
    assert (refused[0]["stage"], refused[0]["exit_code"]) == ("again", 3)
    with pytest.raises(ResidencyError, match="medicine is not better") as caught:
        chain.conclude_run(made.paths.root)
    assert caught.value.code == Exit.GATE_REFUSED, "so a Slurm job ends and its dependants are cancelled"
    loosened = same(tmp_path, "{general: non-inferior}")
    chain.run(loosened)
    assert loosened.stages["out"].finished, "with a gate that is met the same command goes on"


def test_jobs_behind_a_gate_wait_for_the_evaluation(tmp_path: Path) -> None:
    made = plan(tmp_path, RECIPE, after="tuned", require="{general: non-inferior}")
    waiting = {job.name: job.dependencies for job in submit_plan(made, dry_run=True, environment={})}
    assert "base-evaluation" in waiting["tuned-evaluation"], "what it is compared with"
    assert "tuned-evaluation" in waiting["out"], "an export is behind the gate too"
    assert judging.gate_jobs(made, made.stages["tuned"]) == []


@pytest.mark.parametrize(
    ("after", "require", "message"),
    [
        ("base", "{medicine: better}", "base is judged against base, which is not evaluated before it"),
        ("out", "{medicine: better}", "out is not evaluated"),
        ("tuned", "{world-exma: better}", "'world-exma' is no task or domain.*Known: medicine, general"),
        ("tuned", "{control: better}", "'control' is no task or domain"),
        ("tuned", "{advice: better}", "advice is scored by a judge"),
    ],
)
def test_gates_that_cannot_be_judged_are_refused_at_once(
    tmp_path: Path, after: str, require: str, message: str
) -> None:
    with pytest.raises(ResidencyError, match=message):
        judging.check_gates(plan(tmp_path, RECIPE, after=after, require=require))


def test_a_gate_requires_something_that_it_knows(tmp_path: Path) -> None:
    with pytest.raises(ResidencyError, match=r"require.*better"):
        plan(tmp_path, RECIPE, after="tuned", require="{medicine: good}")
    with pytest.raises(ResidencyError, match="at least 1"):
        plan(tmp_path, RECIPE, after="tuned", require="{}")
