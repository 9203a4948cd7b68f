"""Makes preference pairs of questions and answers: a row's own answer against another's. No torch here.

The rejected answer belongs to another question of the same kind (a field both rows share), so it is fluent,
of the same genre, and wrong only in what it is about.

How: the rows of a kind are sorted by the length of their answers and cut into windows of neighbours; in a
window every row gets the answer of the next one in a random circle. So each answer is chosen once and
rejected once: a model cannot tell the sides apart by length or by words, only by the question. Rows whose
neighbours all say the same take the nearest other answer further away.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

from residency.data.settings import Rejected
from residency.errors import ResidencyError

Row = dict[str, Any]
WINDOW = 8
REACH = 1024  # neighbours on either side that are looked through where the window says one thing
DROPPED = "no other answer of the same kind"


@dataclass(frozen=True)
class Answered:
    """A row of one question and one answer."""

    id: str
    kind: str
    document: str
    """Rows of one document are too alike for one's answer to be wrong for the other."""
    question: str
    answer: str

    @classmethod
    def of(cls, row: Row) -> Answered:
        """From a normalised dialogue of one question and one answer, with `kind` and `document`."""
        question, answer = (message["content"] for message in row["messages"])
        return cls(row["id"], row["kind"], row["document"], question, answer)

    def differs(self, other: Answered) -> bool:
        """Whether the other's answer is no answer to this question."""
        return (
            self.document != other.document
            and self.question != other.question
            and self.answer != other.answer
        )


def answered(row: Row, dialogue: Row, rejected: Rejected) -> Answered:
    """The source's row and its dialogue, as a candidate for a pair.

    Raises:
        ResidencyError: the row lacks the field that both rows of a pair share.
    """
    if row.get(rejected.same) is None:
        raise ResidencyError(
            f"row {row['id']}: no field {rejected.same!r}", cure="Set rejected.same to a field of the rows"
        )
    question, answer = (message["content"] for message in dialogue["messages"])
    # MedQuAD's name for the page that an answer stands on.
    document = str(row.get("document_id", dialogue["id"]))
    return Answered(dialogue["id"], str(row[rejected.same]), document, question, answer)


def pairs(rows: list[Answered], seed: int, dropped: Counter[str]) -> Iterator[Row]:
    """Preference rows, in the order of `rows`; `dropped` counts those for which there is no other answer."""
    groups: dict[str, list[Answered]] = defaultdict(list)
    for row in rows:
        groups[row.kind].append(row)
    other: dict[int, Answered] = {}
    for group, members in sorted(groups.items()):
        other |= _others(members, Random(f"{seed} {group}"))
    for row in rows:
        if id(row) not in other:
            dropped[DROPPED] += 1
            continue
        yield {
            "id": row.id,
            "prompt": [{"role": "user", "content": row.question}],
            "chosen": [{"role": "assistant", "content": row.answer}],
            "rejected": [{"role": "assistant", "content": other[id(row)].answer}],
        }


def _others(members: list[Answered], random: Random) -> dict[int, Answered]:
    """By `id` of each member, the row whose answer is rejected for it."""
    members = random.sample(members, len(members))
    members.sort(key=lambda row: len(row.answer))
    other: dict[int, Answered] = {}
    for at in range(0, len(members), WINDOW):
        circle = random.sample(members[at : at + WINDOW], len(members[at : at + WINDOW]))
        around = members[max(0, at - REACH) : at + REACH]
        for place, row in enumerate(circle):
            following = circle[place + 1 :] + circle[:place]
            found = next(filter(row.differs, following), None) or _nearest(row, around)
            if found:
                other[id(row)] = found
    return other


def _nearest(row: Answered, around: list[Answered]) -> Answered | None:
    return min(
        filter(row.differs, around), key=lambda other: abs(len(other.answer) - len(row.answer)), default=None
    )
