"""Rewards that follow a rule: format, length, safety, a function of the user's. No torch here."""

from __future__ import annotations

import math
import re
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from residency.data.synthesis import user_function
from residency.errors import ResidencyError
from residency.train.rewards.batch import Batch

Judge = Callable[[Batch], list[float]]


def format_of(pattern: str) -> Judge:
    """1 where the whole reply matches; `.` matches line ends too."""
    compiled = re.compile(pattern, re.DOTALL)
    return lambda batch: [float(compiled.fullmatch(reply) is not None) for reply in batch.replies]


def length_over(tokens: int) -> Judge:
    """0 up to `tokens`, then falling by 1 for each further `tokens`."""
    return lambda batch: [-max(0, count - tokens) / tokens for count in batch.tokens]


def safety_of(forbid: list[str], require: dict[str, str]) -> Judge:
    """-1 for each rule that a reply breaks; letters' case does not matter, as a rule must not be missed by one."""
    forbidden = [_rule(pattern) for pattern in forbid]
    required = [(_rule(asked), _rule(said)) for asked, said in require.items()]

    def judge(batch: Batch) -> list[float]:
        broken = []
        for row, reply in zip(batch.rows, batch.replies, strict=True):
            prompt = "\n".join(message["content"] for message in row["prompt"])
            count = sum(rule.search(reply) is not None for rule in forbidden)
            count += sum(
                asked.search(prompt) is not None and said.search(reply) is None for asked, said in required
            )
            broken.append(-float(count))
        return broken

    return judge


def function_of(call: str) -> Judge:
    """What the user's `module:function` says; it gets the prompts' rows and the replies, returns a number for each."""
    function = user_function.load(call)

    def judge(batch: Batch) -> list[float]:
        try:
            values = function([dict(row) for row in batch.rows], list(batch.replies))
            values = list(values) if isinstance(values, Iterator) else values
        except Exception as error:  # the user's code may raise anything; its message may hold a reply's text
            frame = traceback.extract_tb(error.__traceback__)[-1]
            raise ResidencyError(
                f"reward {call}: {type(error).__name__} in {Path(frame.filename).name} line {frame.lineno}",
                cure="Call it with a row and a reply to see more",
            ) from None
        return _numbers(call, values, batch)

    return judge


def _rule(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.DOTALL | re.IGNORECASE)


def _numbers(call: str, values: Any, batch: Batch) -> list[float]:
    """One finite number for each reply; a text of digits is none."""
    cure = "Return a list with one finite number for each reply"
    try:
        given = None if isinstance(values, str | bytes | dict | set) else list(values)
    except TypeError:
        given = None
    if given is None:
        raise ResidencyError(
            f"reward {call} returned {type(values).__name__}, not a list of numbers", cure=cure
        )
    if len(given) != len(batch.replies):
        raise ResidencyError(
            f"reward {call} returned {len(given)} numbers for {len(batch.replies)} replies", cure=cure
        )
    found = []
    for row, value in zip(batch.rows, given, strict=True):
        try:
            number = math.nan if isinstance(value, str | bytes) else float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            what = value if isinstance(value, int | float) else type(value).__name__
            raise ResidencyError(
                f"reward {call} returned {what} for a reply to prompt {row['id']}", cure=cure
            )
        found.append(number)
    return found
