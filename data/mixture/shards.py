"""Packed rows on disk: written once by the `tokens` stage, read by every rank without copying. No torch here.

`tokens.bin` (uint16 or uint32) and `loss.bin` (uint8, 1 = this token carries loss) hold every document once,
end to end. `segments.npy` `[n, 2]` are stretches of them, `rows.npy` `[rows + 1]` says which segments make up
a row, so a document that is seen in five epochs is stored once. `windows.npy` `[windows + 1]` cuts the rows into
windows: where no order was asked for, a pass; otherwise a row each. `shards.json` holds what a reader must know beside
that."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from residency.artifact import write_json

IGNORED = -100  # label of a token without loss, as torch's cross entropy has it
PADDING = 512  # tokens after which positions of padding restart: attention over padding stays cheap


class ShardWriter:
    """Appends documents to the flat files, then lays rows over them."""

    def __init__(self, directory: Path, vocabulary: int) -> None:
        directory.mkdir(parents=True)
        self.directory = directory
        self.dtype = np.dtype(np.uint16 if vocabulary < 2**16 else np.uint32)
        self.length = 0
        self.highest = 0
        self._tokens = (directory / "tokens.bin").open("wb")
        self._loss = (directory / "loss.bin").open("wb")

    def append(self, documents: Sequence[ArrayLike], loss: Sequence[ArrayLike]) -> None:
        """Write documents (token ids, `[tokens]` each) and, of the same shape, which of their tokens carry loss."""
        ids, mask = np.concatenate(documents), np.concatenate(loss)
        assert ids.shape == mask.shape
        ids.astype(self.dtype).tofile(self._tokens)
        mask.astype(np.uint8).tofile(self._loss)
        self.length += len(ids)
        self.highest = max(self.highest, int(ids.max(initial=0)))

    def finish(
        self,
        segments: NDArray[np.int64],
        rows: NDArray[np.int64],
        windows: NDArray[np.int64],
        *,
        max_length: int,
        pad: int,
        virtual_tokens: int = 0,
    ) -> None:
        """Write segments, rows and windows, and close the files; rows have room for `virtual_tokens` before each
        segment."""
        self._tokens.close()
        self._loss.close()
        np.save(self.directory / "segments.npy", segments)
        np.save(self.directory / "rows.npy", rows)
        np.save(self.directory / "windows.npy", windows)
        tokens = int((segments[:, 1] - segments[:, 0]).sum())
        write_json(
            self.directory / "shards.json",
            {
                "dtype": self.dtype.name,
                "max_length": max_length,
                "pad": pad,
                "tokens": tokens,
                "virtual_tokens": virtual_tokens,
            },
        )


class PackedRows:
    """The rows of a tokens artifact.

    Attributes:
        tokens: real tokens in all rows (padding not counted).
        max_length: tokens in a row, padding counted.
        windows: `[windows + 1]`, where each window starts; rows of one window may change places.
    """

    def __init__(self, directory: Path) -> None:
        about = json.loads((directory / "shards.json").read_text())
        self.max_length: int = about["max_length"]
        self.tokens: int = about["tokens"]
        self._pad: int = about["pad"]
        self._prompt = np.arange(-1, -1 - about.get("virtual_tokens", 0), -1)
        self._ids = np.memmap(directory / "tokens.bin", dtype=about["dtype"], mode="r")
        self._loss = np.memmap(directory / "loss.bin", dtype=np.uint8, mode="r")
        self._segments = np.load(directory / "segments.npy", mmap_mode="r")
        self._rows = np.load(directory / "rows.npy", mmap_mode="r")
        self.windows: NDArray[np.int64] = np.load(directory / "windows.npy")

    def __len__(self) -> int:
        return len(self._rows) - 1

    def __getitem__(self, index: int) -> dict[str, NDArray[np.int64]]:
        """One row, int64 arrays `[max_length]`: `input_ids`, `labels`, `position_ids`.

        Positions restart at each segment, at the padding and every `PADDING` tokens of it. A learnt prompt stands
        before each segment, as the ids -1, -2, ...
        Labels are -100 at the first token of a segment,
        at tokens without loss and in the padding. A row behind the last one is all padding.
        """
        assert index >= 0, index
        ids = np.full(self.max_length, self._pad, dtype=np.int64)
        labels = np.full(self.max_length, IGNORED, dtype=np.int64)
        positions = np.empty(self.max_length, dtype=np.int64)
        at = 0
        for start, end in self._row(index):
            first = at + len(self._prompt)
            stop = first + end - start
            ids[at:first] = self._prompt
            ids[first:stop] = self._ids[start:end]
            labels[first:stop] = np.where(self._loss[start:end], ids[first:stop], IGNORED)
            labels[first] = IGNORED
            positions[at:stop] = np.arange(stop - at)
            at = stop
        positions[at:] = np.arange(self.max_length - at) % PADDING
        return {"input_ids": ids, "labels": labels, "position_ids": positions}

    def count(self, index: int) -> tuple[int, int]:
        """Tokens of a row, and those with loss; padding not counted."""
        parts = self._row(index)
        return sum(end - start for start, end in parts), sum(
            int(self._loss[start + 1 : end].sum()) for start, end in parts
        )

    def segments(self, count: int) -> list[tuple[NDArray[np.int64], NDArray[np.uint8]]]:
        """Up to `count` segments from all over the rows: ids, and which of them carry loss, `[tokens]` each."""
        places = np.unique(np.linspace(0, len(self._segments) - 1, count).astype(np.int64))
        bounds = [(int(start), int(end)) for start, end in self._segments[places]]
        return [(self._ids[start:end].astype(np.int64), self._loss[start:end]) for start, end in bounds]

    def squares(self) -> NDArray[np.float64]:
        """See `squared_lengths`."""
        return squared_lengths(self._segments, self._rows, self.max_length, before=len(self._prompt))

    def _row(self, index: int) -> list[list[int]]:
        if index >= len(self):
            return []
        segments: Any = self._segments[self._rows[index] : self._rows[index + 1]]
        return list(segments.tolist())


def squared_lengths(
    segments: NDArray[np.int64], rows: NDArray[np.int64], max_length: int, *, before: int = 0
) -> NDArray[np.float64]:
    """Sum of the squared lengths of each row's segments, those of its padding among them, `[rows]`.

    Args:
        segments: `[segments, 2]`, start and end.
        rows: `[rows + 1]`, where each row's segments start.
        before: tokens of a learnt prompt before each segment.
    """
    lengths = (segments[:, 1] - segments[:, 0] + before).astype(np.float64)
    padding = max_length - np.add.reduceat(lengths, rows[:-1])
    squares: NDArray[np.float64] = np.add.reduceat(lengths**2, rows[:-1]) + padding_squares(padding)
    return squares


def padding_squares(tokens: NDArray[np.float64]) -> NDArray[np.float64]:
    """The same of stretches of padding; a whole row's is that of an empty row."""
    return tokens // PADDING * PADDING**2 + (tokens % PADDING) ** 2
