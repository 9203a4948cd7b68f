"""What a reply is worth: the rewards that reinforcement learning, sampling and search add up. No torch here."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from residency.data.settings import Settings
from residency.train.settings.engine import Positive


def _compiles(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{pattern!r} is no regular expression: {error}") from error
    return pattern


Pattern = Annotated[str, AfterValidator(_compiles)]


class Weighted(Settings):
    """One reward of several."""

    weight: float = 1.0
    """Factor in the sum."""


class ModelReward(Weighted):
    """Score of a trained reward model."""

    kind: Literal["model"]
    stage: str
    """Stage of kind `reward`."""


class CorrectReward(Weighted):
    """1 where the reply gives the right answer of an exam item, else 0; read from the reply as in evaluation."""

    kind: Literal["correct"]


class FormatReward(Weighted):
    """1 where the whole reply matches a pattern, else 0."""

    kind: Literal["format"]
    pattern: Pattern
    """Python regular expression; `.` matches line ends too."""


class LengthReward(Weighted):
    """0 up to a length, then falling by 1 for each further such length."""

    kind: Literal["length"]
    tokens: Positive
    """Tokens that cost nothing."""


class FunctionReward(Weighted):
    """A function of the user's."""

    kind: Literal["function"]
    call: Annotated[str, Field(pattern=r"^[\w.]+:\w+$")]
    """`module:function`; gets the prompts' rows and the replies, returns a number for each."""
    version: str = "1"
    """Raise it when the function changes: the identity of the stage hashes it."""


class SafetyReward(Weighted):
    """-1 for each rule that a reply breaks; rules are Python regular expressions, blind to the case of letters."""

    kind: Literal["safety"]
    forbid: list[Pattern] = []
    """Patterns that no reply may hold."""
    require: dict[Pattern, Pattern] = {}
    """Pattern of the prompt to the pattern that a reply to it must hold: signs of an emergency to the advice to
    call for help."""


Reward = Annotated[
    ModelReward | CorrectReward | FormatReward | LengthReward | FunctionReward | SafetyReward,
    Field(discriminator="kind"),
]
