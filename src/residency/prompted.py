"""Embeddings that also know the virtual tokens of a learnt prompt, under negative ids."""

from __future__ import annotations

from typing import Any

import torch


def embed(ids: torch.Tensor, words: Any, prompt: Any) -> torch.Tensor:
    """Embeddings `[..., width]` of ids `[...]`, of which the negative ones are virtual tokens.

    Args:
        words: module that embeds the tokenizer's ids.
        prompt: module that embeds the virtual tokens, counted from 0; -1 is the first.
    """
    said: torch.Tensor = words(ids.clamp(min=0))
    learnt = prompt((-1 - ids).clamp(min=0)).to(said.dtype)
    return torch.where((ids < 0).unsqueeze(-1), learnt, said)


class PromptedEmbedding(torch.nn.Module):
    """Word embeddings with the prompt `learnt` `[tokens, width]` beside them, to ask the model."""

    def __init__(self, words: Any, learnt: torch.Tensor) -> None:
        super().__init__()
        tokens, width = learnt.shape
        self.words = words
        self.prompt = torch.nn.Embedding(tokens, width, _weight=learnt).requires_grad_(False)

    @property
    def weight(self) -> torch.Tensor:
        """Of the words, `[vocabulary, width]`."""
        weight: torch.Tensor = self.words.weight
        return weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """`[..., width]` of ids `[...]`."""
        return embed(ids, self.words, self.prompt)
