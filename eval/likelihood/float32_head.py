"""The output layer of a model on a few rows only, in float32.

Logits are wanted at the scored positions, a handful in a row of hundreds, and in float32 whatever the weights' type: on
bfloat16's grid, 0.125 wide at logits of 16 to 32, several per cent of four-way contests tie. So the layer is given the
hidden states of those positions and nothing else, while the model's own forward goes on around it: scaling and
soft-capping of logits stay exact, and no [batch, length, vocabulary] tensor ever exists.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


class Float32Head:
    """Which positions the output layer answers for."""

    def __init__(self) -> None:
        self._places: tuple[torch.Tensor, torch.Tensor, int] | None = None

    def select(self, rows: torch.Tensor, columns: torch.Tensor, length: int) -> None:
        """Choose positions of the next forward; `length` is the number of tokens in each of its rows."""
        self._places = rows, columns, length

    def _gather(self, module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor]:
        """Hidden states [batch, length, width] to [1, positions, width]."""
        assert self._places is not None, "positions are selected before a forward"
        hidden, (rows, columns, length) = inputs[0], self._places
        virtual = hidden.shape[1] - length  # tokens that prompt tuning puts in front
        chosen = hidden[rows.to(hidden.device), columns.to(hidden.device) + virtual]
        return (chosen.float().unsqueeze(0),)


@contextmanager
def float32_head(model: Any) -> Iterator[Float32Head]:
    """Within, the model's logits are those of the chosen positions, [1, positions, vocabulary], from float32 weights.

    The float32 copy ends with the context, so that it is never older than the weights. Adapters on the layer and a
    bias take part; an embedding tied to it keeps its type, since only the layer's own references are changed.
    """
    layer, head = model.get_output_embeddings(), Float32Head()
    assert isinstance(layer, nn.Module), "a causal language model has an output layer"
    coarse = [
        (part, name, weight)
        for part in layer.modules()
        for name, weight in part.named_parameters(recurse=False)
        if weight.is_floating_point() and weight.dtype != torch.float32
    ]
    hook = layer.register_forward_pre_hook(head._gather)
    try:
        for part, name, weight in coarse:
            setattr(part, name, nn.Parameter(weight.detach().float(), requires_grad=False))
        yield head
    finally:
        hook.remove()
        for part, name, weight in coarse:
            setattr(part, name, weight)
