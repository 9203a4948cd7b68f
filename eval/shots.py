"""Solved examples before a question: which rows, in which order."""

from __future__ import annotations

from residency.errors import ResidencyError
from residency.eval.prompt import Row


class Shots:
    """The rows that solved examples of a task are taken from."""

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
        known = self.by_group.get(str(row.get("group") or "")) or self.rows
        found = [shot for shot in known if shot["prompt"] != row["prompt"]][: self.count]
        if len(found) < self.count:
            raise ResidencyError(
                f"task {self.task}: shots = {self.count}, but shots_from has {len(found)} for {row['id']!r}",
                cure="Ask for fewer, or name a larger file",
            )
        return found
