"""Export and publish: what arrives is what was trained, and what must not leave does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from residency.artifact import RunPaths
from residency.errors import Exit, ResidencyError
from residency.recipes import chain
from residency.recipes.plan import Plan
from residency.recipes.publish import publish
from residency.recipes.schema import load

RECIPE = """\
name: published
base: {scratch: {layers: 1, width: 32, vocabulary: 300, context: 64, tokenizer: [text]}}
corpora:
  text: {source: "world:general", size: 8, licence: Apache-2.0}
stages:
  export: {kind: export, from: base}
"""


def plan(folder: Path, *overrides: str) -> Plan:
    (folder / "recipe.yaml").write_text(RECIPE)
    recipe = load(folder / "recipe.yaml", list(overrides))
    return Plan(recipe, RunPaths(folder / recipe.name))


def test_round_trip_through_a_mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    made = plan(tmp_path)
    chain.run(made)
    monkeypatch.setenv("RESIDENCY_MIRROR", str(tmp_path / "mirror"))
    target = publish(made, "clinic/tiny")
    trained, published = made.stages["base"].artifact, Path(target)
    assert (published / "model.safetensors").read_bytes() == (trained / "model.safetensors").read_bytes()
    assert "not a medical device" in (published / "README.md").read_text().lower()
    assert AutoModelForCausalLM.from_pretrained(published).num_parameters() > 0
    tokenizer = AutoTokenizer.from_pretrained(published)
    asked = tokenizer.apply_chat_template([{"role": "user", "content": "x"}], tokenize=False)
    assert asked == "<|begin|><|user|>x<|end|>"
    continued = plan(
        tmp_path, "name=continued", "base=clinic/tiny", "stages.export=null", "corpora.text.size=9"
    )
    assert continued.base is not None and continued.base.directory == published
    with pytest.raises(ResidencyError, match="never overwritten"):
        publish(made, "clinic/tiny")


def test_credentialed_data_never_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESIDENCY_MIRROR", str(tmp_path / "mirror"))
    made = plan(tmp_path, "corpora.text.consent=credentialed")
    chain.run(made)
    with pytest.raises(ResidencyError, match="consent is credentialed") as caught:
        publish(made, "clinic/tiny")
    assert caught.value.code == Exit.GATE_REFUSED
    assert not (tmp_path / "mirror").exists()


def test_nothing_to_publish(tmp_path: Path) -> None:
    with pytest.raises(ResidencyError, match="stage export is not finished"):
        publish(plan(tmp_path), "clinic/tiny")
    with pytest.raises(ResidencyError, match="Name one with --stage: export"):
        publish(plan(tmp_path), "clinic/tiny", "final")
