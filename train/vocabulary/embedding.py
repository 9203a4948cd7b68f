"""New rows of the embedding and of the output layer, from rows that the model has."""

from __future__ import annotations

from typing import Any

ROWS_TOGETHER = 64  # tensor cores like multiples of it; transformers' own advice for `pad_to_multiple_of`


def rows_for(old: int, needed: int) -> int:
    """Rows of the embedding: no fewer than before, and a multiple of 64 if they were one."""
    rows = max(old, needed)
    return -(-rows // ROWS_TOGETHER) * ROWS_TOGETHER if old % ROWS_TOGETHER == 0 else rows


def grow(model: Any, first: int, sources: list[list[list[int]]]) -> int:
    """Write new rows; returns how many of them the model had to spare.

    Args:
        model: a transformers causal language model with whole weights, in this process.
        first: id of the first new token.
        sources: for each new token the texts that it stands for, as ids: its row is the mean over the texts of the mean
            over their ids' rows, in the embedding and in the output layer.

    Rows that pad the table are the mean of all, so that no such token is likely.
    """
    import torch

    old: int = model.get_input_embeddings().weight.shape[0]
    last = first + len(sources)
    assert first <= old, (first, old)
    model.resize_token_embeddings(rows_for(old, last), mean_resizing=False)
    with torch.no_grad():
        for table in _tables(model):
            means: dict[int, Any] = {}  # all words of a type stand for the same texts
            for texts in sources:
                if id(texts) not in means:
                    means[id(texts)] = sum(table[ids].float().mean(0) for ids in texts) / len(texts)
            table[max(last, old) :] = table[:first].mean(0, dtype=torch.float32).to(table.dtype)
            for place, texts in enumerate(sources):
                table[first + place] = means[id(texts)].to(table.dtype)
    return min(len(sources), old - first)


def _tables(model: Any) -> list[Any]:
    """What has a row per token: the embedding and, where it is untied, the output layer with its bias; once each."""
    output = model.get_output_embeddings()
    tables = [model.get_input_embeddings().weight, output.weight, getattr(output, "bias", None)]
    return list({table.data_ptr(): table for table in tables if table is not None}.values())
