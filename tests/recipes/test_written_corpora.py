"""Corpora that stages write stand in the graph like others: order, check, gates, seeds, Slurm."""

from __future__ import annotations

from pathlib import Path

import pytest

from residency.artifact import RunPaths
from residency.errors import Exit, ResidencyError
from residency.recipes import gates, seeds
from residency.recipes.check import check
from residency.recipes.plan import Plan
from residency.recipes.schema import load
from residency.slurm.render import render

RECIPE = """\
name: selftrain
base: {scratch: {layers: 1, width: 32, vocabulary: 300, context: 256, tokenizer: [text]}}
corpora:
  text:      {source: "world:general", size: 8}
  dialogues: {source: "world:medicine/dialogues", size: 8}
  exam:      {source: "world:medicine/questions", size: 8, facts: B}
  best:      {source: "corpus:draws", synthesis: {kind: best, least: 1}}
  better:    {source: "corpus:draws", synthesis: {kind: pairs, margin: 0.5}}
  steps:     {source: "corpus:trees", synthesis: {kind: steps}}
stages:
  again:      {kind: sft, from: sft, mixture: {best: 1}, max_length: 128}
  preference: {kind: preference, from: sft, corpus: better, max_length: 128}
  process:    {kind: reward, from: sft, corpus: steps, max_length: 128}
  sft:        {kind: sft, mixture: {dialogues: 1}, max_length: 128}
  draws:      {kind: sample, from: sft, corpus: exam, max_length: 128, max_new_tokens: 32, rewards: [{kind: correct}]}
  trees:      {kind: tree, from: sft, corpus: exam, max_length: 128, depth: 4, max_step_tokens: 16}
  export:     {kind: export, from: again}
"""


def plan(folder: Path, *overrides: str) -> Plan:
    (folder / "recipe.yaml").write_text(RECIPE)
    return Plan(load(folder / "recipe.yaml", list(overrides)), RunPaths(folder / "run"))


def test_every_stage_comes_behind_what_it_is_made_of(tmp_path: Path) -> None:
    made = plan(tmp_path)
    check(made)
    order = list(made.stages)
    for before, after in (
        ("sft", "draws"), ("draws", "corpus-best"), ("corpus-best", "again-tokens"), ("again-tokens", "again"),
        ("draws", "corpus-better"), ("corpus-better", "preference-tokens"), ("trees", "corpus-steps"),
        ("corpus-steps", "process-tokens"),
    ):  # fmt: skip
        assert order.index(before) < order.index(after)
    assert made.stages["corpus-best"].parents == {"corpus:draws": "draws"}


def test_what_is_made_later_is_named(tmp_path: Path) -> None:
    task = "evaluation.tasks=[{name: own, kind: bits-per-byte, domain: medicine, items: best}]"
    plan(tmp_path, task, "evaluation.after=[again]")
    with pytest.raises(ResidencyError, match="sft-evaluation needs corpus-best, which is made later"):
        plan(tmp_path, task, "evaluation.after=[sft]")
    with pytest.raises(ResidencyError, match="corpus-dialogues needs corpus-best, which is made later"):
        plan(tmp_path, "corpora.dialogues.steps=[{kind: rank, like: best, keep: 0.5}]")


def test_what_a_stage_wrote_is_bound_by_what_its_model_and_prompts_are_made_of(tmp_path: Path) -> None:
    made = plan(tmp_path, "corpora.exam.consent=credentialed")
    (entry,) = gates.planned(made, made.stages["draws"])
    assert (entry["corpus"], entry["consent"], entry["synthetic"]) == (
        "draws",
        "credentialed",
        "written by sft",
    )
    (best,) = gates.planned(made, made.stages["corpus-best"])
    assert (best["consent"], best["synthetic"]) == ("credentialed", "best replies of draws")
    (note,) = gates.check(made)
    assert note.startswith("export: it is made of best, whose consent is credentialed")


def test_replies_and_what_is_made_of_them_differ_between_seeds(tmp_path: Path) -> None:
    first, other = seeds.plans(plan(tmp_path, "seeds=[0, 1]")).values()
    same = {name for name, stage in first.stages.items() if other.stages[name].identity == stage.identity}
    assert {"corpus-text", "corpus-exam", "corpus-dialogues"} <= same
    assert not same & {"draws", "trees", "corpus-best", "corpus-better"}
    assert other.stages["draws"].settings["seed"] == 1


def test_replies_that_do_not_fit_the_window_are_refused_by_check(tmp_path: Path) -> None:
    with pytest.raises(
        ResidencyError, match=r"stages\.draws: max_length = 128 and max_new_tokens = 200 .* 256"
    ) as caught:
        check(plan(tmp_path, "stages.draws.max_new_tokens=200"))
    assert caught.value.code == Exit.USER_INPUT
    with pytest.raises(
        ResidencyError, match=r"stages\.trees: max_length = 128 and depth \* max_step_tokens = 768"
    ):
        check(plan(tmp_path, "stages.trees.depth=8", "stages.trees.max_step_tokens=96"))
    rl = "{kind: rl, from: sft, corpus: exam, max_length: 128, max_new_tokens: 200, rewards: [{kind: correct}]}"
    with pytest.raises(ResidencyError, match=r"stages\.rl: max_length = 128 and max_new_tokens = 200 .* 256"):
        check(plan(tmp_path, f"stages.rl={rl}"))


def test_on_slurm_a_writing_stage_has_ranks(tmp_path: Path) -> None:
    made = plan(tmp_path, "cluster.nodes=2", "cluster.tasks_per_node=4", "cluster.gpus_per_node=4")
    for name, ranks in (("draws", True), ("trees", True), ("corpus-best", False), ("draws-tokens", False)):
        file = made.stage_file(made.stages[name])
        text = render(file, made.recipe.cluster, python="python", directory=tmp_path, environment={})
        assert ("residency.train.worker" in text, "--gres=gpu:4" in text, "--nodes=2" in text) == (ranks,) * 3
        assert all(str(parent / "manifest.json") in text for parent in file.parents.values())
