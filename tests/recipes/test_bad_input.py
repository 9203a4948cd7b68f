"""Bad input gets one clear line that names file, key or value, and the cure, before any work is done."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from residency.artifact import RunPaths
from residency.errors import Exit, ResidencyError
from residency.recipes import chain, check
from residency.recipes.plan import Plan
from residency.recipes.reading import read_file
from residency.recipes.schema import load

SMALL = """\
name: small
base: {scratch: {layers: 1, width: 32, vocabulary: 300, context: 64, tokenizer: [text]}}
corpora:
  text: {source: "world:general", size: 8, licence: CC0-1.0}
stages:
  pretrain: {kind: pretrain, mixture: {text: 1}, tokens: 2k, max_length: 64, batch_size: 8}
"""


def plan(folder: Path, text: str, *overrides: str) -> Plan:
    (folder / "recipe.yaml").write_text(text)
    recipe = load(folder / "recipe.yaml", list(overrides))
    return Plan(recipe, RunPaths(folder / "runs" / recipe.name))


def refusal(folder: Path, text: str, *overrides: str) -> str:
    with pytest.raises(ResidencyError) as caught:
        check.check(plan(folder, text, *overrides))
    assert caught.value.code == Exit.USER_INPUT
    return str(caught.value).replace(str(folder) + "/", "")


def test_the_small_recipe_itself_is_fine(tmp_path: Path) -> None:
    check.check(plan(tmp_path, SMALL))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("stages.pretrain.learning_rat=1", "unknown key stages.pretrain.learning_rat. Did you mean learning_rate?"),
        ("stages.pretrain.kind=pretrian", "unknown kind 'pretrian'. Did you mean pretrain?"),
        ("stages.pretrain.tokens=many", "stages.pretrain.tokens = 'many': Input should be a valid integer"),
        ("stages.pretrain.batch_size=0", "stages.pretrain.batch_size = 0: Input should be greater than 0"),
        ("stages.pretrain.from=nowhere", "stages.pretrain.from = 'nowhere': no such stage"),
        ("stages.pretrain.from=pretrain", "a cycle through pretrain"),
        ("stages.pretrain.mixture={txt: 1}", "stages.pretrain: no corpus 'txt'. Known corpora: text"),
        ("stages.pretrain.mixture.text=-1", "stages.pretrain.mixture.text = -1: Input should be greater than 0"),
        ("stages.pretrain.max_length=128", "stages.pretrain.max_length = 128: the model reads 64 tokens at most"),
        ("corpora.text.source=world:generel", "no generated world 'world:generel'. Did you mean world:general?"),
        ("corpora.text.source=nowhere.jsonl", "no file or directory nowhere.jsonl"),
        ("base=no/such/model", "base: no directory no/such/model"),
        ("engine.zero=4", "engine.zero = 4: Input should be 0, 1, 2 or 3"),
        ("engine.offload_parameters=true", "offload_parameters needs zero: 3"),
        ("engine.processes=4096", "engine.processes = 4096: this machine has"),
        ("engine.micro_batch_size=3", "engine.micro_batch_size = 3 does not divide the 8 rows of a rank"),
        ("evaluation.tasks=[world-exma]", "world-exam"),
        ("evaluation.after=[sft]", "evaluation: no stage 'sft'"),
        ("name=../up", "name = '../up'"),
        ("cluster.partition='gpu; rm'", "cluster.partition"),
        ("seed", "'seed' is not key=value"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_named(tmp_path: Path, change: str, message: str) -> None:
    extra = ("evaluation.after=[pretrain]",) if "tasks" in change else ()
    assert message in refusal(tmp_path, SMALL, change, *extra)


KEEP, PROMPT = "lora: {rank: 4, finish: keep}", "prompt_tuning: {tokens: 8}"
CPT = "kind: cpt, from: pretrain, mixture: {text: 1}, tokens: 2k, max_length: 64, batch_size: 8"


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ("adapter: merge", CPT, "stages.pretrain.adapter = merge: base, its parent, left no adapter"),
        (
            KEEP,
            CPT,
            "stages.cpt: pretrain, its parent, left an adapter. Set adapter: continue or adapter: merge",
        ),
        (KEEP, f"{CPT}, adapter: continue", "stages.cpt.adapter = continue needs lora. Add lora, or merge"),
        (KEEP, f"{CPT}, adapter: merge, {KEEP}", "would stand on weights that are kept nowhere"),
        (PROMPT, CPT, "stages.pretrain.prompt_tuning: stages of kind pretrain cannot train a new prompt"),
        (
            "lora: {finish: keep, quantised: true}",
            CPT,
            "stages.pretrain.lora.quantised: 4-bit weights need a GPU",
        ),
        (
            "lora: {finish: merge}",
            "kind: merge, from: pretrain, method: adapter",
            "pretrain leaves no adapter to merge",
        ),
        (
            KEEP,
            "kind: merge, from: base, method: ties, models: {pretrain: 1}",
            "pretrain leaves an adapter, no whole",
        ),
        (
            KEEP,
            "kind: merge, from: pretrain, method: slerp, models: {pretrain: 1}",
            "models: slerp takes 2, not 1",
        ),
        (
            "seed: 1",
            "kind: reward, corpus: text}\n  blend: {kind: merge, from: base, method: ties, models: {cpt: 1}",
            "stages.blend.models.cpt = 'cpt' is of kind reward",
        ),
        (
            "seed: 1",
            "kind: sample, corpus: text, rewards: [{kind: function, call: 'nowhere:told'}]",
            "call = nowhere:told: No module named 'nowhere'",
        ),
        ("seed: 1", "kind: sample, corpus: text, engine: {processes: 4096}", "= 4096: this machine has"),
        (
            "seed: 1",
            "kind: preference, corpus: text, lora: {finish: keep, dropout: 0.1}",
            "lora.dropout must be 0: policy and reference",
        ),
        (
            "seed: 1",
            "kind: merge, from: base, method: dare, models: {pretrain: 0}",
            "stages.cpt.models.pretrain = 0",
        ),
    ],
)
def test_adapters_are_handed_over_explicitly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: str, second: str, message: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    text = SMALL.replace("batch_size: 8}", f"batch_size: 8, {first}}}") + f"  cpt: {{{second}}}\n"
    assert message in refusal(tmp_path, text)


def test_ranks_must_divide_the_batch(tmp_path: Path) -> None:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("one core")
    told = refusal(tmp_path, SMALL, "engine.processes=2", "stages.pretrain.batch_size=7")
    assert "stages.pretrain.batch_size = 7 does not divide by 2 ranks" in told


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "recipe.yaml is empty"),
        ("- a", "recipe.yaml:1: a recipe is a mapping"),
        ("a: 1\nb: 2\na: 3", "recipe.yaml:3: a was given in line 1 already"),
        ("a: 010", "recipe.yaml:1: 010 starts with 0"),
        ("a: !!python/object:os.system x", "recipe.yaml:1: the YAML tag"),
        ("a: &x {b: 1}\nc: *x", "YAML aliases are not allowed"),
        ("a: [1, 2", "recipe.yaml"),
        ("a: .nan", "recipe.yaml:1: .nan is no finite number"),
        ("\ta: 1", "recipe.yaml:1"),
    ],
)
def test_yaml_traps_are_refused(tmp_path: Path, text: str, message: str) -> None:
    assert message in refusal(tmp_path, text)


def test_yaml_values_are_what_they_look_like(tmp_path: Path) -> None:
    path = tmp_path / "values.yaml"
    path.write_text("a: 1e-5\nb: 12:30\nc: no\nd: '010'\ne: 600k\nf: true\ng: 0x10\nh: ~\n")
    assert read_file(path).values == {
        "a": 1e-5, "b": "12:30", "c": "no", "d": "010", "e": "600k", "f": True, "g": 16, "h": None,
    }  # fmt: skip


def test_bad_bytes_are_located(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(b"name: caf\xe9")
    with pytest.raises(ResidencyError, match=r"byte 9 is not UTF-8"):
        load(path)


def test_several_faults_are_told_at_once(tmp_path: Path) -> None:
    told = refusal(tmp_path, SMALL, "engine.zero=9", "stages.pretrain.epochs=1")
    assert len(told.splitlines()) == 2


def test_a_line_without_json_is_located(tmp_path: Path) -> None:
    (tmp_path / "text.jsonl").write_text('{"text": "one"}\n{"text": \n')
    made = plan(tmp_path, SMALL, f"corpora.text.source={tmp_path / 'text.jsonl'}")
    with pytest.raises(ResidencyError, match=r"text\.jsonl:2"):
        chain.run(made)


def test_an_empty_corpus_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.jsonl").write_text("")
    told = refusal(tmp_path, SMALL, f"corpora.text.source={tmp_path / 'text.jsonl'}")
    assert "text.jsonl is empty" in told


def test_an_absent_base_is_a_note_to_check_and_an_error_to_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    made = plan(tmp_path, SMALL, "base=nobody/nothing")
    assert any("nobody/nothing is not here yet" in note for note in check.check(made))
    with pytest.raises(ResidencyError, match="neither in the mirror nor in the hub's cache"):
        chain.run(made)


def test_sft_needs_a_chat_template(tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    (base / "config.json").write_text(json.dumps({"max_position_embeddings": 64}))
    (base / "model.safetensors").write_bytes(b"x")
    text = (
        SMALL.replace("pretrain", "sft").replace(", tokens: 2k", "").replace("batch_size: 8", "batch_size: 8")
    )
    told = refusal(tmp_path, text, f"base={base}")
    assert f"stages.sft: {base} has no chat template".replace(str(tmp_path) + "/", "") in told
    assert "llama-3" in refusal(tmp_path, text, f"base={base}", "stages.sft.chat_template=lama")


def test_a_directory_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file stands in the way")
    with pytest.raises(ResidencyError, match="Choose a directory with --runs"):
        chain.run(plan(tmp_path, SMALL))


def test_a_full_disk_is_refused_before_a_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(ResidencyError, match="0 MiB free") as caught:
        chain.run(plan(tmp_path, SMALL))
    assert caught.value.code == Exit.ENVIRONMENT


def test_a_second_run_is_refused_while_one_is_going(tmp_path: Path) -> None:
    made = plan(tmp_path, SMALL)
    with (
        chain.locked(made.paths),
        pytest.raises(ResidencyError, match=rf"in use by process {os.getpid()}"),
        chain.locked(made.paths),
    ):
        pass


def test_the_command_line_shows_one_line_and_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(SMALL)
    command = [sys.executable, "-m", "residency", "check", str(tmp_path / "recipe.yaml"), "engine.zero=7"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == Exit.USER_INPUT
    assert done.stderr == "residency: override engine.zero: engine.zero = 7: Input should be 0, 1, 2 or 3\n"
