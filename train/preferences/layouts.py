"""How the replies of a forward pass are laid out in rows: padded, packed, or behind one copy of their prompt.

The numbers are the same; what differs is how many tokens are computed. `padded` is the plain way and the reference in
tests: one row a reply, filled up behind. `packed` puts several replies, each with its prompt, into a row: position ids
restart, no attention mask is given, and transformers keeps them apart. `shared` puts all replies to a prompt behind one
copy of it; a four-dimensional mask lets a reply see its prompt and itself, and its positions count on from the prompt
(the idea of arXiv 2410.20305).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from residency.data.mixture.balance import attention_weight
from residency.data.mixture.packing import best_fit
from residency.errors import ResidencyError

Layout = Literal["padded", "packed", "shared"]
Ints = NDArray[np.int64]
PADDING = 0
"""Token that fills rows up; nothing sees it and it carries no loss."""


@dataclass(frozen=True)
class Item:
    """A prompt and the replies to it, as token ids; neither is empty."""

    prompt: Ints
    replies: Sequence[Ints]
    prompt_scored_from: int | None = None
    """The prompt's own tokens carry loss too, from this one on (ORPO); nothing predicts the first."""


@dataclass(frozen=True)
class _Part:
    """A stretch of tokens inside a block: where it starts there, its first position, and what it stands for."""

    ids: Ints
    position: int
    owner: int
    """Place of its sum in the result; -1 where its tokens carry no loss."""
    scored_from: int = 0


Block = list[_Part]
"""A prompt with one or all of its replies, which stay together in a row."""


def laid_out(
    layout: Layout, items: Sequence[Item], *, flat: bool = False, bias: bool = False
) -> dict[str, Any]:
    """Inputs of a forward pass, on the CPU.

    Args:
        items: each with the same number of replies.
        flat: for flash attention, which keeps documents apart in one row only (`packed`).
        bias: for eager attention, which wants numbers to be added instead of a truth (`shared`).

    Returns:
        `input_ids`, `position_ids`, perhaps `attention_mask`; for the `head` where the scored tokens are predicted
        (`rows`, `columns`) and what they are (`targets`); `owners`, the place of each one's sum: reply j of
        item i has i * replies + j, the prompt of item i comes behind all replies; and the number of these `sums`.
    """
    blocks = [
        block for number, item in enumerate(items) for block in _blocks(layout, number, item, len(items))
    ]
    sizes = np.array([sum(len(part.ids) for part in block) for block in blocks], dtype=np.int64)
    row_of = _rows(layout, sizes, flat)
    width, rows = int(np.bincount(row_of, weights=sizes).max()), int(row_of.max()) + 1
    made = _Rows(rows, width)
    for number, row in enumerate(row_of):
        made.add(int(row), blocks[number], number)
    scored = any(item.prompt_scored_from is not None for item in items)
    return made.inputs(layout, flat=flat, bias=bias) | {"sums": len(items) * (len(items[0].replies) + scored)}


def _blocks(layout: Layout, number: int, item: Item, items: int) -> list[Block]:
    asked, said = len(item.prompt), len(item.replies)
    replies = [_Part(ids, asked, number * said + place) for place, ids in enumerate(item.replies)]
    plain = scored = _Part(item.prompt, 0, -1)
    if item.prompt_scored_from is not None:
        scored = _Part(item.prompt, 0, items * said + number, max(1, item.prompt_scored_from))
    if layout == "shared":
        return [[scored, *replies]]
    return [[plain if place else scored, reply] for place, reply in enumerate(replies)]  # scored once


def _rows(layout: Layout, sizes: Ints, flat: bool) -> Ints:
    if layout == "padded":
        return np.arange(len(sizes))
    if flat:
        return np.zeros(len(sizes), dtype=np.int64)
    return best_fit(sizes, int(sizes.max()), np.random.default_rng(0))


class _Rows:
    """Rows while they are filled. Tokens of one block and the same branch, or of its prompt, see each other."""

    def __init__(self, rows: int, width: int) -> None:
        self.ids = np.full((rows, width), PADDING, dtype=np.int64)
        self.positions = np.tile(np.arange(width), (rows, 1))
        self.block = np.full((rows, width), -1)
        self.branch = np.zeros((rows, width), dtype=np.int64)
        """0 in a prompt, from 1 on in the replies."""
        self.used = np.zeros(rows, dtype=np.int64)
        self.scored: list[tuple[Ints, Ints, Ints, Ints]] = []

    def add(self, row: int, block: Block, number: int) -> None:
        first = int(self.used[row])
        before = first + len(block[0].ids) - 1  # the prompt's last token predicts the first of each reply
        for branch, part in enumerate(block):
            start = int(self.used[row])
            end = start + len(part.ids)
            self.ids[row, start:end] = part.ids
            self.positions[row, start:end] = np.arange(part.position, part.position + len(part.ids))
            self.block[row, start:end], self.branch[row, start:end] = number, branch
            if part.owner >= 0:
                columns = np.arange(start - 1, end - 1)[part.scored_from :]
                if branch:
                    columns[0] = before
                same = np.ones_like(columns)
                self.scored.append((row * same, columns, part.ids[part.scored_from :], part.owner * same))
            self.used[row] = end

    def inputs(self, layout: Layout, *, flat: bool, bias: bool) -> dict[str, Any]:
        rows, columns, targets, owners = (np.concatenate(parts) for parts in zip(*self.scored, strict=True))
        width = self.ids.shape[1]
        for row, used in enumerate(self.used):  # what fills a row up is a document of its own
            self.positions[row, used:] = np.arange(width - used)
        arrays = {"input_ids": self.ids, "position_ids": self.positions, "rows": rows}
        arrays |= {"columns": columns, "targets": targets, "owners": owners}
        made: dict[str, Any] = {key: torch.from_numpy(array) for key, array in arrays.items()}
        if layout == "padded":
            del made["position_ids"]
            made["attention_mask"] = torch.from_numpy((self.block >= 0).astype(np.int64))
        if layout == "shared":
            made["attention_mask"] = self._mask(bias)
        return made | (_bounds(self.positions[0]) if flat else {})

    def _mask(self, bias: bool) -> torch.Tensor:
        """`[rows, 1, width, width]`: what each token (third) sees (fourth)."""
        block, branch = torch.from_numpy(self.block)[:, None], torch.from_numpy(self.branch)[:, None]
        width = block.shape[-1]
        seen = (block[..., :, None] == block[..., None, :]) & torch.ones(width, width).tril().bool()
        seen &= (branch[..., None, :] == 0) | (branch[..., :, None] == branch[..., None, :])
        if not bias:
            return seen
        return torch.zeros(seen.shape).masked_fill_(~seen, torch.finfo(torch.bfloat16).min)


def _bounds(positions: Ints) -> dict[str, Any]:
    """What flash attention asks for of documents in one row."""
    starts = [*np.flatnonzero(positions == 0), len(positions)]
    bounds = torch.tensor(starts, dtype=torch.int32)
    longest = int(bounds.diff().max())
    return {
        "cu_seq_lens_q": bounds, "cu_seq_lens_k": bounds, "max_length_q": longest, "max_length_k": longest,
    }  # fmt: skip


def cells(layout: Layout, items: Sequence[Item], attention: float) -> float:
    """Cost of a forward pass in tokens: those of all rows, padding too, and their attention.

    Args:
        attention: cost of a pair of tokens that see each other, see `residency.data.mixture.balance.attention_weight`.
    """
    asked = [len(item.prompt) for item in items]
    said = [[len(reply) for reply in item.replies] for item in items]
    if layout == "shared":
        sizes = np.array([prompt + sum(replies) for prompt, replies in zip(asked, said, strict=True)])
    else:
        sizes = np.array([p + reply for p, replies in zip(asked, said, strict=True) for reply in replies])
    row_of = _rows(layout, sizes, flat=False)
    width, rows = float(np.bincount(row_of, weights=sizes).max()), int(row_of.max()) + 1
    return rows * width * (1 + attention * width)


def choose(asked: str, model: Any, passes: Sequence[Sequence[Item]]) -> Layout:
    """The layout that a stage asks for; for `auto` the cheapest one that is exact for this model.

    Args:
        passes: the items of some forward passes.

    Raises:
        ResidencyError: one that this model or its attention cannot compute exactly.
    """
    config = model.config.get_text_config()
    impossible = {"padded": "", "packed": _unpackable(config)}
    impossible["shared"] = impossible["packed"] or _unshareable(config, model.config._attn_implementation)
    if asked != "auto":
        if impossible[asked]:
            raise ResidencyError(f"layout = {asked}: {impossible[asked]}", cure="Use layout: auto")
        return asked  # type: ignore[return-value]
    weights = sum(getattr(part, "ds_numel", part.numel()) for part in model.parameters())
    width = config.num_attention_heads * (
        getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    )
    attention = attention_weight(config.num_hidden_layers, width, weights)
    exact: list[Layout] = [name for name in ("padded", "packed", "shared") if not impossible[name]]
    return min(exact, key=lambda name: sum(cells(name, items, attention) for items in passes))


def _unpackable(config: Any) -> str:
    kinds = set(getattr(config, "layer_types", None) or []) - {"full_attention", "sliding_attention"}
    if kinds or not hasattr(config, "num_attention_heads"):
        return f"layers of {config.model_type} carry state from one document to the next"
    return ""


def _unshareable(config: Any, attention: str) -> str:
    if attention not in ("sdpa", "eager"):
        return f"{attention} takes no mask that lets two replies share a prompt"
    windowed = getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True)
    if windowed or "sliding_attention" in (getattr(config, "layer_types", None) or []):
        return f"{config.model_type} attends in windows"
    return ""
