"""Settings of the stages that make or change a model without training it. No torch here."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from residency.data.settings import Count, Settings
from residency.train.settings.engine import Positive, Share


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


class VocabSettings(Settings):
    """Domain tokens added to the tokenizer and the embeddings (idea: K-Tokeniser, arXiv 2406.14312)."""

    kind: Literal["vocab"]
    parent: str = Field("base", alias="from")
    """Stage that gives the model."""
    corpus: str
    """Corpus of running text that the tokens are found in."""
    tokens: Count = 500
    """New tokens."""
    terms: str | None = None
    """File of terms, one a line, perhaps with a tab and a semantic type behind it; all frequent words unless given."""
    start: Literal["pieces", "type"] = "pieces"
    """A new embedding starts as the mean of its pieces', or of those of all terms of its semantic type."""


class MergeSettings(Settings):
    """Weights of several checkpoints, or of an adapter and its base, made into one model."""

    kind: Literal["merge"]
    parent: str = Field(alias="from")
    """Stage that gives the model; for `ties` and `dare` the ancestor that the others' differences are taken from."""
    method: Literal["adapter", "linear", "slerp", "ties", "dare"]
    """`adapter`: the parent's adapter into its base. `linear`: weighted mean (arXiv 2203.05482). `slerp`: along the arc
    between two. `ties` (arXiv 2306.01708) and `dare` (arXiv 2311.03099): sums of sparse differences."""
    models: dict[str, float] = {}
    """Stage to weight of what is merged; none for `adapter`."""
    density: Share = 0.5
    """Share of each difference that is kept (`ties`, `dare`)."""
    seed: int | None = None
    """Seed of what `dare` drops; the recipe's own unless given."""


class ExportSettings(Settings):
    """A directory that `transformers` loads as it is: weights, tokenizer with chat template, model card."""

    kind: Literal["export"]
    parent: str = Field(alias="from")
    """Stage whose model is exported."""
    licence: str | None = None
    """SPDX id of the licence that the export is passed on under; follows from the corpora unless given."""
