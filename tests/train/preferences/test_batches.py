"""Which pairs are trained on, and how often."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from residency.train.preferences.batches import Pairs, nearest_other


@pytest.mark.parametrize(
    ("epochs", "batch_size", "steps", "times"),
    [
        (1.0, 4, 2, {1: 2, 2: 3}),  # 5 pairs, 8 places
        (1.0, 2, 3, {1: 4, 2: 1}),
        (2.0, 5, 2, {2: 5}),
        (0.6, 1, 3, {1: 3}),
        (0.01, 2, 1, {1: 2}),
    ],
)
def test_every_pair_is_seen_before_one_is_seen_again(
    pairs_file: Path, epochs: float, batch_size: int, steps: int, times: dict[int, int]
) -> None:
    pairs = Pairs(pairs_file)
    assert pairs.place(epochs=epochs, batch_size=batch_size, world_size=1, micro=1, seed=3) == steps
    assert len(pairs) == steps * batch_size
    assert Counter(Counter(pairs[place] for place in range(len(pairs))).values()) == times


def test_a_step_holds_the_same_pairs_on_any_number_of_ranks(pairs_file: Path) -> None:
    pairs, found = Pairs(pairs_file), []
    for world_size, micro in ((1, 4), (2, 2), (2, 1), (4, 1)):
        pairs.place(epochs=2.0, batch_size=4, world_size=world_size, micro=micro, seed=3)
        found.append([sorted(pairs.order[first : first + 4]) for first in range(0, len(pairs), 4)])
    assert all(steps == found[0] for steps in found)


@pytest.mark.parametrize(
    ("prompts", "expected"),
    [("aabbc", [4, 4, 1, 1, 3]), ("abca", [2, 0, 1, 2]), ("aaa", [2, 0, 1]), ("a", [0])],
)
def test_a_reply_to_another_prompt_is_the_nearest_before(prompts: str, expected: list[int]) -> None:
    assert nearest_other(prompts).tolist() == expected
