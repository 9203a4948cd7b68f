"""Makes multiple choice of questions with one right answer each: wrong options are the right ones of other rows. No
torch here.

They come from rows of the same kind (a field that they share), so that they are of one genre. A row of the same cluster
or with the same question is never taken: its answer may be right here too. A row whose question holds its answer (a
definition of "cell" that speaks of cells) is left out: the answer could be copied.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from random import Random
from typing import Any

Row = dict[str, Any]
TRIED = 64  # rows that are looked at before all of them
DROPPED = "too few other answers of the same kind"
TOLD = "the question holds its answer"


def drawn(rows: list[Row], count: int, seed: int, dropped: Counter[str]) -> Iterator[Row]:
    """Choice rows with `count` wrong options, in the order of `rows`; which ones and where the right one stands
    follows from the seed, the row's id and the rows of its kind. `dropped` counts those that are left out.

    Args:
        rows: choice rows whose one option is the right one, with `kind`.
    """
    kinds: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        kinds[row["kind"]].append(row)
    for row in rows:
        if _told(row):
            dropped[TOLD] += 1
            continue
        random = Random(f"{seed} {row['id']}")
        options = _others(row, kinds[row["kind"]], count, random)
        if len(options) < count:
            dropped[DROPPED] += 1
            continue
        place = random.randint(0, count)
        options.insert(place, row["options"][0])
        yield row | {"options": options, "answer": place}


def _others(row: Row, kind: list[Row], count: int, random: Random) -> list[str]:
    """Up to `count` different answers of other rows."""
    found: dict[str, str] = {}
    for tried in (min(TRIED, len(kind)), len(kind)):
        for other in random.sample(kind, tried):
            said = other["options"][0]
            if (
                other["cluster"] != row["cluster"]
                and other["prompt"] != row["prompt"]
                and not _same(said, row)
            ):
                found.setdefault(said.casefold(), said)
            if len(found) == count:
                return list(found.values())
    return list(found.values())


def _told(row: Row) -> bool:
    question = row["prompt"] if isinstance(row["prompt"], str) else row["prompt"][-1]["content"]
    answer = row["options"][0]
    whole = rf"(?<!\w){re.escape(answer)}(?!\w)"
    return len(answer) < len(question) and re.search(whole, question, re.IGNORECASE) is not None


def _same(said: str, row: Row) -> bool:
    right: str = row["options"][0]
    return said.casefold() == right.casefold()
