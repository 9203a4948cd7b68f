"""What all stages that train weights share. No torch here.

Fields that change what is learnt are part of a stage's identity.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from residency.data.settings import Settings
from residency.train.settings.adapters import LoraSettings, PromptTuningSettings
from residency.train.settings.engine import EngineSettings, Positive, Share

Sign = Literal["zero_loss", "dead_gradients", "chosen_falls", "kl", "length", "reward_hacking"]
KINDS_OF: dict[Sign, tuple[str, ...]] = {
    "zero_loss": ("pretrain", "cpt", "sft", "reward", "preference"),
    "chosen_falls": ("preference",),
    "kl": ("rl",),
    "length": ("rl",),
    "reward_hacking": ("rl",),
}
"""Kinds of stages in which a sign can show; the others in all."""


class GuardSettings(Settings):
    """What is done when training goes wrong. A loss that is no number always ends a stage that has no skips left."""

    spike: Annotated[float, Field(gt=0)] | None = None
    """A step whose loss lies more than so many standard deviations above its running mean is a spike."""
    skips: Annotated[int, Field(ge=0)] = 0
    """How often training may go back to the last checkpoint and leave the batch of a spike, or of a loss that is no
    number, out; then it ends with exit code 5."""
    stop_on: list[Sign] = []
    """Signs of trouble that end the stage; the others are only told as events."""


class Optimisation(Settings):
    """What the training stages share."""

    learning_rate: Annotated[float, Field(gt=0)]
    """Peak learning rate of AdamW."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """Course of the learning rate after warm-up."""
    warmup: Share = 0.05
    """Share of the steps in which the learning rate rises."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Decay of the weights (not of biases and norms)."""
    beta2: Annotated[float, Field(gt=0, lt=1)] = 0.95
    """Second moment's decay; the first is 0.9."""
    batch_size: Positive
    """Rows per optimizer step, over all ranks and accumulation steps."""
    save_every: Positive | None = None
    """Optimizer steps between checkpoints; a quarter of the stage unless given."""
    keep_checkpoints: Positive = 2
    """Whole checkpoints kept."""
    seed: int | None = None
    """Seed of initialisation, order and dropout; the recipe's own unless given."""
    lora: LoraSettings | None = None
    """Train adapters instead of all weights."""
    prompt_tuning: PromptTuningSettings | None = None
    """Train a prompt instead of any weight; it is always kept beside the frozen model."""
    adapter: Literal["continue", "merge"] | None = None
    """What to do with an adapter that the parent left; needed exactly when there is one."""
    guard: GuardSettings = GuardSettings()
    """What is done when training goes wrong."""
    engine: EngineSettings | None = None
    """The recipe's engine unless given."""

    @model_validator(mode="after")
    def _one_adapter(self) -> Optimisation:
        if self.lora and self.prompt_tuning:
            raise ValueError("lora and prompt_tuning exclude each other")
        if self.prompt_tuning and getattr(self, "sensitivity_dropout", None):
            raise ValueError("sensitivity_dropout looks at the weights, which prompt_tuning does not change")
        return self

    @model_validator(mode="after")
    def _what_is_asked_for_can_happen(self) -> Optimisation:
        kind: str = getattr(self, "kind", "")
        for sign in self.guard.stop_on:
            if kind not in KINDS_OF.get(sign, (kind,)):
                raise ValueError(
                    f"guard.stop_on: {sign} shows only in stages of kind {', '.join(KINDS_OF[sign])}"
                )
        if self.engine and "head" in self.engine.model_fields_set and kind != "preference":
            raise ValueError("engine.head is of preference stages: no other one computes with it")
        return self
