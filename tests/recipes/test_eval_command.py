"""`residency eval`, `compare` and `tasks` on tiny models: records, cache, refusals."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from residency import cli
from residency.artifact import RunPaths, read_manifest
from residency.errors import ResidencyError
from residency.eval.comparison.beside import records_at
from residency.eval.comparison.compare import compare
from residency.eval.settings import ChoiceTask
from residency.recipes import chain
from residency.recipes import evaluate_command as command
from residency.recipes.plan import Plan
from residency.recipes.schema import load

RECIPE = """\
name: tiny
seed: {seed}
base: {{scratch: {{layers: 1, width: 32, vocabulary: 300, context: 64, tokenizer: [text]}}}}
corpora:
  text: {{source: "world:general", size: 8, seed: 0}}
stages: {{}}
"""
TASKS = "world-exam,world-general"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two models with one tokenizer and other weights, as stages leave them."""
    made = []
    for seed in (1, 2):
        folder = tmp_path_factory.mktemp(f"seed-{seed}")
        (folder / "recipe.yaml").write_text(RECIPE.format(seed=seed))
        plan = Plan(load(folder / "recipe.yaml"), RunPaths(folder / "runs" / "tiny"))
        chain.run(plan)
        made.append(plan.stages["base"].artifact)
    return made


def plain(model: Path, place: Path) -> Path:
    """A copy without a manifest, as from elsewhere."""
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(model, place, ignore=shutil.ignore_patterns("manifest.json"))
    return place


def run(*arguments: str) -> None:
    cli.app(list(arguments), standalone_mode=False)


def values(records: Path) -> dict[str, float]:
    return {name: task["value"] for name, task in read_manifest(records).measured["tasks"].items()}


def measure(model: Path, runs: Path, **changes: Any) -> Path:
    tasks = command.chosen("world-exam", None, command.Asked(limit=40, **changes))
    return command.evaluate(str(model), tasks, against=None, runs=runs, max_length=None)[0]


def test_eval_prints_a_verdict_and_compare_finds_the_records(
    models: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = ["--tasks", TASKS, "--limit", "40", "--runs", str(tmp_path), "--json"]
    run("eval", str(models[1]), "--against", str(models[0]), *places)
    told = json.loads(capsys.readouterr().out)
    assert [(line["task"], line["n"]) for line in told["lines"]] == [
        ("world-exam", 40),
        ("world-general", 40),
    ]
    assert {suite["domain"] for suite in told["suites"]} == {"medicine", "general"}
    assert told["lines"][0]["chance"] == 0.25 and told["lines"][0]["longest"] is not None
    runs = sorted(path.parent for path in tmp_path.glob("evaluation-*/base-evaluation-*/manifest.json"))
    assert len(runs) == 2
    run("compare", str(runs[0]), str(runs[1]), "--resamples", "500")
    assert "against" in capsys.readouterr().out
    run("eval", str(models[1]), *places[:-1])
    assert "value [95 % interval]" in capsys.readouterr().out


def test_records_of_a_stage_are_found_beside_its_run(models: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "tiny"
    shutil.copytree(models[0], folder / models[0].name)
    found = measure(folder / models[0].name, tmp_path / "runs")
    assert records_at(folder / models[0].name) == found
    with pytest.raises(ResidencyError, match="neither records nor a model whose records lie beside it"):
        records_at(models[1])


def test_other_weights_at_the_same_path_have_other_scores(models: list[Path], tmp_path: Path) -> None:
    place = tmp_path / "model"
    first = measure(plain(models[0], place), tmp_path / "runs")
    second = measure(plain(models[1], place), tmp_path / "runs")
    again = measure(plain(models[0], place), tmp_path / "runs")
    assert again == first != second
    changed = compare(second, first, resamples=100).lines[0]
    assert changed.gained + changed.lost > 0
    other = measure(plain(models[0], tmp_path / "other-name"), tmp_path / "runs")
    assert read_manifest(other).measured["tasks"]["world-exam"]["cached"], (
        "the same weights under another name"
    )
    assert values(other) == values(first)


def test_absent_data_are_refused_before_the_model_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RESIDENCY_MIRROR", str(tmp_path))
    broken = tmp_path / "model"
    broken.mkdir()
    (broken / "config.json").write_text("{}")
    (broken / "model.safetensors").write_bytes(b"no weights")
    tasks = command.chosen("medqa", None, command.Asked())
    with pytest.raises(ResidencyError, match="hf download"):
        command.evaluate(str(broken), tasks, against=None, runs=tmp_path / "runs", max_length=None)


def test_changes_reach_the_tasks_or_are_refused() -> None:
    [task] = command.chosen("world-exam", None, command.Asked(limit=7, chat=True, template="cloze"))
    assert isinstance(task, ChoiceTask)
    assert (task.limit, task.chat, task.templates) == (7, True, ["cloze"])
    with pytest.raises(ResidencyError, match="task world-exam with shots = 3: shots needs shots_from"):
        command.chosen("world-exam", None, command.Asked(shots=3))
    with pytest.raises(ResidencyError, match="Did you mean"):
        command.chosen("world-exma", None, command.Asked())
    with pytest.raises(ResidencyError, match="say what is measured"):
        command.chosen(None, None, command.Asked())
    with pytest.raises(ResidencyError, match="Known: medicine, general, all-here"):
        command.chosen(None, "everything", command.Asked())


def adapter(place: Path, base: Path) -> Path:
    place.mkdir()
    (place / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(base), "r": 8}))
    (place / "adapter_model.safetensors").write_bytes(b"low rank")
    return place


def test_an_adapter_is_compared_with_its_own_base_only(models: list[Path], tmp_path: Path) -> None:
    mine = adapter(tmp_path / "adapter", models[0])
    command.refuse_other_base(mine, models[0])
    command.refuse_other_base(mine, plain(models[0], tmp_path / "copy"))
    with pytest.raises(ResidencyError, match=r"is an adapter on .* is neither that nor one of its ancestors"):
        command.refuse_other_base(mine, models[1])
    with pytest.raises(ResidencyError, match=r"its base .*nowhere is not here"):
        command.refuse_other_base(adapter(tmp_path / "lost", tmp_path / "nowhere"), models[0])


def test_tasks_are_listed_with_what_they_need(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RESIDENCY_MIRROR", str(tmp_path))
    run("tasks", "--json")
    told = {task["name"]: task for task in json.loads(capsys.readouterr().out)}
    assert told["medqa"]["needs"].startswith("GBaker/") and "hf download" in told["medqa"]["cure"]
    assert told["world-exam"]["needs"] is None and told["world-exam"]["rows"] > 40
    run("tasks", "--here")
    shown = capsys.readouterr().out
    assert "world-exam" in shown and "medqa" not in shown
