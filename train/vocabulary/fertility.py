"""What a vocabulary is worth: tokens per term and per word, and bits per byte under a model."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from residency.train.vocabulary.terms import Terms

Encode = Callable[[list[str]], list[list[int]]]
MOST_CONTEXT = 1024  # tokens that are read at once


def of_text(encode: Encode, texts: list[str]) -> dict[str, float]:
    """Tokens per word (what white space separates) of running text."""
    words = sum(len(text.split()) for text in texts)
    return {"tokens_per_word": sum(map(len, encode(texts))) / max(words, 1)}


def of_terms(encode: Encode, terms: Terms) -> dict[str, float]:
    """Tokens per term as it stands within a text, behind a space, and the share of terms that are one token."""
    lengths = [len(ids) for ids in encode([f" {term}" for term in terms.types])]
    return {
        "tokens_per_term": sum(lengths) / len(lengths),
        "terms_of_one_token": sum(length == 1 for length in lengths) / len(lengths),
    }


def bits_per_byte(model: Any, encode: Encode, begin: int | None, texts: list[str]) -> float:
    """Bits that the model needs for a byte of UTF-8; every token counts, so vocabularies can be compared.

    Args:
        model: a transformers causal language model.
        begin: id that each stretch of a text starts with, BOS.
    """
    import torch
    from torch.nn.functional import cross_entropy

    longest = min(
        getattr(model.config.get_text_config(), "max_position_embeddings", MOST_CONTEXT), MOST_CONTEXT
    )
    head = [] if begin is None else [begin]
    nats = 0.0
    model.eval()
    with torch.inference_mode():
        for ids in encode(texts):
            for start in range(0, len(ids), longest - len(head)):
                window = [*head, *ids[start : start + longest - len(head)]]
                given = torch.tensor([window], device=model.device)
                logits = model(input_ids=given, use_cache=False).logits[0, :-1].float()
                nats += float(cross_entropy(logits, given[0, 1:], reduction="sum"))
    return nats / math.log(2) / sum(len(text.encode()) for text in texts)
