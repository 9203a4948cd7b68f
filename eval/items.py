"""From a task's rows to what a model reads: token ids, and which of them are scored.

A multiple-choice option, a preferred reply and a window of running text are all a `Piece`: ids, and the place
from which their log-likelihood counts. So one scorer serves every task. No torch here.

How the boundary is found: prompt and continuation are encoded as one string, and what follows the prefix
shared with the prompt's own encoding is scored. No merge across it is lost and no continuation is empty.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, takewhile
from pathlib import Path
from string import ascii_uppercase
from typing import Any, Literal

from residency.data.corpus import rows
from residency.errors import ResidencyError
from residency.eval.settings import TaskSettings

FIELDS = {"choice": "options", "bits-per-byte": "text", "preference": "chosen"}
Message = dict[str, str]


@dataclass(frozen=True)
class Piece:
    """Token ids of which those from `start` on are scored, given those before; `start` is at least 1."""

    ids: list[int]
    start: int


@dataclass(frozen=True)
class Item:
    """One item of a task, ready to be scored."""

    id: str
    cluster: str
    """Items of one cluster (a fact, a document) are resampled together."""
    pieces: list[Piece]
    """One per option or reply, or one per window of a document."""
    sizes: list[int]
    """UTF-8 bytes of each option or reply, or of the whole document."""
    answer: int | None
    """Index of the right option; the chosen reply is 0; None for running text."""
    digest: str
    """First 16 hex digits of the sha256 of all that the model reads."""
    cut_tokens: int
    """Tokens cut from the left of the prompt to fit."""


def read_items(task: TaskSettings, corpus: Path) -> list[dict[str, Any]]:
    """The rows of a task: the corpus's held-out part if it has one, those of the aspect, up to the limit.

    Raises:
        ResidencyError: rows of another kind, an id that occurs twice, or too few rows for an interval.
    """
    part: Literal["held_out", "train"] = "held_out" if (corpus / "held_out.jsonl").exists() else "train"
    found = list(islice((row for row in rows(corpus, part) if _belongs(task, row, corpus)), task.limit))
    for id, times in Counter(row["id"] for row in found).most_common(1):
        if times > 1:
            raise ResidencyError(
                f"task {task.name}: item {id!r} occurs {times} times in {corpus}", cure="Make ids unique"
            )
    clusters = len({cluster_of(row) for row in found})
    if clusters < 2:
        asked = f" of aspect {task.aspect!r}" if task.aspect else ""
        raise ResidencyError(
            f"task {task.name}: {clusters} independent items{asked} in {corpus}; an interval needs 2 or more",
            cure="Raise limit, hold more out, or take another source",
        )
    return found


def cluster_of(row: dict[str, Any]) -> str:
    """Items of one cluster are not independent; an item without a cluster is its own."""
    return str(row.get("cluster") or row["id"])


def make_item(task: TaskSettings, row: dict[str, Any], tokenizer: Any, max_length: int) -> Item:
    """Tokenise one row.

    Raises:
        ResidencyError: an option longer than `max_length`, or messages for a model without a chat template.
    """
    if task.kind == "bits-per-byte":
        return _document(row, tokenizer, max_length)
    if task.kind == "preference":
        prompt, replies = _pair(task, row, tokenizer)
        sizes = [_bytes(message["content"] for message in row[side]) for side in ("chosen", "rejected")]
        answer = 0
    else:
        prompt, replies = _choice(task, row, tokenizer)
        sizes = [_bytes([option.strip()]) for option in row["options"]]
        answer = row["answer"]
    # A chat template writes its own BOS.
    chat = not isinstance(row["prompt"], str)
    pieces = [_piece(tokenizer, prompt, reply, bos=not chat) for reply in replies]
    cut = max(0, *(len(piece.ids) - max_length for piece in pieces))
    shortest = min(piece.start for piece in pieces)
    if cut >= shortest:
        raise ResidencyError(
            f"task {task.name}: an answer of item {row['id']!r} alone is longer than max_length {max_length}",
            cure="Raise evaluation.max_length, or take the item out",
        )
    pieces = [_cut_left(piece, cut) for piece in pieces]
    return Item(row["id"], cluster_of(row), pieces, sizes, answer, _digest(prompt, *replies), cut)


def _belongs(task: TaskSettings, row: dict[str, Any], corpus: Path) -> bool:
    field = FIELDS[task.kind]
    if field not in row:
        raise ResidencyError(
            f"task {task.name}: {task.kind} needs {field!r} in its rows; {row['id']!r} has {', '.join(row)}",
            cure=f"Change the task's kind or its items ({corpus})",
        )
    return task.aspect is None or row.get("aspect") == task.aspect


def _choice(task: TaskSettings, row: dict[str, Any], tokenizer: Any) -> tuple[str, list[str]]:
    """Prompt text, and the text of each continuation."""
    prompt, options = row["prompt"], row["options"]
    listing = ""
    if task.scorer == "letter":
        letters = ascii_uppercase[: len(options)]
        listing = "".join(
            f"\n{letter}. {text.strip()}" for letter, text in zip(letters, options, strict=True)
        )
        options = list(letters)
    if not isinstance(prompt, str):
        last = {**prompt[-1], "content": prompt[-1]["content"] + listing}
        return _chat(task, tokenizer, [*prompt[:-1], last], reply=True), options
    if all(option[:1].isspace() for option in options):
        return prompt, options  # a cloze: the options go on with the sentence
    return f"Question: {prompt}{listing}\nAnswer:", [f" {option.strip()}" for option in options]


def _pair(task: TaskSettings, row: dict[str, Any], tokenizer: Any) -> tuple[str, list[str]]:
    """Prompt text, and the chosen and the rejected reply with the stop token that the template writes."""
    prompt = _chat(task, tokenizer, row["prompt"], reply=True)
    replies = []
    for side in ("chosen", "rejected"):
        whole = _chat(task, tokenizer, row["prompt"] + row[side], reply=False)
        if not whole.startswith(prompt):
            raise ResidencyError(
                f"task {task.name}: the chat template rewrites the prompt of {row['id']!r} before a reply",
                cure="Use a template whose generation prompt is a prefix of the whole conversation",
            )
        replies.append(whole.removeprefix(prompt))
    return prompt, replies


def _chat(task: TaskSettings, tokenizer: Any, messages: list[Message], *, reply: bool) -> str:
    if not tokenizer.chat_template:
        raise ResidencyError(
            f"task {task.name}: its prompts are conversations and the model's tokenizer has no chat template",
            cure="Evaluate it after a stage with chat_template, or leave the task out",
        )
    return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=reply))


def _piece(tokenizer: Any, prompt: str, reply: str, *, bos: bool) -> Piece:
    start = [tokenizer.bos_token_id] if bos and tokenizer.bos_token_id is not None else []
    alone, joint = start + _encode(tokenizer, prompt), start + _encode(tokenizer, prompt + reply)
    shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(alone, joint, strict=False)))
    return Piece(joint, max(1, min(shared, len(joint) - 1)))


def _cut_left(piece: Piece, cut: int) -> Piece:
    """Without `cut` tokens after the first, which is BOS where there is one."""
    return Piece(piece.ids[:1] + piece.ids[1 + cut :], piece.start - cut)


def _document(row: dict[str, Any], tokenizer: Any, max_length: int) -> Item:
    """Windows that overlap by one token, so that every token is predicted exactly once.

    In front stands BOS, or EOS where the tokenizer has no BOS (as in lm-evaluation-harness).
    """
    text: str = row["text"]
    start = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    ids = [start, *_encode(tokenizer, text)]
    windows = [ids[at : at + max_length] for at in range(0, len(ids) - 1, max_length - 1)]
    pieces = [Piece(window, 1) for window in windows]
    return Item(row["id"], cluster_of(row), pieces, [_bytes([text])], None, _digest(text), 0)


def _encode(tokenizer: Any, text: str) -> list[int]:
    """Token ids of a text as it is; no warning where a document is longer than the window."""
    return list(tokenizer.encode(text, add_special_tokens=False, verbose=False))


def _bytes(texts: Iterator[str] | list[str]) -> int:
    return sum(len(text.encode()) for text in texts)


def _digest(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]
