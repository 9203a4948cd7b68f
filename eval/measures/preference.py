"""Preference pairs: right where the chosen reply is strictly likelier than the rejected one, stop token included."""

from __future__ import annotations

from typing import Any

from residency.errors import ResidencyError
from residency.eval.candidate import Candidate
from residency.eval.items import Item, byte_count, cut_to_fit, digest_of, piece
from residency.eval.prompt import Row, in_chat
from residency.eval.records import Record, make_record
from residency.eval.rows import cluster_of
from residency.eval.settings import PreferenceTask


def measure(task: PreferenceTask, candidate: Candidate, rows: list[Row]) -> list[Record]:
    """One record per pair."""
    items = [pair(task, row, candidate.tokenizer, candidate.max_length) for row in rows]
    records = []
    for item, scored in zip(items, candidate.score(items), strict=True):
        chosen, rejected = (each.nats for each in scored)
        records.append(
            make_record(
                task,
                item,
                main=True,
                scores=[chosen, rejected],
                sums=[chosen, rejected],
                prediction=int(chosen < rejected),
                answer=0,
                margin=chosen - rejected,
                correct=float(chosen > rejected),
            )
        )
    return records


def pair(task: PreferenceTask, row: Row, tokenizer: Any, max_length: int) -> Item:
    """The chosen and the rejected reply with the stop token that the template writes.

    Raises:
        ResidencyError: a template that rewrites the prompt, or a reply longer than `max_length`.
    """
    prompt = in_chat(task, tokenizer, row["prompt"], reply=True)
    replies = []
    for side in ("chosen", "rejected"):
        whole = in_chat(task, tokenizer, row["prompt"] + row[side], reply=False)
        if not whole.startswith(prompt):
            raise ResidencyError(
                f"task {task.name}: the chat template rewrites the prompt of {row['id']!r} before a reply",
                cure="Use a template whose generation prompt is a prefix of the whole conversation",
            )
        replies.append(whole.removeprefix(prompt))
    pieces, cut = cut_to_fit(
        task, row, [piece(tokenizer, prompt, reply, bos=False) for reply in replies], max_length
    )
    sizes = [byte_count(message["content"] for message in row[side]) for side in ("chosen", "rejected")]
    return Item(row["id"], cluster_of(row), pieces, sizes, 0, digest_of([prompt, *replies]), cut_tokens=cut)
