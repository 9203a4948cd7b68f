"""Gates: what sources forbid is refused with exit code 3, at `check` where the recipe tells, else from manifests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from residency.artifact import RunPaths, open_attempt, read_manifest, write_json
from residency.errors import Exit, ResidencyError
from residency.recipes import chain, check, gates
from residency.recipes.plan import Plan
from residency.recipes.publish import publish
from residency.recipes.schema import load
from residency.train import contract

RECIPE = """\
name: gated
base: {scratch: {layers: 1, width: 32, vocabulary: 300, context: 64, tokenizer: [text]}}
corpora:
  text: {source: "world:general", size: 8}
  notes: {source: "world:medicine", size: 8}
  items: {source: "world:general/cloze", size: 8, licence: CC-BY-SA-4.0}
stages:
  pretrain: {kind: pretrain, mixture: {text: 1}, tokens: 2k, max_length: 64, batch_size: 8}
  cpt: {kind: cpt, from: pretrain, mixture: {notes: 1}, tokens: 2k, max_length: 64, batch_size: 8}
  export: {kind: export, from: cpt}
"""
EXPORT = ("stages.pretrain=null", "stages.cpt=null", "stages.export.from=base")


def plan(folder: Path, *overrides: str) -> Plan:
    (folder / "recipe.yaml").write_text(RECIPE)
    recipe = load(folder / "recipe.yaml", list(overrides))
    return Plan(recipe, RunPaths(folder / recipe.name))


def refused(action: Any, *arguments: Any) -> str:
    with pytest.raises(ResidencyError) as caught:
        action(*arguments)
    assert caught.value.code == Exit.GATE_REFUSED
    return str(caught.value)


def test_a_plain_recipe_passes(tmp_path: Path) -> None:
    check.check(plan(tmp_path))


def test_credentialed_text_keeps_trackers_on_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = plan(tmp_path, "corpora.notes.consent=credentialed", "track=[wandb, tensorboard]")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    told = refused(gates.check, made)
    assert "track: wandb: stage cpt: it is made of notes, whose consent is credentialed" in told
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert gates.check(made) == [
        "export: it is made of notes, whose consent is credentialed: it may not be published"
    ]
    monkeypatch.delenv("WANDB_MODE")
    trackio = plan(tmp_path, "corpora.notes.phi=possible", "track=[trackio]")
    gates.check(trackio)
    monkeypatch.setenv("TRACKIO_SPACE_ID", "clinic/curves")
    assert "may hold identifiers of patients" in refused(gates.check, trackio)


def test_the_worker_refuses_a_tracker_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = plan(tmp_path, "corpora.text.consent=credentialed", "track=[wandb]")
    for name in ("corpus-text", "base", "pretrain-tokens"):
        chain.run_in_process(open_attempt(made.paths, made.stage_file(made.stages[name])))
    stage = made.stage_file(made.stages["pretrain"])
    monkeypatch.delenv("WANDB_MODE", raising=False)
    assert "whose consent is credentialed" in refused(contract.check, stage)
    monkeypatch.setenv("WANDB_MODE", "offline")
    contract.check(stage)


def test_a_licence_that_contradicts_is_refused_by_check(tmp_path: Path) -> None:
    made = plan(tmp_path, "corpora.notes.licence=CC-BY-NC-4.0", "stages.export.licence=Apache-2.0")
    told = refused(check.check, made)
    assert told == (
        "stages.export.licence: notes (CC-BY-NC-4.0) allows no commercial use: Apache-2.0 allows it"
    )
    check.check(plan(tmp_path, "corpora.notes.licence=CC-BY-NC-4.0"))


def test_corpora_that_no_model_learns_from_forbid_nothing(tmp_path: Path) -> None:
    assert gates.check(plan(tmp_path, "corpora.items.consent=credentialed")) == []


def test_the_planned_passport_is_the_real_one(tmp_path: Path) -> None:
    made = plan(tmp_path, *EXPORT)
    chain.run(made)
    real = read_manifest(made.stages["export"].artifact).passport
    ours = ("corpus", "source", "licence", "consent", "languages", "phi", "synthetic")
    foreseen = gates.planned(made, made.stages["export"])
    assert [{key: entry[key] for key in ours} for entry in real] == [
        {key: entry[key] for key in ours} for entry in foreseen
    ]
    assert real[0]["stage"] == "base" and real[0]["documents"] > 0


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("corpora.text.phi=possible", "text may hold identifiers of patients"),
        ("corpora.text.licence=unknown", "licence is unknown"),
    ],
)
def test_publish_refuses_from_manifests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str, told: str
) -> None:
    monkeypatch.setenv("RESIDENCY_MIRROR", str(tmp_path / "mirror"))
    made = plan(tmp_path, change, *EXPORT)
    chain.run(made)
    assert told in refused(publish, made, "clinic/tiny")
    assert told in (made.stages["export"].artifact / "README.md").read_text()
    assert not (tmp_path / "mirror").exists()


def test_the_card_carries_licence_and_languages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = plan(tmp_path, "corpora.text.licence=CC-BY-SA-4.0", *EXPORT)
    chain.run(made)
    export = made.stages["export"].artifact
    card = (export / "README.md").read_text()
    assert '\nlicense: cc-by-sa-4.0\nlanguage: ["en"]\n---\n' in card
    assert "| text | world:general | CC-BY-SA-4.0 | share-alike | en | none | generated world |" in card
    assert "Licence: CC-BY-SA-4.0, which follows from the corpora." in card
    monkeypatch.setenv("RESIDENCY_MIRROR", str(tmp_path / "mirror"))
    manifest = read_manifest(export)
    manifest.settings["licence"] = "MIT"
    write_json(export / "manifest.json", manifest.model_dump())
    assert "MIT is another licence" in refused(publish, made, "clinic/tiny")


def test_a_base_from_another_run_brings_its_passport(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = plan(tmp_path, "corpora.text.consent=credentialed", *EXPORT)
    chain.run(first)
    base = first.stages["export"].artifact
    second = plan(tmp_path, "name=second", f"base={base}", "stages.pretrain=null", "stages.cpt.from=base")
    assert "text, whose consent is credentialed" in gates.check(second)[0]


def test_evaluation_carries_the_model_and_its_items(tmp_path: Path) -> None:
    task = "{kind: choice, name: cloze, domain: general, items: items}"
    stage = f"stages.ask={{kind: evaluate, from: base, tasks: [{task}]}}"
    made = plan(tmp_path, *EXPORT, "stages.export=null", stage)
    chain.run(made)
    entries = read_manifest(made.stages["ask"].artifact).passport
    assert [(entry["corpus"], entry.get("stage")) for entry in entries] == [("text", "base"), ("items", None)]


def test_a_function_is_shown_no_credentialed_text(tmp_path: Path) -> None:
    synthesis = "{kind: generate, call: 'builtins:list', prompt: '{title}'}"
    change = f"corpora.made={{source: corpus:notes, synthesis: {synthesis}}}"
    check.check(plan(tmp_path, change))
    told = refused(check.check, plan(tmp_path, change, "corpora.notes.consent=credentialed"))
    assert "corpora.made.synthesis.call = builtins:list: it is made of notes" in told
    assert "shown to a judge elsewhere. Use a model that runs here" in told


def test_synthetic_text_is_gated_as_what_it_is_made_of(tmp_path: Path) -> None:
    change = "corpora.made={source: corpus:notes, synthesis: {kind: templates}}"
    made = plan(tmp_path, change, "corpora.notes.consent=credentialed", "stages.cpt.mixture={made: 1}")
    assert gates.check(made) == [
        "export: it is made of made, whose consent is credentialed: it may not be published"
    ]
