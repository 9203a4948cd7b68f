"""Any row of a corpus by its number, read from disk when asked for, so that a shuffled corpus needs no
memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np


class Documents:
    """The training rows of a corpus artifact; `[numbers]` gives those rows."""

    def __init__(self, artifact: Path) -> None:
        self._file = (artifact / "train.jsonl").open("rb")
        self._starts = np.cumsum([0, *(len(line) for line in self._file)])

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __getitem__(self, numbers: list[int]) -> list[dict[str, Any]]:
        rows = []
        for number in numbers:
            self._file.seek(self._starts[number])
            rows.append(json.loads(self._file.readline()))
        return rows

    def close(self) -> None:
        """Close the file."""
        self._file.close()
