"""Settings of the training stages and of the engine. No torch here.

Fields that change what is learnt are part of a stage's identity; `EngineSettings` (but for precision and clipping)
only says how it is computed and is recorded, never hashed.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from residency.data.mixture_settings import Mixture
from residency.data.settings import Count, Settings

Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class EngineSettings(Settings):
    """How a training stage is computed: DeepSpeed ZeRO, memory, precision."""

    zero: Literal[0, 1, 2, 3] = 2
    """ZeRO stage: 1 splits the optimizer's state over the ranks, 2 the gradients too, 3 the weights too."""
    processes: Positive | None = None
    """Local ranks; all accelerators of the machine unless given, 1 on a machine without."""
    offload_optimizer: bool = False
    """Keep the optimizer's state in host memory (ZeRO 1-3)."""
    offload_parameters: bool = False
    """Keep the weights in host memory (ZeRO 3)."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """bfloat16 on accelerators and float32 on CPU unless given."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""
    attention: Literal["auto", "eager", "sdpa", "flex_attention", "flash_attention_2"] = "auto"
    """The best that the machine offers unless given; the one used stands in the manifest."""
    clip: Annotated[float, Field(ge=0)] = 1.0
    """Largest norm of the gradient of one step; 0 does not clip."""
    micro_batch_size: Positive | None = None
    """Rows per rank and forward pass; the whole step at once unless given."""

    @model_validator(mode="after")
    def _offload_needs_zero(self) -> EngineSettings:
        if self.offload_parameters and self.zero != 3:
            raise ValueError("offload_parameters needs zero: 3")
        if self.offload_optimizer and self.zero == 0:
            raise ValueError("offload_optimizer needs zero: 1, 2 or 3")
        return self


class LoraSettings(Settings):
    """Low-rank adapters instead of full fine-tuning (arXiv 2106.09685)."""

    rank: Positive = 16
    """Rank of the update."""
    alpha: Annotated[float, Field(gt=0)] = 32.0
    """Scale of the update; it is multiplied by alpha / rank."""
    dropout: Share = 0.0
    """Dropout on the adapter's input."""
    targets: Literal["all-linear"] | list[str] = "all-linear"
    """Modules that get an adapter."""
    finish: Literal["merge", "keep"]
    """At the end of the stage: merge the adapter into the weights, or keep it beside them. Always said explicitly."""


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
    adapter: Literal["continue", "merge"] | None = None
    """What to do with an adapter that the parent left; needed exactly when there is one."""
    engine: EngineSettings | None = None
    """The recipe's engine unless given."""


class ScratchSettings(Settings):
    """A new Llama-style model with random weights and a byte-level BPE tokenizer of its own."""

    kind: Literal["scratch"] = "scratch"
    layers: Positive
    """Transformer blocks."""
    width: Positive
    """Hidden size."""
    heads: Positive = 4
    """Attention heads; divide the width."""
    vocabulary: Count = 1000
    """Tokens of the tokenizer, special tokens among them."""
    context: Positive = 512
    """Longest sequence in tokens."""
    tokenizer: Annotated[list[str], Field(min_length=1)]
    """Corpora that the tokenizer is trained on."""
    seed: int | None = None
    """Seed of the weights; the recipe's own unless given."""

    @model_validator(mode="after")
    def _heads_divide(self) -> ScratchSettings:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        return self


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

    @model_validator(mode="after")
    def _one_budget(self) -> SftSettings:
        if self.mixture.epochs is not None and "epochs" in self.model_fields_set:
            raise ValueError("epochs are given beside the mixture and in it: keep one of the two")
        if self.mixture.sampling == "unimax":
            raise ValueError("sampling: unimax needs a token budget: give shares, or epochs in the mixture")
        return self


class PreferenceSettings(Optimisation):
    """Preference alignment on pairs; the reference is the parent (DPO, arXiv 2305.18290)."""

    kind: Literal["preference"]
    parent: str = Field("base", alias="from")
    """Stage that gives the model, and the reference."""
    corpus: str
    """Corpus of preference pairs."""
    loss: Literal["dpo"] = "dpo"
    """Loss."""
    beta: Annotated[float, Field(gt=0)] = 0.1
    """Strength of the tie to the reference."""
    epochs: Annotated[float, Field(gt=0)] = 1.0
    """Passes over the pairs."""
    limit: Count | None = None
    """At most so many pairs."""
    max_length: Positive = 2048
    """Longest prompt plus reply in tokens."""
    batch_size: Positive = 32
    """Pairs per optimizer step."""
    learning_rate: Annotated[float, Field(gt=0)] = 5e-7
    """Peak learning rate."""


class ExportSettings(Settings):
    """A directory that `transformers` loads as it is: weights, tokenizer with chat template, model card."""

    kind: Literal["export"]
    parent: str = Field(alias="from")
    """Stage whose model is exported."""
    licence: str | None = None
    """SPDX id of the licence that the export is passed on under; follows from the corpora unless given."""


TrainingStage = PretrainSettings | CptSettings | SftSettings | PreferenceSettings
