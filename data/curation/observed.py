"""What a step saw of all documents in one pass, on disk, so that it can decide about all of them at once.

A step that must know the whole corpus before it can judge one document (duplicates, ranking) leaves arrays in
every part of the pass; here they are read as if they were one, a key at a time or some rows of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from residency.data.curation.batch import Batch
from residency.data.curation.parts import whole

Array = NDArray[Any]


@runtime_checkable
class GlobalStep(Protocol):
    """A step that must have seen every document before it can judge one."""

    def observe(self, batch: Batch) -> dict[str, Array]:
        """Arrays that tell of a batch what the decision needs; `Observed` joins them in the documents' order.

        `batch.numbers` count from the part's first document: `Observed.numbered` makes them numbers of all."""
        ...

    def decide(self, observed: Observed) -> Array:
        """The decision about all documents, for `apply`."""
        ...

    def apply(self, batch: Batch, decision: Array) -> list[str | None]:
        """Rewrite a batch, or say which rows are dropped and why; `batch.numbers` are the documents' numbers."""
        ...


class Observed:
    """Arrays of all documents, in the documents' order, by key."""

    def __init__(self, directories: list[Path], counts: list[int]) -> None:
        self.directories = directories
        self.starts = np.cumsum([0, *counts])

    def __getitem__(self, key: str) -> Array:
        """The whole array, read into memory.

        Raises:
            KeyError: no documents were seen.
        """
        if not self.directories:
            raise KeyError(key)
        return np.concatenate([np.load(directory / f"{key}.npy") for directory in self.directories])

    def numbered(self, key: str) -> NDArray[np.int64]:
        """The whole of an array of document numbers."""
        told = [np.load(directory / f"{key}.npy") for directory in self.directories]
        return np.concatenate([numbers + start for numbers, start in zip(told, self.starts, strict=False)])

    def __len__(self) -> int:
        return int(self.starts[-1])

    def at(self, key: str, documents: NDArray[np.int64]) -> Array:
        """Rows of some documents, read part by part."""
        order = np.argsort(documents, kind="stable")
        ends = np.searchsorted(documents[order], self.starts)
        found: Array | None = None
        for part, directory in enumerate(self.directories):
            here = order[ends[part] : ends[part + 1]]
            if len(here):
                rows = np.load(directory / f"{key}.npy", mmap_mode="r")[documents[here] - self.starts[part]]
                found = (
                    np.empty((len(documents), *rows.shape[1:]), dtype=rows.dtype) if found is None else found
                )
                found[here] = rows
        return np.empty((0, 1)) if found is None else found


def save(directory: Path, arrays: list[dict[str, Array]]) -> None:
    """Write what a step saw of the batches of one part."""
    directory.mkdir(parents=True, exist_ok=True)
    for key in arrays[0] if arrays else ():
        with whole(directory / f"{key}.npy") as file:
            np.save(file, np.concatenate([seen[key] for seen in arrays]))
