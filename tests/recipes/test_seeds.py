"""Several seeds of training: what changes, what stays, and where each runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from residency.artifact import RunPaths
from residency.errors import ResidencyError
from residency.recipes import chain, seeds
from residency.recipes.plan import Plan
from residency.recipes.schema import Recipe, load

RECIPE = """\
name: many
base: {scratch: {layers: 1, width: 32, vocabulary: 300, context: 64, tokenizer: [text]}}
corpora:
  text: {source: "world:general", size: 8}
stages:
  cpt: {kind: cpt, mixture: {text: 1}, tokens: 1k, max_length: 64, batch_size: 4}
evaluation: {tasks: [world-general], after: [cpt]}
"""


def plan(folder: Path, *overrides: str) -> Plan:
    (folder / "recipe.yaml").write_text(RECIPE)
    recipe = load(folder / "recipe.yaml", list(overrides))
    return Plan(recipe, RunPaths(folder / recipe.name))


def changed(one: Plan, other: Plan) -> set[str]:
    return {name for name, stage in one.stages.items() if stage.identity != other.stages[name].identity}


def test_a_seed_changes_what_training_draws_and_no_corpus(tmp_path: Path) -> None:
    made = plan(tmp_path, "seeds=3")
    found = seeds.plans(made)
    assert list(found) == [0, 1, 2]
    assert found[0] is made and not changed(made, plan(tmp_path)), "the recipe's own seed is as without seeds"
    assert changed(made, found[1]) == {"base", "cpt-tokens", "cpt", "cpt-evaluation"}
    assert changed(found[1], found[2]) == changed(made, found[1])
    assert found[2].paths.root == made.paths.root / "seed-2"
    assert changed(found[1], plan(tmp_path, "seed=1")) >= {"corpus-text"}, "another seed is another world"


def test_a_stage_with_a_seed_of_its_own_keeps_it(tmp_path: Path) -> None:
    made = plan(tmp_path, "seeds=[0, 7]", "base.scratch.seed=3")
    assert changed(made, seeds.plans(made)[7]) == {"cpt-tokens", "cpt", "cpt-evaluation"}
    with pytest.raises(ResidencyError, match="nothing would differ"):
        plan(tmp_path, "seeds=2", "stages.cpt.seed=3")


@pytest.mark.parametrize("given", ["seeds=[1, 2]", "seeds=[0, 0]", "seeds=0", "seeds=[]"])
def test_seeds_that_make_no_sense_are_refused(tmp_path: Path, given: str) -> None:
    with pytest.raises(ResidencyError, match="seeds"):
        plan(tmp_path, given)


def test_a_seed_is_a_run_of_its_own_with_the_corpora_of_the_first(tmp_path: Path) -> None:
    made = plan(tmp_path, "seeds=2", "stages={}", "evaluation={}")
    seeds.run(made)
    other = seeds.plans(made)[1]
    text = "corpus-text"
    assert other.stages[text].finished and other.stages["base"].finished
    one, two = (each.stages[text].artifact / "train.jsonl" for each in (made, other))
    assert one.samefile(two), "made once"
    weights = [each.stages["base"].artifact / "model.safetensors" for each in (made, other)]
    assert weights[0].read_bytes() != weights[1].read_bytes()
    assert other.paths.report.exists()
    assert not made.paths.seeds.exists(), "nothing was evaluated"
    chain.conclude_run(other.paths.root)
    again = Recipe.model_validate_json(json.dumps(json.loads(other.paths.recipe.read_text())["recipe"]))
    assert not changed(Plan(again, other.paths), other), "the run knows its seed"
