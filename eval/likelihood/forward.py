"""Rows through a model: batches by a budget of tokens, the mask of branches, and the scores of what is read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from residency.eval.likelihood.branches import TreeRow
from residency.eval.likelihood.float32_head import Float32Head
from residency.eval.likelihood.prefixes import prefix_cache

TOKENS_PER_BATCH = {"cpu": 512, "cuda": 32768}  # a CPU is busy with few, and little of them is then padding
KEYS_PER_TOKEN = (
    4  # a batch attends to so many times its budget of tokens, prefix included: its keys must fit
)
LOGITS_PER_BATCH = 2**27  # float32 numbers: 512 MiB


@contextmanager
def masked_attention(model: Any) -> Iterator[None]:
    """Within, the model's attention is one that takes any mask: flash and flex kernels give way to PyTorch's own."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    before = base.config._attn_implementation
    if before in ("eager", "sdpa") or not base._supports_sdpa:
        yield
        return
    capped = getattr(base.config.get_text_config(), "attn_logit_softcapping", None)
    base.set_attn_implementation("eager" if capped else "sdpa")
    try:
        yield
    finally:
        base.set_attn_implementation(before)


class Forward:
    """Scores rows and keeps what it found on the device until `totals`, so that batches follow without a pause."""

    def __init__(self, model: Any, head: Float32Head, max_tokens: int | None = None) -> None:
        self.model, self._head = model, head
        self._tokens = max_tokens or TOKENS_PER_BATCH.get(model.device.type, TOKENS_PER_BATCH["cpu"])
        self._vocabulary = model.config.get_text_config().vocab_size
        self._found: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []

    def score(self, rows: list[TreeRow], prefix: Sequence[int] = ()) -> None:
        """Score the rows of all items behind one prefix."""
        cache = None
        if prefix:
            first = torch.zeros(1, dtype=torch.int64)
            self._head.select(first, first, len(prefix))
            cache = prefix_cache(self.model, prefix)
        for batch in self._batches(rows, len(prefix)):
            self._found.append(self._forward(batch, cache, len(prefix)))

    def totals(self, owners: int) -> tuple[list[float], list[bool]]:
        """Of each piece the sum of log p (nats, summed in float64) and whether all its tokens are the likeliest."""
        found, self._found = self._found, []
        if not found:
            return [0.0] * owners, [True] * owners
        index, logs, hits = (
            torch.cat([each.cpu() for each in column]) for column in zip(*found, strict=True)
        )
        sums = torch.zeros(owners, dtype=torch.float64).index_add_(0, index, logs.double())
        misses = torch.zeros(owners, dtype=torch.int64).index_add_(0, index, (~hits).long())
        return sums.tolist(), (misses == 0).tolist()

    def _batches(self, rows: list[TreeRow], prefix: int) -> Iterator[list[TreeRow]]:
        """Rows of about one length, within the budgets of tokens, keys and logits; a single row is never refused."""
        batch: list[TreeRow] = []
        longest = scored = 0
        for row in sorted(rows, key=lambda row: len(row.ids), reverse=True):
            longest, more = longest or len(row.ids), sum(len(span.targets) for span in row.spans)
            full = (
                (len(batch) + 1) * longest > self._tokens
                or (len(batch) + 1) * (longest + prefix) > self._tokens * KEYS_PER_TOKEN
                or (scored + more) * self._vocabulary > LOGITS_PER_BATCH
            )
            if batch and full:
                yield batch
                batch, longest, scored = [], len(row.ids), 0
            batch.append(row)
            scored += more
        if batch:
            yield batch

    def _forward(
        self, batch: list[TreeRow], cache: Any, prefix: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Owner, log p and whether it is the likeliest, of every scored token, all flat."""
        longest, device = len(batch[0].ids), self.model.device
        places, owners, targets = _scored(batch, longest)
        # Options that are read off one position share its logits.
        distinct, inverse = torch.unique(torch.tensor(places), return_inverse=True)
        self._head.select(distinct // longest, distinct % longest, longest)
        ids = _padded([row.ids for row in batch], longest).to(device)
        inputs: dict[str, Any] = {"input_ids": ids, "use_cache": cache is not None}
        if cache is not None or any(row.branch[-1] for row in batch):
            inputs["position_ids"] = _padded([row.positions for row in batch], longest).to(device)
            inputs["attention_mask"] = _mask(batch, longest, prefix, self.model.dtype, device)
            inputs["past_key_values"] = cache
        logits = self.model(**inputs).logits[0].float()  # [positions, vocabulary]
        inverse, wanted = inverse.to(logits.device), torch.tensor(targets, device=logits.device)
        logs = logits[inverse, wanted] - logits.logsumexp(-1)[inverse]
        return torch.tensor(owners), logs, logits.argmax(-1)[inverse] == wanted


def _scored(batch: list[TreeRow], longest: int) -> tuple[list[int], list[int], list[int]]:
    """Place in the flat batch, owner and id of every scored token."""
    places: list[int] = []
    owners: list[int] = []
    targets: list[int] = []
    for number, row in enumerate(batch):
        for span in row.spans:
            begin = number * longest + span.column
            places += range(begin, begin + len(span.targets))
            owners += [span.owner] * len(span.targets)
            targets += span.targets
    return places, owners, targets


def _padded(rows: list[list[int]], longest: int) -> torch.Tensor:
    return torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows])


def _mask(batch: list[TreeRow], longest: int, prefix: int, dtype: torch.dtype, device: Any) -> torch.Tensor:
    """What is added to attention's scores, [batch or 1, 1, longest, prefix + longest]: 0 or the type's lowest number.

    Every token sees the prefix and, up to itself, the stem and its own branch. Padding counts as stem behind all
    that is read, so it sees something and is seen by nothing.
    """
    seen = torch.ones(longest, longest, dtype=torch.bool, device=device).tril()[None]
    if any(row.branch[-1] for row in batch):
        branch = _padded([row.branch for row in batch], longest).to(device)
        seen = seen & ((branch[:, None, :] == 0) | (branch[:, None, :] == branch[:, :, None]))
    lowest = torch.finfo(dtype).min
    mask = torch.zeros(len(seen), 1, longest, prefix + longest, dtype=dtype, device=device)
    mask[:, 0, :, prefix:].masked_fill_(~seen, lowest)
    return mask
