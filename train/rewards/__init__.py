"""What a reply is worth: the rewards of a recipe, each by its name, and their weighted sum.

    scorer = build(settings.rewards, stage.parents)
    scores = scorer.score(rows, replies, tokens)          # rows: residency.data.prompts.load

Reinforcement learning, sampling and search all score through this. No torch but for a reward model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from residency.errors import Exit, ResidencyError
from residency.train.rewards import correct, rules
from residency.train.rewards.batch import Batch
from residency.train.settings.rewards import (
    CorrectReward,
    FormatReward,
    FunctionReward,
    LengthReward,
    ModelReward,
    Reward,
    SafetyReward,
)

__all__ = ["Batch", "Scorer", "Scores", "build"]
Judge = Callable[[Batch], list[float]]
"""One reward: what it says of every reply of a batch, unweighted."""


@dataclass(frozen=True)
class Scores:
    """What some replies are worth."""

    total: list[float]
    """Weighted sum for each reply."""
    parts: dict[str, list[float]]
    """Each reward by its name, unweighted."""


class Scorer:
    """Scores replies by several rewards.

    Attributes:
        weights: name of each reward to its factor in the sum. A name is the reward's kind; with a number from the
            second of a kind on (`format-2`).
    """

    def __init__(
        self, weights: dict[str, float], judges: dict[str, Judge], rewards: Sequence[Reward]
    ) -> None:
        self.weights, self._judges = weights, judges
        self._checks_answers = any(isinstance(reward, CorrectReward) for reward in rewards)

    def check(self, rows: Sequence[dict[str, Any]], place: str) -> None:
        """Ask before any reply is written whether every prompt can be scored.

        Raises:
            ResidencyError: `correct` is asked for and a prompt has no right answer.
        """
        if self._checks_answers:
            correct.check(rows, place)

    def score(
        self,
        rows: Sequence[dict[str, Any]],
        replies: Sequence[str],
        tokens: Sequence[int],
        truncated: Sequence[bool] | None = None,
    ) -> Scores:
        """Score one reply for each row.

        Args:
            rows: the prompts' rows, `prompt` as messages; one for each reply.
            tokens: tokens of each reply.
            truncated: whether each reply was cut off at the length limit; none was, unless given.

        Raises:
            ResidencyError: a reward is no finite number, or a user's function failed.
        """
        assert len(rows) == len(replies) == len(tokens), (len(rows), len(replies), len(tokens))
        batch = Batch(rows, replies, tokens, truncated or [False] * len(replies))
        parts = {name: judge(batch) for name, judge in self._judges.items()}
        for name, values in parts.items():
            if not all(map(math.isfinite, values)):
                bad = next(at for at, value in enumerate(values) if not math.isfinite(value))
                raise ResidencyError(
                    f"reward {name} is {values[bad]} for a reply to prompt {rows[bad]['id']}",
                    code=Exit.DIVERGED,
                )
        total = [
            sum(self.weights[name] * values[at] for name, values in parts.items())
            for at in range(len(replies))
        ]
        return Scores(total, parts)


def build(rewards: Sequence[Reward], parents: dict[str, Path]) -> Scorer:
    """The scorer of a stage.

    Args:
        parents: role to directory; reward models stand under `reward:STAGE`.

    Raises:
        ResidencyError: a user's function cannot be imported.
    """
    judges: dict[str, Judge] = {}
    weights: dict[str, float] = {}
    for reward in rewards:
        same = sum(name.partition("-")[0] == reward.kind for name in judges)
        name = f"{reward.kind}-{same + 1}" if same else reward.kind
        judges[name], weights[name] = _judge(reward, parents), reward.weight
    return Scorer(weights, judges, rewards)


def _judge(reward: Reward, parents: dict[str, Path]) -> Judge:
    match reward:
        case ModelReward():
            return _by_model(parents[f"reward:{reward.stage}"])
        case CorrectReward():
            return correct.judge
        case FormatReward():
            return rules.format_of(reward.pattern)
        case LengthReward():
            return rules.length_over(reward.tokens)
        case FunctionReward():
            return rules.function_of(reward.call)
        case SafetyReward():
            return rules.safety_of(reward.forbid, reward.require)


def _by_model(directory: Path) -> Judge:
    from residency.train.rewards.model import RewardModel

    model = RewardModel(directory)

    def judge(batch: Batch) -> list[float]:
        prompts = [row["prompt"] for row in batch.rows]
        finished = [not cut for cut in batch.truncated]
        return model.score(prompts, batch.replies, finished)

    return judge
