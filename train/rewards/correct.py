"""Whether a reply gives the right answer of an exam item, read from it as in evaluation. No torch here.

Where the prompt lists the options by letter, the reply names one by its letter or its text. Where it does not, the
reply is a sentence of the model's own: it must name what tells the right option from the others, and nothing that
tells a wrong one. Items with answers instead of options are asked for a number, or for a text of the same words.
"""

from __future__ import annotations

import re
import string
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from itertools import takewhile
from typing import Any

from residency import answers
from residency.answers.choices import NEGATION
from residency.answers.reply import read
from residency.data.prompts import has_answer, listed
from residency.errors import ResidencyError
from residency.train.rewards.batch import Batch

Row = dict[str, Any]
Words = tuple[str, ...]
ARTICLES = ("a", "an", "the")


def check(rows: Sequence[Row], place: str) -> None:
    """Refuse prompts that have no right answer.

    Raises:
        ResidencyError: there is one; `place` is the key in the recipe that names its corpus.
    """
    without = [row["id"] for row in rows if not has_answer(row)]
    if without:
        raise ResidencyError(
            f"{place}: {len(without)} of {len(rows)} prompts have no right answer that reward `correct` could look "
            f"for, the first is {without[0]}",
            cure="Give exam items, or take the reward out",
        )


def judge(batch: Batch) -> list[float]:
    """1 for each right reply, else 0."""
    asked = zip(batch.rows, batch.replies, batch.truncated, strict=True)
    return [float(is_right(row, reply, truncated=cut)) for row, reply, cut in asked]


def is_right(row: Row, reply: str, *, truncated: bool = False) -> bool:
    """Whether a reply gives the row's answer; one that names a wrong option, or several, does not."""
    if not row["options"]:
        return _answers(row["answers"], reply, truncated)
    right = row["options"][row["answer"]]
    if listed(row["options"]) in row["prompt"][-1]["content"]:
        said = answers.choice(reply, row["options"], truncated=truncated).value
        return said is not None and row["options"][said] == right
    named = _named(reply, row["options"], truncated)
    return bool(named) and all(row["options"][index] == right for index in named)


def _named(reply: str, options: list[str], truncated: bool) -> set[int]:
    """The options that a sentence of the model's own names; none where it denies, or never ends."""
    heard = read(reply, truncated=truncated)
    if heard.rule or heard.unfinished:
        return set()
    told = telling_words(options)
    named: set[int] = set()
    affirmed = False
    for sentence in re.split(r"(?<=[.!?;。])\s|\n", heard.text):
        found = _found(_words(sentence), told)
        named |= found
        affirmed |= bool(found) and not NEGATION.search(sentence)
    return named if affirmed else set()


def telling_words(options: Sequence[str]) -> list[Words]:
    """Of each option the words that tell it from the others: what all begin or end with is left out."""
    spoken = [_words(option) for option in options]
    start = _alike(spoken)
    end = _alike([words[start:][::-1] for words in spoken])
    told = [words[start : len(words) - end] for words in spoken]
    return told if all(told) else spoken


def _alike(spoken: list[Words]) -> int:
    """How many words all begin with."""
    return len(list(takewhile(lambda words: len(set(words)) == 1, zip(*spoken, strict=False))))


def _found(words: Words, told: list[Words]) -> set[int]:
    """Options whose words stand in a row; a place counts for the longest option only."""
    free, found = [True] * len(words), set()
    for index in sorted(range(len(told)), key=lambda index: -len(told[index])):
        size = len(told[index])
        for at in range(len(words) - size + 1):
            if size and words[at : at + size] == told[index] and all(free[at : at + size]):
                free[at : at + size] = [False] * size
                found.add(index)
    # two options of the same words are the same option: the first found must not hide the second
    return {other for other in range(len(told)) if told[other] in [told[index] for index in found]}


def _answers(right: list[str], reply: str, truncated: bool) -> bool:
    numbers = [_number(text) for text in right]
    if all(number is not None for number in numbers):
        return answers.number(reply, truncated=truncated).value in numbers
    said = answers.final_text(reply, truncated=truncated)
    return said.status == "answered" and _bare(said.value or "") in map(_bare, right)


def _number(text: str) -> Decimal | None:
    """Of an answer with its reasoning what follows `####` counts (GSM8K, arXiv 2110.14168)."""
    try:
        return Decimal(text.rpartition("####")[2].replace(",", "").strip())
    except InvalidOperation:
        return None


def _bare(text: str) -> Words:
    """Words without punctuation and articles, as in SQuAD's exact match (arXiv 1606.05250)."""
    return tuple(word for word in _words(text) if word not in ARTICLES)


def _words(text: str) -> Words:
    return tuple(
        word for part in text.casefold().split() if (word := part.strip(string.punctuation + "“”’‘。"))
    )
