"""The `merge` stage against arithmetic by hand, and what it refuses."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from peft.utils.merge_utils import ties
from safetensors.torch import load_file, save_file

from residency.artifact import (
    Manifest,
    RunPaths,
    StageFile,
    file_digests,
    open_attempt,
    read_manifest,
    write_json,
)
from residency.errors import Exit, ResidencyError
from residency.model import load_weights
from residency.train import arithmetic, merge
from residency.train.settings import MergeSettings
from residency.weights import tensors

if TYPE_CHECKING:
    from tests.train.conftest import World

NORM = "model.norm.weight"
Weights = dict[str, torch.Tensor]


@pytest.fixture
def models(world: World) -> dict[str, Path]:
    """The base, and two models that differ from it as if stages had trained them."""
    world.attempt(world.plan({"cpt": {}}), "cpt")
    base = next(world.run.glob("base-*"))
    return {"base": base} | {name: trained(base, name, seed) for name, seed in (("one", 1), ("two", 2))}


def trained(base: Path, name: str, seed: int, **config: Any) -> Path:
    """An artifact like `base` with other weights."""
    made, above = base.with_name(f"{name}-{'0' * 8}"), read_manifest(base)
    shutil.copytree(base, made, ignore=shutil.ignore_patterns("manifest.json"))
    random = torch.Generator().manual_seed(seed)
    weights = load_file(base / "model.safetensors")
    save(made, {key: tensor + torch.randn(tensor.shape, generator=random) for key, tensor in weights.items()})
    (made / "config.json").write_text(json.dumps(json.loads((made / "config.json").read_text()) | config))
    seal(made, name, [*above.passport, {"corpus": name, "source": f"{name}.jsonl"}], base)
    return made


def save(model: Path, weights: Weights) -> None:
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})


def seal(made: Path, name: str, passport: list[dict[str, Any]], base: Path) -> None:
    manifest = Manifest(
        kind="model",
        stage=name,
        stage_kind="sft",
        identity=name,
        parents={},
        parent_paths={"model": f"../{base.name}"},
        settings={},
        passport=passport,
        files=file_digests(made),
    )
    write_json(made / "manifest.json", manifest.model_dump())


def merged(models: dict[str, Path], parent: str, method: str, weights: dict[str, float], **more: Any) -> Path:
    """The artifact of a merge stage."""
    settings = MergeSettings.model_validate(
        {"kind": "merge", "from": parent, "method": method, "models": weights, "seed": 7, **more}
    )
    stage = StageFile(
        name="merge",
        kind="merge",
        identity=f"{method}{'0' * 8}",
        settings=settings.model_dump(by_alias=True),
        parents={"model": models[parent]} | {f"model:{name}": models[name] for name in weights},
        run=models["base"].parent,
    )
    return merge.run(open_attempt(RunPaths(stage.run), stage))


def read(model: Path) -> Weights:
    return load_file(model / "model.safetensors")


def close(found: Weights, wanted: Weights) -> None:
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        torch.testing.assert_close(found[name], tensor, atol=1e-6, rtol=1e-6)


def test_linear_is_the_weighted_mean(models: dict[str, Path]) -> None:
    (models["one"] / "pytorch_model.bin").write_bytes(b"the same once more")
    made = merged(models, "one", "linear", {"one": 3, "two": 1})
    one, two = read(models["one"]), read(models["two"])
    close(read(made), {name: 0.75 * one[name] + 0.25 * two[name] for name in one})
    assert "lm_head.weight" not in tensors(made), "tied weights stay one"
    assert not (made / "pytorch_model.bin").exists(), "no weights that were not merged"
    assert [entry["corpus"] for entry in read_manifest(made).passport] == ["texts", "one", "two"]
    assert torch.isfinite(load_weights(made, precision="float32")(torch.arange(5)[None]).logits).all()


def test_slerp_keeps_the_angle_and_the_length(models: dict[str, Path]) -> None:
    one, two = read(models["one"]), read(models["two"])
    found = read(merged(models, "one", "slerp", {"one": 1, "two": 3}))
    for name in one:
        first, second = one[name].flatten().double(), two[name].flatten().double()
        angle = math.acos(float(first @ second / first.norm() / second.norm()))
        by_hand = (math.sin(0.25 * angle) * first + math.sin(0.75 * angle) * second) / math.sin(angle)
        torch.testing.assert_close(found[name].flatten().double(), by_hand, atol=1e-5, rtol=1e-5)
    quarter = arithmetic.slerp([torch.tensor([2.0, 0.0]), torch.tensor([0.0, 2.0])], [1, 1])
    torch.testing.assert_close(quarter, torch.tensor([math.sqrt(2), math.sqrt(2)]))
    parallel = arithmetic.slerp([torch.tensor([1.0, 0.0]), torch.tensor([3.0, 0.0])], [1, 1])
    torch.testing.assert_close(parallel, torch.tensor([2.0, 0.0]))


def test_ties_trims_elects_and_averages() -> None:
    """Of [4, -3, 1, .5] and [2, 5, -1, -.4] half is kept; both agree at 0, 5 outvotes -3 at 1, nothing is left else."""
    ancestor = torch.tensor([1.0, 1.0, 1.0, 1.0])
    changed = [torch.tensor([4.0, -3.0, 1.0, 0.5]), torch.tensor([2.0, 5.0, -1.0, -0.4])]
    made = arithmetic.sparse_sum("ties", ancestor, [ancestor + each for each in changed], [1, 1], 0.5, 0, "x")
    torch.testing.assert_close(made, ancestor + torch.tensor([3.0, 5.0, 0.0, 0.0]))


def test_ties_of_models_is_that_of_each_tensor(models: dict[str, Path]) -> None:
    made = read(merged(models, "base", "ties", {"one": 1.0, "two": 0.5}, density=0.3))
    base, one, two = (read(models[name]) for name in ("base", "one", "two"))
    for name, tensor in base.items():
        differences = ties([one[name] - tensor, two[name] - tensor], torch.tensor([1.0, 0.5]), 0.3)
        torch.testing.assert_close(made[name], tensor + differences, atol=1e-6, rtol=1e-6)


def test_dare_drops_by_its_seed_and_makes_good(models: dict[str, Path]) -> None:
    made = read(merged(models, "base", "dare", {"one": 0.5}, density=0.25))
    base, one = read(models["base"]), read(models["one"])
    name = "model.embed_tokens.weight"
    added, difference = made[name] - base[name], one[name] - base[name]
    kept = added.abs() > 1e-7
    assert 0.2 < kept.float().mean() < 0.3
    torch.testing.assert_close(added[kept], 0.5 * difference[kept] / 0.25, atol=1e-5, rtol=1e-4)
    whole = arithmetic.sparse_sum("dare", base[name], [one[name]], [1.0], 1.0, 0, name)
    torch.testing.assert_close(whole, one[name])
    again, other = (
        arithmetic.sparse_sum("dare", base[name], [one[name]], [0.5], 0.25, seed, name) for seed in (7, 8)
    )
    assert torch.equal(again, made[name]) and not torch.equal(other, made[name])


def test_large_models_are_cut_into_files_with_an_index(tmp_path: Path) -> None:
    weights = {f"w{number}": torch.full((4,), float(number)) for number in range(5)}
    merge.write_weights(tmp_path, iter(weights.items()), most=32)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *(f"model-0000{at}-of-00003.safetensors" for at in (1, 2, 3)),
        "model.safetensors.index.json",
    ]
    assert json.loads((tmp_path / "model.safetensors.index.json").read_text())["metadata"] == {
        "total_size": 80
    }
    assert tensors(tmp_path).keys() == weights.keys()


def test_another_architecture_is_refused(models: dict[str, Path]) -> None:
    models["two"] = trained(
        models["base"], "wide", 3, rope_parameters={"rope_theta": 1.0, "rope_type": "default"}
    )
    with pytest.raises(ResidencyError, match="stage wide has another architecture than stage one: rope_"):
        merged(models, "one", "linear", {"one": 1, "two": 1})


def test_another_way_to_write_a_configuration_is_no_other_architecture(models: dict[str, Path]) -> None:
    """Of transformers 4, as most models on the hub have it."""
    path = models["base"] / "config.json"
    config = json.loads(path.read_text())
    config["rope_theta"] = config.pop("rope_parameters")["rope_theta"]
    del config["head_dim"]
    path.write_text(json.dumps(config | {"torch_dtype": config.pop("dtype"), "pretraining_tp": 1}))
    manifest = read_manifest(models["base"])
    manifest.files = file_digests(models["base"])
    write_json(models["base"] / "manifest.json", manifest.model_dump())
    merged(models, "base", "ties", {"one": 1, "two": 1})


def test_another_tokenizer_is_refused(models: dict[str, Path]) -> None:
    settings = models["two"] / "tokenizer_config.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"eos_token": "<|end|>"}))
    seal(models["two"], "two", read_manifest(models["two"]).passport, models["base"])
    with pytest.raises(ResidencyError, match="stage two has another tokenizer than stage one"):
        merged(models, "one", "linear", {"one": 1, "two": 1})


def test_missing_tensors_and_what_is_no_number_are_refused(models: dict[str, Path]) -> None:
    weights = read(models["two"])
    save(models["two"], weights | {NORM: torch.full((32,), float("nan"))})
    seal(models["two"], "two", read_manifest(models["two"]).passport, models["base"])
    with pytest.raises(
        ResidencyError, match=r"model\.norm\.weight of two-0+ holds what is no number"
    ) as caught:
        merged(models, "one", "linear", {"one": 1, "two": 1})
    assert caught.value.code == Exit.DIVERGED
    del weights[NORM]
    save(models["two"], weights)
    seal(models["two"], "two", read_manifest(models["two"]).passport, models["base"])
    with pytest.raises(ResidencyError, match=r"stage two has no model\.norm\.weight"):
        merged(models, "one", "linear", {"one": 1, "two": 1})


def test_a_merge_that_gives_no_numbers_is_refused(models: dict[str, Path]) -> None:
    with pytest.raises(
        ResidencyError, match=r"the merged model\..* holds what is no number\. Lower the weights"
    ):
        merged(models, "base", "ties", {"one": 1e39})


def test_a_merged_model_has_the_type_that_its_configuration_says(models: dict[str, Path]) -> None:
    half = {name: tensor.bfloat16() for name, tensor in read(models["two"]).items()}
    save(models["two"], half)
    change = json.loads((models["two"] / "config.json").read_text()) | {"dtype": "bfloat16"}
    (models["two"] / "config.json").write_text(json.dumps(change))
    seal(models["two"], "two", read_manifest(models["two"]).passport, models["base"])
    made = merged(models, "one", "linear", {"two": 1, "one": 1})
    assert json.loads((made / "config.json").read_text())["dtype"] == "bfloat16"
    one = read(models["one"])
    close(read(made), {name: ((half[name].float() + one[name]) / 2).bfloat16() for name in one})


def test_an_adapter_among_whole_models_is_refused(models: dict[str, Path]) -> None:
    two = models["two"]
    width = {"base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight": torch.ones(2, 32)}
    save_file(width, two / "adapter_model.safetensors")
    write_json(two / "adapter_config.json", {"peft_type": "LORA"})
    (two / "model.safetensors").unlink()
    seal(two, "two", read_manifest(two).passport, models["base"])
    with pytest.raises(
        ResidencyError, match=r"stage two left an adapter, no whole weights\. Merge it into its base"
    ):
        merged(models, "one", "linear", {"one": 1, "two": 1})


def test_no_adapter_is_no_merge(models: dict[str, Path]) -> None:
    with pytest.raises(
        ResidencyError, match=r"stages\.merge: one left no adapter to merge\. Remove the stage"
    ):
        merged(models, "one", "adapter", {})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"method": "slerp", "models": {"a": 1}}, "models: slerp takes 2, not 1"),
        ({"method": "adapter", "models": {"a": 1}}, "models: adapter takes none, not 1"),
        ({"method": "linear", "models": {"b": 1, "c": 1}}, "from = 'a' is none of models"),
        ({"method": "ties", "models": {"a": 1}}, "models.a: the ancestor does not differ from itself"),
        ({"method": "linear", "models": {"a": 1, "b": 1}, "density": 0.2}, "density is of ties and dare"),
        ({"method": "linear", "models": {"a": 1, "b": -1}}, "greater than 0"),
    ],
)
def test_settings_fit_the_method(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MergeSettings.model_validate({"kind": "merge", "from": "a", **fields})
