"""Settings of the stages that learn from running text and from dialogues. No torch here."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from residency.data.mixture.settings import Mixture
from residency.data.settings import Count, Settings
from residency.train.settings.engine import Positive
from residency.train.settings.optimisation import Optimisation


class SensitivitySettings(Settings):
    """Sensitivity dropout (SenD, arXiv 2410.15460) and its measure of hallucination."""

    share: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Share of the embedding dimensions that is dropped, the most variable ones; 0: only measure."""
    every: Positive | None = None
    """Optimizer steps between two looks at the embeddings; a twelfth of the stage unless given."""
    looks: Annotated[int, Field(gt=1)] = 3
    """Looks over which variability is measured, and for which the chosen dimensions stay dropped."""
    texts: Positive = 16
    """Texts of the stage that are looked at; replies to their beginnings are sampled."""
    samples: Annotated[int, Field(gt=1)] = 10
    """Replies to each beginning, whose EigenScore is told."""
    temperature: Annotated[float, Field(gt=0)] = 0.5
    """Temperature of sampling."""
    new_tokens: Positive = 32
    """Longest reply in tokens."""


class TextStage(Optimisation):
    """Next-token training on running text."""

    parent: str = Field("base", alias="from")
    """Stage that gives the model."""
    mixture: Mixture
    """Corpus name to its share of the tokens, `{a: 0.8, b: 0.2}`; or a mapping that says more."""
    tokens: Count | None = None
    """Token budget; needed unless the mixture gives `epochs`."""
    max_length: Positive = 2048
    """Row length in tokens."""
    batch_size: Positive = 64
    """Rows per optimizer step."""

    @model_validator(mode="after")
    def _one_budget(self) -> TextStage:
        if (self.tokens is None) == (self.mixture.epochs is None):
            raise ValueError("give the token budget as tokens, or epochs in the mixture")
        return self


class PretrainSettings(TextStage):
    """Training of a scratch model on general text."""

    kind: Literal["pretrain"]
    learning_rate: Annotated[float, Field(gt=0)] = 3e-4
    """Peak learning rate."""


class CptSettings(TextStage):
    """Continual pretraining on the domain's text, general text replayed by the mixture."""

    kind: Literal["cpt"]
    learning_rate: Annotated[float, Field(gt=0)] = 2e-5
    """Peak learning rate."""
    sensitivity_dropout: SensitivitySettings | None = None
    """Drop the embedding dimensions that vary most, and trace how far sampled replies lie apart."""


class SftSettings(Optimisation):
    """Supervised fine-tuning on dialogues; only the assistant's tokens and its stop token carry loss."""

    kind: Literal["sft"]
    parent: str = Field("base", alias="from")
    """Stage that gives the model."""
    mixture: Mixture
    """Corpus name to its share of the tokens, or a mapping that says more; dialogues, and running text as replay."""
    epochs: Annotated[float, Field(gt=0)] = 1.0
    """Passes over the first corpus of the mixture."""
    max_length: Positive = 2048
    """Row length in tokens."""
    batch_size: Positive = 32
    """Rows per optimizer step."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-5
    """Peak learning rate."""
    truncate: bool = False
    """Cut dialogues that are longer than a row instead of refusing them; how many is counted."""
    chat_template: str | None = None
    """Shipped template (`llama-3`) or Jinja file for models that have none; it is written into the tokenizer."""
    sensitivity_dropout: SensitivitySettings | None = None
    """Drop the embedding dimensions that vary most, and trace how far sampled replies lie apart."""

    @model_validator(mode="after")
    def _one_budget(self) -> SftSettings:
        if self.mixture.epochs is not None and "epochs" in self.model_fields_set:
            raise ValueError("epochs are given beside the mixture and in it: keep one of the two")
        if self.mixture.sampling == "unimax":
            raise ValueError("sampling: unimax needs a token budget: give shares, or epochs in the mixture")
        return self
