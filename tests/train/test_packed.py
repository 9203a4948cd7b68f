"""Packed documents do not see each other: their logits are those of the documents read one by one."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from residency.data.mixture.shards import IGNORED
from residency.train.packed import Rows, collate

if TYPE_CHECKING:
    from tests.train.conftest import World

BATCH_SIZE = 7
SHAPE = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "vocab_size": 400,
    "max_position_embeddings": 128,
}


@pytest.fixture(scope="module")
def rows(made: World) -> Rows:
    plan = made.plan({"cpt": {}})
    return Rows(plan.stages["cpt-tokens"].artifact, BATCH_SIZE)


def model(family: str, attention: str) -> Any:
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **SHAPE)
    return AutoModelForCausalLM.from_config(config, attn_implementation=attention, dtype=torch.float32).eval()


@torch.no_grad()
def largest_difference(model: Any, batch: dict[str, Any]) -> float:
    """Largest difference between the logits of packed rows and those of their documents alone."""
    inputs = {key: value for key, value in batch.items() if key != "labels"}
    packed = model(**inputs).logits
    differences: list[float] = []
    for row, positions in enumerate(batch["position_ids"]):
        starts = [*(positions == 0).nonzero().flatten().tolist(), len(positions)]
        assert len(starts) > 2, "a row with one document shows nothing"
        for start, end in pairwise(starts):
            alone = model(input_ids=batch["input_ids"][row : row + 1, start:end], use_cache=False).logits[0]
            differences.append((packed[row, start:end] - alone).abs().max().item())
    return max(differences)


@pytest.mark.parametrize("attention", ["eager", "sdpa", "flex_attention"])
@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_logits_are_those_of_separate_documents(rows: Rows, family: str, attention: str) -> None:
    batch = collate([rows[index] for index in range(4)])
    assert "attention_mask" not in batch
    assert batch["use_cache"] is False
    assert largest_difference(model(family, attention), batch) <= 1e-5


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_with_a_cache_documents_would_leak(rows: Rows, attention: str) -> None:
    batch = collate([rows[index] for index in range(4)]) | {"use_cache": True}
    assert largest_difference(model("llama", attention), batch) > 1e-3


def test_rows_behind_the_last_one_are_empty(rows: Rows) -> None:
    assert len(rows) % BATCH_SIZE == 0
    assert len(rows) > len(rows.rows)
    assert (rows[len(rows) - 1]["labels"] == IGNORED).all()
