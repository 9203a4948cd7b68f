"""Batch arithmetic."""

from __future__ import annotations

import pytest

from residency.errors import ResidencyError
from residency.train.batches import accumulation, whole_batches
from residency.train.settings import EngineSettings


@pytest.mark.parametrize(
    ("batch_size", "micro", "world_size", "expected"),
    [(8, None, 1, (8, 1)), (8, 1, 1, (1, 8)), (8, None, 2, (4, 1)), (8, 2, 2, (2, 2)), (2, None, 2, (1, 1))],
)
def test_ranks_times_micro_times_accumulation_is_the_batch(
    batch_size: int, micro: int | None, world_size: int, expected: tuple[int, int]
) -> None:
    got = accumulation("cpt", batch_size, EngineSettings(micro_batch_size=micro), world_size)
    assert got == expected
    assert got[0] * got[1] * world_size == batch_size


def test_ranks_that_do_not_divide_the_batch_are_refused_with_one_that_do() -> None:
    with pytest.raises(ResidencyError, match=r"stages\.cpt\.batch_size = 10 .* 4 ranks\. .*: 8$"):
        accumulation("cpt", 10, EngineSettings(), 4)


def test_a_batch_smaller_than_the_ranks_is_refused() -> None:
    with pytest.raises(ResidencyError, match="The nearest that does: 4"):
        accumulation("cpt", 1, EngineSettings(), 4)


def test_a_micro_batch_that_does_not_divide_is_refused_with_the_divisors() -> None:
    with pytest.raises(
        ResidencyError, match=r"micro_batch_size = 4 does not divide the 6 rows .* 1, 2, 3, 6"
    ):
        accumulation("sft", 12, EngineSettings(micro_batch_size=4), 2)


@pytest.mark.parametrize(("rows", "whole"), [(1, 8), (8, 8), (9, 16), (16, 16)])
def test_the_last_batch_is_filled_up(rows: int, whole: int) -> None:
    assert whole_batches(rows, 8) == whole
