"""From adapters to a directory that transformers loads: every weight on the way is that of arithmetic by hand."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from residency.artifact import read_manifest
from residency.errors import ResidencyError
from residency.model import load
from tests.train.test_lora import KEEP, by_hand, largest_difference

if TYPE_CHECKING:
    from tests.train.conftest import World

CHAIN: dict[str, dict[str, Any]] = {
    "sft": {"lora": KEEP},
    "tuned": {"kind": "merge", "from": "sft", "method": "adapter"},
    "preference": {"from": "tuned", "lora": KEEP},
    "aligned": {"kind": "merge", "from": "preference", "method": "adapter"},
    "export": {"kind": "export", "from": "aligned"},
}


@pytest.mark.slow
@pytest.mark.parametrize("zero", [2, 3])
def test_adapters_merged_twice_and_exported_are_the_sum_of_all(world: World, zero: int) -> None:
    export = world.train_all(CHAIN, zero=zero)
    base, sft, tuned, preference = (
        next(world.run.glob(f"{name}-????????")) for name in ("base", "sft", "tuned", "preference")
    )
    first = by_hand(base, sft)
    assert largest_difference(load_file(tuned / "model.safetensors"), first) <= 1e-5
    assert largest_difference(first, load_file(base / "model.safetensors")) > 1e-3, "sft learnt nothing"
    both = by_hand(tuned, preference)
    exported = load_file(export / "model.safetensors")
    assert largest_difference(exported, both) <= 1e-5
    assert largest_difference(both, first) > 1e-4, "preference learnt nothing"

    ids = torch.arange(9)[None] + 10
    with torch.no_grad():
        trained = load(preference, precision="float32")[0](ids).logits
        served = AutoModelForCausalLM.from_pretrained(export)(ids).logits
    torch.testing.assert_close(served, trained, atol=1e-5, rtol=0)
    tokenizer = AutoTokenizer.from_pretrained(export)
    assert tokenizer.chat_template == (base / "chat_template.jinja").read_text()
    ends = json.loads((export / "generation_config.json").read_text())["eos_token_id"]
    assert set(ends) == {tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<|end|>")}
    assert [entry["stage"] for entry in read_manifest(export).passport] == ["base", "sft", "preference"]


def test_a_stop_token_of_the_template_is_named_in_the_export(world: World) -> None:
    world.attempt(world.plan({"cpt": {}}), "cpt")
    settings = next(world.run.glob("base-*")) / "generation_config.json"
    size = settings.stat().st_size
    written = json.loads(settings.read_text())
    settings.write_text(
        json.dumps(written | {"eos_token_id": 1}).ljust(size)
    )  # of the size that the manifest says
    export = world.train_all({"export": {"kind": "export", "from": "base"}})
    tokenizer = AutoTokenizer.from_pretrained(export)
    ends = json.loads((export / "generation_config.json").read_text())["eos_token_id"]
    assert ends == [tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<|end|>")] == [1, ends[1]]


@pytest.mark.parametrize("after", [{"kind": "export"}, {"kind": "merge", "method": "adapter"}])
def test_a_learnt_prompt_is_never_merged(world: World, after: dict[str, Any]) -> None:
    from residency.recipes.check import check

    plan = world.plan({"sft": {"prompt_tuning": {"tokens": 4}}, "after": after | {"from": "sft"}})
    with pytest.raises(
        ResidencyError, match=r"stages\.after: sft leaves a learnt prompt; .* cannot be merged"
    ):
        check(plan)
