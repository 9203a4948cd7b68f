"""Any row of a corpus by its number, read from disk when asked for, so that a shuffled corpus needs no
memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from residency.data.curation.parts import parse


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
            rows.append(parse(self._file.readline()))
        return rows

    def sample(self, count: int) -> list[int]:
        """Numbers of up to `count` rows from all over the corpus, the longest among them."""
        spread = np.linspace(0, len(self) - 1, min(count, len(self))).astype(np.int64)
        return sorted({*spread.tolist(), int(np.diff(self._starts).argmax())})

    def close(self) -> None:
        """Close the file."""
        self._file.close()
