from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from residency.data.mixture.shards import PackedRows, ShardWriter, padding_squares


@pytest.fixture
def rows(tmp_path: Path) -> PackedRows:
    writer = ShardWriter(tmp_path / "shards", 300)
    writer.append([[10, 11, 12], [20, 21]], [[0, 1, 0], [1, 1]])
    writer.append([[30, 31, 32, 33, 34, 35]], [[0, 1, 1, 1, 1, 1]])
    segments = np.array([[5, 9], [0, 3], [3, 5], [8, 11]], dtype=np.int64)
    writer.finish(segments, np.array([0, 2, 4]), np.array([0, 2]), max_length=7, pad=2)
    assert writer.highest == 35
    return PackedRows(tmp_path / "shards")


def test_rows_as_the_trainer_sees_them(rows: PackedRows) -> None:
    assert (len(rows), rows.max_length, rows.tokens) == (2, 7, 12)
    first, second = rows[0], rows[1]
    assert first["input_ids"].tolist() == [30, 31, 32, 33, 10, 11, 12]
    assert first["labels"].tolist() == [-100, 31, 32, 33, -100, 11, -100]
    assert first["position_ids"].tolist() == [0, 1, 2, 3, 0, 1, 2]
    # Document 20 carries loss on its first token, which nothing predicts; 33 is context of the continuation.
    assert second["input_ids"].tolist() == [20, 21, 33, 34, 35, 2, 2]
    assert second["labels"].tolist() == [-100, 21, -100, 34, 35, -100, -100]
    assert second["position_ids"].tolist() == [0, 1, 0, 1, 2, 0, 1]
    assert {array.dtype for array in first.values()} == {np.dtype(np.int64)}


def test_a_row_behind_the_last_is_padding(rows: PackedRows) -> None:
    assert rows.squares().tolist() == [4**2 + 3**2, 2**2 + 3**2 + 2**2]
    empty = rows[2]
    assert empty["input_ids"].tolist() == [2] * 7
    assert empty["labels"].tolist() == [-100] * 7
    assert empty["position_ids"].tolist() == list(range(7))


@pytest.mark.parametrize(("vocabulary", "bytes_each"), [(65_535, 2), (65_536, 4)])
def test_large_vocabularies_take_four_bytes(tmp_path: Path, vocabulary: int, bytes_each: int) -> None:
    writer = ShardWriter(tmp_path / "shards", vocabulary)
    writer.append([[1, vocabulary - 1]], [[0, 1]])
    writer.finish(np.array([[0, 2]]), np.array([0, 1]), np.array([0, 1]), max_length=2, pad=0)
    assert (tmp_path / "shards" / "tokens.bin").stat().st_size == 2 * bytes_each
    assert PackedRows(tmp_path / "shards")[0]["input_ids"].tolist() == [1, vocabulary - 1]


def test_positions_of_padding_restart(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path / "shards", 300)
    writer.append([[1, 2]], [[0, 1]])
    writer.finish(np.array([[0, 2]]), np.array([0, 1]), np.array([0, 1]), max_length=1500, pad=0)
    rows = PackedRows(tmp_path / "shards")
    assert np.flatnonzero(rows[0]["position_ids"] == 0).tolist() == [0, 2, 514, 1026]
    assert rows.squares().tolist() == [2**2 + 2 * 512**2 + 474**2]
    assert padding_squares(np.array([1500.0])).tolist() == [2 * 512**2 + 476**2]
