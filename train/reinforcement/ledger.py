"""Lines of JSON that a stage keeps beside its checkpoints, and cuts back when it goes on from one.

`ledger.jsonl` tells which prompt was consumed at which step and what each reply to it was worth; see `LINE`. Rank 0
writes. A killed run's ledger, once the run has gone on, is that of a run that was never killed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

LINE = ("step", "epoch", "id", "reward", "rewards", "tokens", "truncated")
"""A line of the ledger: the optimizer step that consumed the prompt (with `iterations`, the first one), its epoch and
id; and for each reply the weighted sum, every reward by its name, the tokens, and whether it was cut off."""


class Ledger:
    """One file of lines, each of a step."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, lines: Iterable[dict[str, Any]]) -> None:
        """Append lines; they are in the file when this returns, on the disk after `sync`."""
        with self.path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)

    def sync(self) -> None:
        """Before a checkpoint is sealed: its lines outlive a power cut as it does."""
        if self.path.exists():
            with self.path.open("rb") as file:
                os.fsync(file.fileno())

    def cut(self, step: int) -> None:
        """Leave only lines of steps up to `step`; a last line that was cut short goes too."""
        kept = [line for line in self.lines() if line["step"] <= step]
        beside = self.path.with_name(f".{self.path.name}")
        beside.unlink(missing_ok=True)
        Ledger(beside).add(kept)
        Ledger(beside).sync()
        beside.replace(self.path)

    def lines(self) -> Iterator[dict[str, Any]]:
        """Whole lines, oldest first; none where there is no file."""
        if not self.path.exists():
            return
        with self.path.open(encoding="utf-8") as file:
            for line in file:
                if line.endswith("\n"):
                    yield json.loads(line)
