"""What the collator does for speed changes neither loss nor gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from residency.data.mixture.shards import IGNORED
from residency.train.packed import collate, flattened, with_loss_only

LENGTH, VOCABULARY = 32, 100
Batch = dict[str, Any]


def row(random: np.random.Generator, lengths: list[int], share: float) -> dict[str, Any]:
    """A packed row of documents of these lengths, of whose tokens a share carries loss."""
    ids = random.integers(0, VOCABULARY, LENGTH)
    positions = np.concatenate([np.arange(length) for length in lengths])
    loss = (random.random(LENGTH) < share) & (positions > 0)
    return {"input_ids": ids, "labels": np.where(loss, ids, IGNORED), "position_ids": positions}


def step(batch: Batch, tokens: int) -> tuple[float, list[torch.Tensor]]:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=LENGTH,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    loss = model(**batch, num_items_in_batch=torch.tensor(tokens)).loss
    loss.backward()
    return loss.item(), [parameter.grad for parameter in model.parameters() if parameter.grad is not None]


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("shape", [with_loss_only, lambda batch: with_loss_only(flattened(batch))])
def test_loss_and_gradient_are_those_of_the_whole_rows(shape: Callable[[Batch], Batch], share: float) -> None:
    random = np.random.default_rng(0)
    rows = [row(random, [7, 9, 16], share), row(random, [30, 2], share / 2), row(random, [LENGTH], 0.0)]
    whole = collate(rows)
    less = shape(whole)
    tokens = int((whole["labels"] != IGNORED).sum())
    assert (less["shift_labels"] != IGNORED).sum() == tokens
    loss, gradients = step(whole, max(1, tokens))
    same, others = step(less, max(1, tokens))
    assert same == pytest.approx(loss, abs=1e-5)
    assert len(gradients) == len(others)
    for one, other in zip(gradients, others, strict=True):
        torch.testing.assert_close(other, one, rtol=0, atol=1e-6)


def test_flattened_rows_know_their_documents() -> None:
    random = np.random.default_rng(0)
    batch = flattened(collate([row(random, [7, 25], 1.0), row(random, [LENGTH], 1.0)]))
    assert batch["input_ids"].shape == (1, 2 * LENGTH)
    assert batch["cu_seq_lens_q"].tolist() == [0, 7, LENGTH, 2 * LENGTH]
    assert batch["max_length_q"] == LENGTH
