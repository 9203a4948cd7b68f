"""The head of a reward model: one number at any token, instead of the probabilities of the next.

transformers' models for sequence classification score the last token that is not padding, which is the wrong one
where padding and stop token are the same. Here the tokens are named: the last of each reply, or of each step.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import MethodType
from typing import Any

import torch
from transformers.modeling_outputs import SequenceClassifierOutput


def score_at(model: Any) -> Any:
    """Let the forward pass of a model for sequence classification (adapters or not) score named tokens.

    It then takes `input_ids` `[rows, tokens]`, padded on the right with anything, and the tokens to score as `rows`
    and `ends`, both `[scores]`; `logits` are `[scores]`, float32. Without an attention mask: attention is causal, so
    no token before the padding sees it.
    """
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    inner.forward = MethodType(_forward, inner)
    return model


def _forward(
    self: Any, input_ids: torch.Tensor, rows: torch.Tensor, ends: torch.Tensor, **_: Any
) -> SequenceClassifierOutput:
    hidden = self.base_model(input_ids=input_ids, use_cache=False).last_hidden_state
    named = hidden[rows, ends].to(next(self.score.parameters()).dtype)
    return SequenceClassifierOutput(logits=self.score(named).squeeze(-1).float())


def padded(rows: Sequence[tuple[list[int], list[int]]], device: Any = None) -> dict[str, torch.Tensor]:
    """Rows of ids, and the places of the tokens to score in each, as the forward pass takes them."""
    ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(ids) for ids, _ in rows], batch_first=True)
    numbers = [number for number, (_, ends) in enumerate(rows) for _ in ends]
    places = [end for _, ends in rows for end in ends]
    return {
        "input_ids": ids.to(device),
        "rows": torch.tensor(numbers).to(device),
        "ends": torch.tensor(places).to(device),
    }


def start_head(model: Any, seed: int) -> None:
    """Draw the head's weights from N(0, 1 / (width + 1)) (arXiv 2009.01325, appendix), the same on every rank.

    Call it before adapters are added. With ZeRO-3 the weights lie in shards.
    """
    import deepspeed

    weight = model.score.weight
    shape = getattr(weight, "ds_shape", weight.shape)
    drawn = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) / (shape[-1] + 1) ** 0.5
    whole = deepspeed.zero.GatheredParameters([weight], modifier_rank=0, enabled=hasattr(weight, "ds_id"))
    with torch.no_grad(), whole:
        if weight.numel():
            weight.copy_(drawn)
