"""From what a model reads to token ids, and which of them are scored.

A multiple-choice option, a preferred reply and a window of running text are all a `Piece`: ids, and the place
from which their log-likelihood counts. So one scorer serves every task. No torch here.

How the boundary is found: prompt and continuation are encoded as one string, and what follows the prefix
shared with the prompt's own encoding is scored. No merge across it is lost and no continuation is empty.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from residency.errors import ResidencyError
from residency.eval.prompt import Asked, Row
from residency.eval.rows import cluster_of
from residency.eval.settings import AskedTask, Task


@dataclass(frozen=True)
class Piece:
    """Token ids of which those from `start` on are scored, given those before; `start` is at least 1."""

    ids: list[int]
    start: int


@dataclass(frozen=True)
class Item:
    """One item of a task, asked in one way and ready to be scored."""

    id: str
    cluster: str
    """Items of one cluster (a fact, a document) are resampled together."""
    pieces: list[Piece]
    """One per option or reply in the order shown, or one per window of a document."""
    sizes: list[int]
    """UTF-8 bytes of each option or reply, or of the whole document."""
    answer: int | None
    """Index of the right option; the chosen reply is 0; None for running text."""
    digest: str
    """First 16 hex digits of the sha256 of all that the model reads."""
    group: str = ""
    """Subject within the task."""
    shown: Sequence[int] = ()
    """Index of the option at each place shown."""
    cut_shots: int = 0
    """Solved examples left out, oldest first, to fit."""
    cut_tokens: int = 0
    """Tokens cut from the left of the prompt to fit, where no solved example was left."""


def fit(
    task: Task, row: Row, tokenizer: Any, max_length: int, shots: int, asked: Callable[[int], Asked]
) -> Item:
    """The item of a row, with as many of its solved examples as fit into `max_length` tokens.

    Args:
        asked: the question with this number of solved examples, the latest ones.

    Raises:
        ResidencyError: an answer alone is longer than `max_length`.
    """
    for kept in range(shots, -1, -1):
        question = asked(kept)
        read = [_parted(question.prompt, text, row.get("ending")) for text in question.continuations]
        known = {before: encode(tokenizer, before) for before in {before for before, _ in read}}
        pieces = [piece(tokenizer, *pair, bos=not question.chat, alone=known[pair[0]]) for pair in read]
        if max(len(each.ids) for each in pieces) <= max_length:
            break
    sizes = [byte_count([after.strip()]) for _, after in read]
    pieces, cut = cut_to_fit(task, row, pieces, max_length)
    return Item(
        id=row["id"],
        cluster=cluster_of(row),
        pieces=pieces,
        sizes=sizes,
        answer=row.get("answer", 0),
        digest=digest_of([question.prompt, *question.continuations]),
        group=str(row.get("group") or ""),
        shown=question.shown or range(len(pieces)),
        cut_shots=shots - kept,
        cut_tokens=cut,
    )


def _parted(prompt: str, continuation: str, ending: str | None) -> tuple[str, str]:
    """What is read and what is scored. Where all options go on with the same ending, only that is scored, given the
    option (partial evaluation, arXiv:1806.02847)."""
    if ending is None:
        return prompt, continuation
    before = prompt + continuation
    return before.lstrip() if not prompt else before, f" {ending.strip()}"


def piece(
    tokenizer: Any, prompt: str, continuation: str, *, bos: bool, alone: list[int] | None = None
) -> Piece:
    """A prompt and what follows it; `bos` puts the tokenizer's BOS in front, if it has one (a chat template writes
    its own). `alone` are the prompt's own ids, where they are known already."""
    start = [tokenizer.bos_token_id] if bos and tokenizer.bos_token_id is not None else []
    alone = start + (encode(tokenizer, prompt) if alone is None else alone)
    joint = start + encode(tokenizer, prompt + continuation)
    shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(alone, joint, strict=False)))
    return Piece(joint, max(1, min(shared, len(joint) - 1)))


def fit_prompt(
    task: AskedTask,
    row: Row,
    tokenizer: Any,
    max_length: int,
    solved: list[Row],
    asked: Callable[[list[Row]], Asked],
) -> Item:
    """The item of a row that is answered in writing: its one piece is the prompt, and nothing of it is scored.

    Room is left for the reply; the oldest solved examples give way first, then the prompt's left end.

    Args:
        solved: examples, oldest first.
        asked: the question behind the examples that are left.

    Raises:
        ResidencyError: the reply alone fills `max_length`.
    """
    room = max_length - task.max_new_tokens
    if room < 2:
        raise ResidencyError(
            f"task {task.name}: max_new_tokens = {task.max_new_tokens} leaves no room for a question in max_length "
            f"{max_length}",
            cure="Lower max_new_tokens, or raise evaluation.max_length where the model's window allows it",
        )
    for cut in range(len(solved) + 1):
        question = asked(solved[cut:])
        ids = prompt_ids(tokenizer, question)
        if len(ids) <= room:
            break
    cut_tokens = max(0, len(ids) - room)
    ids = ids[:1] + ids[1 + cut_tokens :]
    return Item(
        id=row["id"],
        cluster=cluster_of(row),
        pieces=[Piece(ids, len(ids))],
        sizes=[0],
        answer=row.get("answer"),
        digest=digest_of([question.prompt]),
        group=str(row.get("group") or ""),
        shown=question.shown,
        cut_shots=cut,
        cut_tokens=cut_tokens,
    )


def prompt_ids(tokenizer: Any, question: Asked) -> list[int]:
    """Token ids of a question, as `piece` has them; a chat template writes its own BOS."""
    start = [tokenizer.bos_token_id] if not question.chat and tokenizer.bos_token_id is not None else []
    return start + encode(tokenizer, question.prompt)


def cut_to_fit(task: Task, row: Row, pieces: list[Piece], max_length: int) -> tuple[list[Piece], int]:
    """Pieces of at most `max_length` tokens, all cut by as much from the left behind the first token (BOS, where there
    is one), and by how much.

    Raises:
        ResidencyError: what is scored is itself longer.
    """
    cut = max(0, *(len(each.ids) - max_length for each in pieces))
    if cut >= min(each.start for each in pieces):
        raise ResidencyError(
            f"task {task.name}: an answer of item {row['id']!r} alone is longer than max_length {max_length}",
            cure="Raise evaluation.max_length, or take the item out",
        )
    return [Piece(each.ids[:1] + each.ids[1 + cut :], each.start - cut) for each in pieces], cut


def encode(tokenizer: Any, text: str) -> list[int]:
    """Token ids of a text as it is; no warning where a document is longer than the window."""
    return list(tokenizer.encode(text, add_special_tokens=False, verbose=False))


def byte_count(texts: Iterable[str]) -> int:
    return sum(len(text.encode()) for text in texts)


def digest_of(texts: Iterable[str]) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]
