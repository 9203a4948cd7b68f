"""Signs of trouble on series written by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from residency.train import signs
from residency.train.guard import FEWEST, spike
from residency.train.signs import Point, Seen


def points(*values: float) -> list[Point]:
    return [(step + 1, value) for step, value in enumerate(values)]


Look = Callable[[Sequence[Point]], Seen | None]


@pytest.mark.parametrize(
    ("look", "shows", "does_not"),
    [
        (signs.zero_loss, (2.0, 1e-7, 0.0, 0.0), (0.0, 0.0, 0.0, 1e-3)),
        (signs.zero_loss, (0.0, 0.0, 0.0), (0.0, 0.0)),
        (signs.dead_gradients, (1.0, 0.0, 0.0, 0.0), (0.0, 0.0, 1e-9)),
        (signs.chosen_falls, (*[-50.0] * 10, *[-60.0] * 10), (*[-50.0] * 10, *[-54.0] * 10)),
        # the same fall, but replies of uneven length
        (
            signs.chosen_falls,
            (*[-50.0, -51.0] * 5, *[-60.0] * 10),
            (*[-20.0, -80.0] * 5, *[-90.0, -30.0] * 5),
        ),
        (signs.chosen_falls, (*[-1.0] * 10, *[-2.0] * 10), (*[-50.0] * 9, *[-90.0] * 10)),
        (signs.kl, (0.1, 0.9, 1.5, 2.0), (0.1, 0.2, 2.0)),
        (signs.length, (*[40.0] * 5, *[81.0] * 5), (*[40.0] * 5, *[79.0] * 5)),
    ],
)
def test_each_sign(look: Look, shows: tuple[float, ...], does_not: tuple[float, ...]) -> None:
    assert look(points(*shows))
    assert look(points(*does_not)) is None


def test_replies_that_reach_the_limit() -> None:
    growing = points(*[40.0] * 5, *[62.0] * 5)
    seen = signs.length(growing, longest=64)
    assert seen
    assert seen == Seen(62.0, "replies have 62 tokens on average: nearly all are cut off at 64")
    assert signs.length(points(*[62.0] * 10), longest=64) is None, "they were as long from the start"


def test_reward_hacking_needs_both() -> None:
    rising = [(step, step / 10) for step in range(1, 21)]
    falling = [(step, -step / 10) for step in range(1, 21)]
    assert signs.reward_hacking(rising, [(0, 0.5), (10, 0.6), (20, 0.5)]) == Seen(
        0.5,
        "the reward rose from 0.8 to 1.8, the held-out score fell from 0.6 (step 10) to 0.5",
    )
    assert signs.reward_hacking(rising, [(0, 0.5), (10, 0.6), (20, 0.59)]) is None, "within what chance does"
    assert signs.reward_hacking(falling, [(0, 0.5), (10, 0.6), (20, 0.5)]) is None
    assert signs.reward_hacking(rising, [(20, 0.5)]) is None
    assert signs.reward_hacking(rising, [(0, 0.6), (20, 0.4)]), "the parent was best"


def test_look_names_the_signs_and_takes_the_loss_of_rl_for_none() -> None:
    found = signs.look({"loss": points(0, 0, 0), "grad_norm": points(0, 0, 0), "kl": points(2, 2, 2)})
    assert list(found) == ["zero_loss", "dead_gradients", "kl"]
    assert signs.look({"loss": points(0, 0, 0), "reward": points(1, 1, 1)}) == {}


def test_a_spike_stands_out_from_the_steps_before() -> None:
    recent = [2.0, 2.2, 1.8, 2.1, 1.9] * 2  # standard deviation 0.141
    assert len(recent) == FEWEST
    assert spike(2.6, recent, deviations=4)
    assert not spike(2.5, recent, deviations=4)
    assert not spike(9.0, recent[1:], deviations=4), "too few steps to judge by"
    assert not spike(1.0, recent, deviations=4), "a fall is none"
    assert not spike(2.01, [2.0] * 20, deviations=4), "equal losses have some room"
    assert spike(2.1, [2.0] * 20, deviations=4)
