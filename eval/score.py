"""Log-likelihoods of pieces of text under a causal language model, in batches.

Rows are sorted by length and padded on the right; a causal model's real positions never look at the padding,
so no mask is needed. Logits are made only where something is scored, and in float32 whatever the weights'
type: on bfloat16's coarse grid several per cent of four-way contests tie.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.nn.functional import linear

from residency.errors import Exit, ResidencyError
from residency.eval.items import Piece

SCORER = 1  # raise when a score changes its meaning: it is part of the records' key
TOKENS_PER_BATCH = {"cpu": 2048, "cuda": 32768}  # a CPU is fastest on what its caches hold
LOGITS_PER_BATCH = 2**27  # float32 numbers: 512 MiB
Row = tuple[tuple[int, ...], list[int]]  # input ids, and the pieces (by index) that read them


def float32_head(model: Any) -> None:
    """Make the model's output layer compute in float32."""
    head = model.get_output_embeddings()
    if head.weight.dtype == torch.float32:
        return
    weight = head.weight.detach().float()
    bias = None if head.bias is None else head.bias.detach().float()
    head.forward = lambda hidden: linear(hidden.float(), weight, bias)


@torch.inference_mode()
def log_likelihoods(model: Any, pieces: list[Piece]) -> list[float]:
    """Sum of log p over each piece's scored tokens, in nats, given the tokens before them.

    Raises:
        ResidencyError: the model answers with something that is no number.
    """
    sums = torch.zeros(len(pieces), dtype=torch.float64)
    tokens = TOKENS_PER_BATCH[model.device.type]
    for batch in _batches(pieces, tokens, model.config.get_text_config().vocab_size):
        owners, logs = _score(model, pieces, batch)
        sums.index_add_(0, owners, logs.double().cpu())
    if not bool(sums.isfinite().all()):
        raise ResidencyError(
            "the model's log-likelihoods are not numbers: its weights have diverged",
            cure="Lower the learning rate of the stage that trained it",
            code=Exit.DIVERGED,
        )
    return [float(value) for value in sums]


def _rows(pieces: list[Piece]) -> list[Row]:
    """Distinct inputs, longest first; one-token continuations of one prompt share a row."""
    readers: dict[tuple[int, ...], list[int]] = {}
    for index, piece in enumerate(pieces):
        readers.setdefault(tuple(piece.ids[:-1]), []).append(index)
    return sorted(readers.items(), key=lambda row: len(row[0]), reverse=True)


def _batches(pieces: list[Piece], most_tokens: int, vocabulary: int) -> Iterator[list[Row]]:
    """Rows of about one length, within the budgets of tokens and of logits; a single row is never refused."""
    batch: list[Row] = []
    for row in _rows(pieces):
        longest = len((batch or [row])[0][0])
        first = _first(pieces, [*batch, row])
        tokens, logits = longest * (len(batch) + 1), (longest - first) * (len(batch) + 1) * vocabulary
        if batch and (tokens > most_tokens or logits > LOGITS_PER_BATCH):
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def _first(pieces: list[Piece], batch: list[Row]) -> int:
    """First position whose logits are needed by any row."""
    return min(pieces[index].start - 1 for _, readers in batch for index in readers)


def _score(model: Any, pieces: list[Piece], batch: list[Row]) -> tuple[torch.Tensor, torch.Tensor]:
    """Owner (index of the piece) and log p of every scored token of a batch, both flat."""
    longest, first = len(batch[0][0]), _first(pieces, batch)
    ids = torch.tensor([[*row, *[0] * (longest - len(row))] for row, _ in batch], device=model.device)
    kept = torch.arange(first, longest, device=model.device)
    logits = model(
        input_ids=ids, use_cache=False, logits_to_keep=kept
    ).logits.float()  # [rows, kept, vocabulary]
    places = [
        (index, row, position - 1 - first, pieces[index].ids[position])
        for row, (_, readers) in enumerate(batch)
        for index in readers
        for position in range(pieces[index].start, len(pieces[index].ids))
    ]
    owners, rows, columns, targets = torch.tensor(places).unbind(1)
    rows, columns, targets = (each.to(model.device) for each in (rows, columns, targets))
    return owners, logits[rows, columns, targets] - logits.logsumexp(-1)[rows, columns]
