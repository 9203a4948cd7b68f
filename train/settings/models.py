"""Settings of the stages that make or change a model without training it. No torch here."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from residency.data.settings import Count, Settings
from residency.train.settings.engine import Positive


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
    tokenizer: Annotated[list[str], Field(min_length=1)] | Annotated[dict[str, Positive], Field(min_length=1)]
    """Corpora that the tokenizer is trained on; or a mapping of corpus to how often it is read, `{general: 1, notes:
    10}`: so a small medical corpus gets words of its own (amplified vocabulary, arXiv 2005.07202)."""
    seed: int | None = None
    """Seed of the weights; the recipe's own unless given."""

    @model_validator(mode="after")
    def _heads_divide(self) -> ScratchSettings:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        return self


class VocabSettings(Settings):
    """Words of a field added to the tokenizer and the embeddings (idea: K-Tokeniser, arXiv 2406.14312).

    The tokenizer must be byte-level BPE (Llama 3, Qwen, GPT-2). The new rows are trained by the `cpt` stage behind it;
    with LoRA only if its `also_train` names the embedding and the output layer, `[embed_tokens, lm_head]`.
    """

    kind: Literal["vocab"]
    parent: str = Field("base", alias="from")
    """Stage that gives the model."""
    corpus: str
    """Corpus of running text that the words are found in: those that save most tokens of it."""
    tokens: Annotated[Count, Field(gt=0)] = 500
    """New tokens, at most: a word that the corpus does not repeat gets none."""
    terms: str | None = None
    """Corpus whose texts are terms, or a file of them, one a line, perhaps with a tab and a semantic type behind it.
    Only words of terms get tokens then; all frequent words unless given."""
    start: Literal["pieces", "type"] = "pieces"
    """A new embedding starts as the mean of its pieces', or of those of all terms of its semantic type."""


class MergeSettings(Settings):
    """Weights of several checkpoints, or of an adapter and its base, made into one model."""

    kind: Literal["merge"]
    parent: str = Field(alias="from")
    """Stage that gives the model; for `linear` and `slerp` one of `models`, for `ties` and `dare` the ancestor that
    their differences are taken from."""
    method: Literal["adapter", "linear", "slerp", "ties", "dare"]
    """`adapter`: the parent's adapter into its base. `linear`: weighted mean (arXiv 2203.05482). `slerp`: along the arc
    between two (Shoemake 1985). `ties` (arXiv 2306.01708) and `dare` (arXiv 2311.03099): the ancestor plus weighted
    sparse differences from it."""
    models: dict[str, Annotated[float, Field(gt=0)]] = {}
    """Stage to weight of what is merged; none for `adapter`. For `linear` and `slerp` only their ratio counts; the
    differences of `ties` and `dare` are multiplied by them as they are."""
    density: Annotated[float, Field(gt=0, le=1)] | None = None
    """Share of each difference that is kept, tensor by tensor: the largest (`ties`), or random ones, scaled up to
    make good for the others (`dare`). Half unless given."""
    seed: int | None = None
    """Seed of what `dare` drops; the recipe's own unless given."""

    @model_validator(mode="after")
    def _models_fit_the_method(self) -> MergeSettings:
        wanted = {
            "adapter": (0, 0),
            "linear": (2, None),
            "slerp": (2, 2),
            "ties": (1, None),
            "dare": (1, None),
        }
        least, most = wanted[self.method]
        if len(self.models) < least or (most is not None and len(self.models) > most):
            count = "none" if most == 0 else f"{least}" if least == most else f"{least} or more"
            raise ValueError(f"models: {self.method} takes {count}, not {len(self.models)}")
        if self.method in ("linear", "slerp") and self.parent not in self.models:
            raise ValueError(f"from = {self.parent!r} is none of models: {self.method} has no ancestor")
        if self.method in ("ties", "dare") and self.parent in self.models:
            raise ValueError(f"models.{self.parent}: the ancestor does not differ from itself")
        if self.density is not None and self.method not in ("ties", "dare"):
            raise ValueError(f"density is of ties and dare, not of {self.method}")
        return self


class ExportSettings(Settings):
    """A directory that `transformers` loads as it is: weights, tokenizer with chat template, model card."""

    kind: Literal["export"]
    parent: str = Field(alias="from")
    """Stage whose model is exported."""
    licence: str | None = None
    """SPDX id of the licence that the export is passed on under; follows from the corpora unless given."""
