"""Settings of the stages that learn from judgements: reward models, preferences, reinforcement. No torch here."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from residency.data.settings import Count
from residency.train.settings.engine import Positive
from residency.train.settings.optimisation import Optimisation
from residency.train.settings.rewards import Reward

REFERENCE_FREE = ("simpo", "cpo", "orpo")


def _reference_is_the_parent(values: Any) -> Any:
    """Other tools let the reference be named; here a stage's own parent is taken, and no other is silently ignored."""
    for key in ("reference", "reference_model", "ref_model"):
        if isinstance(values, dict) and key in values:
            parent = values.get("from", "base")
            raise ValueError(
                f"{key} = {values[key]}: the reference is the parent, {parent}, always: leave the key out, or start "
                "from what shall be the reference"
            )
    return values


class RewardSettings(Optimisation):
    """A model that scores replies: Bradley-Terry on pairs or ranked lists (arXiv 2203.02155), or values of steps."""

    kind: Literal["reward"]
    parent: str = Field("base", alias="from")
    """Stage that gives the model; its language model head is replaced by one score."""
    corpus: str
    """Corpus of preference pairs, of ranked replies, or of reasoning steps with values (a process reward model)."""
    held_out: str | None = None
    """Corpus that its accuracy is measured on; the held-out rows of `corpus` unless given."""
    centre: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the squared sum of the scores of a pair, which keeps scores around zero (arXiv 2312.09244)."""
    margin: Annotated[float, Field(ge=0)] = 1.0
    """Weight of the margins by which one reply shall beat another (arXiv 2307.09288, section 3.2.2), where rows carry
    any: the `margin` of a pair, or the difference of two replies' `scores`."""
    epochs: Annotated[float, Field(gt=0)] = 1.0
    """Passes over the corpus."""
    limit: Count | None = None
    """At most so many prompts."""
    max_length: Positive = 2048
    """Longest prompt plus reply in tokens."""
    batch_size: Positive = 32
    """Prompts per optimizer step."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-5
    """Peak learning rate."""


class PreferenceSettings(Optimisation):
    """Preference alignment on pairs; the reference, where a loss has one, is the parent."""

    kind: Literal["preference"]
    parent: str = Field("base", alias="from")
    """Stage that gives the model, and the reference."""
    corpus: str
    """Corpus of preference pairs; for `kto` also of single replies with a label."""
    loss: Literal["dpo", "ipo", "robust", "cdpo", "kto", "simpo", "cpo", "orpo"] = "dpo"
    """dpo (arXiv 2305.18290), ipo (2310.12036), robust (2403.00409), cdpo (label smoothing), kto (2402.01306),
    and without a reference simpo (2405.14734), cpo (2401.08417) and orpo (2403.07691)."""
    beta: Annotated[float, Field(gt=0)] = 0.1
    """Strength of the tie to the reference; scale of the margin in losses without one."""
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    """Share of pairs that may be the wrong way round (`robust`, `cdpo`)."""
    target_margin: Annotated[float, Field(ge=0)] = 0.5
    """Margin that `simpo` asks for."""
    sft_weight: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the chosen reply's own negative log-likelihood beside the loss (1 is usual for `cpo`)."""
    length_normalised: bool = False
    """Divide each reply's log-probability by its tokens (`dpo`, `robust`, `cdpo`)."""
    epochs: Annotated[float, Field(gt=0)] = 1.0
    """Passes over the pairs; the last step is filled up with those of the next pass."""
    limit: Count | None = None
    """At most so many pairs."""
    max_length: Positive = 2048
    """Longest prompt plus reply in tokens."""
    batch_size: Positive = 32
    """Pairs per optimizer step."""
    learning_rate: Annotated[float, Field(gt=0)] = 5e-7
    """Peak learning rate."""
    layout: Literal["auto", "padded", "packed", "shared"] = "auto"
    """`padded`: one row a reply, the plain way. `packed`: rows hold several replies. `shared`: both replies stand
    behind one copy of their prompt. The numbers are the same; the fastest that is exact for the model unless given."""

    _reference = model_validator(mode="before")(_reference_is_the_parent)

    @model_validator(mode="after")
    def _fields_fit_the_loss(self) -> PreferenceSettings:
        if self.label_smoothing and self.loss not in ("robust", "cdpo"):
            raise ValueError(f"label_smoothing is of the losses robust and cdpo, not of {self.loss}")
        if self.loss in ("robust", "cdpo") and not self.label_smoothing:
            raise ValueError(
                f"without label_smoothing {self.loss} is dpo: give the share of pairs that may be wrong"
            )
        if "target_margin" in self.model_fields_set and self.loss != "simpo":
            raise ValueError(f"target_margin is of the loss simpo, not of {self.loss}")
        if self.sft_weight and self.loss == "orpo":
            raise ValueError(
                "orpo has a likelihood term of its own: leave sft_weight out, beta weighs the other term"
            )
        if self.length_normalised and self.loss not in ("dpo", "robust", "cdpo"):
            raise ValueError(f"length_normalised is of dpo, robust and cdpo, not of {self.loss}")
        return self

    @model_validator(mode="after")
    def _without_dropout(self) -> PreferenceSettings:
        if self.lora and self.lora.dropout:
            raise ValueError("lora.dropout must be 0: policy and reference must not differ by chance")
        return self


class RlSettings(Optimisation):
    """Reinforcement learning on the model's own replies, tied to the parent."""

    kind: Literal["rl"]
    parent: str = Field("base", alias="from")
    """Stage that gives the model, and the reference."""
    corpus: str
    """Corpus whose prompts are answered; exam items where a reward needs their right answer."""
    algorithm: Literal["grpo", "rloo"] = "grpo"
    """GRPO (arXiv 2402.03300) or RLOO (arXiv 2402.14740)."""
    rewards: Annotated[list[Reward], Field(min_length=1)]
    """What a reply is worth: the weighted sum."""
    replies: Annotated[int, Field(gt=1)] = 8
    """Replies to each prompt."""
    temperature: Annotated[float, Field(gt=0)] = 1.0
    """Temperature of sampling."""
    max_new_tokens: Positive = 256
    """Longest reply in tokens."""
    kl: Annotated[float, Field(ge=0)] = 0.04
    """Weight of the divergence from the parent: in `grpo` of each token's, beside the loss; in `rloo` of the whole
    reply's, taken from its reward."""
    clip_range: Annotated[float, Field(gt=0)] = 0.2
    """How far one update may move a reply's probability ratio (PPO's clipping, arXiv 1707.06347)."""
    iterations: Positive = 1
    """Updates on each batch of replies."""
    held_out: str | None = None
    """Corpus of exam items that are answered whenever a checkpoint is saved: a reward that rises while these fall is
    being exploited."""
    epochs: Annotated[float, Field(gt=0)] = 1.0
    """Passes over the prompts; those that do not fill the last step are left out."""
    limit: Count | None = None
    """At most so many prompts."""
    max_length: Positive = 1024
    """Longest prompt in tokens."""
    batch_size: Positive = 64
    """Replies per optimizer step: prompts times `replies`."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-6
    """Peak learning rate."""
    schedule: Literal["cosine", "linear", "constant"] = "constant"
    """Course of the learning rate after warm-up."""

    _reference = model_validator(mode="before")(_reference_is_the_parent)

    @model_validator(mode="after")
    def _whole_groups(self) -> RlSettings:
        if self.batch_size % self.replies:
            raise ValueError(f"batch_size {self.batch_size} is not a multiple of replies {self.replies}")
        return self

    @model_validator(mode="after")
    def _signs_are_measured(self) -> RlSettings:
        if "kl" in self.guard.stop_on and not self.kl:
            raise ValueError("guard.stop_on: with kl: 0 no divergence from the parent is measured")
        if "reward_hacking" in self.guard.stop_on and not self.held_out:
            raise ValueError("guard.stop_on: reward_hacking shows on held_out prompts: give some")
        return self

    @model_validator(mode="after")
    def _policy_is_its_weights(self) -> RlSettings:
        if self.lora and self.lora.dropout:
            raise ValueError("lora.dropout must be 0: with dropout the reference is not the parent")
        if self.prompt_tuning:
            raise ValueError("prompt_tuning is not for rl: use lora")
        return self
