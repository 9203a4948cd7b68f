"""Settings of the stages that write replies or trees of reasoning steps; they leave corpora. No torch here."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from residency.data.settings import Count, Settings
from residency.train.settings.engine import EngineSettings, Positive
from residency.train.settings.rewards import Reward


class Writing(Settings):
    """What the stages that write share."""

    parent: str = Field("base", alias="from")
    """Stage that gives the model."""
    corpus: str
    """Corpus whose prompts are answered."""
    temperature: Annotated[float, Field(gt=0)] = 1.0
    """Temperature of sampling."""
    limit: Count | None = None
    """At most so many prompts."""
    max_length: Positive = 1024
    """Longest prompt in tokens."""
    seed: int | None = None
    """Seed of sampling; the recipe's own unless given."""
    engine: EngineSettings | None = None
    """The recipe's engine unless given; only `processes`, `precision` and `attention` matter here."""


class SampleSettings(Writing):
    """Several replies to each prompt, scored and ranked: for rejection sampling, self-distillation, preference pairs.

    A corpus made of it with `synthesis: {kind: best}` or `{kind: pairs}` chooses among the replies.
    """

    kind: Literal["sample"]
    replies: Positive = 4
    """Replies to each prompt; equal ones are kept once."""
    max_new_tokens: Positive = 256
    """Longest reply in tokens."""
    rewards: list[Reward] = []
    """What a reply is worth: the weighted sum. Without any, replies are not ranked."""
    ask: str | None = None
    """What the model is asked instead of the prompt: `{prompt}`, and `{reference}` for the corpus's own reply or right
    answer (self-distillation). The replies stand under the prompt itself."""

    @model_validator(mode="after")
    def _asks_something(self) -> SampleSettings:
        if self.ask is not None and "{prompt}" not in self.ask and "{reference}" not in self.ask:
            raise ValueError("ask holds neither {prompt} nor {reference}: every reply would be about nothing")
        return self


class TreeSettings(Writing):
    """Search for reasoning step by step, its ends checked by the right answer (Monte Carlo tree search as in MedS3,
    arXiv 2501.12051). A corpus made of it with `synthesis: {kind: best}`, `{kind: pairs}` or `{kind: steps}` gives
    dialogues, pairs of steps, or steps with values for a process reward model."""

    kind: Literal["tree"]
    simulations: Positive = 16
    """Paths followed to their end for each prompt."""
    branches: Annotated[int, Field(gt=1)] = 3
    """Steps tried at each node."""
    depth: Positive = 8
    """Most steps of a path."""
    step_end: Annotated[str, Field(min_length=1)] = "\n"
    """Text that ends a step: a line end, `\\n\\n` where the model writes paragraphs, or `. ` for sentences."""
    max_step_tokens: Positive = 96
    """Longest step in tokens."""
    exploration: Annotated[float, Field(ge=0)] = 1.4
    """Weight of seldom visited nodes in the choice of the next (UCT)."""

    @model_validator(mode="after")
    def _steps_end_in_more_than_spaces(self) -> TreeSettings:
        if not self.step_end.strip(" "):
            raise ValueError(
                "step_end holds only spaces: tokens begin with one, so no step could follow another"
            )
        return self
