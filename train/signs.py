"""Signs of trouble in the course of a training run, told from what it logs. No torch here.

Each is a pure function of series of logged numbers, oldest first, and gives what it saw, or None. A single logged
number is noisy, so all look at means. Limits are generous: a sign is worth a look, and with `guard.stop_on` an end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import get_args

from residency.train.settings.optimisation import Sign

Point = tuple[int, float]
"""Step and value."""
Series = Mapping[str, Sequence[Point]]

NOTHING = 1e-6
"""A loss below it is none: the smallest that float32 tells from 1 in a mean is of this size."""
IN_A_ROW = 3
"""Logged values in a row that must agree: one may be chance."""
FEW = 5
"""Logged values that make a mean."""
MANY = 10
"""The same for log-probabilities, which differ with the length of the replies at hand."""
FALL = 0.1
"""Part of their log-probability that chosen replies may lose; some loss is usual in DPO (arXiv 2402.13228)."""
ERRORS = 2.0
"""Standard errors that a fall must have: less is the noise of the batches."""
HIGHEST_KL = 1.0
"""Nats a token: replies are e times less likely at every token than under the parent. Healthy runs stay below 0.3."""
GROWTH = 2.0
"""How many times longer than at first replies may become."""
FULL = 0.95
"""Mean length as a part of the longest reply from which nearly all replies are cut off."""
DROP = 0.02
"""How far the held-out score may lie below its best while the reward rises."""


@dataclass(frozen=True)
class Seen:
    """What a sign saw: its number, and a sentence for people."""

    value: float
    message: str


def zero_loss(losses: Sequence[Point]) -> Seen | None:
    """Nothing is learnt: no token carries loss, or the reference is not the parent."""
    last = _last(losses, IN_A_ROW)
    if last and all(abs(value) < NOTHING for value in last):
        return Seen(last[-1], f"the loss is {last[-1]:.2g} in {IN_A_ROW} logs in a row: nothing is learnt")
    return None


def dead_gradients(norms: Sequence[Point]) -> Seen | None:
    """No weight moves: all are frozen, or the loss does not depend on them."""
    last = _last(norms, IN_A_ROW)
    if last and not any(last):
        return Seen(0.0, f"the gradient is 0 in {IN_A_ROW} logs in a row: no weight moves")
    return None


def chosen_falls(chosen: Sequence[Point]) -> Seen | None:
    """The replies that should become likelier become less likely: only the gap to the rejected ones is learnt."""
    values = [value for _, value in chosen]
    if len(values) < 2 * MANY:
        return None
    first, last = values[:MANY], values[-MANY:]
    fall = fmean(first) - fmean(last)
    noise = ERRORS * ((stdev(first) ** 2 + stdev(last) ** 2) / MANY) ** 0.5
    if fall > max(FALL * abs(fmean(first)), noise):
        return Seen(
            fall,
            f"the log-probability of the chosen replies fell from {fmean(first):.4g} to {fmean(last):.4g}",
        )
    return None


def kl(divergences: Sequence[Point]) -> Seen | None:
    """The policy left its parent."""
    last = _last(divergences, IN_A_ROW)
    if last and fmean(last) > HIGHEST_KL:
        return Seen(
            fmean(last), f"KL to the parent is {fmean(last):.3g} nats a token, more than {HIGHEST_KL:g}"
        )
    return None


def length(lengths: Sequence[Point], longest: int | None = None) -> Seen | None:
    """Replies grow without end. `longest`: tokens at which a reply is cut off."""
    values = [value for _, value in lengths]
    if len(values) < 2 * FEW:
        return None
    first, last = fmean(values[:FEW]), fmean(values[-FEW:])
    if longest and last >= FULL * longest > first:
        return Seen(last, f"replies have {last:.0f} tokens on average: nearly all are cut off at {longest}")
    if last > GROWTH * first:
        return Seen(last, f"replies grew from {first:.0f} to {last:.0f} tokens on average")
    return None


def reward_hacking(rewards: Sequence[Point], held_out: Sequence[Point]) -> Seen | None:
    """The reward rose since the held-out score was best, and that score fell: the reward is exploited."""
    if len(held_out) < 2:
        return None
    best_step, best = max(held_out, key=lambda point: (point[1], -point[0]))
    step, now = held_out[-1]
    before = _last([point for point in rewards if point[0] <= best_step] or rewards[:1], FEW, fewer=True)
    after = _last([point for point in rewards if best_step < point[0] <= step], FEW, fewer=True)
    if now < best - DROP and after and fmean(after) > fmean(before):
        return Seen(
            now,
            f"the reward rose from {fmean(before):.4g} to {fmean(after):.4g}, "
            f"the held-out score fell from {best:.3g} (step {best_step}) to {now:.3g}",
        )
    return None


def look(series: Series, longest_reply: int | None = None) -> dict[Sign, Seen]:
    """All signs that show in `series` (log key to points) now.

    Keys: `loss`, `grad_norm`, `logps/chosen`, `kl`, `completions/mean_length`, `reward`, and `held_out`, the score on
    held-out items.
    """
    found: dict[Sign, Seen | None] = {
        "zero_loss": zero_loss(series.get("loss", ())) if "reward" not in series else None,
        "dead_gradients": dead_gradients(series.get("grad_norm", ())),
        "chosen_falls": chosen_falls(series.get("logps/chosen", ())),
        "kl": kl(series.get("kl", ())),
        "length": length(series.get("completions/mean_length", ()), longest_reply),
        "reward_hacking": reward_hacking(series.get("reward", ()), series.get("held_out", ())),
    }
    assert set(found) == set(get_args(Sign))
    return {sign: seen for sign, seen in found.items() if seen}


def _last(points: Sequence[Point], count: int, *, fewer: bool = False) -> list[float]:
    """The last values, or none where there are not so many (unless `fewer` will do)."""
    return [value for _, value in points[-count:]] if fewer or len(points) >= count else []
