"""Solved examples before a question: which rows, in which order."""

from __future__ import annotations

from collections.abc import Mapping

from residency.errors import ResidencyError
from residency.eval.prompt import Row


class Shots:
    """The rows that solved examples of a task are taken from, in the order of their file."""

    def __init__(self, task: str, count: int = 0, rows: list[Row] | None = None) -> None:
        self.task, self.count, self.rows = task, count, rows or []
        self.by_group: dict[str, list[Row]] = {}
        for row in self.rows:
            self.by_group.setdefault(str(row.get("group") or ""), []).append(row)

    def of(self, row: Row) -> list[Row]:
        """The solved examples of one question: those of its own group where there are such, never the question itself.

        Raises:
            ResidencyError: too few of them.
        """
        found = self.ranked(row)[: self.count]
        if len(found) < self.count:
            raise ResidencyError(
                f"task {self.task}: shots = {self.count}, but shots_from has {len(found)} for {row['id']!r}",
                cure="Ask for fewer, or name a larger file",
            )
        return self.arranged(found)

    def ranked(self, row: Row) -> list[Row]:
        """All rows that may stand before a question, the best first."""
        known = self.by_group.get(str(row.get("group") or "")) or self.rows
        return [shot for shot in known if shot["prompt"] != row["prompt"]]

    def arranged(self, found: list[Row]) -> list[Row]:
        """The chosen ones as they are shown."""
        return found


class ReasonedShots(Shots):
    """Only rows that the model itself solved with reasoning; where it solved few, there are fewer."""

    def __init__(self, among: Shots, reasoning: Mapping[str, str]) -> None:
        super().__init__(among.task, among.count, among.rows)
        self.among, self.reasoning = among, reasoning

    def of(self, row: Row) -> list[Row]:
        return self.among.arranged(self.ranked(row)[: self.count])

    def ranked(self, row: Row) -> list[Row]:
        return [
            shot | {"reasoning": self.reasoning[shot["id"]]}
            for shot in self.among.ranked(row)
            if shot["id"] in self.reasoning
        ]
