"""A learnt prompt stands before every document, in packed rows as in evaluation; peft alone is the reference."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel, PromptTuningConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from residency.data.mixture.shards import PackedRows, ShardWriter
from residency.eval.items import Piece
from residency.eval.likelihood.score import log_likelihoods
from residency.model import load_weights, virtual_prompt, with_adapter, without_prompt
from residency.train.adapters.attach import continued, with_prompt
from residency.train.packed import collate, with_loss_only
from residency.train.settings import PromptTuningSettings

TOKENS = 3
DOCUMENTS = [[1, 5, 9, 4], [1, 7, 2], [1, 3, 8, 8, 6]]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=12,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=64,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).save_pretrained(tmp_path / "base")
    return tmp_path / "base"


@pytest.fixture
def adapter(base: Path) -> Path:
    """As peft saves it."""
    config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=TOKENS)
    get_peft_model(load_weights(base), config).save_pretrained(base.with_name("adapter"))
    return base.with_name("adapter")


@pytest.fixture
def theirs(base: Path, adapter: Path) -> Any:
    return PeftModel.from_pretrained(load_weights(base), str(adapter)).eval()


@pytest.fixture
def rows(tmp_path: Path) -> PackedRows:
    """Two rows of 16 tokens, of two documents and of one, with room for the prompt."""
    writer = ShardWriter(tmp_path / "shards", 12)
    writer.append(
        [np.array(ids) for ids in DOCUMENTS], [np.ones(len(ids), dtype=np.uint8) for ids in DOCUMENTS]
    )
    ends = np.cumsum([len(ids) for ids in DOCUMENTS])
    segments = np.stack([np.concatenate([[0], ends[:-1]]), ends], axis=1)
    writer.finish(
        segments, np.array([0, 2, 3]), np.array([0, 2]), max_length=16, pad=0, virtual_tokens=TOKENS
    )
    return PackedRows(tmp_path / "shards")


def losses(model: Any) -> Iterator[torch.Tensor]:
    """Of each document alone, summed over its tokens."""
    for ids in DOCUMENTS:
        logits = model(torch.tensor([ids])).logits[0, TOKENS:-1]
        yield torch.nn.functional.cross_entropy(logits, torch.tensor(ids[1:]), reduction="sum")


def test_rows_hold_the_prompt_before_every_document(rows: PackedRows) -> None:
    row = rows[0]
    assert row["input_ids"][:14].tolist() == [-1, -2, -3, 1, 5, 9, 4, -1, -2, -3, 1, 7, 2, 0]
    assert row["labels"].tolist() == [*[-100] * 4, 5, 9, 4, *[-100] * 4, 7, 2, *[-100] * 3]
    assert row["position_ids"][:13].tolist() == [0, 1, 2, 3, 4, 5, 6, 0, 1, 2, 3, 4, 5]
    assert rows.tokens == 12, "virtual tokens are none of the corpus"


def test_the_loss_of_packed_rows_is_that_of_each_document(
    base: Path, adapter: Path, theirs: Any, rows: PackedRows
) -> None:
    ours = continued(load_weights(base), adapter)
    batch = with_loss_only(collate([rows[0], rows[1]]))
    loss = ours(**batch, num_items_in_batch=9).loss
    torch.testing.assert_close(loss, sum(losses(theirs)) / 9)
    loss.backward()
    learnt = [name for name, weight in ours.named_parameters() if weight.grad is not None]
    assert learnt == ["prompt_encoder.default.embedding.weight"]


def test_evaluation_reads_the_prompt(base: Path, adapter: Path, theirs: Any) -> None:
    plain = load_weights(base).eval()
    ours = with_adapter(load_weights(base), adapter).eval()
    assert virtual_prompt(ours) == [-1, -2, -3] and virtual_prompt(plain) == []
    found = log_likelihoods(ours, [[Piece(ids, 1)] for ids in DOCUMENTS])
    with torch.no_grad():
        wanted = [-loss.item() for loss in losses(theirs)]
    assert [scored.nats for [scored] in found] == pytest.approx(wanted, abs=1e-5)
    assert [
        s.nats for [s] in log_likelihoods(plain, [[Piece(ids, 1)] for ids in DOCUMENTS])
    ] != pytest.approx(wanted)
    again = with_adapter(ours, adapter)
    assert virtual_prompt(again) == [-1, -2, -3] and virtual_prompt(without_prompt(again)) == []


def test_what_is_written_is_what_peft_writes(base: Path, adapter: Path, theirs: Any) -> None:
    ours = with_adapter(load_weights(base), adapter).eval()
    asked = torch.tensor([virtual_prompt(ours) + DOCUMENTS[0]])
    how: dict[str, Any] = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 0}
    written = ours.generate(input_ids=asked, attention_mask=torch.ones_like(asked), **how)
    ids = torch.tensor([DOCUMENTS[0]])
    wanted = theirs.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **how)
    assert written[0, asked.shape[1] :].tolist() == wanted[0, ids.shape[1] :].tolist()


def test_a_prompt_is_saved_as_peft_reads_it(base: Path) -> None:
    model = with_prompt(load_weights(base), PromptTuningSettings(tokens=2), seed=3, tokenizer=base)
    model.save_pretrained(str(base.with_name("saved")))
    loaded = PeftModel.from_pretrained(load_weights(base), str(base.with_name("saved")))
    first, second = (each.prompt_encoder["default"].embedding.weight for each in (model, loaded))
    torch.testing.assert_close(first, second)
