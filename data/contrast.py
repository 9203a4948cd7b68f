"""Makes preference pairs of questions and answers: a row's own answer against another row's. No torch here.

The rejected answer belongs to another question of the same kind (a field both rows share), so it is fluent, of the
same genre, and wrong only in what it is about. Out of a few such answers the one closest in length is taken: a model
must not learn to prefer by length.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from random import Random
from typing import Any

from residency.data.settings import Rejected
from residency.errors import ResidencyError

Row = dict[str, Any]
CANDIDATES = 8
DRAWN = 32  # rows drawn to find that many candidates among them


def group_of(row: Row, rejected: Rejected) -> str:
    """The value that both rows of a pair share.

    Raises:
        ResidencyError: the row has no such field.
    """
    if row.get(rejected.same) is None:
        raise ResidencyError(
            f"row {row['id']}: no field {rejected.same!r}", cure="Set rejected.same to a field of the rows"
        )
    return str(row[rejected.same])


def pairs(dialogues: list[tuple[str, str, Row]], seed: int, dropped: Counter[str]) -> Iterator[Row]:
    """Preference rows.

    Args:
        dialogues: (group, document, row with `messages` of one question and one answer).
        seed: of the draw; a row's own draw depends on nothing but this, its id and its group.
        dropped: counts rows for which there is no other answer.
    """
    groups: dict[str, list[tuple[str, str, str]]] = defaultdict(list)
    for group, document, row in dialogues:
        question, answer = (message["content"] for message in row["messages"])
        groups[group].append((document, question, answer))
    for group, document, row in dialogues:
        question, answer = row["messages"]
        drawn = Random(f"{seed} {row['id']}").sample(groups[group], min(DRAWN, len(groups[group])))
        others = [
            text
            for other, asked, text in drawn
            if other != document and asked != question["content"] and text != answer["content"]
        ]
        if not others:
            dropped["no other answer of the same kind"] += 1
            continue
        nearest = min(others[:CANDIDATES], key=lambda text: abs(len(text) - len(answer["content"])))
        yield {
            "id": row["id"],
            "prompt": [question],
            "chosen": [answer],
            "rejected": [{"role": "assistant", "content": nearest}],
        }
