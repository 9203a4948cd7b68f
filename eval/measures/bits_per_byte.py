"""Bits per byte of running text: how well a model compresses it, whatever its tokenizer."""

from __future__ import annotations

from typing import Any

from residency.eval.candidate import Candidate
from residency.eval.items import Item, Piece, byte_count, digest_of, encode
from residency.eval.prompt import Row
from residency.eval.records import Record, make_record
from residency.eval.rows import cluster_of
from residency.eval.settings import BitsPerByteTask


def measure(task: BitsPerByteTask, candidate: Candidate, rows: list[Row]) -> list[Record]:
    """One record per document."""
    items = [document(row, candidate.tokenizer, candidate.max_length) for row in rows]
    return [
        make_record(task, item, main=True, nats=-sum(each.nats for each in scored))
        for item, scored in zip(items, candidate.score(items), strict=True)
    ]


def document(row: Row, tokenizer: Any, max_length: int) -> Item:
    """Windows that overlap by one token, so that every token is predicted exactly once.

    In front stands BOS, or EOS where the tokenizer has no BOS (as in lm-evaluation-harness).
    """
    text: str = row["text"]
    start = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    ids = [start, *encode(tokenizer, text)]
    windows = [ids[at : at + max_length] for at in range(0, len(ids) - 1, max_length - 1)]
    pieces = [Piece(window, 1) for window in windows]
    return Item(row["id"], cluster_of(row), pieces, [byte_count([text])], None, digest_of([text]))
