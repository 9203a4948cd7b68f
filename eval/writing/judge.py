"""A local model that says whether a reply meets a criterion: `yes` against `no` by their likelihoods.

Each question is put twice, `yes or no` and `no or yes`, and the two log-odds are added, so that a liking for the word
that is named first cancels out. No torch at import.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from residency.errors import ResidencyError
from residency.eval.candidate import Candidate
from residency.eval.items import Item, Piece, cut_to_fit, digest_of, piece
from residency.eval.prompt import Message, Row, in_chat
from residency.eval.settings import RubricTask

QUESTION = """Conversation:
{conversation}

Criterion: {criterion}
Does the last reply of the assistant meet the criterion? Answer {first} or {second}."""
WORDS = ("yes", "no")


@dataclass(frozen=True)
class Verdict:
    """What the judge says of one criterion."""

    met: bool
    agrees: bool
    """Whether both orders of the words say the same."""


def directory_of(judge: str) -> Path:
    """Where a judge is: a directory, the mirror's, or the hub's cache.

    Raises:
        ResidencyError: in none of them.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    mirror = os.environ.get("RESIDENCY_MIRROR")
    for directory in [Path(judge), *([Path(mirror, judge)] if mirror else [])]:
        if directory.is_dir():
            return directory
    try:
        return Path(snapshot_download(judge, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError) as error:
        raise ResidencyError(
            f"judge {judge}: no directory, and neither in a mirror nor in the hub's cache",
            cure=f"hf download {judge}, or give its directory",
        ) from error


def judged(
    judge: Candidate, task: RubricTask, row: Row, said: list[Message], criteria: list[str]
) -> list[Verdict]:
    """A verdict on each criterion.

    Args:
        said: the conversation, the reply last.
    """
    conversation = "\n".join(f"{message['role']}: {message['content']}" for message in said)
    items = [
        _item(judge, task, row, QUESTION.format(conversation=conversation, criterion=text, first=a, second=b))
        for text in criteria
        for a, b in (WORDS, WORDS[::-1])
    ]
    odds = [yes.nats - no.nats for yes, no in judge.score(items)]
    return [
        Verdict(one + other > 0, (one > 0) == (other > 0))
        for one, other in zip(odds[::2], odds[1::2], strict=True)
    ]


def _item(judge: Candidate, task: RubricTask, row: Row, text: str) -> Item:
    pieces: list[Piece] = []
    if judge.tokenizer.chat_template:
        prompt = in_chat(task, judge.tokenizer, [{"role": "user", "content": text}], reply=True)
        pieces = [piece(judge.tokenizer, prompt, word, bos=False) for word in WORDS]
    else:
        pieces = [piece(judge.tokenizer, f"{text}\nAnswer:", f" {word}", bos=True) for word in WORDS]
    pieces, cut = cut_to_fit(task, row, pieces, judge.max_length)
    sizes = [len(word) for word in WORDS]
    return Item(row["id"], row["id"], pieces, sizes, None, digest_of([text]), cut_tokens=cut)
