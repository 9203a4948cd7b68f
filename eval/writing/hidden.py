"""Hidden states of a middle layer as embeddings of texts: what the model under evaluation itself finds alike.

The middle layer, since the last ones are about the next token (INSIDE, arXiv:2402.03744, takes it for the same reason).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from residency.model import virtual_prompt

TOKENS_PER_BATCH = {"cpu": 2048, "cuda": 8192}  # the states of all layers are held at once
Pool = Literal["mean", "last"]


@torch.inference_mode()
def middle_states(model: Any, texts: Sequence[Sequence[int]], pool: Pool) -> NDArray[np.float64]:
    """One embedding for each sequence of token ids, [n, width]: the mean over its tokens, or its last token's state."""
    assert texts and all(len(ids) for ids in texts)
    if pool == "last":
        texts = [[*virtual_prompt(model), *ids] for ids in texts]
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    decoder = base.base_model  # without the output layer; adapters are inside
    layer = model.config.get_text_config().num_hidden_layers // 2
    found: list[NDArray[np.float64] | None] = [None] * len(texts)
    for batch in _batches(texts, model.device.type):
        longest = len(texts[batch[0]])
        ids = torch.tensor([[*texts[at], *[0] * (longest - len(texts[at]))] for at in batch])
        lengths = torch.tensor([len(texts[at]) for at in batch])
        mask = torch.arange(longest)[None] < lengths[:, None]
        states = decoder(
            input_ids=ids.to(model.device),
            attention_mask=mask.long().to(model.device),
            output_hidden_states=True,
            use_cache=False,
        ).hidden_states[layer]
        states = states.float().cpu()  # [batch, longest, width]
        if pool == "last":
            pooled = states[torch.arange(len(batch)), lengths - 1]
        else:
            pooled = (states * mask[..., None]).sum(1) / lengths[:, None]
        for at, vector in zip(batch, pooled.double().numpy(), strict=True):
            found[at] = vector
    return np.stack([vector for vector in found if vector is not None])


def _batches(texts: Sequence[Sequence[int]], device: str) -> Iterator[list[int]]:
    budget = TOKENS_PER_BATCH.get(device, TOKENS_PER_BATCH["cpu"])
    batch: list[int] = []
    for at in sorted(range(len(texts)), key=lambda at: len(texts[at]), reverse=True):
        if batch and (len(batch) + 1) * len(texts[batch[0]]) > budget:
            yield batch
            batch = []
        batch.append(at)
    if batch:
        yield batch
